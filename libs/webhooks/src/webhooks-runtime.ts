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
import { knownNames } from './known-names.js';
import { CloudEventsBinaryFormat, CloudEventsFormat } from './events/cloud-events-format.js';
import type { EventRow } from './store/outbox/event-rows.js';
import { storedCause } from './events/event-context.js';
import { STANDARD_FORMAT, type PayloadFormat } from './events/payload-format.js';
import { WebhooksService } from './publishing/webhooks.service.js';
import { EventCatalog } from './listeners/event-catalog.js';
import { ListenerService } from './listeners/listener.service.js';
import { Sealing } from './secrets/sealing.js';
import { Quotas } from './quotas.js';
import type { ResolvedWebhooksOptions } from './options/resolve-options.js';
import { AddressGuard } from './sending/address-guard.js';
import { assertListenerAddress } from './sending/listener-url.js';
import type { WebhookTransport } from './sending/transport.js';
import { GithubScheme } from './signing/github-scheme.js';
import { GoogleCodeScheme } from './signing/google-code-scheme.js';
import type { SignatureScheme } from './signing/signature-scheme.js';
import { StandardScheme, StandardV1aScheme } from './signing/standard-scheme.js';
import { StripeScheme } from './signing/stripe-scheme.js';
import { isFileSqlite, isolateSqlite, sqliteWriterLock } from './sqlite/isolate-sqlite.js';
import { dialectOf } from './dialect.js';
import { CallerTransactions } from './store/database/caller-transactions.js';
import { missingTables, type Database } from './store/database/database.js';
import { missingIndexes } from './store/database/missing-indexes.js';
import { DatabaseTime } from './store/database/database-time.js';
import type { BodyOf, RenderedEvent } from './store/queue/new-deliveries.js';
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

/** What Nest provides to an instance. */
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

