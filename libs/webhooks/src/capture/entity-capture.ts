import type {
  DataSource,
  EntityMetadata,
  EntitySubscriberInterface,
  QueryRunner,
  TransactionStartEvent,
} from 'typeorm';
import type { LoggerService } from '@nestjs/common';
import type { WebhookClock } from '../clock.js';
import { ConfigurationError } from '../errors.js';
import { newId } from '../ids.js';
import { contextText } from '../events/event-context.js';
import type { EventRow } from '../store/outbox/event-rows.js';
import type { PayloadLimits } from '../events/payload.js';
import type { Database } from '../store/database/database.js';
import { enterTransaction, leaveTransaction, scopeTransactions } from '../sqlite/transaction-here.js';
import { currentCause, isCapturedHere } from '../cause.js';
import type { QueryEndEvent, QueryEvent } from '../typeorm-compat.js';
import { BulkWrites } from './bulk-writes.js';
import type { EntityDefinition, RowImage } from '../entities/entity-definition.js';
import type { EntityRegistry } from '../entities/entity-registry.js';
import { CaptureError, loopMessage } from '../entities/errors.js';
import { OutboxWriter } from './outbox-writer.js';
import { RunnerWrites, type RunnerWritesOptions } from './transactions/runner-writes.js';
import { serverState } from './transactions/server-state.js';
import type { TriggerMark } from './triggers/marked-writes.js';
import { TransactionMarks } from './triggers/transaction-marks.js';
import { WrittenTables } from './triggers/written-tables.js';
import { eventsLost, transactionEnded } from './transactions/transaction-errors.js';
import type { Committed, TransactionLog } from './transactions/transaction-log.js';
import type { RowChange } from './changes/row-change.js';
import {
  changesSchema,
  transactionStatements,
  type TransactionStatement,
} from './transactions/transaction-statement.js';
import { outsideChains, writeOn } from './transactions/work.js';
import { interceptWrites, restoreWrites } from './typeorm/write-builder.js';

/**
 * Called with events after their commit. It must not throw. The writer's promise settles after it.
 *
 * @param isUncertain some of these events may have been rolled back
 */
type CommittedHandler = (events: readonly EventRow[], isUncertain: boolean) => Promise<void> | void;

export interface EntityCaptureOptions {
  readonly dataSource: DataSource;
  readonly database: Database;
  readonly registry: EntityRegistry;
  readonly clock: WebhookClock;
  readonly limits: PayloadLimits;
  readonly maxCausationDepth: number;
  readonly unfinishedWritesTimeoutMs: number;
  readonly logger: LoggerService;
  readonly onCommitted: CommittedHandler;
  /** Called after a commit in which triggers may have written images. It must not throw. */
  readonly onImages: () => void;
}

/** After these two errors InnoDB has rolled back the whole transaction. After other errors the server is asked. */
const ER_LOCK_DEADLOCK = 1213;
const ER_LOCK_TABLE_FULL = 1206;
const RELEASED_IN_TRANSACTION = 'RELEASED_IN_TRANSACTION';
/** After a statement has failed, PostgreSQL rejects every other statement of the transaction with this SQLSTATE. */
const IN_FAILED_TRANSACTION = '25P02';

/**
 * The TypeORM subscriber of a module instance. {@link BulkWrites} captures the statements. This class keeps the pending changes of each
 * transaction, and writes their events to the outbox before its COMMIT.
 */
export class EntityCapture implements EntitySubscriberInterface {
  private readonly writes = new WeakMap<QueryRunner, RunnerWrites>();
  private readonly outbox: OutboxWriter;
  private readonly writesOptions: RunnerWritesOptions;
  private hasWarnedOfLeftover = false;

  private unscope: (() => void) | undefined;
  private readonly triggerTables: WrittenTables;
  private readonly marks: TransactionMarks;

  constructor(private readonly options: EntityCaptureOptions) {
    this.triggerTables = new WrittenTables(options.registry);
    this.marks = new TransactionMarks(options.database);
    this.outbox = new OutboxWriter(options);
    this.writesOptions = {
      dialect: options.database.dialect,
      subscriber: this,
      timeoutMs: options.unfinishedWritesTimeoutMs,
      onLeftover: () => this.warnOfLeftover(),
    };
  }

