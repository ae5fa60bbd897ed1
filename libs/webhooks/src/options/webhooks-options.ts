import type { FactoryProvider, InjectionToken, ModuleMetadata, Type } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import type { CaptureMode } from '../entities/webhook.decorator.js';
import type { JsonObject } from '../json.js';
import type { PayloadFormat } from '../events/payload-format.js';
import type { CircuitPolicy } from '../health/circuit.js';
import type { Handshake } from './handshake-methods.js';
import type { RetrySchedule } from '../health/retry-schedule.js';
import type { SecurityOptions } from '../sending/security-options.js';
import type { WebhookTransport } from '../sending/transport.js';
import type { SignatureScheme } from '../signing/signature-scheme.js';

/** A type that `publish()` may send, beside those that entities make. */
export interface PublishedType {
  /** `invoice.overdue` */
  type: string;
  /**
   * The properties of its `data` that filters may name. Numbers are compared by value.
   *
   * @defaultValue any property may be named, and a typing error in a filter is not noticed
   */
  fields?: readonly string[];
  /** `data` of the examples that `sendTest()` sends of it. @defaultValue a text for each of `fields` */
  example?: JsonObject;
}

/** How the dispatcher works; `docs/options.md` tells how the values meet. */
export interface DispatcherOptions {
  /**
   * Start sending when the application starts. `false` for scripts, tests and processes that only serve requests: their
   * events are stored all the same, and sent by another process or by `DispatcherService.drain()`.
   *
   * @defaultValue true
   */
  autoStart?: boolean;
  /**
   * Requests under way at once in this process. Too few and a slow receiver delays the rest; too many and sockets and
   * memory run out. 1 to 10,000.
   *
   * @defaultValue 64
   */
  concurrency?: number;
  /**
   * Of these to one listener, in this process. One slow receiver takes no more, and nobody who listens to it gets more
   * requests at a time. 1 to 10,000.
   *
   * @defaultValue 16
   */
  concurrencyPerListener?: number;
  /**
   * How many of these may go to all listeners of one owner at once, in this process; as many of its answers may be read at once. The
   * lower the value, the more customers with slow receivers it takes to delay the others. If it is too low, a customer with many busy
   * listeners waits. Listeners without an owner are not limited. 1 to 10,000.
   *
   * @defaultValue half of `concurrency`
   */
  concurrencyPerOwner?: number;
  /**
   * When a listener that fails is left alone. After `failures` attempts in a row that failed its circuit opens, in all
   * processes: what waits for it waits, at no cost and without using up attempts, and after `cooldownMs` one delivery is tried.
   * It closes the circuit, or starts a pause twice as long, up to `maxCooldownMs`. A listener none of whose attempts
   * succeeded for `disableAfterMs` is disabled. All in ms.
   *
   * @defaultValue `{ failures: 10, cooldownMs: 30_000, maxCooldownMs: 600_000, disableAfterMs: 432_000_000 }` (5 days)
   */
  circuit?: Partial<CircuitPolicy>;
  /** The longest wait that a receiver's `Retry-After` may ask for, in ms. @defaultValue 86_400_000 (24 hours) */
  retryAfterCapMs?: number;
  /**
   * How long a delivery may wait to be sent, in ms since its event happened: for a retry, behind an open circuit, or held
   * for a disabled listener. Then it is discarded, its `lastErrorCode` is `TOO_OLD`, and no retry is made after this time. It is
   * looked at every five minutes. What is resent, recovered or replayed later than this is sent all the same.
   *
   * @defaultValue 2_592_000_000 (30 days)
   */
  maxAgeMs?: number;
  /** Events or deliveries taken in one statement, and held in memory to be sent. 1 to 1,000. @defaultValue 250 */
  eventsPerBatch?: number;
  /** The limit of one attempt over name resolution, connect, TLS, headers and body, in ms. @defaultValue 15_000 */
  timeoutMs?: number;
  /**
   * How long a delivery belongs to the process that took it, in ms. After it another process takes it over, so it must be
   * longer than `timeoutMs`. A process that dies delays what it held by this much.
   *
   * @defaultValue 60_000
   */
  leaseMs?: number;
  /**
   * How often the database is asked for work that nothing announced: on MySQL, MariaDB and SQLite what other processes
   * committed, which it delays by as much; on PostgreSQL what a lost notification would have told of, see `wakeUp`. In ms.
   *
   * @defaultValue 1_000
   */
  pollIntervalMs?: number;
  /** Connections of the dispatcher's own pool on server databases, beside the application's. @defaultValue 4 */
  poolSize?: number;
}

