import type { LookupFunction } from 'node:net';
import {
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
  type OnApplicationShutdown,
  type OnModuleInit,
} from '@nestjs/common';
import type { ModulesContainer } from '@nestjs/core';
import type { EventEmitter2 } from '@nestjs/event-emitter';
import sql from 'sql-template-tag';
import { AmbientManagers } from './ambient-managers.js';
import { EntityCapture } from './capture/entity-capture.js';
import { EntityPlans } from './capture/plans/entity-plans.js';
import type { EntityRegistry } from './entities/entity-registry.js';
import { loadExposure } from './entities/exposed-properties.js';
import { awaitHooks } from './capture/typeorm/await-hooks.js';
import { ImageConverter } from './capture/triggers/image-converter.js';
import { checkTriggers } from './capture/triggers/check-triggers.js';
import type { WebhookClock } from './clock.js';
import { DeliveryService } from './deliveries/delivery.service.js';
import type { RetrySchedule } from './health/retry-schedule.js';
import { eventName, LIFECYCLE_EVENTS } from './dispatcher/lifecycle-events.js';
import { DispatcherService } from './dispatcher/dispatcher.service.js';
import { WakeUps } from './dispatcher/wake-ups.js';
import { Notices } from './dispatcher/notices.js';
import { SetBack } from './dispatcher/set-back.js';
import { Upkeep } from './dispatcher/upkeep.js';
import { ConfigurationError } from './errors.js';
import type { EventRow } from './store/outbox/event-rows.js';
import type { PayloadFormat } from './events/payload-format.js';
import { WebhooksService } from './publishing/webhooks.service.js';
import { EventCatalog } from './listeners/event-catalog.js';
import { ListenerService } from './listeners/listener.service.js';
import { Sealing } from './secrets/sealing.js';
import { Quotas } from './quotas.js';
import type { ResolvedWebhooksOptions } from './options/resolve-options.js';
import {
  registerFormats,
  registerSchemes,
  type RegisteredFormats,
  type RegisteredSchemes,
} from './registered-parts.js';
import { AddressGuard } from './sending/address-guard.js';
import { assertListenerAddress } from './sending/listener-url.js';
import type { WebhookTransport } from './sending/transport.js';
import type { SignatureScheme } from './signing/signature-scheme.js';
import { isFileSqlite, isolateSqlite, sqliteWriterLock } from './sqlite/isolate-sqlite.js';
import { dialectOf } from './dialect.js';
import { CallerTransactions } from './store/database/caller-transactions.js';
import { missingTables, type Database } from './store/database/database.js';
import { missingIndexes } from './store/database/missing-indexes.js';
import { DatabaseTime } from './store/database/database-time.js';
import { findOtherTables, hasListeners } from './store/database/other-prefixes.js';
import { query } from './store/database/script.js';
import { ServerDatabase } from './store/database/server-database.js';
import { readSchemaVersion, SCHEMA_VERSION } from './store/database/schema-version.js';
import { SqliteDatabase } from './store/database/sqlite-database.js';
import { assertSchemas, writtenTablesOptions } from './store/database/table-names.js';
import { storeTestEvent } from './store/queue/test-event.js';
import { chunks, inList } from './store/database/chunks.js';
import { runCausedBy, runOutside, type Cause } from './cause.js';
import { awaitsHooks, DataSource } from './typeorm-compat.js';
import { assertSupportedTypeorm } from './typeorm-version.js';
import { WebhooksLogger } from './webhooks-logger.js';
import { messageOf } from './foreign-text.js';

/** What Nest injects into an instance. */
export interface RuntimeParts {
  /** Name of the data source, and of the instance. */
  readonly name: string;
  readonly options: ResolvedWebhooksOptions;
  readonly dataSource: DataSource;
  readonly registry: EntityRegistry;
  readonly emitter: EventEmitter2 | undefined;
  readonly clock: WebhookClock;
  readonly transport: WebhookTransport;
  readonly retrySchedule: RetrySchedule;
  readonly payloadFormats: readonly PayloadFormat[];
  readonly signatureSchemes: readonly SignatureScheme[];
  readonly lookup: LookupFunction;
  readonly modules: ModulesContainer;
}

