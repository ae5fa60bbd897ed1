import type { ObjectLiteral, QueryRunner } from 'typeorm';
import type { DialectName } from '../../dialect.js';
import { StatementQueue } from './statement-queue.js';
import { TransactionEnds, type EndOptions } from './transaction-ends.js';
import { transactionAborted, transactionEnded, transactionOpen, writesUnfinished } from './transaction-errors.js';
import { TransactionLog, type Committed } from './transaction-log.js';
import { transactionStatements, type TransactionStatement } from './transaction-statement.js';
import { isWriteStatement } from './write-statement.js';
import { Queue, refuseEnded, Work, worksOn, writeOn } from './work.js';
import { replaceRunnerMethods, type RunnerMethod } from '../typeorm/runner-methods.js';
import { dataSourceOf, isAsyncDisposable } from '../../typeorm-compat.js';

/** Options that all query runners of a data source share. */
export interface RunnerWritesOptions {
  readonly dialect: DialectName;
  /** The subscriber of this library. */
  readonly subscriber: object;
  /**
   * The longest wait, in milliseconds, of an end of a transaction for unfinished writes. The time during which one of these writes runs a
   * statement does not count.
   */
  readonly timeoutMs: number;
  /** Called when a query runner was released in an open transaction. The transaction has been rolled back by then. */
  onLeftover(): void;
}

/** The saves that run on one query runner. */
interface Saves {
  count: number;
  /** The `data` of the query runner before the first of these saves. */
  readonly data: ObjectLiteral;
}

/**
 * The unfinished writes on one query runner. A query runner is one connection with at most one transaction. `docs/states.md` draws the
 * states of a write.
 *
 * **Outside a transaction** a write on an application's query runner takes a *turn*. During the turn only this write uses the runner,
 * because the write may open a transaction on the runner. All other calls wait: writes, statements, BEGIN, COMMIT, ROLLBACK and
 * `release()`.
 *
 * **In a transaction** writes do not wait for a turn. The *ends* of the transaction wait for the writes: COMMIT, ROLLBACK, SAVEPOINT,
 * RELEASE, ROLLBACK TO and `release()` wait for the writes that began before them. A write that is called after an end waits for that end.
 * If the transaction is then over, the write fails. So no write sends a statement after its transaction, and no event is missing.
 *
 * An AsyncLocalStorage identifies the calls inside a write: its own COMMIT, its hooks, and the writes of the hooks. These calls never wait
 * for that write. An end inside a write does not wait for another write that waits at its own end. So two writes do not deadlock if the
 * hooks of each write wait for a savepoint of the other write.
 *
 * The first write or transaction on a query runner creates this object. The object replaces methods of the runner. If a `save()` has
 * created its query runner itself, the `save()` enters no AsyncLocalStorage. An AsyncLocalStorage that is entered for each write slows down
 * all promises of a process on Node.js 20 and 22. The cost is 4 % of a `save()`.
 */
export class RunnerWrites {
  readonly log = new TransactionLog();
  readonly statements: StatementQueue;
  private readonly queue = new Queue();
  private readonly ends: TransactionEnds;
  private saves: Saves | undefined;
  private hasChains = false;
  private readonly stock: Readonly<Record<string | symbol, RunnerMethod>>;

  constructor(
    private readonly runner: QueryRunner,
    private readonly options: RunnerWritesOptions,
  ) {
    this.statements = new StatementQueue(runner, options.subscriber);
    this.ends = new TransactionEnds(runner, this.log, options.timeoutMs);
    this.stock = this.intercept();
  }

  /** Whether a transaction is open on the query runner, or is about to be opened. */
  get isInTransaction(): boolean {
    return this.runner.isTransactionActive || this.log.isOpen;
  }

  /** Runs a write in its turn. If a transaction of the application is open, the write runs without waiting for a turn. */
  runWrite<T>(label: () => string, write: () => Promise<T>): Promise<T> {
    return this.run(new Work('write', this.runner, label), write);
  }

  /** Runs a `manager.transaction()` on this query runner. */
  async transaction<T>(run: () => Promise<T>): Promise<T> {
    const work = new Work('transaction', this.runner, () => 'transaction()');
    // If this call waits for the turn of another write, the call begins a new transaction after that turn.
    const isBehindTurn = this.queueHere.length > 0;
    if (!isBehindTurn && this.ends.endBefore(work)) await this.ends.waitForEnds(work);
    return this.underWay(work, run, isBehindTurn ? null : this.log.current);
  }

  /**
   * Runs the work that a hook does for its write. In a transaction the work runs without waiting. Otherwise the work runs in a turn inside
   * that write. The hook waits for its turn here, before the hook takes a lock for which other calls may wait.
   */
  inside<T>(part: () => Promise<T> | T): Promise<T> | T {
    if (!this.waitsForTurn) return part();
    return this.run(new Work('other', this.runner, () => 'a statement'), async () => part());
  }

