import type { DataSource, EntityMetadata, EntitySubscriberInterface, QueryRunner } from 'typeorm';
import type { AfterQueryEvent, BeforeQueryEvent } from 'typeorm/subscriber/event/QueryEvent.js';
import type { LoggerService } from '@nestjs/common';
import type { Clock } from '../clock.js';
import { ConfigurationError } from '../errors.js';
import { newId } from '../ids.js';
import { contextText } from '../events/event-context.js';
import type { EventRow } from '../events/event-rows.js';
import type { PayloadLimits } from '../events/payload.js';
import type { Database } from '../store/database.js';
import { currentCause, isCapturedHere } from '../write-scope.js';
import { BulkWrites } from './bulk-writes.js';
import type { EntityDefinition, RowImage } from './entity-definition.js';
import type { EntityRegistry } from './entity-registry.js';
import { CaptureError, loopMessage } from './errors.js';
import { OutboxWriter } from './outbox-writer.js';
import { RunnerTurns } from './runner-turns.js';
import { TransactionMarks, type TriggerMark } from './triggers/transaction-marks.js';
import { WrittenTables } from './triggers/written-tables.js';
import { TransactionLog, type RowChange } from './transaction-log.js';
import { endsTransactionInside, transactionStatement, type TransactionStatement } from './transaction-statement.js';
import { holdWrites, letWritesGo } from './write-builder.js';

/** What happens with events once they are committed. Awaited before the writer's promise settles; must not throw. */
export type CommittedHandler = (events: readonly EventRow[], isUncertain: boolean) => Promise<void> | void;

export interface EntityCaptureOptions {
  readonly dataSource: DataSource;
  readonly database: Database;
  readonly registry: EntityRegistry;
  readonly clock: Clock;
  readonly limits: PayloadLimits;
  readonly maxDepth: number;
  readonly logger: LoggerService;
  readonly onCommitted: CommittedHandler;
  /** Called after a commit that may have left images: triggers wrote them, not this process. Must not throw. */
  readonly onImages: () => void;
}

/** InnoDB rolls the whole transaction back on a deadlock; no statement says so. */
const ER_LOCK_DEADLOCK = 1213;

/**
 * Turns what TypeORM persists into events in the writer's own transaction: the one subscriber of a module instance. {@link BulkWrites}
 * captures the statements; here is what waits in each transaction, until it is written before the COMMIT.
 */
export class EntityCapture implements EntitySubscriberInterface {
  private logs = new WeakMap<QueryRunner, TransactionLog>();
  private readonly outbox: OutboxWriter;
  private readonly turns = new RunnerTurns((runner) => runner.isTransactionActive || this.isOpen(runner));

  private readonly triggerTables: WrittenTables;
  private readonly marks: TransactionMarks;

  constructor(private readonly options: EntityCaptureOptions) {
    this.triggerTables = new WrittenTables(options.registry);
    this.marks = new TransactionMarks(options.database);
    this.outbox = new OutboxWriter(options);
  }

  /**
   * Subscribes, and stays subscribed: `destroy()` and `initialize()` of a data source make a new list of subscribers.
   *
   * @throws ConfigurationError `DATA_SOURCE_SERVED_TWICE`: each would know half of the entities; `UNKNOWN_TYPEORM`
   */
  attach(): void {
    const { dataSource, database, registry, clock, logger } = this.options;
    let subscribers = dataSource.subscribers;
    if (subscribers.some((subscriber) => subscriber instanceof EntityCapture)) {
      throw new ConfigurationError(
        'DATA_SOURCE_SERVED_TWICE',
        'WebhooksModule.forRoot() was called twice for one data source. Import it once, in your root module; other modules say WebhooksModule.forFeature([...]) only.',
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
    holdWrites(
      dataSource,
      new BulkWrites({ dataSource, dialect, registry, clock, logger, log: this, turns: this.turns }),
    );
  }

  detach(): void {
    const { dataSource } = this.options;
    letWritesGo(dataSource);
    const subscribers = dataSource.subscribers.filter((subscriber) => subscriber !== this);
    Object.defineProperty(dataSource, 'subscribers', {
      configurable: true,
      enumerable: true,
      writable: true,
      value: subscribers,
    });
  }

  /**
   * Runs what writes through a query runner that a caller has given, apart from other writes that are called on it at the same time;
   * in the caller's transaction at once.
   */
  inTurn<T>(runner: QueryRunner, write: () => Promise<T>): Promise<T> {
    return this.turns.take(runner, write);
  }

  /** Puts a published event among the changes of a query runner's transaction, in program order. */
  async add(runner: QueryRunner, row: EventRow): Promise<void> {
    await this.record(runner, [row]);
  }

  /** Takes note of an event that was written through a query runner already. */
  async written(runner: QueryRunner, row: EventRow): Promise<void> {
    const log = this.logOf(runner);
    if (log.isOpen) log.written.add(row);
    else await this.options.onCommitted([row], false);
  }

  /** Whether the database is in a transaction, whatever TypeORM believes. */
  isOpen(runner: QueryRunner): boolean {
    return this.logs.get(runner)?.isOpen ?? false;
  }

  /** Reads what earlier changes of a table have left, before a statement that may write any of its rows again. */
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
      for (const item of this.logs.get(runner)?.pending ?? []) {
        if ('values' in item || item.image || item.definition !== definition || !isEarlier(item)) continue;
        item.image = images.get(item.key) ?? 'gone';
      }
    }
    return this.readUnread(runner, isEarlier);
  }

