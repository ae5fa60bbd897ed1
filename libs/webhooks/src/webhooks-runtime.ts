import {
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
  type OnApplicationShutdown,
  type OnModuleInit,
} from '@nestjs/common';
import { EventEmitter2 } from '@nestjs/event-emitter';
import { AmbientManagers } from './ambient-managers.js';
import { EntityCapture } from './capture/entity-capture.js';
import { EntityPlans } from './capture/plans/entity-plans.js';
import { checkTriggers, warnOfForeignTables } from './capture/triggers/check-triggers.js';
import { ImageConverter } from './capture/triggers/image-converter.js';
import { checkDatabase } from './check-database.js';
import { checkStoredWork } from './check-stored-work.js';
import type { WebhookClock } from './clock.js';
import { createServices, type Services } from './create-services.js';
import type { DeliveryService } from './deliveries/delivery.service.js';
import { InFlightDeliveries } from './deliveries/in-flight.js';
import type { EventService } from './deliveries/event.service.js';
import type { EventSource } from './diagnostics/channels.js';
import { Diagnostics } from './diagnostics/diagnostics.js';
import { Archiver } from './dispatcher/archiver.js';
import { AttemptDetails } from './dispatcher/attempt-details.js';
import { AttemptLog } from './dispatcher/attempt-log.js';
import { BulkWork } from './deliveries/bulk-work.js';
import { TaskWorker } from './deliveries/task-worker.js';
import type { TaskService } from './deliveries/task.service.js';
import { DispatcherService } from './dispatcher/dispatcher.service.js';
import { DISCARDED, LIFECYCLE_EVENTS } from './dispatcher/lifecycle-events.js';
import { Notices } from './dispatcher/notices.js';
import { OperationalEvents } from './dispatcher/operational-events.js';
import { SetBack } from './dispatcher/set-back.js';
import { TaskLoop } from './dispatcher/task-loop.js';
import { Upkeep } from './dispatcher/upkeep.js';
import { wakeUpChannel } from './dispatcher/wake-ups/choose-channel.js';
import { WakeUps } from './dispatcher/wake-ups/wake-ups.js';
import { loadExposure } from './entities/exposed-properties.js';
import { ConfigurationError } from './errors.js';
import { EventHandlers } from './event-handlers.js';
import { messageOf } from './foreign-text.js';
import type { RetrySchedule } from './health/retry-schedule.js';
import { VersionedTypes } from './listeners/versioned-types.js';
import type { EventCatalog } from './listeners/event-catalog.js';
import type { ListenerService } from './listeners/listener.service.js';
import { assertOneTypeorm, openDatabase } from './open-database.js';
import type { ResolvedWebhooksOptions } from './options/resolve-options.js';
import type { WebhooksService } from './publishing/webhooks.service.js';
import {
  registerFormats,
  registerSchemes,
  type RegisteredFormats,
  type RegisteredSchemes,
} from './registered-parts.js';
import type { RuntimeParts } from './runtime-parts.js';
import { Sealing } from './secrets/sealing.js';
import type { SignatureScheme } from './signing/signature-scheme.js';
import { DatabaseTime } from './store/database/database-time.js';
import type { Database } from './store/database/database.js';
import { tablesKey } from './store/database/tables-key.js';
import { payloadSize, type EventRow } from './store/outbox/event-rows.js';
import { readBacklog, type Backlog } from './store/queue/read-backlog.js';
import { storedEventIds } from './store/outbox/stored-events.js';
import type { SendingState } from './store/system/sending.js';
import type { SystemService } from './system/system.service.js';
import { assertSupportedTypeorm } from './typeorm-version.js';
import { WebhooksLogger } from './webhooks-logger.js';

/**
 * One running instance of the module. An instance serves one data source. Only this class starts and stops the parts
 * of the instance. @internal
 *
 * The constructor attaches capture. So rows are captured even if other modules write them while they initialise. The dispatcher
 * starts last, and stops before TypeORM closes the data source.
 */
