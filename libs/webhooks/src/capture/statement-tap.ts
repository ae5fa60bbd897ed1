import type { QueryRunner, TransactionStartEvent } from 'typeorm';
import { currentCause } from '../cause.js';
import type { EntityRegistry } from '../entities/entity-registry.js';
import { CaptureError, loopMessage } from '../entities/errors.js';
import { contextText } from '../events/event-context.js';
import { newId } from '../ids.js';
import { enterTransaction, leaveTransaction } from '../sqlite/transaction-here.js';
import type { Database } from '../store/database/database.js';
import type { QueryEndEvent, QueryEvent } from '../typeorm-compat.js';
import type { ChangeRecorder } from './change-recorder.js';
import type { RunnerWrites } from './transactions/runner-writes.js';
import type { SentStatement } from './typeorm/sent-statement.js';
import { serverState } from './transactions/server-state.js';
import type { Committed } from './transactions/transaction-log.js';
import {
  changesSchema,
  transactionStatements,
  type TransactionStatement,
} from './transactions/transaction-statement.js';
import { MYSQL_NO_OP } from './transactions/write-statement.js';
import type { TriggerMark } from './triggers/marked-writes.js';
import { TransactionMarks } from './triggers/transaction-marks.js';
import { WrittenTables } from './triggers/written-tables.js';
import type { StatementHooks } from './typeorm/statement-hooks.js';

export interface StatementTapOptions {
  readonly database: Database;
  readonly registry: EntityRegistry;
  readonly maxCausationDepth: number;
  /** Called after a commit in which triggers may have written images. The callback must not throw. */
  readonly onImages: () => void;
}

/**
 * After an error with one of the next two numbers, InnoDB has rolled back the whole transaction. After any other error, capture asks the
 * server for the state.
 */
const ER_LOCK_DEADLOCK = 1213;
const ER_LOCK_TABLE_FULL = 1206;
/** After a statement has failed, PostgreSQL rejects every other statement of the transaction with this SQLSTATE. */
const IN_FAILED_TRANSACTION = '25P02';

/**
 * Sees every statement of the data source, before and after the statement runs. The tap follows the transactions, sets the transaction
 * marks for triggers, and makes the recorder write pending events before a transaction ends.
 */
export class StatementTap implements StatementHooks {
  private readonly triggerTables: WrittenTables;
  private readonly marks: TransactionMarks;

  constructor(
    private readonly options: StatementTapOptions,
    private readonly recorder: ChangeRecorder,
  ) {
    this.triggerTables = new WrittenTables(options.registry);
    this.marks = new TransactionMarks(options.database, (runner, text, values) =>
      recorder.writesOf(runner).ask(text, values),
    );
  }

  /** Called before every statement of the application. The method returns a promise only if the statement must wait. */
  beforeQuery({ queryRunner, query }: QueryEvent): Promise<void> | undefined {
    const isMarked = this.marks.has(queryRunner);
    // Once a mark is set, every later write needs its own correct mark: a foreign key with CASCADE may change rows of a table with
    // triggers.
    const isWrite = isMarked ? this.triggerTables.isWrite(query) : this.triggerTables.isWrittenBy(query);
    const mayFire = isWrite && !this.marks.isOwn(query);
    if (!mayFire && !isMarked && !this.recorder.hasPending(queryRunner)) return undefined;
    return this.beforeStatement(queryRunner, query, mayFire);
  }

  private async beforeStatement(queryRunner: QueryRunner, query: string, mayFire: boolean): Promise<void> {
    const statements = transactionStatements(query, this.options.database.dialect);
    const first = statements.find((statement) => statement !== undefined);
    // Write the events before this statement has its mark. A write with a mark makes writes with another mark wait, and the events would
    // wait behind such a write.
    if (first ? writesBefore(first) : changesSchema(query)) await this.flushBeforeEnd(queryRunner);
    if (mayFire) {
      this.nameTransaction(queryRunner, query);
      await this.marks.beforeWrite(queryRunner, query, this.markOf(queryRunner), () =>
        this.recorder.isOpen(queryRunner),
      );
    }
    // Change the marks after the flush: the statements of the flush also run through this hook, and set the mark again.
    for (const statement of statements) {
      if (statement && this.marks.has(queryRunner)) await this.marks.beforeEnd(queryRunner, statement);
    }
  }