  private readUnread(runner: QueryRunner, isWanted: (change: RowChange) => boolean): Promise<void> | undefined {
    const log = this.logs.get(runner);
    if (!log?.pending.some((item) => !('values' in item) && !item.image && isWanted(item))) return undefined;
    return log.exclusively(() => this.outbox.readImages(runner, log, isWanted));
  }

  /** A statement has written rows that nobody knows: whatever becomes of its error, the transaction must not be committed. */
  refuse(runner: QueryRunner, definition: EntityDefinition, cause: unknown): void {
    const { name } = definition.metadata;
    const refusal = new CaptureError(
      'ROWS_UNKNOWN',
      `A statement on ${name} has written rows, and reading them failed (see cause): events would be missing, so this transaction cannot be committed. Roll it back and run it again; do not swallow the error of the write.`,
      { cause, details: { entity: name } },
    );
    const at = this.options.clock.now();
    const nothing = { action: 'updated', id: {}, key: '', before: null, image: 'gone' } as const;
    this.logOf(runner).pending.push({ ...nothing, definition, at, refusal });
  }

  /** Writes what waits in a query runner's transaction. */
  async flush(runner: QueryRunner): Promise<void> {
    const log = this.logs.get(runner);
    if (log?.pending.length) await log.exclusively(() => this.outbox.write(runner, log));
  }

  /** Passed by every statement of the application: what is not to be awaited is no promise. */
  beforeQuery(event: BeforeQueryEvent): Promise<void> | undefined {
    const { queryRunner, query } = event as { queryRunner: QueryRunner; query: string };
    const isMarked = this.marks.has(queryRunner);
    // Once a mark is set, every write has to say what is true of it: its foreign keys may reach such a table.
    const mayFire = isMarked ? this.triggerTables.isWrite(query) : this.triggerTables.isWrittenBy(query);
    if (!mayFire && !isMarked && !this.logs.get(queryRunner)?.pending.length) return undefined;
    return this.beforeStatement(queryRunner, query, mayFire);
  }

  private async beforeStatement(queryRunner: QueryRunner, query: string, mayFire: boolean): Promise<void> {
    if (mayFire) {
      this.nameTransaction(queryRunner, query);
      await this.marks.beforeWrite(queryRunner, this.markOf(queryRunner), this.logs.get(queryRunner)?.isOpen ?? false);
    }
    const log = this.logs.get(queryRunner);
    const isMarked = this.marks.has(queryRunner);
    if (!log?.pending.length && !isMarked) return;
    const statement = transactionStatement(query, this.options.database.dialect);
    if (statement && isMarked) await this.marks.beforeEnd(queryRunner, statement);
    if (!log?.pending.length) return;
    if (statement ? writesBefore(statement) : endsTransactionInside(query)) await this.flush(queryRunner);
  }

  afterQuery(event: AfterQueryEvent): Promise<void> | undefined {
    const { queryRunner, query, success, error } = event as AfterQueryEvent & { queryRunner: QueryRunner };
    if (!success) return this.afterFailure(queryRunner, query, error);
    const statement = transactionStatement(query, this.options.database.dialect);
    if (statement) return this.afterTransactionStatement(event, statement);
    return this.triggerTables.isWrittenBy(query) ? this.afterImages(queryRunner) : undefined;
  }

  private async afterImages(queryRunner: QueryRunner): Promise<void> {
    this.noteImages(queryRunner);
    await this.marks.afterWrite(queryRunner, true, this.logs.get(queryRunner)?.isOpen ?? false);
  }