/**
 * How long the log is kept, in ms since the event happened; `docs/operations.md` tells what goes when. What is due or held,
 * and the event of it, stays whatever its age. From an hour to ten years.
 */
export interface RetentionOptions {
  /**
   * Deliveries that succeeded, and events that nobody wanted. Also how long `replay` reaches back, the verify view knows a
   * webhook, and `publish()` remembers an idempotency key.
   *
   * @defaultValue 2_592_000_000 (30 days)
   */
  succeededMs?: number;
  /** Deliveries that were exhausted or discarded, and damaged events. @defaultValue 7_776_000_000 (90 days) */
  failedMs?: number;
}

/** How the keys of listeners are kept; `docs/signing.md` tells how to begin, rotate and move. */
export interface SecretsOptions {
  /** How long a rotated-out secret signs beside the new one, in ms. @defaultValue 86_400_000 (24 hours) */
  rotationOverlapMs?: number;
  /**
   * Keys that secrets and credentials of listeners are sealed with in the tables, by AES-256-GCM. The first seals, all of them
   * open. Without one, who reads the database or a backup can sign in your name, and a warning says so at the start; with one
   * that is lost, listeners wait until it is back.
   *
   * @defaultValue none: they are stored as they are
   */
  keys?: readonly SealingKeyOptions[];
  /**
   * Use only sealed secrets and credentials. Otherwise an attacker who can write the tables could insert a known secret. Run
   * `listeners.resealSecrets()` first. A listener with an unsealed secret waits, with `SECRET_NOT_SEALED` in the log. Needs `keys`.
   *
   * @defaultValue false
   */
  requireSealed?: boolean;
}

/**
 * Quotas of one owner for services that are bound to it. The application's own services have no quotas. Each process counts the calls of
 * a minute for itself.
 */
export interface LimitsOptions {
  /** Listeners of one owner. 1 to 1,000,000. @defaultValue 1_000 */
  listenersPerOwner?: number;
  /** Calls of `sendTest()` a minute. 1 to 1,000,000. @defaultValue 30 */
  testsPerMinute?: number;
  /** Calls of `resend()`, `recover()` and `replay()` a minute. 1 to 1,000,000. @defaultValue 60 */
  resendsPerMinute?: number;
  /** Attempts after which an owner cannot resend a delivery. 1 to 1,000,000. @defaultValue 100 */
  attemptsPerDelivery?: number;
}

/**
 * The formats and schemes that services bound to an owner may name. A part that the application registers for itself may show data that
 * customers must not see, such as the context of an event.
 */
export interface CustomersOptions {
  /** Names of payload formats. @defaultValue those that ship: `standard`, `cloudevents`, `cloudevents-binary` */
  formats?: readonly string[];
  /** Names of signature schemes. @defaultValue those that ship, see `docs/signing.md` */
  schemes?: readonly string[];
}

/** How receivers are asked whether they want to be sent anything. */
export interface HandshakeOptions {
  /**
   * Of listeners that name none. Unless it is `none`, a service that is bound to an owner refuses `none`: customers may choose how their
   * receiver is asked, and not that it is not.
   *
   * @defaultValue 'none'
   */
  default?: Handshake;
  /**
   * The DNS name by which receivers know this sender, such as `'events.example.com'`: `WebHook-Request-Origin` of listeners with the
   * handshake `cloudevents`, which need it. Receivers compare it, so all processes have the same, and it is not changed lightly.
   *
   * @defaultValue none
   */
  origin?: string;
}

