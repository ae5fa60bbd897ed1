import type {
  DataSource,
  EntityMetadata,
  EntitySubscriberInterface,
  InsertEvent,
  ObjectLiteral,
  QueryRunner,
  RecoverEvent,
  RemoveEvent,
  SoftRemoveEvent,
  UpdateEvent,
} from 'typeorm';
import type { AfterQueryEvent, BeforeQueryEvent } from 'typeorm/subscriber/event/QueryEvent.js';
import type { LoggerService } from '@nestjs/common';
import type { Clock } from '../clock.js';
import { ConfigurationError } from '../errors.js';
import { newId } from '../ids.js';
import { contextText } from '../events/event-context.js';
import type { EventRow } from '../events/event-rows.js';
import type { Json } from '../events/json.js';
import type { PayloadLimits } from '../events/payload.js';
import type { Database } from '../store/database.js';
import { currentCause, isCapturedHere } from '../write-scope.js';
import { BulkWrites } from './bulk-writes.js';
import type { EntityDefinition, RowImage } from './entity-definition.js';
import type { EntityRegistry } from './entity-registry.js';
import { CaptureError, loopMessage } from './errors.js';
import { insertedImage, mayKnowInserted } from './inserted-image.js';
import { InsertingRows } from './inserting-rows.js';
import { OutboxWriter } from './outbox-writer.js';
import { isLoadedInexactly, lacksForeignKeys, readRows, rowKey } from './row-reader.js';
import { RunnerTurns } from './runner-turns.js';
import type { TriggerMark } from './triggers/marked-writes.js';
import { TransactionMarks } from './triggers/transaction-marks.js';
import { WrittenTables } from './triggers/written-tables.js';
import { TransactionLog, type Before, type RowChange } from './transaction-log.js';
import { endsTransactionInside, transactionStatement, type TransactionStatement } from './transaction-statement.js';
import type { EntityAction } from './webhook.decorator.js';
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

type WriteEvent =
  | InsertEvent<ObjectLiteral>
  | UpdateEvent<ObjectLiteral>
  | RemoveEvent<ObjectLiteral>
  | SoftRemoveEvent<ObjectLiteral>
  | RecoverEvent<ObjectLiteral>;

/** InnoDB rolls the whole transaction back on a deadlock; no statement says so. */
const ER_LOCK_DEADLOCK = 1213;

/**
 * Turns what TypeORM persists into events in the writer's own transaction: the one subscriber of a module instance.
 *
 * `save()`, `remove()`, `softRemove()` and `recover()` alone set `entityId` (and `databaseEntity`, on updates); hooks of
 * query builders look the same otherwise, also when they hit no row, and name no row: {@link BulkWrites} captures those.
 */
export class EntityCapture implements EntitySubscriberInterface {
  private logs = new WeakMap<QueryRunner, TransactionLog>();
  /** Rows read before they were removed, where the hook after it has no image. */
  private readonly beforeImages = new WeakMap<object, Map<string, RowImage>>();
  private readonly inserting = new WeakMap<object, InsertingRows>();
  /** How an INSERT names a table. */
  private readonly insertedTables = new WeakMap<EntityMetadata, string>();
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
  async settle(runner: QueryRunner, { tablePath }: EntityMetadata): Promise<void> {
    const log = this.logs.get(runner);
    if (!log?.pending.length) return;
    const isOfTable = (change: RowChange) => change.definition.metadata.tablePath === tablePath;
    await log.exclusively(() => this.outbox.readImages(runner, log, isOfTable));
  }

  /** Writes what waits in a query runner's transaction. */
  async flush(runner: QueryRunner): Promise<void> {
    const log = this.logs.get(runner);
    if (log?.pending.length) await log.exclusively(() => this.outbox.write(runner, log));
  }

  /** Passed by every statement of the application: what is not to be awaited is no promise. */
  beforeQuery(event: BeforeQueryEvent): Promise<void> | undefined {
    const { queryRunner, query } = event as { queryRunner: QueryRunner; query: string };
    this.inserting.get(this.turns.sharedBy(queryRunner))?.note(query);
    const isMarked = this.marks.has(queryRunner);
    // Once a mark is set, every write has to say what is true of it: its foreign keys may reach such a table.
    const isWrite = isMarked ? this.triggerTables.isWrite(query) : this.triggerTables.isWrittenBy(query);
    const mayFire = isWrite && !this.marks.isOwn(query);
    if (!mayFire && !isMarked && !this.logs.get(queryRunner)?.pending.length) return undefined;
    return this.beforeStatement(queryRunner, query, mayFire);
  }