export class WebhooksRuntime
  implements OnModuleInit, OnApplicationBootstrap, BeforeApplicationShutdown, OnApplicationShutdown
{
  readonly webhooks: WebhooksService;
  readonly listeners: ListenerService;
  readonly deliveries: DeliveryService;
  readonly events: EventService;
  readonly tasks: TaskService;
  readonly system: SystemService;
  readonly dispatcher: DispatcherService;
  /** @internal for the API */
  readonly catalog: EventCatalog;
  /** @internal for the verify view */
  readonly schemes: ReadonlyMap<string, SignatureScheme>;
  /** @internal for the verify view */
  readonly sealing: Sealing;
  /** @internal for telemetry */
  readonly diagnostics: Diagnostics;
  private readonly types: VersionedTypes;
  private readonly formatNames: ReadonlySet<string>;
  private readonly logger: WebhooksLogger;
  private readonly capture: EntityCapture;
  private readonly plans: EntityPlans;
  private readonly wakeUps: WakeUps | null;
  private readonly handlers: EventHandlers;
  private readonly images: ImageConverter;
  private readonly operational: OperationalEvents;
  private readonly notices: Notices;
  private readonly setBack: SetBack;
  private readonly work: BulkWork;
  private readonly worker: TaskWorker;
  private readonly taskLoop: TaskLoop;
  private readonly ambient: AmbientManagers;
  private readonly inFlight = new InFlightDeliveries();

  private constructor(
    private readonly parts: RuntimeParts & { readonly emitter: EventEmitter2 },
    readonly database: Database,
    private readonly time: DatabaseTime,
  ) {
    const { name, options, dataSource, registry } = parts;
    this.logger = new WebhooksLogger(name === 'default' ? 'Webhooks' : `Webhooks:${name}`);
    this.diagnostics = new Diagnostics(name);
    this.handlers = new EventHandlers(parts.emitter, this.logger);
    registry.serve(dataSource, name, options.capture);
    this.plans = new EntityPlans(registry, dataSource);
    const schemes = registerSchemes(parts.signatureSchemes, options);
    this.types = new VersionedTypes(registry, options.publishedTypes, options.payload.maxPayloadBytes);
    const formats = registerFormats(parts.payloadFormats, options, this.types);
    this.schemes = schemes.byName;
    this.formatNames = formats.names;
    this.sealing = new Sealing(options.secrets.keys, options.secrets.requireSealed);
    this.wakeUps = this.createWakeUps();
    this.notices = new Notices({
      logger: this.logger,
      emit: (event, lifecycleEvent) => this.handlers.emit(event, lifecycleEvent),
      diagnostics: this.diagnostics,
    });
    this.images = this.createImageConverter();
    this.operational = new OperationalEvents({ database, limits: options.payload, isOn: options.operationalEvents });
    this.work = this.createBulkWork(formats);
    this.worker = this.createTaskWorker();
    this.taskLoop = new TaskLoop({ worker: this.worker, logger: this.logger, diagnostics: this.diagnostics });
    this.dispatcher = this.createDispatcher(formats);
    this.setBack = this.createSetBack();
    this.capture = this.createCapture();
    this.ambient = new AmbientManagers({ dataSource, currentManager: options.currentManager, modules: parts.modules });
    const { webhooks, deliveries, events, tasks, catalog, listeners, system } = this.createServices(schemes, formats);
    this.webhooks = webhooks;
    this.deliveries = deliveries;
    this.events = events;
    this.tasks = tasks;
    this.system = system;
    this.catalog = catalog;
    this.listeners = listeners;
    this.capture.attach();
  }

  private createWakeUps(): WakeUps | null {
    const { dataSource, options } = this.parts;
    const channel = options.wakeUp && wakeUpChannel(this.database, dataSource, options.wakeUp);
    return channel ? new WakeUps(channel, this.logger) : null;
  }

  private createDispatcher(formats: RegisteredFormats): DispatcherService {
    const { database, diagnostics, logger, notices, sealing, schemes, time, wakeUps } = this;
    const { clock, dataSource, options, retrySchedule, transport } = this.parts;
    return new DispatcherService({
      notices,
      diagnostics,
      operational: this.operational,
      attemptLog: new AttemptLog(logger, options.log.attempts),
      details: new AttemptDetails(options.log.details),
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
        types: this.types,
      },
      bodyOf: formats.bodyOf,
      inFlight: this.inFlight,
      upkeep: this.createUpkeep(),
      tasks: this.taskLoop,
      images: this.images,
      logger,
      emit: (event, lifecycleEvent, cause) => this.handlers.emit(event, lifecycleEvent, cause),
      wakeUps,
      tablesKey: tablesKey(database, dataSource),
    });
  }

  private createBulkWork({ bodyOf }: RegisteredFormats): BulkWork {
    const { database, sealing } = this;
    const { clock, options } = this.parts;
    return new BulkWork({ database, clock, bodyOf, limits: options.limits, sealing });
  }

  private createTaskWorker(): TaskWorker {
    const { database, logger, work } = this;
    const discarded = (counts: ReadonlyMap<string, number>) => this.discarded(counts);
    return new TaskWorker({
      database,
      clock: this.parts.clock,
      work,
      logger,
      wake: () => this.wakeForDeliveries(),
      discarded,
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
      archiver: this.createArchiver(),
      logger,
      emit: (event, lifecycleEvent) => this.handlers.emit(event, lifecycleEvent),
      diagnostics: this.diagnostics,
      operational: options.operationalEvents ? this.operational : null,
      tablePaths: () => this.images.tablePaths,
    });
  }

  /** @throws ConfigurationError `INVALID_OPTION` if nothing is ever deleted, so that nothing would be archived */
  private createArchiver(): Archiver | null {
    const { database, diagnostics, logger } = this;
    const { archive, clock, options } = this.parts;
    if (!archive) return null;
    const { retention } = options;
    if (!retention) {
      throw new ConfigurationError(
        'INVALID_OPTION',
        'Invalid value false for `retention`. With `parts.archive`, an object such as { succeededMs, failedMs } is allowed, because rows are archived when they are old. Remove `retention: false` or `parts.archive`.',
        { details: { key: 'retention' } },
      );
    }
    const keptMs = Math.max(retention.succeededMs, retention.failedMs);
    return new Archiver({ database, clock, archive, keptMs, logger, diagnostics });
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
      onConverted: (rows) => {
        this.publishCaptured(rows, () => 'trigger');
        this.handlers.emitEvents(rows);
      },
      onDamaged: (lifecycleEvent) => {
        this.handlers.emit(LIFECYCLE_EVENTS.imageDamaged, lifecycleEvent);
        const { seq: id, reason } = lifecycleEvent;
        if (this.diagnostics.listens('damaged')) this.diagnostics.publish('damaged', { kind: 'image', id, reason });
      },
    });
  }

  private createSetBack(): SetBack {
    const { database, logger } = this;
    const { clock, options } = this.parts;
    const { leaseMs } = options.dispatcher;
    const setBack = new SetBack({ database, clock, leaseMs, logger, done: () => this.wakeForDeliveries() });
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
      diagnostics: this.diagnostics,
      unfinishedWritesTimeoutMs: options.unfinishedWritesTimeoutMs,
      logger,
      onCommitted: (rows, isUncertain) => this.onCommitted(rows, isUncertain),
      onImages: () => this.wakeForImages(),
    });
  }

  private createServices(schemes: RegisteredSchemes, formats: RegisteredFormats): Services {
    const { ambient, capture, database, diagnostics, logger, notices, operational, parts, sealing } = this;
    const { work, worker } = this;
    return createServices({
      parts,
      database,
      diagnostics,
      inFlight: this.inFlight,
      capture: capture.recorder,
      ambientManager: () => ambient.current,
      schemes,
      formats,
      types: this.types,
      sealing,
      logger,
      work,
      worker,
      wake: () => this.wakeForDeliveries(),
      wakeTasks: () => this.taskLoop.wake(),
      discarded: (counts) => this.discarded(counts),
      tablePaths: () => this.images.tablePaths,
      switched: (state) => this.switched(state),
      writeStats: () => this.dispatcher.writeStats(),
      wakeChores: () => this.dispatcher.wakeChores(),
      retried: (kind) => (kind === 'image' ? this.wakeForImages() : this.wake()),
      onCommitted: (rows) => this.onCommitted(rows, false),
      storeDisabled: (listener) => operational.ofDisabled(listener, listener.disabledReason ?? '', parts.clock.now()),
      onDisabled: (listener) => notices.disabled(listener, listener.disabledReason ?? '', { by: 'application' }),
    });
  }

  /** @internal for the verify view */
  get options(): ResolvedWebhooksOptions {
    return this.parts.options;
  }

  /** @internal for the API */
  get retrySchedule(): RetrySchedule {
    return this.parts.retrySchedule;
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
    const { options, dataSource, role } = parts;
    // A worker may have no handlers, and so no EventEmitterModule.
    const emitter = parts.emitter ?? (role === 'worker' ? new EventEmitter2() : undefined);
    assertSupportedTypeorm();
    assertOneTypeorm(dataSource);
    await loadExposure();
    if (!emitter) {
      throw new ConfigurationError(
        'EVENT_EMITTER_MISSING',
        'WebhooksModule needs EventEmitter2, but no module provides it. Import EventEmitterModule.forRoot() from @nestjs/event-emitter in your root module.',
      );
    }
    const database = await openDatabase(dataSource, options);
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
   * @throws ConfigurationError `TABLES_MISSING`, `TABLES_TOO_NEW`, `TABLES_TOO_OLD`, `TRIGGERS_MISSING`, `TRIGGERS_OUTDATED`, `UNSUPPORTED_SQL_MODE`, `WORKER_INCOMPLETE`, or a
   * code for invalid options of an entity
   */
  async onModuleInit(): Promise<void> {
    const { registry, clock, dataSource, options, role } = this.parts;
    this.ambient.reset();
    this.plans.make();
    const forgotten = registry.forgotten(dataSource);
    if (forgotten.length) {
      this.logger.warn(
        `${forgotten.join(', ')} ${forgotten.length > 1 ? 'have' : 'has'} @Webhook() but ${forgotten.length > 1 ? 'are' : 'is'} in no WebhooksModule.forFeature([...]), so changes make no events. Add ${forgotten.length > 1 ? 'them' : 'it'} to forFeature(), or remove @Webhook().`,
      );
    }
    const { database, logger } = this;
    await checkDatabase({ name: this.parts.name, dataSource, database, options, logger });
    const { foreignTables } = await checkTriggers({ dataSource, database, registry, options, logger });
    if (role === 'worker') {
      const { schemes, formatNames } = this;
      await checkStoredWork({ database, options, schemes, formatNames, now: clock.now(), foreignTables });
    } else warnOfForeignTables(foreignTables, logger);
  }

  onApplicationBootstrap(): void {
    if (!this.sealing.isOn) {
      this.logger.warn(
        'secrets.keys is not set, so the secrets of listeners are readable in the database and its backups. Set secrets.keys: see docs/signing.md.',
      );
    }
    if (!this.parts.options.dispatcher.autoStart) return;
    this.dispatcher.start();
    void this.setBack.look();
  }

  async beforeApplicationShutdown(): Promise<void> {
    const { isRunning } = this.dispatcher;
    await this.dispatcher.stop();
    // Other processes can now claim the deliveries that this process released.
    if (isRunning) this.wakeUps?.announce();
  }

  async onApplicationShutdown(): Promise<void> {
    this.time.stop();
    void this.setBack.stop();
    this.capture.detach();
    await this.parts.transport.close();
    await this.wakeUps?.close();
    await this.dispatcher.closeEngine();
    await this.database.close();
  }

  private async onCommitted(rows: readonly EventRow[], isUncertain: boolean): Promise<void> {
    const committed = isUncertain ? await this.storedRows(rows) : rows;
    const { publishedTypes } = this.parts.options;
    this.publishCaptured(committed, (type) => (publishedTypes.has(type) ? 'publish' : 'orm'));
    this.handlers.emitEvents(committed);
    if (this.parts.options.dispatch === 'inline') {
      await this.dispatcher.deliverNow(committed.map((row) => row.source.event.id));
    } else {
      this.wake();
    }
  }

  private publishCaptured(rows: readonly EventRow[], sourceOf: (type: string) => EventSource): void {
    if (!rows.length || !this.diagnostics.listens('captured')) return;
    this.diagnostics.publish('captured', {
      events: rows.map((row) => {
        const { id, type } = row.source.event;
        return { id, type, source: sourceOf(type), ...(row.size ?? payloadSize(row)) };
      }),
    });
  }

  /** Reads what is pending; for telemetry and health checks. @throws errors of the database @internal */
  backlog(): Promise<Backlog> {
    const { database, images } = this;
    return database.single(() => readBacklog(database, this.parts.clock.now(), images.tablePaths), 'work');
  }

  /**
   * Returns only the rows whose events were committed. After savepoints that could not be tracked, only the database knows
   * these events.
   */
  private async storedRows(rows: readonly EventRow[]): Promise<readonly EventRow[]> {
    try {
      const stored = await storedEventIds(
        this.database,
        rows.map((row) => row.source.event.id),
      );
      return rows.filter((row) => stored.has(row.source.event.id));
    } catch (error) {
      this.logger.error(
        `Committed events could not be read, so this process does not emit these events: ${messageOf(error)}`,
      );
      return [];
    }
  }

  /** Called after a service or a task has discarded deliveries. */
  private discarded(counts: ReadonlyMap<string, number>): void {
    for (const [listenerId, count] of counts) {
      this.handlers.emit(LIFECYCLE_EVENTS.discarded, { listenerId, count, reason: DISCARDED });
      if (this.diagnostics.listens('discarded')) {
        this.diagnostics.publish('discarded', { listenerId, count, reason: DISCARDED });
      }
    }
  }

  /** Called when this process has paused or resumed sending. */
  private switched(state: SendingState): void {
    this.dispatcher.seeSending(state);
    this.wakeUps?.announce(true);
  }

  /** Called after triggers have stored images. A process that dispatches converts the images to events. */
  private wakeForImages(): void {
    if (!this.dispatcher.hasRoom) this.wakeUps?.announce();
    this.dispatcher.wakeForImages();
  }

  /** Called when events are pending. Other processes are notified if this process has no free slot or does not dispatch. */
  private wake(): void {
    if (!this.dispatcher.hasRoom) this.wakeUps?.announce();
    this.dispatcher.wake();
  }

  /** Like {@link wake}, but called when deliveries may be due. */
  private wakeForDeliveries(): void {
    if (!this.dispatcher.hasRoom) this.wakeUps?.announce();
    this.dispatcher.wakeForDeliveries();
  }
}
