import type { ObjectLiteral, QueryRunner } from 'typeorm';
import type { DialectName } from '../../dialect.js';
import { StatementQueue } from './statement-queue.js';
import { TransactionEnds, type EndOptions } from './transaction-ends.js';
import { transactionAborted, transactionEnded, transactionOpen, writesUnfinished } from './transaction-errors.js';
import { TransactionLog, type Committed } from './transaction-log.js';
import { transactionStatements, type TransactionStatement } from './transaction-statement.js';
import { isWriteStatement } from './write-statement.js';
import { Queue, refuseEnded, Work, worksOn, writeOn } from './work.js';
import { dataSourceOf, isAsyncDisposable } from '../../typeorm-compat.js';

/** What the objects of one data source share. */
export interface RunnerWritesOptions {
  readonly dialect: DialectName;
  /** The subscriber of this library. */
  readonly subscriber: object;
  /** How long an end of a transaction waits for unfinished writes while none of them has a statement under way. */
  readonly timeoutMs: number;
  /** A query runner was released in a transaction, which is rolled back now. */
  onLeftover(): void;
}

/** The saves that run on one query runner. */
interface Saves {
  count: number;
  /** `data` of the query runner when there was none. */
  readonly data: ObjectLiteral;
}

type Method = (...args: unknown[]) => Promise<unknown>;

/**
 * What is under way on one query runner, which is one connection with one transaction at a time. `docs/states.md` draws it.
 *
 * **Outside a transaction** a write of an application that has its own query runner takes a *turn*: it has the runner to itself, as it
 * may open a transaction there. Others wait: writes, statements, what begins or ends a transaction, and `release()`.
 *
 * **In a transaction** writes run at once, and its *ends* wait for them: COMMIT, ROLLBACK, SAVEPOINT, RELEASE, ROLLBACK TO and `release()`
 * wait for the writes that others have begun before. A write that is called after an end waits for it, and fails when the transaction
 * is over then. So no statement of a write comes after the transaction that it belongs to, and no event of one is missed.
 *
 * What a write calls itself (its own COMMIT, its hooks, and what these write) is known by its chain of calls, and never waits for it. Two
 * writes whose hooks wait for each other's savepoints do not wait: an end inside a write passes others that wait at an end of their own.
 *
 * It is made by the first write or transaction on a runner, and puts methods of its own on that. A `save()` that makes its own query
 * runner enters no chain: entering one for each write makes all promises of a process dearer on Node.js 20 and 22, 4 % of a `save()`.
 */
export class RunnerWrites {
  readonly log = new TransactionLog();
  readonly statements: StatementQueue;
  private readonly queue = new Queue();
  private readonly ends: TransactionEnds;
  private saves: Saves | undefined;
  private hasChains = false;
  private readonly stock: Readonly<Record<string | symbol, Method>>;

  constructor(
    private readonly runner: QueryRunner,
    private readonly options: RunnerWritesOptions,
  ) {
    this.statements = new StatementQueue(runner, options.subscriber);
    this.ends = new TransactionEnds(runner, this.log, options.timeoutMs);
    this.stock = this.intercept();
  }

  /** Whether a transaction is open on the query runner, or about to be. */
  get isInTransaction(): boolean {
    return this.runner.isTransactionActive || this.log.isOpen;
  }

  /** Runs a write: in its turn, or at once in a transaction that is the application's. */
  take<T>(label: () => string, write: () => Promise<T>): Promise<T> {
    return this.run(new Work('write', this.runner, label), write);
  }

  /** Runs a `manager.transaction()` on this query runner. */
  async transaction<T>(run: () => Promise<T>): Promise<T> {
    const work = new Work('transaction', this.runner, () => 'transaction()');
    // Behind a turn it begins a transaction of its own.
    const isBehindTurn = this.queueHere.length > 0;
    if (!isBehindTurn && this.ends.endBefore(work)) await this.ends.pass(work);
    return this.underWay(work, run, isBehindTurn ? null : this.log.current);
  }

  /**
   * Runs what a hook does for its write: at once in a transaction, or in a turn inside that write. Who has to wait for others waits
   * here, before anything that they may wait for is taken.
   */
  inside<T>(part: () => Promise<T> | T): Promise<T> | T {
    if (!this.waitsForTurn) return part();
    return this.run(new Work('other', this.runner, () => 'a statement'), async () => part());
  }

  /**
   * Runs a `save()`, `remove()`, `softRemove()` or `recover()`. TypeORM puts its `data` on the query runner, where others would see
   * it that run at the same time in one transaction, and puts back what it found there, which may be another's.
   */
  save<T>(label: () => string, data: unknown, save: () => Promise<T>): Promise<T> {
    return this.run(new Work('write', this.runner, label, data), async () => {
      const saves = (this.saves ??= { count: 0, data: this.runner.data });
      saves.count++;
      try {
        return await save();
      } finally {
        if (!--saves.count) {
          this.saves = undefined;
          this.runner.data = saves.data;
        }
      }
    });
  }