  /**
   * Subscribes to the data source. The subscription survives `destroy()` and `initialize()`, which replace the list of subscribers.
   *
   * @throws ConfigurationError `DATA_SOURCE_SERVED_TWICE`: each of two instances would know only a part of the entities
   * @throws ConfigurationError `UNKNOWN_TYPEORM`: this version of TypeORM lacks a method that capture uses
   */
  attach(): void {
    const { dataSource, database, registry, clock, logger } = this.options;
    let subscribers = dataSource.subscribers;
    if (subscribers.some((subscriber) => subscriber instanceof EntityCapture)) {
      throw new ConfigurationError(
        'DATA_SOURCE_SERVED_TWICE',
        'WebhooksModule.forRoot() was called twice for one data source. Import it once, in your root module. In other modules, import WebhooksModule.forFeature([...]).',
      );
    }
    Object.defineProperty(dataSource, 'subscribers', {
      configurable: true,
      enumerable: true,
      get: () => subscribers,
      set: (list: EntitySubscriberInterface[]) => {
        subscribers = list.includes(this) ? list : [...list, this];
      },
    });
    (dataSource as { subscribers: EntitySubscriberInterface[] }).subscribers = subscribers;
    const { dialect } = database;
    if (dialect === 'sqlite') this.unscope = scopeTransactions(dataSource.manager);
    interceptWrites(dataSource, new BulkWrites({ dataSource, dialect, registry, clock, logger, log: this }));
  }

  detach(): void {
    const { dataSource } = this.options;
    restoreWrites(dataSource);
    this.unscope?.();
    const subscribers = dataSource.subscribers.filter((subscriber) => subscriber !== this);
    Object.defineProperty(dataSource, 'subscribers', {
      configurable: true,
      enumerable: true,
      writable: true,
      value: subscribers,
    });
  }

  /** The writes of a query runner that are under way, and the log of its transaction. */
  writesOf(runner: QueryRunner): RunnerWrites {
    let writes = this.writes.get(runner);
    if (!writes) this.writes.set(runner, (writes = new RunnerWrites(runner, this.writesOptions)));
    return writes;
  }

  private logOf(runner: QueryRunner): TransactionLog {
    return this.writesOf(runner).log;
  }

  /** Returns `undefined` for a query runner without writes and transactions so far. */
  private logIn(runner: QueryRunner): TransactionLog | undefined {
    return this.writes.get(runner)?.log;
  }

  /** Runs a write of this module on a caller's query runner. @param label names the write in an error */
  inTurn<T>(runner: QueryRunner, label: string, write: () => Promise<T>): Promise<T> {
    return this.writesOf(runner).runWrite(() => label, write);
  }

  /** Records a published event among the changes of a query runner's transaction, in program order. */
  add(runner: QueryRunner, row: EventRow): Promise<void> {
    return this.writesOf(runner).runWrite(
      () => `publish('${row.source.event.type}')`,
      async () => this.record(runner, [row]),
    );
  }

  /** Records an event that is already in the outbox, written through this query runner. */
  async written(runner: QueryRunner, row: EventRow): Promise<void> {
    const log = this.logOf(runner);
    if (log.isOpen) log.written.add(row);
    else await this.options.onCommitted([row], false);
  }

  /** Runs `work` after the commit of the query runner's transaction, or immediately if none is open. `work` must not throw. */
  afterCommit(runner: QueryRunner, work: () => void): void {
    const log = this.logOf(runner);
    if (log.isOpen) log.afterCommit.push(work);
    else work();
  }

  /** Whether the connection is in a transaction. `isTransactionActive` of TypeORM may differ. */
  isOpen(runner: QueryRunner): boolean {
    return this.logIn(runner)?.isOpen ?? false;
  }

  /** Reads the after images of pending changes of a table, before a statement that may write any of its rows again. */
  settle(
    runner: QueryRunner,
    { tablePath }: EntityMetadata,
    except?: ReadonlySet<RowChange>,
  ): Promise<void> | undefined {
    return this.readUnread(
      runner,
      (change) => change.definition.metadata.tablePath === tablePath && !except?.has(change),
    );
  }