/** One of {@link SecretsOptions.keys}. */
export interface SealingKeyOptions {
  /** Stored beside what it sealed: 1 to 32 letters, digits, `-`, `_` and `.`. Never give a new key an old one's id. */
  id: string;
  /** 32 bytes, or their base64: `openssl rand -base64 32`. */
  key: string | Uint8Array;
}

export interface WebhooksOptions {
  /** Put before the name of each table. @defaultValue `'webhook_'` */
  tablePrefix?: string;
  /**
   * PostgreSQL only: the schema of the tables. Every statement of the module names it, so any `search_path` of a writer works:
   * `docs/schema-per-tenant.md`. 1 to 63 of `A-Za-z0-9_`.
   *
   * @defaultValue the data source's `schema`; without one, the first of the `search_path`
   */
  tableSchema?: string;
  /**
   * Who notices changes of entities that do not say it themselves: TypeORM's hooks in this application (`orm`), or triggers of the
   * database, whoever writes (`trigger`). See `docs/capture.md`.
   *
   * @defaultValue 'orm'
   */
  capture?: CaptureMode;
  /**
   * The types that `publish()` may send. Declared, so that a typing error on either side is an error and not a webhook
   * that never comes.
   *
   * @defaultValue none
   */
  publishedTypes?: readonly (string | PublishedType)[];
  /**
   * For applications that keep the transaction's manager themselves: returns the manager of the transaction that surrounds a call.
   * `publish()` and the services of listeners and deliveries join that transaction. They call this function on each call. Transactions of typeorm-transactional and
   * `@nestjs-cls/transactional` are found without it: `docs/transactions.md`.
   *
   * @defaultValue none
   * @example WebhooksModule.forRoot({ currentManager: () => unitOfWork.getStore()?.manager })
   */
  currentManager?: () => EntityManager | undefined;
  /**
   * `queued`: the write returns as soon as it is committed. `inline`: it also waits for the first attempt of its
   * deliveries, at most `dispatcher.timeoutMs`; what goes wrong there never rejects it, and is retried as queued.
   *
   * @defaultValue 'queued'
   */
  dispatch?: 'queued' | 'inline';
  dispatcher?: DispatcherOptions;
  /**
   * How many events in a row may lead to one another: a write made while an event is handled, in process or by a receiver that
   * says so, makes an event one deeper. A write that is deeper than this fails with `WEBHOOK_LOOP`. Too small stops honest chains;
   * too large lets a loop run longer, at the speed of your handlers. 0: handlers write nothing that makes events. 0 to 1,000.
   *
   * @defaultValue 16
   */
  maxCausationDepth?: number;
  /**
   * How many milliseconds a COMMIT waits for writes that nobody awaits, counted while none of them has a statement under way. Then
   * the COMMIT is refused with `WRITES_UNFINISHED`, and the transaction is rolled back. If the value is too low, a hook that awaits slow
   * work fails its transaction. If it is too high, a hook that awaits this COMMIT holds its connection for as long. 1 to 3,600,000.
   *
   * @defaultValue 10_000
   */
  unfinishedWritesTimeoutMs?: number;
  /**
   * How processes on one PostgreSQL database tell each other of commits: by NOTIFY, which is sent after the commit and never part
   * of your transaction, and by LISTEN, for which a process that dispatches keeps one connection more than
   * `dispatcher.poolSize`. `url` is where that connection goes when the data source goes through a pooler in transaction mode
   * (PgBouncer), which passes no notifications on: the server itself, with user, password and database. `false` leaves
   * `dispatcher.pollIntervalMs`, as it is on the other databases.
   *
   * @defaultValue `{}`: over a connection like those of the data source
   */
  wakeUp?: { url?: string } | false;
  payload?: {
    /** Payloads over this are sent thin: the id, `"truncated": true`, and the fields that fit. UTF-8 bytes. @defaultValue 262_144 */
    maxPayloadBytes?: number;
    /** Payloads over this lose their largest fields before they are stored. UTF-8 bytes. @defaultValue 4_194_304 */
    maxStoredBytes?: number;
    /**
     * `source` of the events in the formats `cloudevents` and `cloudevents-binary`: a URI reference that names this application;
     * with the event's id it is the same for no other event.
     *
     * @defaultValue 'urn:nestjs-entity-webhooks'
     */
    cloudEventsSource?: string;
  };
  secrets?: SecretsOptions;
  /** Whether receivers are asked before they are sent anything; see `docs/receiving/README.md`. */
  handshake?: HandshakeOptions;
  /** The formats and schemes that customers may choose. */
  customers?: CustomersOptions;
  /** Quotas of one owner. */
  limits?: LimitsOptions;
  /** How long events, deliveries and attempts are kept. `false`: for ever, and the tables grow. */
  retention?: false | RetentionOptions;
  security?: SecurityOptions;
  sqlite?: {
    /**
     * Give each query runner of a file database a connection of its own. Without it TypeORM's driver mixes concurrent
     * transactions: rows and events are lost. See `docs/sqlite.md`.
     *
     * @defaultValue true
     */
    isolate?: boolean;
    /** How long a writer waits for the one before it, in ms. @defaultValue 10_000 */
    lockTimeoutMs?: number;
  };
}