/** What several services of an instance share. */
interface SharedParts {
  readonly catalog: EventCatalog;
  readonly quotas: Quotas;
  readonly transactions: CallerTransactions;
}

/**
 * One running instance of the module, which serves one data source. Only this class starts and stops its parts. @internal
 *
 * Capture is attached in the constructor, so that rows written while modules initialise are captured. The dispatcher starts last, and
 * stops before TypeORM closes the data source.
 */
export class WebhooksRuntime
  implements OnModuleInit, OnApplicationBootstrap, BeforeApplicationShutdown, OnApplicationShutdown
{
  readonly webhooks: WebhooksService;
  readonly listeners: ListenerService;
  readonly deliveries: DeliveryService;
  readonly dispatcher: DispatcherService;
  /** @internal for the verify view */
  readonly schemes: ReadonlyMap<string, SignatureScheme>;
  /** @internal for the verify view */
  readonly sealing: Sealing;
  private readonly logger: WebhooksLogger;
  private readonly capture: EntityCapture;
  private readonly plans: EntityPlans;
  private readonly wakeUps: WakeUps | null;
  private readonly notices: Notices;
  private readonly setBack: SetBack;
  private readonly ambient: AmbientManagers;

  private constructor(
    private readonly parts: RuntimeParts & { readonly emitter: EventEmitter2 },
    readonly database: Database,
    private readonly time: DatabaseTime,
  ) {
    const { name, options, dataSource, registry } = parts;
    this.logger = new WebhooksLogger(name === 'default' ? 'Webhooks' : `Webhooks:${name}`);
    registry.serve(dataSource, name, options.capture);
    this.plans = new EntityPlans(registry, dataSource);
    const schemes = registerSchemes(parts.signatureSchemes, options);
    const formats = registerFormats(parts.payloadFormats, options);
    this.schemes = schemes.byName;
    this.sealing = new Sealing(options.secrets.keys, options.secrets.requireSealed);
    this.wakeUps = this.createWakeUps();
    this.notices = new Notices({
      logger: this.logger,
      emit: (event, lifecycleEvent) => this.emit(event, lifecycleEvent),
    });
    this.dispatcher = this.createDispatcher(formats);
    this.setBack = this.createSetBack();
    this.capture = this.createCapture();
    this.ambient = new AmbientManagers({ dataSource, currentManager: options.currentManager, modules: parts.modules });
    const shared = this.createShared();
    this.webhooks = this.createPublishing(shared);
    this.deliveries = this.createDeliveries(shared, formats);
    this.listeners = this.createListeners(shared, schemes, formats);
    this.capture.attach();
  }

  private createWakeUps(): WakeUps | null {
    const { database, logger } = this;
    const { wakeUp } = this.parts.options;
    const isUsed = wakeUp && database instanceof ServerDatabase && database.dialect === 'postgres';
    return isUsed ? new WakeUps(database, wakeUp.url, logger) : null;
  }

  private createDispatcher(formats: RegisteredFormats): DispatcherService {
    const { database, logger, notices, sealing, schemes, time, wakeUps } = this;
    const { clock, options, retrySchedule, transport } = this.parts;
    return new DispatcherService({
      notices,
      database,
      clock,
      time,
      options: options.dispatcher,
      transport,
      retrySchedule,
      signers: {
        schemes,
        formats: formats.byName,
        isOwnText: formats.isOwnText,
        sealing,
        timeoutMs: options.dispatcher.timeoutMs,
        origin: options.handshake.origin,
      },
      bodyOf: formats.bodyOf,
      upkeep: this.createUpkeep(),
      images: this.createImageConverter(),
      logger,
      emit: (event, lifecycleEvent, cause) => this.emit(event, lifecycleEvent, cause),
      wakeUps,
    });
  }

  private createUpkeep(): Upkeep {
    const { database, logger } = this;
    const { clock, options } = this.parts;
    return new Upkeep({
      database,
      clock,
      maxAgeMs: options.dispatcher.maxAgeMs,
      retention: options.retention,
      logger,
      emit: (event, lifecycleEvent) => this.emit(event, lifecycleEvent),
    });
  }

  private createImageConverter(): ImageConverter {
    const { database, logger, plans } = this;
    const { dataSource, options, registry } = this.parts;
    return new ImageConverter({
      dataSource,
      database,
      registry,
      plans,
      limits: options.payload,
      logger,
      onConverted: (rows) => this.emitEvents(rows),
      onDamaged: (lifecycleEvent) => this.emit(LIFECYCLE_EVENTS.imageDamaged, lifecycleEvent),
    });
  }

  private createSetBack(): SetBack {
    const { database, logger } = this;
    const { clock, options } = this.parts;
    const { leaseMs } = options.dispatcher;
    const setBack = new SetBack({ database, clock, leaseMs, logger, done: () => this.wake() });
    this.time.onSetBack = (aheadMs) => setBack.begin(aheadMs);
    return setBack;
  }

  private createCapture(): EntityCapture {
    const { database, logger, plans } = this;
    const { clock, dataSource, options, registry } = this.parts;
    return new EntityCapture({
      dataSource,
      database,
      registry,
      plans,
      clock,
      limits: options.payload,
      maxCausationDepth: options.maxCausationDepth,
      unfinishedWritesTimeoutMs: options.unfinishedWritesTimeoutMs,
      logger,
      onCommitted: (rows, isUncertain) => this.onCommitted(rows, isUncertain),
      onImages: () => this.wakeForImages(),
    });
  }

  private createShared(): SharedParts {
    const { capture, database } = this;
    const { clock, dataSource, options, registry } = this.parts;
    return {
      catalog: new EventCatalog(dataSource, registry, options.publishedTypes),
      quotas: new Quotas(options.limits, clock),
      transactions: new CallerTransactions({
        dataSource,
        database,
        capture: capture.recorder,
        ambientManager: () => this.ambient.current,
      }),
    };
  }

  private createPublishing({ catalog, transactions }: SharedParts): WebhooksService {
    const { capture, database } = this;
    const { clock, dataSource, options } = this.parts;
    return new WebhooksService({
      dataSource,
      database,
      capture: capture.recorder,
      catalog,
      clock,
      transactions,
      options,
      onCommitted: (rows) => this.onCommitted(rows, false),
    });
  }

  private createDeliveries({ quotas, transactions }: SharedParts, { bodyOf }: RegisteredFormats): DeliveryService {
    const { database } = this;
    return new DeliveryService({
      database,
      transactions,
      clock: this.parts.clock,
      wake: () => this.wake(),
      bodyOf,
      quotas,
    });
  }

  private createListeners(
    { catalog, quotas, transactions }: SharedParts,
    schemes: RegisteredSchemes,
    formats: RegisteredFormats,
  ): ListenerService {
    const { database, logger, notices, sealing } = this;
    const { clock, lookup, options } = this.parts;
    const guard = new AddressGuard(options.security.allowedAddresses);
    return new ListenerService({
      database,
      transactions,
      catalog,
      clock,
      guard,
      assertAddress: (url) =>
        // If the proxy resolves names, this process may be unable to resolve them.
        options.security.proxy?.resolvesNames ? Promise.resolve() : assertListenerAddress(url, guard, lookup),
      options,
      schemes: schemes.byName,
      sealing,
      quotas,
      formats: formats.names,
      customers: { formats: formats.customers, schemes: schemes.customers },
      sendTest: (listener, example) => storeTestEvent(database, { listener, example }, clock.now(), formats.bodyOf),
      wake: () => this.wake(),
      warn: (message) => logger.warn(message),
      disabled: (listener) => notices.disabled(listener, listener.disabledReason ?? ''),
    });
  }

  /** @internal for the verify view */
  get options(): ResolvedWebhooksOptions {
    return this.parts.options;
  }

  /** @internal for the verify view */
  get clock(): WebhookClock {
    return this.parts.clock;
  }

  /**
   * @throws ConfigurationError `TYPEORM_UNSUPPORTED`, `TYPEORM_TWICE`, `EVENT_EMITTER_MISSING`, `UNSUPPORTED_DATABASE`,
   * `DATA_SOURCE_SERVED_TWICE`, `INVALID_PART`, `CLASS_TRANSFORMER_UNKNOWN`
   */
  static async create(parts: RuntimeParts): Promise<WebhooksRuntime> {
    const { emitter, options, dataSource } = parts;
    assertSupportedTypeorm();
    assertOneTypeorm(dataSource);
    await loadExposure();
    if (!emitter) {
      throw new ConfigurationError(
        'EVENT_EMITTER_MISSING',
        'WebhooksModule needs EventEmitter2, but no module provides it. Import EventEmitterModule.forRoot() from @nestjs/event-emitter in your root module.',
      );
    }
    const dialect = dialectOf(dataSource.options.type);
    if (options.tableSchema !== undefined) assertSchemas(dataSource, options.tableSchema);
    if (dialect === 'sqlite') prepareSqlite(dataSource, options, new WebhooksLogger('Webhooks'));
    if (needsAwaitedHooks(dataSource)) awaitHooks(dataSource);
    const database =
      dialect === 'sqlite'
        ? await SqliteDatabase.open(dataSource, options)
        : await ServerDatabase.open(dataSource, options, options.dispatcher.poolSize);
    const time = new DatabaseTime(database, parts.clock);
    try {
      // The clock needs a first reading before any code uses it.
      await time.start();
      return new WebhooksRuntime({ ...parts, emitter }, database, time);
    } catch (error) {
      time.stop();
      await database.close();
      throw error;
    }
  }

  /**
   * @throws ConfigurationError `TABLES_MISSING`, `TABLES_TOO_NEW`, `TRIGGERS_MISSING`, `TRIGGERS_OUTDATED`, `UNSUPPORTED_SQL_MODE`, or a
   * code for invalid options of an entity
   */
  async onModuleInit(): Promise<void> {
    const { registry, dataSource, options } = this.parts;
    this.ambient.reset();
    this.plans.make();
    const forgotten = registry.forgotten(dataSource);
    if (forgotten.length) {
      this.logger.warn(
        `${forgotten.join(', ')} ${forgotten.length > 1 ? 'have' : 'has'} @Webhook() but ${forgotten.length > 1 ? 'are' : 'is'} in no WebhooksModule.forFeature([...]), so changes make no events. Add ${forgotten.length > 1 ? 'them' : 'it'} to forFeature(), or remove @Webhook().`,
      );
    }
    const missing = await missingTables(this.database, (table) => {
      const {
        select,
        sql: path,
        metadata,
      } = this.database.tables[table] as {
        select: (alias: string, ...columns: string[]) => ReturnType<typeof sql>;
        sql: ReturnType<typeof sql>;
        metadata: { columns: { propertyName: string }[] };
      };
      return sql`select ${select('t', ...metadata.columns.map((c) => c.propertyName))} from ${path} t where 1 = 0`;
    });
    if (missing.length) {
      throw new ConfigurationError(
        'TABLES_MISSING',
        `The webhook tables are missing or out of date: ${missing.join(', ')}. Add ...webhookMigrations(${writtenTablesOptions(options)}) from 'nestjs-entity-webhooks/migrations' to the migrations of the data source '${this.parts.name}' and run them (npx typeorm migration:run -d <your data-source file>). For a first try, synchronize: true creates the tables.`,
        { details: { missing } },
      );
    }
    const creating = await this.database.single(() => missingIndexes(this.database));
    if (creating.length) {
      throw new ConfigurationError(
        'TABLES_MISSING',
        `The webhook tables lack ${creating.length === 1 ? 'an index' : 'indexes'}, perhaps because a migration was interrupted. Run: ${creating.join('; ')}.`,
        { details: { missing: creating } },
      );
    }
    const { version, oldestProcess } = await this.database.transaction(() => readSchemaVersion(this.database));
    if (oldestProcess > SCHEMA_VERSION) {
      throw new ConfigurationError(
        'TABLES_TOO_NEW',
        `The webhook tables have version ${version}, and processes must support version ${oldestProcess} or later. This process supports version ${SCHEMA_VERSION}. Update nestjs-entity-webhooks: see docs/upgrades.md.`,
        { details: { version, oldestProcess, known: SCHEMA_VERSION } },
      );
    }
    await assertEscapes(dataSource);
    await this.warnOfOtherTables();
    await checkTriggers({ dataSource, database: this.database, registry, options, logger: this.logger });
  }

  /** If `tablePrefix` was changed, no process sends the deliveries of the tables with the old prefix. */
  private async warnOfOtherTables(): Promise<void> {
    const { database } = this;
    const others = await database.single(() => findOtherTables(database));
    if (!others.length) return;
    const isNew = !(await database.single(() => hasListeners(database)));
    const { tablePrefix } = this.parts.options;
    for (const { prefix, isPending, hasListeners: isUsed } of others) {
      if (!isPending && !(isNew && isUsed)) continue;
      this.logger.warn(
        `Besides the webhook tables with the prefix '${tablePrefix}' there are tables with the prefix '${prefix}', which contain ${isPending ? 'unsent events or deliveries' : 'listeners'}. This instance does not use them. Keep an instance with tablePrefix: '${prefix}' running until nothing is pending there.`,
      );
    }
  }

  onApplicationBootstrap(): void {
    if (!this.sealing.isOn) {
      this.logger.warn(
        'secrets.keys is not set, so the secrets of listeners are readable in the database and its backups. Set it: see docs/signing.md.',
      );
    }
    if (!this.parts.options.dispatcher.autoStart) return;
    this.dispatcher.start();
    void this.setBack.look();
  }

  async beforeApplicationShutdown(): Promise<void> {
    const { isRunning } = this.dispatcher;
    await this.dispatcher.stop();
    // Other processes can now claim the deliveries that this one released.
    if (isRunning) this.wakeUps?.announce();
  }

  async onApplicationShutdown(): Promise<void> {
    this.time.stop();
    void this.setBack.stop();
    this.capture.detach();
    await this.parts.transport.close();
    await this.wakeUps?.close();
    await this.database.close();
  }

  private async onCommitted(rows: readonly EventRow[], isUncertain: boolean): Promise<void> {
    const committed = isUncertain ? await this.storedRows(rows) : rows;
    this.emitEvents(committed);
    if (this.parts.options.dispatch === 'inline') {
      await this.dispatcher.deliverNow(committed.map((row) => row.source.event.id));
    } else {
      this.wake();
    }
  }

  private emitEvents(rows: readonly EventRow[]): void {
    // Handlers run after the promise of the write has settled.
    setImmediate(() => {
      for (const { source } of rows) {
        const { event, depth } = source;
        this.emit(eventName(event.type), event, { context: event.context, depth });
      }
    });
  }

  /** Triggers stored images. A process that dispatches converts them to events. */
  private wakeForImages(): void {
    if (!this.dispatcher.hasRoom) this.wakeUps?.announce();
    this.dispatcher.wakeForImages();
  }

  /** Deliveries may be due. Other processes are notified if this process has no free slot or does not dispatch. */
  private wake(): void {
    if (!this.dispatcher.hasRoom) this.wakeUps?.announce();
    this.dispatcher.wake();
  }

  /** After savepoints that could not be tracked, only the database knows which events were committed. @returns their rows */
  private async storedRows(rows: readonly EventRow[]): Promise<EventRow[]> {
    const { database } = this;
    const { events: e } = database.tables;
    const ids = rows.map((row) => row.source.event.id);
    try {
      const found = await database.transaction(function* () {
        const stored: string[] = [];
        for (const some of chunks(ids)) {
          const read = yield* query<{ id: string }>(
            sql`select ${e.select('e', 'id')} from ${e.sql} e where e.${e.$.id} ${inList(some)}`,
          );
          stored.push(...read.map((row) => row.id));
        }
        return new Set(stored);
      });
      return rows.filter((row) => found.has(row.source.event.id));
    } catch (error) {
      this.logger.error(
        `Committed events could not be read, so they are not emitted in this process: ${messageOf(error)}`,
      );
      return [];
    }
  }

  /** Emits on EventEmitter2. If a handler throws, the error is logged, and the dispatcher and other handlers continue. */
  private emit(name: string, value: unknown, cause?: Cause): void {
    const { emitter } = this.parts;
    // Most applications have no handler, and this runs for every delivery.
    if (!emitter.hasListeners(name) && !emitter.listenersAny().length) return;
    const emitToHandlers = () => {
      emitter.emitAsync(name, value).catch((error: unknown) => this.handlerFailed(name, error));
    };
    try {
      // Handlers do not run in the async context of the write. Their own writes know the event that caused them.
      if (cause) runCausedBy(cause, emitToHandlers);
      else runOutside(emitToHandlers);
    } catch (error) {
      this.handlerFailed(name, error);
    }
  }

  private handlerFailed(name: string, error: unknown): void {
    this.logger.error(`A handler of ${name} threw: ${messageOf(error)}`);
  }
}