  settleRows(
    runner: QueryRunner,
    definition: EntityDefinition,
    keys: ReadonlySet<string>,
    images?: ReadonlyMap<string, RowImage>,
  ): Promise<void> | undefined {
    const { tablePath } = definition.metadata;
    const isEarlier = (change: RowChange) => change.definition.metadata.tablePath === tablePath && keys.has(change.key);
    if (images) {
      for (const item of this.logIn(runner)?.pending ?? []) {
        if ('values' in item || item.image || item.definition !== definition || !isEarlier(item)) continue;
        item.image = images.get(item.key) ?? 'gone';
      }
    }
    return this.readUnread(runner, isEarlier);
  }

  private readUnread(runner: QueryRunner, isWanted: (change: RowChange) => boolean): Promise<void> | undefined {
    const log = this.logIn(runner);
    if (!log?.pending.some((item) => !('values' in item) && !item.image && isWanted(item))) return undefined;
    return log.exclusively(() => this.outbox.readImages(runner, log, isWanted));
  }

  /** A statement has written rows that could not be read. Even if the caller swallows its error, the transaction must not be committed. */
  refuse(runner: QueryRunner, definition: EntityDefinition, cause: unknown): void {
    const { name } = definition.metadata;
    const refusal = new CaptureError(
      'ROWS_UNKNOWN',
      `A statement on ${name} has written rows, and reading them failed (see \`cause\`). Their events would be missing, so this transaction cannot be committed. Roll it back and run it again. Do not swallow the error of the write.`,
      { cause, details: { entity: name } },
    );
    const at = this.options.clock.now();
    const nothing = { action: 'updated', id: {}, key: '', before: null, image: 'gone' } as const;
    this.logOf(runner).pending.push({ ...nothing, definition, at, refusal });
  }

  /** Writes the pending events of a query runner's transaction to the outbox. */
  async flush(runner: QueryRunner): Promise<void> {
    const log = this.logIn(runner);
    if (log?.pending.length) await log.exclusively(() => this.outbox.write(runner, log));
  }

  /** Every statement of the application passes here. It returns a promise only if there is something to await. */
  beforeQuery({ queryRunner, query }: QueryEvent): Promise<void> | undefined {
    const isMarked = this.marks.has(queryRunner);
    // Once a mark is set, every write needs its correct mark: a cascade of its foreign keys may reach a table with triggers.
    const isWrite = isMarked ? this.triggerTables.isWrite(query) : this.triggerTables.isWrittenBy(query);
    const mayFire = isWrite && !this.marks.isOwn(query);
    if (!mayFire && !isMarked && !this.logIn(queryRunner)?.pending.length) return undefined;
    return this.beforeStatement(queryRunner, query, mayFire);
  }

  private async beforeStatement(queryRunner: QueryRunner, query: string, mayFire: boolean): Promise<void> {
    if (mayFire) {
      this.nameTransaction(queryRunner, query);
      await this.marks.beforeWrite(queryRunner, query, this.markOf(queryRunner), () => this.isOpen(queryRunner));
    }
    const statements = transactionStatements(query, this.options.database.dialect);
    const first = statements.find((statement) => statement !== undefined);
    if (first ? writesBefore(first) : changesSchema(query)) await this.flushBeforeEnd(queryRunner);
    // After the flush: the statements of the flush pass here too, and set the mark again.
    for (const statement of statements) {
      if (statement && this.marks.has(queryRunner)) await this.marks.beforeEnd(queryRunner, statement);
    }
  }

  /** PostgreSQL always rolls back an aborted transaction, so its events need not be written. */
  private async flushBeforeEnd(runner: QueryRunner): Promise<void> {
    try {
      await this.flush(runner);
    } catch (error) {
      if ((error as { code?: unknown }).code !== IN_FAILED_TRANSACTION) throw error;
    }
  }

  afterQuery(event: QueryEndEvent): Promise<void> | undefined {
    const { queryRunner, query, success, rawResults } = event;
    const { dialect } = this.options.database;
    const statements = transactionStatements(query, dialect);
    if (!success) return this.afterFailure(event, statements);
    if (statements.length) return this.afterTransactionStatements(queryRunner, statements, rawResults);
    const committed = this.followServer(queryRunner, rawResults);
    if (committed) return this.afterEnd(queryRunner, committed);
    const mayHaveFired = this.triggerTables.isWrittenBy(query) || this.marks.isUnderWay(queryRunner, query);
    return mayHaveFired ? this.afterImages(queryRunner, query) : undefined;
  }

  private async afterImages(queryRunner: QueryRunner, query: string): Promise<void> {
    this.noteImages(queryRunner);
    await this.marks.afterWrite(queryRunner, query, true, this.isOpen(queryRunner));
  }