  /**
   * Runs a `save()`, `remove()`, `softRemove()` or `recover()`. TypeORM sets the `data` of the call on the query runner, and afterwards
   * restores the previous value. If several saves run at the same time in one transaction, a save may see the `data` of another save.
   * TypeORM may also restore the wrong `data` at the end of a save. So at the end of the last save, this method restores the value that
   * `data` had before the first save.
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

  /** The `data` of the save in this chain of calls, even if another save has set its `data` on the query runner in the meantime. */
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
    this.ends.transactionOver(current);
    return committed;
  }

  /** Called when the driver reports that the transaction is over, although no statement has ended the transaction. */
  endedByServer(): Committed {
    const { current } = this.log;
    const committed = this.log.endedByServer();
    this.ends.transactionOver(current);
    return committed;
  }

  /** Called when the server has rolled back the transaction because of an error. */
  rolledBackByServer(): void {
    const { current } = this.log;
    this.log.rolledBackByServer();
    this.ends.transactionOver(current);
  }

  /**
   * Notes that the current work has begun the transaction. This work may end the transaction, even if a BEGIN of the application came
   * before.
   */
  private begun(): void {
    for (const work of worksOn(this.runner)) {
      work.transaction = null;
      work.begun = this.log.current;
    }
  }

  /** Sends a statement without waiting for a turn, even if the write around the statement is over. */
  ask(text: string, values?: unknown[]): Promise<unknown> {
    return this.stockCall('query', [text, values]);
  }

  private async run<T>(work: Work, write: () => Promise<T>): Promise<T> {
    let leave: (() => void) | undefined;
    try {
      // If nothing has to be waited for, register the write synchronously: an end that is called in the same tick must see this write.
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

  /**
   * Waits for a turn, and for ends that were called earlier. Returns a function that ends the turn, or `undefined` if the work takes no
   * turn.
   */
  private async admit(work: Work): Promise<(() => void) | undefined> {
    for (;;) {
      if (this.waitsForTurn) this.ends.suspend(work);
      const leave = await this.turn();
      if (!this.ends.endBefore(work)) return leave;
      leave?.();
      await this.ends.waitForEnds(work);
    }
  }

  private get waitsForTurn(): boolean {
    return this.queueHere.length > 0 || !this.isInTransaction;
  }

  /** Waits for a turn. Returns a function that ends the turn. In a transaction writes take no turn, so the method returns `undefined`. */
  private async turn(): Promise<(() => void) | undefined> {
    if (!this.waitsForTurn) return undefined;
    const leave = await this.queueHere.enter();
    if (!this.isInTransaction) return leave;
    // The application began a transaction while this call waited. The calls that wait behind this call belong to the same transaction.
    leave();
    return undefined;
  }

  private get queueHere(): Queue {
    return writeOn(this.runner)?.queue ?? this.queue;
  }

  /** Replaces methods of the query runner. Returns the original methods. */
  private intercept(): Record<string | symbol, RunnerMethod> {
    return replaceRunnerMethods(this.runner, {
      query: (text: string, ...rest: unknown[]) => this.query(text, rest),
      startTransaction: (...args: unknown[]) => this.inTurn(() => this.start(args)),
      commitTransaction: () => this.inTurn(() => this.commit()),
      rollbackTransaction: () => this.inTurn(() => this.rollBack()),
      ...(isShared(this.runner) ? {} : { release: () => this.inTurn(() => this.release()) }),
      ...(isAsyncDisposable(this.runner) && {
        [Symbol.asyncDispose]: () => this.inTurn(() => this.stockCall(Symbol.asyncDispose)),
      }),
    });
  }

  private stockCall(name: string | symbol, args: readonly unknown[] = []): Promise<unknown> {
    return (this.stock[name] as RunnerMethod).apply(this.runner, args as unknown[]);
  }

  private inTurn(pass: () => Promise<unknown>): Promise<unknown> {
    if (!this.queueHere.length) return pass();
    return this.run(new Work('other', this.runner, () => 'a statement'), pass);
  }

  private query(text: string, rest: readonly unknown[]): Promise<unknown> {
    const pass = () => this.stockCall('query', [text, ...rest]);
    const statements = transactionStatements(text, this.options.dialect).filter((statement) => statement !== undefined);
    if (!statements.some((statement) => this.isEnd(statement))) return this.inTurn(() => this.counted(text, pass));
    const options = this.endOptions(statements);
    const send = () => this.counted(text, pass);
    return this.inTurn(() => this.ends.run(options, options.isRollback ? send : () => this.ending(send)));
  }

  /** Runs an end that keeps changes. Hooks of this end may make more changes after the pending events were written. */
  private async ending(send: () => Promise<unknown>): Promise<unknown> {
    this.log.isEnding = true;
    try {
      return await send();
    } finally {
      this.log.isEnding = false;
    }
  }

  /** Whether a statement ends a transaction. On MySQL a BEGIN in a transaction commits that transaction. */
  private isEnd({ kind }: TransactionStatement): boolean {
    return kind !== 'begin' || this.log.isOpen;
  }

  private endOptions(statements: readonly TransactionStatement[]): EndOptions {
    const areAll = (...kinds: string[]) => statements.every(({ kind }) => kinds.includes(kind));
    // A hook of this statement may make the first write on the runner.
    const entersChain = this.hasChains || this.statements.hasHooks;
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
    // The write sent its last statement after its transaction was over, so the rows of that statement are committed. Allow the read of
    // these rows for the event.
    const isRead = here?.wroteIn === null && !isWriteStatement(text);
    // An end of a transaction is not checked here: the same check ran before the end was sent.
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
      this.ends.statementDone();
    }
  }

  /**
   * Called when the database has answered a statement. Hooks of the application may then wait, and the transaction may be over at the end
   * of the hooks.
   */
  answered(text: string): void {
    if (!this.hasChains || this.log.asking || !isWriteStatement(text)) return;
    for (const work of worksOn(this.runner)) return void (work.answeredIn = this.log.current);
  }

  /** Records the transaction in which a write was sent. After an error only the server knows whether that transaction is still open. */
  private async noteTransaction([work]: readonly Work[]): Promise<void> {
    if (!work) return;
    if (work.answeredIn === undefined) await this.log.asking;
    const { answeredIn: current = this.log.current } = work;
    work.answeredIn = undefined;
    work.wroteIn = current;
    // The write was called shortly before the transaction began, and belongs to this transaction.
    if (work.begun !== current) work.transaction ??= current;
  }

  /**
   * Runs TypeORM's `startTransaction()`. TypeORM changes its count of open transactions before and after the statement. In between, no
   * other call may begin or end a transaction. So all waiting happens before TypeORM's method is called.
   */
  private start(args: readonly unknown[]): Promise<unknown> {
    if (this.options.dialect === 'sqlite' && this.log.isOpen && !this.runner.isTransactionActive) {
      return Promise.reject(transactionOpen());
    }
    const refuse = (stuck: readonly Work[]) => this.refuse(stuck, undefined);
    return this.runEnd({ isRollback: false, refuse }, () => this.stockCall('startTransaction', args));
  }

  private commit(): Promise<unknown> {
    const refuse = (stuck: readonly Work[]) => this.refuse(stuck, () => this.stockCall('rollbackTransaction'));
    return this.runEnd({ isRollback: false, refuse }, async () => {
      const { current, hasEvents } = this.log;
      const result = await this.stockCall('commitTransaction');
      if (current?.end === 'rolled back' && hasEvents) throw transactionAborted();
      return result;
    });
  }

  private rollBack(): Promise<unknown> {
    return this.runEnd({ isRollback: true }, () => this.stockCall('rollbackTransaction'));
  }

  private release(): Promise<unknown> {
    return this.runEnd({ isRollback: true }, async () => {
      if (this.log.isOpen && !this.runner.isReleased) await this.rollBackLeftover();
      return this.stockCall('release');
    });
  }

  /**
   * Runs an end of a transaction. If no write was called on the runner so far, the end waits for nothing here. The same check runs again
   * for the statement of the end.
   */
  private runEnd(options: Omit<EndOptions, 'entersChain'>, run: () => Promise<unknown>): Promise<unknown> {
    return this.hasChains ? this.ends.run({ ...options, entersChain: true }, run) : run();
  }

  /**
   * Rolls back an open transaction. Without the rollback, the next user of the connection might commit the transaction without its events.
   */
  private async rollBackLeftover(): Promise<void> {
    const isDone = await this.runner.query('ROLLBACK').then(
      () => true,
      () => false,
    );
    if (isDone) this.options.onLeftover();
  }

  /** @throws CaptureError `WRITES_UNFINISHED`, after the call of `rollBack` */
  private async refuse(stuck: readonly Work[], rollBack: (() => Promise<unknown>) | undefined): Promise<never> {
    if (rollBack) {
      for (const work of stuck) work.ended ??= transactionEnded(work, { end: 'rolled back' });
      await rollBack().catch(() => undefined);
    }
    throw writesUnfinished(stuck, this.options.timeoutMs, rollBack !== undefined);
  }
}

/**
 * Whether transactions share the query runner. Without `isolateSqlite` all SQLite transactions share one query runner. This query runner
 * must not be released.
 */
function isShared(runner: QueryRunner): boolean {
  return (dataSourceOf(runner).driver as { queryRunner?: QueryRunner }).queryRunner === runner;
}
