import type { EntityManager } from 'typeorm';
import type { ChangeRecorder } from './capture/change-recorder.js';
import { DeliveryService } from './deliveries/delivery.service.js';
import type { BulkWork } from './deliveries/bulk-work.js';
import type { InFlightDeliveries } from './deliveries/in-flight.js';
import { EventService } from './deliveries/event.service.js';
import type { TaskWorker } from './deliveries/task-worker.js';
import { TaskService } from './deliveries/task.service.js';
import type { Diagnostics } from './diagnostics/diagnostics.js';
import { EventCatalog } from './listeners/event-catalog.js';
import { ListenerService } from './listeners/listener.service.js';
import { PinnedVersions } from './listeners/pinned-versions.js';
import { versionHeaders } from './dispatcher/version-headers.js';
import type { VersionedTypes } from './listeners/versioned-types.js';
import type { Listener } from './listeners/listener.js';
import type { ListenerServiceParts } from './listeners/listener-service-parts.js';
import { WebhooksService } from './publishing/webhooks.service.js';
import { Quotas } from './quotas.js';
import type { RegisteredFormats, RegisteredSchemes } from './registered-parts.js';
import type { RuntimeParts } from './runtime-parts.js';
import type { Sealing } from './secrets/sealing.js';
import { AddressGuard } from './sending/address-guard.js';
import { assertListenerAddress } from './sending/listener-url.js';
import { CallerTransactions } from './store/database/caller-transactions.js';
import type { Database } from './store/database/database.js';
import type { EventRow } from './store/outbox/event-rows.js';
import { storeTestEvent } from './store/queue/test-event.js';
import { SystemService, type SystemServiceParts } from './system/system.service.js';
import type { WebhooksLogger } from './webhooks-logger.js';

/** The services that an application injects, except the dispatcher. */
export interface Services {
  readonly webhooks: WebhooksService;
  readonly deliveries: DeliveryService;
  readonly events: EventService;
  readonly tasks: TaskService;
  /** For the API. */
  readonly catalog: EventCatalog;
  readonly listeners: ListenerService;
  readonly system: SystemService;
}

/** The parts of an instance that its services need. */
export interface ServiceParts {
  readonly parts: RuntimeParts;
  readonly database: Database;
  readonly capture: ChangeRecorder;
  readonly diagnostics: Diagnostics;
  readonly inFlight: InFlightDeliveries;
  /** The manager of the transaction around a call. */
  readonly ambientManager: () => EntityManager;
  readonly schemes: RegisteredSchemes;
  readonly formats: RegisteredFormats;
  readonly types: VersionedTypes;
  readonly sealing: Sealing;
  readonly logger: WebhooksLogger;
  readonly work: BulkWork;
  readonly worker: TaskWorker;
  /** Called when deliveries may be due. */
  readonly wake: () => void;
  /** Called when there is a new task. */
  readonly wakeTasks: () => void;
  /** Called when deliveries were discarded. */
  readonly discarded: (counts: ReadonlyMap<string, number>) => void;
  /** The tables whose images this process converts. */
  readonly tablePaths: () => readonly string[];
  /** Called when this process has paused or resumed sending. */
  readonly switched: SystemServiceParts['switched'];
  readonly writeStats: SystemServiceParts['writeStats'];
  readonly wakeChores: SystemServiceParts['wakeChores'];
  readonly retried: SystemServiceParts['retried'];
  readonly onCommitted: (rows: readonly EventRow[]) => Promise<void>;
  readonly storeDisabled: ListenerServiceParts['storeDisabled'];
  /** Called when a listener was disabled. */
  readonly onDisabled: (listener: Listener) => void;
}

/** The parts that all services of an instance share. */
interface SharedParts {
  readonly catalog: EventCatalog;
  readonly quotas: Quotas;
  readonly transactions: CallerTransactions;
}

/** @internal */
export function createServices(needed: ServiceParts): Services {
  const { capture, database, ambientManager, parts } = needed;
  const { clock, dataSource, options, registry } = parts;
  const shared = {
    catalog: new EventCatalog(dataSource, registry, options.publishedTypes, options.operationalEvents),
    quotas: new Quotas(options.limits, clock),
    transactions: new CallerTransactions({ dataSource, database, capture, ambientManager }),
  };
  return {
    webhooks: createPublishing(needed, shared),
    deliveries: createDeliveries(needed, shared),
    events: createEvents(needed, shared),
    tasks: createTasks(needed, shared),
    catalog: shared.catalog,
    listeners: createListeners(needed, shared),
    system: new SystemService({
      database,
      clock,
      maxAgeMs: options.dispatcher.maxAgeMs,
      tablePaths: needed.tablePaths,
      switched: needed.switched,
      writeStats: needed.writeStats,
      wakeChores: needed.wakeChores,
      retried: needed.retried,
    }),
  };
}

function createPublishing(
  { capture, database, diagnostics, onCommitted, parts }: ServiceParts,
  shared: SharedParts,
): WebhooksService {
  const { clock, dataSource, options } = parts;
  const { catalog, transactions } = shared;
  return new WebhooksService({
    dataSource,
    database,
    capture,
    catalog,
    clock,
    transactions,
    options,
    diagnostics,
    onCommitted,
  });
}

function createEvents(
  { database, parts, work, discarded, wake }: ServiceParts,
  { catalog, transactions }: SharedParts,
): EventService {
  const rowKey = catalog.rowKey.bind(catalog);
  return new EventService({ database, transactions, clock: parts.clock, work, rowKey, discarded, wake });
}

function createTasks({ database, parts, work, worker, wakeTasks }: ServiceParts, shared: SharedParts): TaskService {
  const { catalog, quotas, transactions } = shared;
  return new TaskService({
    database,
    transactions,
    clock: parts.clock,
    quotas,
    work,
    worker,
    rowKey: catalog.rowKey.bind(catalog),
    wake: wakeTasks,
  });
}

function createDeliveries(needed: ServiceParts, shared: SharedParts): DeliveryService {
  const { database, discarded, formats, inFlight, parts, types, wake, work } = needed;
  const { quotas, transactions } = shared;
  return new DeliveryService({
    database,
    transactions,
    clock: parts.clock,
    wake,
    work,
    discarded,
    bodyOf: formats.bodyOf,
    contentTypeOf: formats.contentTypeOf,
    versionHeadersOf: (type, version, payload) => versionHeaders({ type, version, event: { payload } }, types),
    quotas,
    inFlight,
  });
}

function createListeners(needed: ServiceParts, { catalog, quotas, transactions }: SharedParts): ListenerService {
  const { database, formats, logger, onDisabled, parts, schemes, sealing, storeDisabled, types, wake } = needed;
  const { clock, lookup, options } = parts;
  const guard = new AddressGuard(options.security.allowedAddresses);
  return new ListenerService({
    database,
    transactions,
    actor: null,
    catalog,
    versions: new PinnedVersions(catalog, types),
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
    sendTest: (listener, example, actor) =>
      storeTestEvent(database, { listener, example, actor }, clock.now(), formats.bodyOf),
    wake,
    warn: (message) => logger.warn(message),
    storeDisabled,
    disabled: onDisabled,
  });
}