  /**
   * Writes the pending events, except in an aborted transaction of PostgreSQL. PostgreSQL always rolls back an aborted transaction, so its
   * events are not needed.
   */
  private async flushBeforeEnd(runner: QueryRunner): Promise<void> {
    try {
      await this.recorder.flushAll(runner);
    } catch (error) {
      if ((error as { code?: unknown }).code !== IN_FAILED_TRANSACTION) throw error;
    }
  }

  afterQuery(event: QueryEndEvent): Promise<void> | undefined {
    const { queryRunner, query, success, rawResults } = event;
    const { dialect } = this.options.database;
    const statements = transactionStatements(query, dialect);
    if (!success) return this.afterFailure(event, statements);
    this.recorder.findWrites(queryRunner)?.answered(query);
    if (statements.length) return this.afterTransactionStatements(queryRunner, statements, rawResults);
    const committed = this.followServer(queryRunner, rawResults);
    if (committed) return this.recorder.committed(committed);
    const mayHaveFired = this.triggerTables.isWrittenBy(query) || this.marks.isUnderWay(queryRunner, query);
    return mayHaveFired ? this.afterImages(queryRunner, query) : undefined;
  }

  executed(queryRunner: QueryRunner, query: string): SentStatement | undefined {
    return this.recorder.findWrites(queryRunner)?.statements.executed(query);
  }

  private async afterImages(queryRunner: QueryRunner, query: string): Promise<void> {
    this.noteImages(queryRunner);
    await this.marks.afterWrite(queryRunner, query, true, this.recorder.isOpen(queryRunner));
  }

  private async afterFailure(
    { queryRunner, query, error }: QueryEndEvent,
    statements: ReturnType<typeof transactionStatements>,
  ): Promise<void> {
    const isQuestion = this.isQuestion(queryRunner, query);
    this.followFailure(queryRunner, statements, error, isQuestion);
    if (!isQuestion) await this.recorder.findWrites(queryRunner)?.log.asking;
    await this.marks.afterWrite(queryRunner, query, false, this.recorder.isOpen(queryRunner));
  }

  private async afterTransactionStatements(
    queryRunner: QueryRunner,
    statements: ReturnType<typeof transactionStatements>,
    rawResults: unknown,
  ): Promise<void> {
    const writes = this.recorder.writesOf(queryRunner);
    const results = Array.isArray(rawResults) && statements.length > 1 ? (rawResults as unknown[]) : [rawResults];
    // First follow all statements without an `await`, so that no other statement runs in between. Then await the remaining work.
    const followed = statements.flatMap((statement, n) =>
      statement ? [[statement, this.followOne(writes, statement, results[n])] as const] : [],
    );
    const endedByServer = this.followServer(queryRunner, rawResults);
    if (!writes.log.isOpen) leaveTransaction(queryRunner);
    for (const [statement, committed] of followed) {
      await this.marks.afterEnd(queryRunner, statement);
      await this.recorder.committed(committed);
    }
    if (endedByServer) await this.recorder.committed(endedByServer);
  }

  private followOne(writes: RunnerWrites, statement: TransactionStatement, result: unknown): Committed {
    const { wroteImages, current } = writes.log;
    // PostgreSQL answers a COMMIT of a failed transaction with ROLLBACK.
    const isRollback =
      statement.kind === 'commit' && (result as { command?: string } | undefined)?.command === 'ROLLBACK';
    const committed = writes.follow(isRollback ? { kind: 'rollback', chain: statement.chain } : statement);
    if (wroteImages && current?.end === 'committed') this.options.onImages();
    return committed;
  }

  /** Follows a transaction that began or ended without its own statement, for example in a procedure or by an implicit commit. */
  private followServer(runner: QueryRunner, rawResults: unknown): Committed | undefined {
    const state = serverState(runner, this.options.database.dialect, rawResults);
    const writes = this.recorder.findWrites(runner);
    if (state === 'open' && !writes?.log.isOpen) this.recorder.writesOf(runner).log.begunByServer();
    if (state !== 'none' || !writes?.log.isOpen) return undefined;
    if (writes.log.wroteImages) this.options.onImages();
    return writes.endedByServer();
  }