  private async beforeStatement(queryRunner: QueryRunner, query: string, mayFire: boolean): Promise<void> {
    if (mayFire) {
      this.nameTransaction(queryRunner, query);
      await this.marks.beforeWrite(queryRunner, query, this.markOf(queryRunner), () => this.isOpen(queryRunner));
    }
    const log = this.logs.get(queryRunner);
    const isMarked = this.marks.has(queryRunner);
    if (!log?.pending.length && !isMarked) return;
    const statement = transactionStatement(query, this.options.database.dialect);
    if (log?.pending.length && (statement ? writesBefore(statement) : endsTransactionInside(query))) {
      await this.flush(queryRunner);
    }
    // After the flush: its statements pass here too, and set the mark again.
    if (statement && isMarked) await this.marks.beforeEnd(queryRunner, statement);
  }

  afterQuery(event: AfterQueryEvent): Promise<void> | undefined {
    const { queryRunner, query, success, error } = event as AfterQueryEvent & { queryRunner: QueryRunner };
    if (!success) return this.afterFailure(queryRunner, query, error);
    const statement = transactionStatement(query, this.options.database.dialect);
    if (statement) return this.afterTransactionStatement(event, statement);
    const mayHaveFired = this.triggerTables.isWrittenBy(query) || this.marks.holds(queryRunner, query);
    return mayHaveFired ? this.afterImages(queryRunner, query) : undefined;
  }

  private async afterImages(queryRunner: QueryRunner, query: string): Promise<void> {
    this.noteImages(queryRunner);
    await this.marks.afterWrite(queryRunner, query, true, this.isOpen(queryRunner));
  }

  private async afterFailure(queryRunner: QueryRunner, query: string, error: unknown): Promise<void> {
    this.inserting.delete(this.turns.sharedBy(queryRunner));
    this.followFailure(queryRunner, query, error);
    await this.marks.afterWrite(queryRunner, query, false, this.isOpen(queryRunner));
  }