  private async afterFailure(queryRunner: QueryRunner, query: string, error: unknown): Promise<void> {
    this.followFailure(queryRunner, query, error);
    await this.marks.afterWrite(queryRunner, false, this.logs.get(queryRunner)?.isOpen ?? false);
  }

  private async afterTransactionStatement(event: AfterQueryEvent, statement: TransactionStatement): Promise<void> {
    const { queryRunner, rawResults } = event as AfterQueryEvent & { queryRunner: QueryRunner };
    await this.marks.afterEnd(queryRunner, statement);
    const log = this.logOf(queryRunner);
    if (statement.kind === 'commit' && log.wroteImages) this.options.onImages();
    // PostgreSQL answers a COMMIT of a failed transaction with ROLLBACK.
    const wasRolledBack =
      statement.kind === 'commit' && (rawResults as { command?: string } | undefined)?.command === 'ROLLBACK';
    const { committed, isUncertain } = log.follow(
      wasRolledBack ? { kind: 'rollback', chain: statement.chain } : statement,
    );
    if (committed.length) await this.options.onCommitted(committed, isUncertain);
  }

  private noteImages(runner: QueryRunner): void {
    const log = this.logOf(runner);
    if (log.isOpen) log.wroteImages = true;
    else this.options.onImages();
  }

  /** `data` is what `save(x, { data })` was given, whatever that is. */
  isCaptured(runner: QueryRunner | undefined): boolean {
    if (!isCapturedHere(this.options.dataSource)) return false;
    const data = runner && (this.turns.dataOf(runner) as { webhooks?: unknown } | null | undefined);
    return data?.webhooks !== false;
  }

  private logOf(runner: QueryRunner): TransactionLog {
    let log = this.logs.get(runner);
    if (!log) this.logs.set(runner, (log = new TransactionLog()));
    return log;
  }

  /** Outside a transaction the row stands already, and its event is written at once through the same connection. */
  record(runner: QueryRunner, items: readonly (RowChange | EventRow)[]): Promise<void> | void {
    return this.turns.inside(runner, () => this.note(runner, items));
  }

  private note(runner: QueryRunner, items: readonly (RowChange | EventRow)[]): Promise<void> | void {
    const log = this.logOf(runner);
    for (const item of items) {
      if (!('values' in item)) item.cause ??= currentCause();
      log.pending.push(item);
    }
    if (!log.isOpen) return this.writeAtOnce(runner, log);
    // Said at once, and again before the COMMIT to whoever swallows it.
    for (const item of items) this.outbox.refuse(item);
    return undefined;
  }

  private async writeAtOnce(runner: QueryRunner, log: TransactionLog): Promise<void> {
    try {
      await this.flush(runner);
    } catch (error) {
      log.pending = []; // the row stands already: a later, unrelated write must not fail for it
      throw error;
    }
    const written = log.written.take(false);
    if (written.length) await this.options.onCommitted(written, false);
  }

  /** Where changes of one transaction are merged, and the database does not tell its triggers which it is. */
  private nameTransaction(runner: QueryRunner, query: string): void {
    const log = this.logs.get(runner);
    if (!log?.isOpen || log.id !== null || this.options.database.dialect === 'postgres') return;
    if (this.triggerTables.isMerged(query)) log.id = newId('txn');
  }

  /** What triggers are to know of a write that is made here. @throws CaptureError `WEBHOOK_LOOP` */
  private markOf(runner: QueryRunner): TriggerMark {
    const skip = !this.isCaptured(runner);
    const cause = currentCause();
    const { depth } = cause;
    const { maxDepth } = this.options;
    if (!skip && depth > maxDepth) {
      throw new CaptureError('WEBHOOK_LOOP', loopMessage('A write', depth, maxDepth), { details: { depth } });
    }
    return { skip, context: contextText(cause), transaction: this.logs.get(runner)?.id ?? null };
  }

  private followFailure(runner: QueryRunner, query: string, error: unknown): void {
    const log = this.logs.get(runner);
    if (!log) return;
    const { dialect } = this.options.database;
    const isCommit = transactionStatement(query, dialect)?.kind === 'commit';
    // A COMMIT that fails ends the transaction, except on SQLite, where it may be mended and tried again.
    const isDeadlock = dialect === 'mysql' && (error as { errno?: number } | undefined)?.errno === ER_LOCK_DEADLOCK;
    if (isDeadlock || (isCommit && dialect !== 'sqlite')) log.rolledBack(false);
  }
}

function writesBefore(statement: TransactionStatement): boolean {
  // What waits at a ROLLBACK TO came after its savepoint, and on PostgreSQL nothing could be written any more.
  return statement.kind !== 'rollback' && statement.kind !== 'rollback_to';
}