  /** What the save that is under way here was given as `data`, whatever others put on the query runner meanwhile. */
  get data(): unknown {
    if (!this.saves) return this.runner.data;
    for (const { data } of worksOn(this.runner)) if (data) return data;
    return this.saves.data;
  }

  /** Follows a statement that succeeded. */
  follow(statement: TransactionStatement): Committed {
    const { current } = this.log;
    const committed = this.log.follow(statement, this.options.dialect);
    if (statement.kind === 'begin') this.begun();
    this.ends.over(current);
    return committed;
  }

  /** The driver says that the transaction is over, and no statement has ended it. */
  endedUnseen(): Committed {
    const { current } = this.log;
    const committed = this.log.endedUnseen();
    this.ends.over(current);
    return committed;
  }

  /** The server has rolled back by itself. */
  rolledBackByServer(): void {
    const { current } = this.log;
    this.log.rolledBackByServer();
    this.ends.over(current);
  }

  /** Whoever began it may end it, also where a BEGIN of the application was there before. */
  private begun(): void {
    for (const work of worksOn(this.runner)) {
      work.transaction = null;
      work.begun = this.log.current;
    }
  }

  /** Sends a statement past everything that waits. */
  ask(text: string): Promise<unknown> {
    return this.stockCall('query', [text]);
  }

  private async run<T>(work: Work, write: () => Promise<T>): Promise<T> {
    let leave: (() => void) | undefined;
    try {
      // Known at once where it does not wait: an end that is asked for in the same breath has to see it.
      if (this.waitsForTurn || this.ends.endBefore(work)) leave = await this.admit(work);
      return await this.underWay(work, write);
    } finally {
      this.ends.remove(work);
      leave?.();
    }
  }

  private async underWay<T>(work: Work, run: () => Promise<T>, transaction = this.log.current): Promise<T> {
    try {
      refuseEnded(this.runner, false);
      this.ends.add(work, transaction);
      this.hasChains = true;
      const result = await work.run(run);
      if (work.ended) throw work.ended;
      return result;
    } finally {
      this.ends.remove(work);
    }
  }

  /** Waits for a turn, and for an end that was asked for before. Returns what ends the turn, if it is one. */
  private async admit(work: Work): Promise<(() => void) | undefined> {
    for (;;) {
      if (this.waitsForTurn) this.ends.putBack(work);
      const leave = await this.turn();
      if (!this.ends.endBefore(work)) return leave;
      leave?.();
      await this.ends.pass(work);
    }
  }

  private get waitsForTurn(): boolean {
    return this.queueHere.length > 0 || !this.isInTransaction;
  }

  /** `undefined` in a transaction, where nobody waits for a turn. */
  private async turn(): Promise<(() => void) | undefined> {
    if (!this.waitsForTurn) return undefined;
    const leave = await this.queueHere.enter();
    if (!this.isInTransaction) return leave;
    // Of the application, begun while this waited: those who come next belong to it, too.
    leave();
    return undefined;
  }

  private get queueHere(): Queue {
    return writeOn(this.runner)?.queue ?? this.queue;
  }

  /** Puts methods of its own on the query runner. Returns those that were there. */
  private intercept(): Record<string | symbol, Method> {
    const own: Record<string | symbol, (...args: never[]) => Promise<unknown>> = {
      query: (text: string, ...rest: unknown[]) => this.query(text, rest),
      startTransaction: (...args: unknown[]) => this.inTurn(() => this.start(args)),
      commitTransaction: () => this.inTurn(() => this.commit()),
      rollbackTransaction: () => this.inTurn(() => this.rollBack()),
      ...(isShared(this.runner) ? {} : { release: () => this.inTurn(() => this.release()) }),
      ...(isAsyncDisposable(this.runner) && {
        [Symbol.asyncDispose]: () => this.inTurn(() => this.stockCall(Symbol.asyncDispose)),
      }),
    };
    const runner = this.runner as unknown as Record<string | symbol, Method>;
    const stock: Record<string | symbol, Method> = {};
    for (const name of Reflect.ownKeys(own)) {
      stock[name] = runner[name] as Method;
      runner[name] = own[name] as Method;
    }
    return stock;
  }

  private stockCall(name: string | symbol, args: readonly unknown[] = []): Promise<unknown> {
    return (this.stock[name] as Method).apply(this.runner, args as unknown[]);
  }

  private inTurn(pass: () => Promise<unknown>): Promise<unknown> {
    if (!this.queueHere.length) return pass();
    return this.run(new Work('other', this.runner, () => 'a statement'), pass);
  }

  private query(text: string, rest: readonly unknown[]): Promise<unknown> {
    const pass = () => this.stockCall('query', [text, ...rest]);
    const statements = transactionStatements(text, this.options.dialect).filter((statement) => statement !== undefined);
    if (!statements.some((statement) => this.isEnd(statement))) return this.inTurn(() => this.counted(text, pass));
    return this.inTurn(() => this.ends.run(this.endOptions(statements), () => this.counted(text, pass)));
  }