  /** TypeORM calls this method before the first `await` of `startTransaction()`. TypeORM also calls this method for savepoints. */
  beforeTransactionStart({ queryRunner }: TransactionStartEvent): void {
    if (this.options.database.dialect === 'sqlite' && !this.recorder.isOpen(queryRunner)) enterTransaction(queryRunner);
  }

  private noteImages(runner: QueryRunner): void {
    const log = this.recorder.writesOf(runner).log;
    if (log.isOpen) log.wroteImages = true;
    else this.options.onImages();
  }

  /**
   * Gives the transaction an id if triggers coalesce its changes and cannot ask the database for an id. On PostgreSQL, triggers can ask the
   * database.
   */
  private nameTransaction(runner: QueryRunner, query: string): void {
    const log = this.recorder.findWrites(runner)?.log;
    if (!log?.isOpen || log.id !== null || this.options.database.dialect === 'postgres') return;
    if (this.triggerTables.isMerged(query)) log.id = newId('txn');
  }

  /** Returns the transaction mark for a write in the current context. @throws CaptureError `WEBHOOK_LOOP` */
  private markOf(runner: QueryRunner): TriggerMark {
    const skip = !this.recorder.isCaptured(runner);
    const cause = currentCause();
    const { depth } = cause;
    const { maxCausationDepth } = this.options;
    if (!skip && depth > maxCausationDepth) {
      throw new CaptureError('WEBHOOK_LOOP', loopMessage('A write', depth, maxCausationDepth), { details: { depth } });
    }
    return { skip, context: contextText(cause), transaction: this.recorder.findWrites(runner)?.log.id ?? null };
  }

  private followFailure(
    runner: QueryRunner,
    statements: ReturnType<typeof transactionStatements>,
    error: unknown,
    isQuestion: boolean,
  ): void {
    const writes = this.recorder.findWrites(runner);
    if (!writes?.log.isOpen) return;
    const { log } = writes;
    log.hasFailed = true;
    const { dialect } = this.options.database;
    const { errno } = error as { errno?: number };
    // On SQLite a transaction stays open after a failed COMMIT, and the COMMIT can be repeated. On other databases a failed COMMIT ends the
    // transaction.
    const isCommit = statements.length === 1 && statements[0]?.kind === 'commit' && dialect !== 'sqlite';
    if (isCommit || errno === ER_LOCK_DEADLOCK || errno === ER_LOCK_TABLE_FULL) return writes.rolledBackByServer();
    const isOneOfSeveral = statements.length > 1;
    if (isOneOfSeveral) log.becomeUncertain();
    // If a statement fails, `pg` rejects before it has received the new transaction status. So after a text of several statements, the last
    // known status is outdated.
    if (!isQuestion && (dialect === 'mysql' || (dialect === 'postgres' && isOneOfSeveral)))
      return this.askServer(writes);
    // On MySQL the question fails only if the connection is lost.
    if (isQuestion && dialect === 'mysql') return writes.rolledBackByServer();
    if (serverState(runner, dialect, undefined) === 'none') writes.rolledBackByServer();
  }

  private get question(): string {
    return this.options.database.dialect === 'mysql' ? MYSQL_NO_OP : 'SELECT 1';
  }

  /**
   * Whether a statement is the question of {@link askServer}. In an aborted transaction PostgreSQL refuses the question, too. A failed
   * question asks no further question, and does not wait for itself.
   */
  private isQuestion(runner: QueryRunner, query: string): boolean {
    return query === this.question && this.recorder.findWrites(runner)?.log.asking !== undefined;
  }

  /** Asks the server whether the transaction survived an error. {@link afterQuery} reads the state from the answer to this statement. */
  private askServer(writes: RunnerWrites): void {
    const { log } = writes;
    const asking: Promise<void> = writes.ask(this.question).then(noop, noop);
    log.asking = asking;
    void asking.then(() => {
      if (log.asking === asking) log.asking = undefined;
    });
  }
}

function noop(): void {}

function writesBefore(statement: TransactionStatement): boolean {
  // Changes that are pending at a ROLLBACK TO were made after its savepoint, so these changes are not written. In an aborted transaction
  // PostgreSQL would refuse the events anyway.
  return statement.kind !== 'rollback' && statement.kind !== 'rollback_to';
}