  private async afterTransactionStatement(event: AfterQueryEvent, statement: TransactionStatement): Promise<void> {
    const { queryRunner, rawResults } = event as AfterQueryEvent & { queryRunner: QueryRunner };
    await this.marks.afterEnd(queryRunner, statement);
    this.inserting.delete(this.turns.sharedBy(queryRunner));
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

  beforeInsert(event: InsertEvent<ObjectLiteral>): void {
    const definition = this.toldOf(event);
    // oxlint-disable-next-line typescript/no-unnecessary-condition -- undefined for rows of a junction, whatever the type says
    if (!definition || !event.entity || !mayKnowInserted(definition)) return;
    const write = this.turns.sharedBy(event.queryRunner);
    let inserting = this.inserting.get(write);
    if (!inserting) this.inserting.set(write, (inserting = new InsertingRows()));
    inserting.add(event.entity, definition, this.insertedTableOf(event.metadata));
  }

  /** Called for each of perhaps thousands of rows of one `save()`: a promise only where there is something to wait for. */
  afterInsert(event: InsertEvent<ObjectLiteral>): Promise<void> | void {
    try {
      return this.inserted(event);
    } catch (error) {
      // As a promise: hooks of other subscribers are called all the same.
      return Promise.reject(error as Error);
    }
  }

  private inserted(event: InsertEvent<ObjectLiteral>): Promise<void> | void {
    const definition = this.toldOf(event);
    if (!definition) return undefined;
    const inserting = this.inserting.get(this.turns.sharedBy(event.queryRunner));
    const values = inserting?.take(event.entity) ?? null;
    if (event.entityId === undefined) return undefined;
    const image = values && insertedImage(definition, values, event.entity, this.options.dataSource);
    return this.changed(event, definition, 'created', null, image);
  }

  async beforeUpdate(event: UpdateEvent<ObjectLiteral>): Promise<void> {
    await this.beforeWrite(
      event,
      event.databaseEntity,
      (definition) =>
        definition.options.exactPrevious === true ||
        definition.hiddenColumnsNeeded.length > 0 ||
        definition.linkFields.length > 0 ||
        isLoadedInexactly(definition, this.options.dataSource) ||
        lacksForeignKeys(
          event.updatedRelations.length ? definition.relationsNeeded : definition.ownerRelations,
          event.databaseEntity,
        ),
    );
  }

  async afterUpdate(event: UpdateEvent<ObjectLiteral>): Promise<void> {
    const definition = this.toldOf(event);
    if (!definition) return;
    // oxlint-disable-next-line typescript/no-unnecessary-condition -- undefined for bulk updates, whatever the type says
    if (!event.databaseEntity) return;
    const old = this.beforeImageOf(event, definition, event.databaseEntity);
    const touched = touchedPaths(event, definition);
    const values = new Map<string, Json>();
    for (const field of definition.fields) {
      if (touched.has(field.path) || field.automatic) values.set(field.path, definition.valueOf(field, old));
    }
    // A row that an update was found for only after the hooks before it has no image.
    for (const field of definition.linkFields.filter(({ path }) => old.exact.has(path))) {
      touched.add(field.path);
      values.set(field.path, definition.valueOf(field, old));
    }
    await this.changed(event, definition, 'updated', { values, touched, owner: definition.ownerOf(old) }, null);
  }

  async beforeRemove(event: RemoveEvent<ObjectLiteral>): Promise<void> {
    await this.beforeWrite(
      event,
      event.databaseEntity,
      (definition) =>
        // An orphan removed by a cascade comes without its row.
        !event.databaseEntity ||
        definition.options.exactPrevious === true ||
        definition.hiddenColumnsNeeded.length > 0 ||
        definition.linkFields.length > 0 ||
        isLoadedInexactly(definition, this.options.dataSource) ||
        lacksForeignKeys(definition.relationsNeeded, event.databaseEntity),
    );
  }

  async afterRemove(event: RemoveEvent<ObjectLiteral>): Promise<void> {
    const definition = this.toldOf(event);
    if (!definition) return;
    if (event.entityId === undefined) return;
    const image = this.beforeImageOf(event, definition, event.databaseEntity);
    // Neither loaded by TypeORM nor found by us: the row was gone before, and nothing was deleted.
    if (!image) return;
    await this.changed(event, definition, 'deleted', null, image);
  }

  async beforeSoftRemove(event: SoftRemoveEvent<ObjectLiteral>): Promise<void> {
    await this.beforeWrite(event, event.databaseEntity, () => false);
  }

  async afterSoftRemove(event: SoftRemoveEvent<ObjectLiteral>): Promise<void> {
    const definition = this.toldOf(event);
    if (!definition) return;
    if (event.entityId === undefined) return;
    await this.changed(event, definition, 'deleted', null, null);
  }

  async beforeRecover(event: RecoverEvent<ObjectLiteral>): Promise<void> {
    await this.beforeWrite(event, event.databaseEntity, () => false);
  }

  async afterRecover(event: RecoverEvent<ObjectLiteral>): Promise<void> {
    const definition = this.toldOf(event);
    if (!definition) return;
    if (event.entityId === undefined) return;
    await this.changed(event, definition, 'restored', null, null);
  }

  private insertedTableOf(metadata: EntityMetadata): string {
    let table = this.insertedTables.get(metadata);
    if (table === undefined) {
      const { driver } = this.options.dataSource;
      const parts = metadata.tablePath.split('.').map((part) => driver.escape(part));
      this.insertedTables.set(metadata, (table = `${parts.join('.')}(`));
    }
    return table;
  }

  private definitionOf(metadata: EntityMetadata): EntityDefinition | undefined {
    return this.options.registry.definitionForOrm(metadata);
  }

  private noteImages(runner: QueryRunner): void {
    const log = this.logOf(runner);
    if (log.isOpen) log.wroteImages = true;
    else this.options.onImages();
  }

  /** The definition of an entity whose write is to be told of. */
  private toldOf({ metadata, queryRunner }: WriteEvent): EntityDefinition | undefined {
    return this.isCaptured(queryRunner) ? this.definitionOf(metadata) : undefined;
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

  /** Before a row changes again, the image of its earlier change is read; before a bulk write, those of its table. */
  private async beforeWrite(
    event: WriteEvent,
    databaseEntity: ObjectLiteral | undefined,
    needsImage: (definition: EntityDefinition) => boolean,
  ): Promise<void> {
    const definition = this.definitionOf(event.metadata);
    const log = this.logs.get(event.queryRunner);
    if (log?.pending.length) {
      const { tablePath } = event.metadata;
      const key = definition && databaseEntity ? rowKey(definition, databaseEntity) : undefined;
      const changesAgain = (change: RowChange) =>
        change.definition.metadata.tablePath === tablePath && (key === undefined || change.key === key);
      await this.turns.inside(event.queryRunner, () =>
        log.exclusively(() => this.outbox.readImages(event.queryRunner, log, changesAgain)),
      );
    }
    const entityId = 'entityId' in event ? (event.entityId as unknown) : undefined;
    // The images of earlier changes above are wanted all the same.
    if (!definition || !this.isCaptured(event.queryRunner)) return;
    if (!(databaseEntity || entityId !== undefined) || !needsImage(definition)) return;
    const id = databaseEntity ?? definition.metadata.ensureEntityIdMap(entityId);
    const read = await this.turns.inside(event.queryRunner, () =>
      this.logOf(event.queryRunner).exclusively(() =>
        readRows(event.queryRunner, definition, [idOf(definition, id)], true),
      ),
    );
    const write = this.turns.sharedBy(event.queryRunner);
    const images = this.beforeImages.get(write) ?? new Map<string, RowImage>();
    for (const [key, image] of read) images.set(definition.name + key, image);
    this.beforeImages.set(write, images);
  }

  private beforeImageOf(event: WriteEvent, definition: EntityDefinition, loaded: ObjectLiteral): RowImage;
  private beforeImageOf(
    event: WriteEvent,
    definition: EntityDefinition,
    loaded: ObjectLiteral | undefined,
  ): RowImage | null;
  private beforeImageOf(
    event: WriteEvent,
    definition: EntityDefinition,
    loaded: ObjectLiteral | undefined,
  ): RowImage | null {
    const images = this.beforeImages.get(this.turns.sharedBy(event.queryRunner));
    const entityId = 'entityId' in event ? (event.entityId as unknown) : undefined;
    const id = entityId === undefined ? loaded : definition.metadata.ensureEntityIdMap(entityId);
    const key = definition.name + rowKey(definition, id ?? {});
    const image = images?.get(key);
    images?.delete(key);
    if (image) return image;
    return loaded ? { key: rowKey(definition, loaded), entity: loaded, exact: new Map() } : null;
  }

  private changed(
    event: WriteEvent,
    definition: EntityDefinition,
    action: EntityAction,
    before: Before | null,
    image: RowImage | null,
  ): Promise<void> | void {
    // What nobody is told of may still change what the rest comes to.
    if (!definition.needs(action)) return undefined;
    const entityId = 'entityId' in event ? (event.entityId as unknown) : undefined;
    const id =
      entityId === undefined
        ? idOf(definition, event.entity as ObjectLiteral)
        : definition.metadata.ensureEntityIdMap(entityId);
    const change: RowChange = {
      definition,
      action,
      id,
      key: rowKey(definition, id),
      at: this.options.clock.now(),
      before,
      image,
    };
    return this.record(event.queryRunner, [change]);
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
    for (const item of items) this.outbox.refuseLoop(item);
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

function idOf(definition: EntityDefinition, entity: ObjectLiteral): ObjectLiteral {
  return definition.metadata.getEntityIdMap(entity) ?? entity;
}

function touchedPaths(event: UpdateEvent<ObjectLiteral>, definition: EntityDefinition): Set<string> {
  const touched = new Set<string>(event.updatedColumns.map((column) => column.propertyPath));
  for (const relation of event.updatedRelations) {
    touched.add(relation.propertyPath);
    // The same foreign key may be a column of its own.
    for (const column of relation.joinColumns) touched.add(column.propertyPath);
  }
  const { updateDateColumn, versionColumn } = definition.metadata;
  for (const column of [updateDateColumn, versionColumn]) if (column) touched.delete(column.propertyPath);
  return touched;
}