/** Capture patches the classes of the TypeORM that this library imports. Writes through another copy would be captured partly or twice. */
function assertOneTypeorm(dataSource: unknown): void {
  if (dataSource instanceof DataSource) return;
  throw new ConfigurationError(
    'TYPEORM_TWICE',
    'The data source and nestjs-entity-webhooks use two copies of TypeORM, so writes would be captured twice or not at all. Usually the library is a symbolic link (npm link, a `file:` folder, a workspace) with its own node_modules/typeorm. Remove that copy, or install the library from its tarball (npm pack). `npm ls typeorm` shows the copies.',
  );
}

/** The driver escapes values with backslashes. With NO_BACKSLASH_ESCAPES the server keeps them, so texts would be damaged or cut. */
async function assertEscapes(dataSource: DataSource): Promise<void> {
  if (dialectOf(dataSource.options.type) !== 'mysql') return;
  const [row] = (await dataSource.query('SELECT @@SESSION.sql_mode AS mode')) as { mode: string }[];
  if (!row?.mode.split(',').includes('NO_BACKSLASH_ESCAPES')) return;
  throw new ConfigurationError(
    'UNSUPPORTED_SQL_MODE',
    'The sql_mode of the server has NO_BACKSLASH_ESCAPES, so mysql2 cannot escape values. Remove it from the sql_mode of the server or of the sessions of this user.',
  );
}

/** The query runners of PostgreSQL and of isolated SQLite already await hooks. */
function needsAwaitedHooks(dataSource: DataSource): boolean {
  return !awaitsHooks() && dialectOf(dataSource.options.type) !== 'postgres' && !sqliteWriterLock(dataSource);
}

function prepareSqlite(dataSource: DataSource, options: ResolvedWebhooksOptions, logger: WebhooksLogger): void {
  if (!isFileSqlite(dataSource)) {
    logger.warn(
      'The data source is an in-memory SQLite database. All transactions share one connection, so concurrent transactions mix, and rows and events can be lost. Use a file, or never write concurrently: see docs/sqlite.md.',
    );
    return;
  }
  if (options.sqlite.isolate) {
    isolateSqlite(dataSource, { lockTimeoutMs: options.sqlite.lockTimeoutMs });
    return;
  }
  logger.warn(
    'sqlite.isolate is false. All transactions share one connection, so concurrent transactions mix, and rows and events can be lost. Remove the option: see docs/sqlite.md.',
  );
}
