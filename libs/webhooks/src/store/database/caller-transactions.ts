import type { DataSource, EntityManager, QueryRunner } from 'typeorm';
import type { Database } from './database.js';
import { rawConnection } from './raw-connection.js';
import { runScript, type Script } from './script.js';
import { TransactionError } from './transaction-errors.js';
import { dataSourceOf } from '../../typeorm-compat.js';

/** The part of capture that follows the application's transactions. */
interface TransactionFollower {
  /**
   * Runs a write on a query runner. Other writes that start on the same runner in the meantime wait for this write.
   *
   * @param label names the write in the error of a COMMIT that waited too long for this write
   */
  inTurn<T>(runner: QueryRunner, label: string, write: () => Promise<T>): Promise<T>;
  /** Writes the pending events of a query runner's transaction. */
  flush(runner: QueryRunner): Promise<void>;
  /** Whether the database is in a transaction. */
  isOpen(runner: QueryRunner): boolean;
  /** Runs work after the commit of a query runner's transaction. After a rollback the work does not run. */
  afterCommit(runner: QueryRunner, work: () => void): void;
}

/** The parts that {@link CallerTransactions} needs. */
export interface CallerTransactionsParts {
  readonly dataSource: DataSource;
  readonly database: Database;
  readonly capture: TransactionFollower;
  /** Returns the manager of the transaction around the call, if a library or the application provides one. */
  readonly ambientManager: () => EntityManager | undefined;
}

/**
 * Finds the transaction of the caller. This is the transaction of the manager that the caller passed, or the ambient transaction of a
 * library such as typeorm-transactional.
 */
export class CallerTransactions {
  constructor(
    private readonly parts: CallerTransactionsParts,
    private readonly given: QueryRunner | null = null,
  ) {}

  /** Returns a copy that uses the transaction of this manager. @throws TransactionError `WRONG_DATA_SOURCE` */
  withManager(manager: EntityManager): CallerTransactions {
    this.assertOurs(manager, 'withManager()');
    return new CallerTransactions(this.parts, this.openRunnerOf(manager));
  }

  /**
   * Returns the transaction around this call. Call this method before the first `await`. The whole call then belongs to this transaction.
   *
   * @throws TransactionError `WRONG_DATA_SOURCE` if the option `currentManager` returned a manager of another data source
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

  /**
   * The query runner of a manager; `null` if the transaction of the manager has ended. A task may still use the manager of an ended
   * transaction.
   */
  private openRunnerOf({ queryRunner }: EntityManager): QueryRunner | null {
    return queryRunner && isOpen(this.parts.capture, queryRunner) ? queryRunner : null;
  }

  private assertOurs(manager: EntityManager, what: string): void {
    if (dataSourceOf(manager) === this.parts.dataSource) return;
    throw new TransactionError(
      'WRONG_DATA_SOURCE',
      `${what}: the manager belongs to another data source than this instance of the module, so the call cannot join its transaction. Pass a manager of this data source, or call the instance for the other data source.`,
    );
  }
}

/** Runs scripts in the transaction around one call. Without such a transaction, each script runs in a new transaction. */
export class CallerTransaction {
  constructor(
    private readonly parts: CallerTransactionsParts,
    /** The query runner whose transaction the call joins; `null` if there is none. */
    readonly runner: QueryRunner | null,
  ) {}

  /**
   * Runs a script. A script in the caller's transaction runs without retries. Without such a transaction, the script runs in a new
   * transaction.
   */
  async run<T>(script: () => Script<T>): Promise<T> {
    const { database, capture } = this.parts;
    const { runner } = this;
    if (!runner) return database.transaction(script);
    return capture.inTurn(runner, 'a call of the webhooks module', async () => {
      this.assertOpen(runner);
      // Write the events of earlier changes first, so that these events precede the events of this call in the outbox.
      await capture.flush(runner);
      return this.runScript(runner, script());
    });
  }

  /** Runs `work` after the commit of all scripts that ran with this object. */
  afterCommit(work: () => void): void {
    if (this.runner) this.parts.capture.afterCommit(this.runner, work);
    else work();
  }

  /** @throws TransactionError `NOT_TRANSACTIONAL` if the caller has a transaction, because this method cannot join the transaction */
  refuse(method: string): void {
    if (!this.runner) return;
    throw new TransactionError(
      'NOT_TRANSACTIONAL',
      `${method} was called inside a transaction. ${method} commits in many short transactions, so it cannot join this transaction. Call ${method} after the commit, or outside the transaction (with typeorm-transactional: propagation NOT_SUPPORTED).`,
      { details: { method } },
    );
  }

  private async runScript<T>(runner: QueryRunner, script: Script<T>): Promise<T> {
    const { database } = this.parts;
    const send = await rawConnection(runner, database.dialect);
    return runScript(script, async (one) => {
      this.assertOpen(runner);
      const { text, values } = database.statement(one);
      return send(text, values);
    });
  }

  /**
   * Checks that the transaction of this call is still open. If the application does not await a call, its transaction may end first. The
   * database would then commit each remaining statement by itself.
   */
  private assertOpen(runner: QueryRunner): void {
    if (isOpen(this.parts.capture, runner)) return;
    throw new TransactionError(
      'TRANSACTION_OVER',
      'The transaction that this call joined ended before the call, so the remaining statements were not sent. Await the call inside the transaction.',
    );
  }
}

function isOpen(capture: TransactionFollower, runner: QueryRunner): boolean {
  return !runner.isReleased && capture.isOpen(runner);
}