  /** A BEGIN in a transaction ends that on MySQL. */
  private isEnd({ kind }: TransactionStatement): boolean {
    return kind !== 'begin' || this.log.isOpen;
  }

  private endOptions(statements: readonly TransactionStatement[]): EndOptions {
    const areAll = (...kinds: string[]) => statements.every(({ kind }) => kinds.includes(kind));
    const { hasChains: entersChain } = this;
    if (areAll('rollback', 'rollback_to')) return { isRollback: true, entersChain };
    const isKept = areAll('savepoint', 'release');
    return {
      isRollback: false,
      entersChain,
      refuse: (stuck) => this.refuse(stuck, isKept ? undefined : () => this.runner.query('ROLLBACK')),
    };
  }

  private counted(text: string, pass: () => Promise<unknown>): Promise<unknown> {
    return this.hasChains ? this.count(text, pass) : pass();
  }

  private async count(text: string, pass: () => Promise<unknown>): Promise<unknown> {
    const works = [...worksOn(this.runner)];
    const [here] = works;
    // The last write of one came after its transaction: that stands, and its rows are read for its event.
    const isRead = here?.wroteIn === null && !isWriteStatement(text);
    // The end of a transaction that is being sent has looked before.
    if (here?.kind !== 'end' && !isRead) refuseEnded(this.runner, false);
    for (const work of works) work.statements++;
    try {
      const result = await pass();
      if (isWriteStatement(text)) await this.noteTransaction(works);
      return result;
    } finally {
      for (const work of works) {
        work.statements--;
        work.lastStatementAt = performance.now();
      }
      this.ends.moved();
    }
  }

  /** Which transaction a write was sent in, if any: after an error only the server knows whether it is still there. */
  private async noteTransaction([work]: readonly Work[]): Promise<void> {
    if (!work) return;
    if (this.log.asking) await this.log.asking;
    const { current } = this.log;
    work.wroteIn = current;
    // It was called when the transaction was about to begin.
    if (work.begun !== current) work.transaction ??= current;
  }

  /**
   * TypeORM counts the open transactions before it sends a statement, and again after it. So nobody else may begin or end one meanwhile, and
   * what has to be waited for is waited for before.
   */
  private start(args: readonly unknown[]): Promise<unknown> {
    if (this.options.dialect === 'sqlite' && this.log.isOpen && !this.runner.isTransactionActive) {
      return Promise.reject(transactionOpen());
    }
    const refuse = (stuck: readonly Work[]) => this.refuse(stuck, undefined);
    return this.whole({ isRollback: false, refuse }, () => this.stockCall('startTransaction', args));
  }

  private commit(): Promise<unknown> {
    const refuse = (stuck: readonly Work[]) => this.refuse(stuck, () => this.stockCall('rollbackTransaction'));
    return this.whole({ isRollback: false, refuse }, async () => {
      const { current, hasEvents } = this.log;
      const result = await this.stockCall('commitTransaction');
      if (current?.end === 'rolled back' && hasEvents) throw transactionAborted();
      return result;
    });
  }

  private rollBack(): Promise<unknown> {
    return this.whole({ isRollback: true }, () => this.stockCall('rollbackTransaction'));
  }

  private release(): Promise<unknown> {
    return this.whole({ isRollback: true }, async () => {
      if (this.log.isOpen && !this.runner.isReleased) await this.rollBackLeftover();
      return this.stockCall('release');
    });
  }

  /** Where no write was ever called on the runner itself, there is nothing to wait for: the statement in it looks again. */
  private whole(options: Omit<EndOptions, 'entersChain'>, run: () => Promise<unknown>): Promise<unknown> {
    return this.hasChains ? this.ends.run({ ...options, entersChain: true }, run) : run();
  }

  /** The next one who gets the connection would commit it, without its events. */
  private async rollBackLeftover(): Promise<void> {
    const isDone = await this.runner.query('ROLLBACK').then(
      () => true,
      () => false,
    );
    if (isDone) this.options.onLeftover();
  }

  /** @throws CaptureError `WRITES_UNFINISHED`, after `rollBack` */
  private async refuse(stuck: readonly Work[], rollBack: (() => Promise<unknown>) | undefined): Promise<never> {
    if (rollBack) {
      for (const work of stuck) work.ended ??= transactionEnded(work, { end: 'rolled back' });
      await rollBack().catch(() => undefined);
    }
    throw writesUnfinished(stuck, this.options.timeoutMs, rollBack !== undefined);
  }
}

/** Without `isolateSqlite` all of SQLite's transactions share one query runner, which nobody may release. */
function isShared(runner: QueryRunner): boolean {
  return (dataSourceOf(runner).driver as { queryRunner?: QueryRunner }).queryRunner === runner;
}