/**
 * One instance of the module at work: what serves one data source. The one owner of start and shutdown. @internal
 *
 * Capture subscribes as soon as it is made, so that rows written while modules initialise are not missed; the dispatcher
 * starts last, and stops before TypeORM closes the data source.
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
  private readonly wakeUps: WakeUps | null;
  private readonly setBack: SetBack;
  private readonly ambient: AmbientManagers;

  private constructor(
    private readonly parts: RuntimeParts & { readonly emitter: EventEmitter2 },
    readonly database: Database,
    private readonly time: DatabaseTime,
  ) {
    const { name, options, dataSource, registry, clock, transport, retrySchedule } = parts;
    const guard = new AddressGuard(options.security.allowedAddresses);
    this.logger = new WebhooksLogger(name === 'default' ? 'Webhooks' : `Webhooks:${name}`);
    const { logger } = this;
    registry.serve(dataSource, name, options.capture);
    const catalog = new EventCatalog(dataSource, registry, options.publishedTypes);
    const shipped = [
      new StandardScheme(),
      new StandardV1aScheme(),
      new GithubScheme(),
      new StripeScheme(),
      new GoogleCodeScheme(),
    ];
    this.schemes = named([...shipped, ...parts.signatureSchemes], 'signature scheme');
    const { customers } = options;
    const customersSchemes = choosable('schemes', customers.schemes, namesOf(shipped), new Set(this.schemes.keys()));
    this.sealing = new Sealing(options.secrets.keys, options.secrets.requireSealed);
    const { cloudEventsSource } = options.payload;
    const binary = new CloudEventsBinaryFormat(cloudEventsSource);
    const formats = named(
      [new CloudEventsFormat(cloudEventsSource), binary, ...parts.payloadFormats],
      'payload format',
    );
    const shippedFormats = [STANDARD_FORMAT, ...namesOf([new CloudEventsFormat(cloudEventsSource), binary])];
    const knownFormats = new Set([STANDARD_FORMAT, ...formats.keys()]);
    const customersFormats = choosable('formats', customers.formats, shippedFormats, knownFormats);
    // These two send the event's own text, which is stored once for all.
    const isOwnText = (format: string) => format === STANDARD_FORMAT || format === binary.name;
    const bodyOf: BodyOf = (format, event) => (isOwnText(format) ? null : render(formats, format, event));
    this.wakeUps =
      options.wakeUp && database instanceof ServerDatabase && database.dialect === 'postgres'
        ? new WakeUps(database, options.wakeUp.url, logger)
        : null;
    const notices = new Notices({ logger, emit: (event, lifecycleEvent) => this.emit(event, lifecycleEvent) });
    this.dispatcher = new DispatcherService({
      notices,
      database,
      clock,
      time,
      options: options.dispatcher,
      transport,
      retrySchedule,
      signers: {
        schemes: this.schemes,
        formats,
        isOwnText,
        sealing: this.sealing,
        timeoutMs: options.dispatcher.timeoutMs,
        origin: options.handshake.origin,
      },
      bodyOf,
      upkeep: new Upkeep({
        database,
        clock,
        maxAgeMs: options.dispatcher.maxAgeMs,
        retention: options.retention,
        logger,
        emit: (event, lifecycleEvent) => this.emit(event, lifecycleEvent),
      }),
      images: new ImageConverter({
        dataSource,
        database,
        registry,
        limits: options.payload,
        logger,
        onConverted: (rows) => this.emitEvents(rows),
        onDamaged: (lifecycleEvent) => this.emit(LIFECYCLE_EVENTS.imageDamaged, lifecycleEvent),
      }),
      logger,
      emit: (event, lifecycleEvent, cause) => this.emit(event, lifecycleEvent, cause),
      wakeUps: this.wakeUps,
    });
    const wake = () => this.wake();
    this.setBack = new SetBack({ database, clock, leaseMs: options.dispatcher.leaseMs, logger, done: wake });
    time.onSetBack = (aheadMs) => this.setBack.begin(aheadMs);
    this.capture = new EntityCapture({
      dataSource,
      database,
      registry,
      clock,
      limits: options.payload,
      maxCausationDepth: options.maxCausationDepth,
      unfinishedWritesTimeoutMs: options.unfinishedWritesTimeoutMs,
      logger,
      onCommitted: (rows, isUncertain) => this.onCommitted(rows, isUncertain),
      onImages: () => this.wakeForImages(),
    });
    const { currentManager } = options;
    this.ambient = new AmbientManagers({ dataSource, currentManager, modules: parts.modules });
    const transactions = new CallerTransactions({
      dataSource,
      database,
      capture: this.capture.recorder,
      ambientManager: () => this.ambient.current,
    });
    this.webhooks = new WebhooksService({
      dataSource,
      database,
      capture: this.capture.recorder,
      catalog,
      clock,
      transactions,
      options,
      onCommitted: (rows) => this.onCommitted(rows, false),
    });
    const quotas = new Quotas(options.limits, clock);
    this.deliveries = new DeliveryService({ database, transactions, clock, wake, bodyOf, quotas });
    this.listeners = new ListenerService({
      database,
      transactions,
      catalog,
      clock,
      guard,
      assertAddress: (url) =>
        // Where the proxy resolves names, it may be that nobody else can.
        options.security.proxy?.resolvesNames ? Promise.resolve() : assertListenerAddress(url, guard, parts.lookup),
      options,
      schemes: this.schemes,
      sealing: this.sealing,
      quotas,
      formats: knownFormats,
      customers: { formats: customersFormats, schemes: customersSchemes },
      sendTest: (listener, example) => storeTestEvent(database, { listener, example }, clock.now(), bodyOf),
      wake,
      warn: (message) => logger.warn(message),
      disabled: (listener) => notices.disabled(listener, listener.disabledReason ?? ''),
    });
    this.capture.attach();
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
        'WebhooksModule emits its events on EventEmitter2, which is not there. Import EventEmitterModule.forRoot() from @nestjs/event-emitter in your root module.',
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
      // Before anything asks the clock.
      await time.start();
      return new WebhooksRuntime({ ...parts, emitter }, database, time);
    } catch (error) {
      time.stop();
      await database.close();
      throw error;
    }
  }

  /** @throws ConfigurationError `TABLES_MISSING`, `TRIGGERS_MISSING`, `TRIGGERS_OUTDATED`, or what is wrong with an entity's options */
  async onModuleInit(): Promise<void> {
    const { registry, dataSource, options } = this.parts;
    this.ambient.reset();
    registry.resolve();
    const forgotten = registry.forgotten(dataSource);
    if (forgotten.length) {
      this.logger.warn(
        `${forgotten.join(', ')} carr${forgotten.length > 1 ? 'y' : 'ies'} @Webhook() but ${forgotten.length > 1 ? 'are' : 'is'} in no WebhooksModule.forFeature([...]): no events are made of ${forgotten.length > 1 ? 'them' : 'it'}.`,
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
        `The webhook tables are missing or out of date: ${missing.join(', ')}. Add ...webhookMigrations(${writtenTablesOptions(options)}) from 'nestjs-entity-webhooks/migrations' to the migrations of the data source '${this.parts.name}' and run them (npx typeorm migration:run -d <your data-source file>); for a first try, synchronize: true makes them.`,
        { details: { missing } },
      );
    }
    const creating = await this.database.single(() => missingIndexes(this.database));
    if (creating.length) {
      throw new ConfigurationError(
        'TABLES_MISSING',
        `The webhook tables lack ${creating.length === 1 ? 'an index' : 'indexes'}. Perhaps a migration was interrupted. Run: ${creating.join('; ')}.`,
        { details: { missing: creating } },
      );
    }
    const { version, oldestProcess } = await this.database.transaction(() => readSchemaVersion(this.database));
    if (oldestProcess > SCHEMA_VERSION) {
      throw new ConfigurationError(
        'TABLES_TOO_NEW',
        `The webhook tables have version ${version}, which needs a process that knows version ${oldestProcess} or later. This process knows version ${SCHEMA_VERSION}: update nestjs-entity-webhooks. See docs/upgrades.md.`,
        { details: { version, oldestProcess, known: SCHEMA_VERSION } },
      );
    }
    await assertEscapes(dataSource);
    await this.warnOfOtherTables();
    await checkTriggers({ dataSource, database: this.database, registry, options, logger: this.logger });
  }

  /** After `tablePrefix` was changed, nobody sends what is left under the old one. */
  private async warnOfOtherTables(): Promise<void> {
    const { database } = this;
    const others = await database.single(() => findOtherTables(database));
    if (!others.length) return;
    const isNew = !(await database.single(() => hasListeners(database)));
    const { tablePrefix } = this.parts.options;
    for (const { prefix, isPending, hasListeners: isUsed } of others) {
      if (!isPending && !(isNew && isUsed)) continue;
      this.logger.warn(
        `Besides the webhook tables with the prefix '${tablePrefix}' there are tables with the prefix '${prefix}', which contain ${isPending ? 'unsent events or deliveries' : 'listeners'}. Only an instance with tablePrefix: '${prefix}' sends them: keep one running until nothing is left.`,
      );
    }
  }

  onApplicationBootstrap(): void {
    if (!this.sealing.isOn) {
      this.logger.warn(
        'secrets.keys is not set: the secrets of listeners stand readable in the database and its backups. See docs/signing.md.',
      );
    }
    if (!this.parts.options.dispatcher.autoStart) return;
    this.dispatcher.start();
    void this.setBack.look();
  }

  async beforeApplicationShutdown(): Promise<void> {
    const { isRunning } = this.dispatcher;
    await this.dispatcher.stop();
    // Others go on with what it gave back.
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
    const standing = isUncertain ? await this.thatStand(rows) : rows;
    this.emitEvents(standing);
    if (this.parts.options.dispatch === 'inline') {
      await this.dispatcher.deliverNow(standing.map((row) => row.source.event.id));
    } else {
      this.wake();
    }
  }

  private emitEvents(rows: readonly EventRow[]): void {
    // The promise of the write settles first.
    setImmediate(() => {
      for (const { source } of rows) {
        const { event, depth } = source;
        this.emit(eventName(event.type), event, { context: event.context, depth });
      }
    });
  }

  /** Triggers wrote something down: whoever dispatches makes events of it. */
  private wakeForImages(): void {
    if (!this.dispatcher.hasRoom) this.wakeUps?.announce();
    this.dispatcher.wakeForImages();
  }

  /** There may be work: for this process, and for others when it has its hands full or does not dispatch. */
  private wake(): void {
    if (!this.dispatcher.hasRoom) this.wakeUps?.announce();
    this.dispatcher.wake();
  }

  /** Savepoints that could not be followed: the database knows which events are there. */
  private async thatStand(rows: readonly EventRow[]): Promise<EventRow[]> {
    const { database } = this;
    const { events: e } = database.tables;
    const ids = rows.map((row) => row.source.event.id);
    try {
      const found = await database.transaction(function* () {
        const standing: string[] = [];
        for (const some of chunks(ids)) {
          const read = yield* query<{ id: string }>(
            sql`select ${e.select('e', 'id')} from ${e.sql} e where e.${e.$.id} ${inList(some)}`,
          );
          standing.push(...read.map((row) => row.id));
        }
        return new Set(standing);
      });
      return rows.filter((row) => found.has(row.source.event.id));
    } catch (error) {
      this.logger.error(`Committed events could not be read back, and are not emitted in process: ${String(error)}`);
      return [];
    }
  }

  /** A handler that throws stops neither the dispatcher nor the other handlers' events. */
  private emit(name: string, value: unknown, cause?: Cause): void {
    const { emitter } = this.parts;
    // Nobody listens, mostly, and this is said for every delivery.
    if (!emitter.hasListeners(name) && !emitter.listenersAny().length) return;
    const emitToHandlers = () => {
      emitter.emitAsync(name, value).catch((error: unknown) => this.handlerFailed(name, error));
    };
    try {
      // Handlers are apart from what surrounded the write, and know what led to them.
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

/** Capture extends the classes of the TypeORM that this library imports. Those of another copy would be captured by half, or twice. */
function assertOneTypeorm(dataSource: unknown): void {
  if (dataSource instanceof DataSource) return;
  throw new ConfigurationError(
    'TYPEORM_TWICE',
    'The data source and nestjs-entity-webhooks use two copies of TypeORM, so writes would be captured twice or not at all. Usually the library is a symbolic link (npm link, a `file:` folder, a workspace) with its own node_modules/typeorm: remove that copy, or install the library from its tarball (npm pack). `npm ls typeorm` shows the copies.',
  );
}

/** The driver escapes values with backslashes, which such a server takes for themselves: texts would be damaged, or end early. */
async function assertEscapes(dataSource: DataSource): Promise<void> {
  if (dialectOf(dataSource.options.type) !== 'mysql') return;
  const [row] = (await dataSource.query('SELECT @@SESSION.sql_mode AS mode')) as { mode: string }[];
  if (!row?.mode.split(',').includes('NO_BACKSLASH_ESCAPES')) return;
  throw new ConfigurationError(
    'UNSUPPORTED_SQL_MODE',
    "The server's sql_mode has NO_BACKSLASH_ESCAPES, with which mysql2 cannot escape values. Take it out of sql_mode, of the server or of this user's sessions.",
  );
}

/** PostgreSQL's query runner waits by itself, and so does the one of isolated SQLite. */
function needsAwaitedHooks(dataSource: DataSource): boolean {
  return !awaitsHooks() && dialectOf(dataSource.options.type) !== 'postgres' && !sqliteWriterLock(dataSource);
}

function prepareSqlite(dataSource: DataSource, options: ResolvedWebhooksOptions, logger: WebhooksLogger): void {
  if (!isFileSqlite(dataSource)) {
    logger.warn(
      'The data source is an in-memory SQLite database: its driver shares one connection among all transactions, so concurrent ones mix, and rows and events can be lost. Use a file, or write one thing after the other. See docs/sqlite.md.',
    );
    return;
  }
  if (options.sqlite.isolate) {
    isolateSqlite(dataSource, { lockTimeoutMs: options.sqlite.lockTimeoutMs });
    return;
  }
  logger.warn(
    'sqlite.isolate is false: the driver shares one connection among all transactions, so concurrent ones mix, and rows and events can be lost. See docs/sqlite.md.',
  );
}

function named<T extends { readonly name: string }>(parts: readonly T[], what: string): Map<string, T> {
  const map = new Map<string, T>();
  for (const part of parts) {
    if (typeof part.name !== 'string' || part.name === '') {
      throw new ConfigurationError('INVALID_PART', `A ${what} has no name: listeners choose it by that. Give it one.`);
    }
    if (map.has(part.name)) {
      throw new ConfigurationError(
        'INVALID_PART',
        `Two ${what}s are called '${part.name}': give each a name of its own.`,
      );
    }
    map.set(part.name, part);
  }
  return map;
}

function render(
  formats: ReadonlyMap<string, PayloadFormat>,
  name: string,
  { id, type, payload, context }: RenderedEvent,
): string {
  const format = formats.get(name);
  if (!format) throw new Error(`there is no payload format '${name}' in this application`);
  const body: unknown = format.render({ id, type, payload, context: storedCause(context).context });
  if (typeof body !== 'string') throw new TypeError(`the payload format '${name}' gave no text`);
  if (body.includes('\0'))
    throw new TypeError(`the payload format '${name}' gave a NUL, which PostgreSQL cannot store`);
  return body;
}

function namesOf(parts: readonly { readonly name: string }[]): string[] {
  return parts.map(({ name }) => name);
}

/** Names of parts that customers may choose. @throws ConfigurationError `INVALID_OPTION` for one that is not registered */
function choosable(
  key: 'formats' | 'schemes',
  given: readonly string[] | undefined,
  shipped: readonly string[],
  known: ReadonlySet<string>,
): ReadonlySet<string> {
  const unknown = given?.find((name) => !known.has(name));
  if (unknown === undefined) return new Set(given ?? shipped);
  throw new ConfigurationError(
    'INVALID_OPTION',
    `WebhooksModule option customers.${key} names '${unknown}', which is not registered.${knownNames(unknown, [...known])}`,
    { details: { key: `customers.${key}` } },
  );
}