  private async afterFailure(
    { queryRunner, query, error }: QueryEndEvent,
    statements: ReturnType<typeof transactionStatements>,
  ): Promise<void> {
    this.followFailure(queryRunner, statements, error);
    await this.logIn(queryRunner)?.asking;
    await this.marks.afterWrite(queryRunner, query, false, this.isOpen(queryRunner));
  }

  private async afterTransactionStatements(
    queryRunner: QueryRunner,
    statements: ReturnType<typeof transactionStatements>,
    rawResults: unknown,
  ): Promise<void> {
    const writes = this.writesOf(queryRunner);
    const results = Array.isArray(rawResults) && statements.length > 1 ? (rawResults as unknown[]) : [rawResults];
    // First follow all statements without an `await`, so that no other statement comes between. Then await the rest.
    const followed = statements.flatMap((statement, n) =>
      statement ? [[statement, this.followOne(writes, statement, results[n])] as const] : [],
    );
    const endedByServer = this.followServer(queryRunner, rawResults);
    if (!writes.log.isOpen) leaveTransaction(queryRunner);
    for (const [statement, committed] of followed) {
      await this.marks.afterEnd(queryRunner, statement);
      await this.afterEnd(queryRunner, committed);
    }
    if (endedByServer) await this.afterEnd(queryRunner, endedByServer);
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

  /** Follows a transaction that began or ended without a statement of its own: in a procedure, or by an implicit commit. */
  private followServer(runner: QueryRunner, rawResults: unknown): Committed | undefined {
    const state = serverState(runner, this.options.database.dialect, rawResults);
    const writes = this.writes.get(runner);
    if (state === 'open' && !writes?.log.isOpen) this.logOf(runner).begunByServer();
    if (state !== 'none' || !writes?.log.isOpen) return undefined;
    if (writes.log.wroteImages) this.options.onImages();
    return writes.endedByServer();
  }

  private async afterEnd(runner: QueryRunner, { events, isUncertain, lost, callbacks }: Committed): Promise<void> {
    for (const callback of callbacks) callback();
    if (lost.length) this.options.logger.error(`EVENTS_LOST: ${eventsLost(lost.map(nameOf)).message}`);
    if (events.length) await this.options.onCommitted(events, isUncertain);
  }

  /** TypeORM calls this before `startTransaction()` awaits anything. It also calls it for savepoints. */
  beforeTransactionStart({ queryRunner }: TransactionStartEvent): void {
    if (this.options.database.dialect === 'sqlite' && !this.isOpen(queryRunner)) enterTransaction(queryRunner);
  }

  private noteImages(runner: QueryRunner): void {
    const log = this.logOf(runner);
    if (log.isOpen) log.wroteImages = true;
    else this.options.onImages();
  }

  /** The `data` of `save(x, { data })` may be any value. */
  isCaptured(runner: QueryRunner | undefined): boolean {
    if (!isCapturedHere(this.options.dataSource)) return false;
    const data = runner && ((this.writes.get(runner) ?? runner).data as { webhooks?: unknown } | null | undefined);
    return data?.webhooks !== false;
  }

  /** Records changes. Outside a transaction the row is already committed, so its event is written immediately, on the same connection. */
  record(runner: QueryRunner, items: readonly (RowChange | EventRow)[]): Promise<void> | void {
    return this.writesOf(runner).inside(() => this.addPending(runner, items));
  }

  private addPending(runner: QueryRunner, items: readonly (RowChange | EventRow)[]): Promise<void> | void {
    const log = this.logOf(runner);
    this.refuseIfTransactionOver(runner, items);
    for (const item of items) {
      if (!('values' in item)) item.cause ??= currentCause();
      log.pending.push(item);
    }
    if (!log.isOpen) return this.writeAtOnce(runner, log);
    // Fail the write now. If the caller swallows the error, the COMMIT fails with it again.
    for (const item of items) this.outbox.refuse(item);
    return undefined;
  }

  /**
   * Refuses changes whose transaction is over: their rows were rolled back, or were committed without events.
   *
   * @throws CaptureError `TRANSACTION_ENDED`, `EVENTS_LOST`
   */
  private refuseIfTransactionOver(runner: QueryRunner, items: readonly (RowChange | EventRow)[]): void {
    const work = writeOn(runner);
    const transaction = work?.wroteIn;
    if (!work || !transaction?.end) return;
    if (transaction.end !== 'committed') throw transactionEnded(work, transaction);
    const error = eventsLost(items.map(nameOf));
    this.options.logger.error(`EVENTS_LOST: ${error.message}`);
    throw error;
  }

  private async writeAtOnce(runner: QueryRunner, log: TransactionLog): Promise<void> {
    try {
      // A write whose transaction is over may have sent its statement before it noticed.
      await (writeOn(runner)?.ended ? outsideChains(() => this.flush(runner)) : this.flush(runner));
    } catch (error) {
      log.pending = []; // the row is already committed: a later, unrelated write must not fail because of it
      throw error;
    }
    const written = log.written.takeAll(false);
    if (written.length) await this.options.onCommitted(written, false);
  }

  private warnOfLeftover(): void {
    if (this.hasWarnedOfLeftover) return;
    this.hasWarnedOfLeftover = true;
    this.options.logger.warn(
      `${RELEASED_IN_TRANSACTION}: A query runner was released while its transaction was open, and the transaction was rolled back. Otherwise the next user of the connection might commit it. Commit or roll back before release(). (Logged once.)`,
    );
  }

  /** Gives the transaction an id if triggers coalesce its changes and cannot ask the database for an id. PostgreSQL has one. */
  private nameTransaction(runner: QueryRunner, query: string): void {
    const log = this.logIn(runner);
    if (!log?.isOpen || log.id !== null || this.options.database.dialect === 'postgres') return;
    if (this.triggerTables.isMerged(query)) log.id = newId('txn');
  }

  /** The transaction mark for a write that is made here. @throws CaptureError `WEBHOOK_LOOP` */
  private markOf(runner: QueryRunner): TriggerMark {
    const skip = !this.isCaptured(runner);
    const cause = currentCause();
    const { depth } = cause;
    const { maxCausationDepth } = this.options;
    if (!skip && depth > maxCausationDepth) {
      throw new CaptureError('WEBHOOK_LOOP', loopMessage('A write', depth, maxCausationDepth), { details: { depth } });
    }
    return { skip, context: contextText(cause), transaction: this.logIn(runner)?.id ?? null };
  }

  private followFailure(
    runner: QueryRunner,
    statements: ReturnType<typeof transactionStatements>,
    error: unknown,
  ): void {
    const writes = this.writes.get(runner);
    if (!writes?.log.isOpen) return;
    const { log } = writes;
    log.hasFailed = true;
    const { dialect } = this.options.database;
    const { errno } = error as { errno?: number };
    // A COMMIT that fails ends the transaction. On SQLite the transaction stays open, and the COMMIT can be repeated.
    const isCommit = statements.length === 1 && statements[0]?.kind === 'commit' && dialect !== 'sqlite';
    if (isCommit || errno === ER_LOCK_DEADLOCK || errno === ER_LOCK_TABLE_FULL) return writes.rolledBackByServer();
    const isOneOfSeveral = statements.length > 1;
    if (isOneOfSeveral) log.becomeUncertain();
    // `pg` rejects before it has received the new transaction status. After a text of several statements the last known status is outdated.
    if (dialect === 'mysql' || (dialect === 'postgres' && isOneOfSeveral)) return this.askServer(writes);
    if (serverState(runner, dialect, undefined) === 'none') writes.rolledBackByServer();
  }

  /** Asks whether the transaction survived an error. {@link afterQuery} reads it from the answer to this statement. */
  private askServer(writes: RunnerWrites): void {
    const { log } = writes;
    const question = this.options.database.dialect === 'mysql' ? 'DO 0' : 'SELECT 1';
    const asking: Promise<void> = writes.ask(question).then(noop, noop);
    log.asking = asking;
    void asking.then(() => {
      if (log.asking === asking) log.asking = undefined;
    });
  }
}

function noop(): void {}

/** Names a change in an error. */
function nameOf(item: RowChange | EventRow): string {
  return 'values' in item ? item.source.event.type : `${item.definition.metadata.name} ${item.key} (${item.action})`;
}

function writesBefore(statement: TransactionStatement): boolean {
  // Changes that are pending at a ROLLBACK TO came after its savepoint. In an aborted transaction PostgreSQL would refuse them anyway.
  return statement.kind !== 'rollback' && statement.kind !== 'rollback_to';
}