/**
 * How the application provides one part: a class that Nest instantiates, or a Nest provider without its token.
 *
 * @example transport: RelayTransport
 * @example transport: { useFactory: (config: Config) => new RelayTransport(config.relayUrl), inject: [Config] }
 * @example transport: { useExisting: RelayTransport } // a provider of one of the modules in `parts.imports`
 */
export type WebhooksPart<T> =
  | Type<T>
  | { useClass: Type<T> }
  | Pick<FactoryProvider<T>, 'useFactory' | 'inject'>
  | { useExisting: InjectionToken }
  | { useValue: T };

/**
 * Parts that an application replaces. Nest instantiates them while modules are wired, so they are not part of an asynchronous
 * factory.
 */
export interface WebhooksParts {
  /** Sends a signed request. @defaultValue `HttpTransport` */
  transport?: WebhooksPart<WebhookTransport>;
  /** When a failed attempt is tried again. @defaultValue `StandardRetrySchedule` */
  retrySchedule?: WebhooksPart<RetrySchedule>;
  /** Payload formats beside `standard`; a listener chooses one by name. */
  payloadFormats?: readonly WebhooksPart<PayloadFormat>[];
  /** Signature schemes beside those of `docs/signing.md`; a listener names those it wants. */
  signatureSchemes?: readonly WebhooksPart<SignatureScheme>[];
  /** Modules whose providers the parts inject. */
  imports?: ModuleMetadata['imports'];
}

/** Which instance: what must be known while modules are wired. */
export interface WebhooksInstanceOptions {
  /**
   * Name of the TypeORM data source whose entities this instance serves; its tables stand in the same database. Also the
   * name of the instance: `@InjectListeners('billing')`.
   *
   * @defaultValue the default data source
   */
  dataSource?: string;
  parts?: WebhooksParts;
}

export type WebhooksModuleOptions = WebhooksOptions & WebhooksInstanceOptions;

export interface WebhooksModuleAsyncOptions extends WebhooksInstanceOptions {
  imports?: ModuleMetadata['imports'];
  // oxlint-disable-next-line typescript/no-explicit-any -- as Nest types the arguments of factories
  inject?: any[];
  // oxlint-disable-next-line typescript/no-explicit-any -- as Nest types the arguments of factories
  useFactory: (...args: any[]) => WebhooksOptions | Promise<WebhooksOptions>;
}
