import type { DataSource, EntityManager, QueryRunner } from 'typeorm';
import type { Database } from './database.js';
import { rawConnection } from './raw-connection.js';
import { Together, type Script, type StatementResult } from './script.js';
import { TransactionError } from './transaction-errors.js';
import { dataSourceOf } from '../../typeorm-compat.js';

/** What capture knows of the transactions of the application. */
interface TransactionFollower {
  /**
   * Runs a write on a query runner, apart from other writes that are called on it at the same time.
   *
   * @param label names the write in the error of a COMMIT that waited for it
   */
  inTurn<T>(runner: QueryRunner, label: string, write: () => Promise<T>): Promise<T>;
  /** Writes the pending events of a query runner's transaction. */
  flush(runner: QueryRunner): Promise<void>;
  /** Whether the database is in a transaction. */
  isOpen(runner: QueryRunner): boolean;
  /** Runs work when the transaction of a query runner has committed; never when it rolls back. */
  afterCommit(runner: QueryRunner, work: () => void): void;
}

/** What {@link CallerTransactions} works with. */
export interface CallerTransactionsParts {
  readonly dataSource: DataSource;
  readonly database: Database;
  readonly capture: TransactionFollower;
  /** The manager of the transaction that surrounds the call, as far as a library or the application tells. */
  readonly ambientManager: () => EntityManager | undefined;
}

/**
 * Knows the transaction of whoever calls: that of the manager which the caller gave, or the ambient one of a library such as
 * typeorm-transactional.
 */
export class CallerTransactions {
  constructor(
    private readonly parts: CallerTransactionsParts,
    private readonly given: QueryRunner | null = null,
  ) {}

  /** These transactions for a caller that gives its manager. @throws TransactionError `WRONG_DATA_SOURCE` */
  withManager(manager: EntityManager): CallerTransactions {
    this.assertOurs(manager, 'withManager()');
    return new CallerTransactions(this.parts, this.openRunnerOf(manager));
  }

  /**
   * The transaction that surrounds this call. Asked before the call waits for anything: what it does later belongs to this one.
   *
   * @throws TransactionError `WRONG_DATA_SOURCE` for what the option `currentManager` returned
   */
  here(): CallerTransaction {
    return new CallerTransaction(this.parts, this.given ?? this.ambientRunner());
  }

  private ambientRunner(): QueryRunner | null {
    const manager = this.parts.ambientManager();
    if (!manager) return null;
    this.assertOurs(manager, 'The option `currentManager`');
    return this.openRunnerOf(manager);
  }

  /** A task that outlives its transaction may still see the manager of it. */
  private openRunnerOf({ queryRunner }: EntityManager): QueryRunner | null {
    return queryRunner && isOpen(this.parts.capture, queryRunner) ? queryRunner : null;
  }

  private assertOurs(manager: EntityManager, what: string): void {
    if (dataSourceOf(manager) === this.parts.dataSource) return;
    throw new TransactionError(
      'WRONG_DATA_SOURCE',
      `${what} gave a manager of another data source than that of this instance of the module, so its transaction cannot be joined. Give the manager of this data source, or use the instance of that one.`,
    );
  }
}

/** Runs scripts in the transaction that surrounds one call; without such a transaction, each in one of its own. */
export class CallerTransaction {
  constructor(
    private readonly parts: CallerTransactionsParts,
    /** The query runner whose transaction the call joins; `null` when there is none. */
    readonly runner: QueryRunner | null,
  ) {}

  /** Runs a script: in the caller's transaction, where nothing is retried, or in one of its own. */
  async run<T>(script: () => Script<T>): Promise<T> {
    const { database, capture } = this.parts;
    const { runner } = this;
    if (!runner) return database.transaction(script);
    return capture.inTurn(runner, 'a call of the webhooks module', async () => {
      this.assertOpen(runner);
      // Events of earlier changes get their place in the outbox before ours.
      await capture.flush(runner);
      return this.play(runner, script());
    });
  }

  /** Runs work when what was run here is committed. */
  afterCommit(work: () => void): void {
    if (this.runner) this.parts.capture.afterCommit(this.runner, work);
    else work();
  }

  /** @throws TransactionError `NOT_TRANSACTIONAL` in a transaction of the caller, which this method cannot join */
  refuse(method: string): void {
    if (!this.runner) return;
    throw new TransactionError(
      'NOT_TRANSACTIONAL',
      `${method} was called inside a transaction. It commits its work in many short transactions, so it cannot be part of yours. Call it after the commit, or outside of it (with typeorm-transactional: propagation NOT_SUPPORTED).`,
      { details: { method } },
    );
  }

  private async play<T>(runner: QueryRunner, script: Script<T>): Promise<T> {
    const { database } = this.parts;
    const send = await rawConnection(runner, database.dialect);
    const run = (one: Together['statements'][number]): Promise<StatementResult> => {
      this.assertOpen(runner);
      const { text, values } = database.statement(one);
      return send(text, values);
    };
    let step = script.next();
    while (!step.done) {
      const { value } = step;
      if (value instanceof Together) {
        const all: StatementResult[] = [];
        for (const statement of value.statements) all.push(await run(statement));
        step = script.next({ rows: [], affected: 0, all });
      } else step = script.next(await run(value));
    }
    return step.value;
  }

  /** Nobody awaited this call, and the transaction has ended: its statements would be committed one by one. */
  private assertOpen(runner: QueryRunner): void {
    if (isOpen(this.parts.capture, runner)) return;
    throw new TransactionError(
      'TRANSACTION_OVER',
      'The transaction that this call joined ended before the call did, so the rest of its statements was not sent. Await the call inside the transaction.',
    );
  }
}

function isOpen(capture: TransactionFollower, runner: QueryRunner): boolean {
  return !runner.isReleased && capture.isOpen(runner);
}
