import type { FactoryProvider, InjectionToken, ModuleMetadata, Type } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import type { DispatcherEngine } from '../engine.js';
import type { CaptureMode } from '../entities/webhook.decorator.js';
import type { JsonObject } from '../json.js';
import type { PayloadFormat } from '../events/payload-format.js';
import type { CircuitPolicy } from '../health/circuit.js';
import type { Handshake } from './handshake-methods.js';
import type { WebhookArchive } from '../archive/webhook-archive.js';
import type { RetrySchedule } from '../health/retry-schedule.js';
import type { SecurityOptions } from '../sending/security-options.js';
import type { WebhookTransport } from '../sending/transport.js';
import type { TypeDescription } from '../entities/described-type.js';
import type { Deprecation } from '../entities/wrong-description.js';
import type { SignatureScheme } from '../signing/signature-scheme.js';

/** A type that `publish()` may send, in addition to the types of entities. */
export interface PublishedType extends TypeDescription {
  /** `invoice.overdue` */
  type: string;
  /**
   * The properties of `data` that filters may name. Numbers are compared by value.
   *
   * @defaultValue the properties of `schema`; without it, filters may name any property, so a misspelt name in a filter is not reported
   */
  fields?: readonly string[];
  /**
   * JSON Schema of `data`, for the catalogue. `publish()` does not check it. Keywords of both draft-07 and 2020-12 are best.
   *
   * @defaultValue an object with the properties `fields`, of any type
   */
  schema?: JsonObject;
  /** That the type will end: `{ since, sunset, use }`. @defaultValue the type is not deprecated */
  deprecated?: Deprecation;
}

/** How the dispatcher sends deliveries. `docs/options.md` explains how these options affect each other. */
export interface DispatcherOptions {
  /**
   * Whether sending starts when the application starts. Use `false` for scripts, tests and processes that only serve
   * requests. The events of such a process are stored. Another process or `DispatcherService.drain()` sends them.
   *
   * @defaultValue true
   */
  autoStart?: boolean;
  /**
   * Maximum number of concurrent requests of this process. If the value is too low, slow receivers delay all other deliveries.
   * If the value is too high, sockets and memory run out. 1 to 10,000.
   *
   * @defaultValue 64
   */
  concurrency?: number;
  /**
   * Maximum number of concurrent requests of this process to one listener. A slow receiver can therefore delay only this many
   * requests. A receiver gets at most this many concurrent requests from each process. 1 to 10,000.
   *
   * @defaultValue 16
   */
  concurrencyPerListener?: number;
  /**
   * Maximum number of concurrent requests of this process to all listeners of one owner. The value also limits how many response bodies
   * of that owner are read concurrently. With a low value, a few customers with slow receivers cannot delay the other customers. If the
   * value is too low, a customer with many busy listeners waits. Listeners without an owner are not limited. 1 to 10,000.
   *
   * @defaultValue half of `concurrency`
   */
  concurrencyPerOwner?: number;
  /**
   * When the dispatcher pauses sending to a failing listener. After `failures` consecutive failed attempts, the circuit of the
   * listener opens in all processes. The pending deliveries of the listener then wait without using up attempts. After `cooldownMs`,
   * one delivery is sent as a probe. If the probe succeeds, the circuit closes. If the probe fails, the next pause is twice as long,
   * up to `maxCooldownMs`. A listener is disabled if none of its attempts succeeded for `disableAfterMs`. Times are in ms.
   */
  circuit?: Partial<CircuitPolicy>;
  /** The longest wait that the header `Retry-After` of a receiver can cause, in ms. @defaultValue 86_400_000 (24 hours) */
  retryAfterCapMs?: number;
  /**
   * The greatest age of a pending delivery, in ms since its event happened. A delivery stays pending while it is retried, while the
   * circuit is open, or while the listener is disabled. An older pending delivery is not retried. It is discarded, and its
   * `lastErrorCode` is `TOO_OLD`. The dispatcher checks the age every five minutes. `resend()`, `recover()` and `replay()` also send
   * older deliveries. See `docs/operations.md`.
   *
   * @defaultValue 2_592_000_000 (30 days)
   */
  maxAgeMs?: number;
  /**
   * Maximum number of events or deliveries that one statement claims. Memory holds them until they are sent. 1 to 1,000.
   * @defaultValue 250
   */
  eventsPerBatch?: number;
  /** Time limit of one attempt (name resolution, connect, TLS, headers and body together), in ms. @defaultValue 15_000 */
  timeoutMs?: number;
  /**
   * How long a claimed delivery belongs to its process, in ms. When this lease ends, another process may claim the delivery.
   * So the lease must be longer than `timeoutMs`. If a process dies, its deliveries wait for up to this time.
   *
   * @defaultValue 60_000
   */
  leaseMs?: number;
  /**
   * The interval, in ms, at which the dispatcher polls the database. The poll finds work that no commit of this process
   * announced. On MySQL, MariaDB and SQLite, events of other processes wait for up to this time. On PostgreSQL, the poll finds
   * events whose notification was lost; see `wakeUp`.
   *
   * @defaultValue 1_000
   */
  pollIntervalMs?: number;
  /**
   * Finds the listeners whose deliveries are due, in place of a search in the database:
   * `bullmqEngine()` of `nestjs-entity-webhooks/bullmq`. See `docs/bullmq.md`.
   *
   * @defaultValue none: each process searches the database
   */
  engine?: DispatcherEngine;
  /**
   * Size of the dispatcher's own connection pool on server databases. This pool is in addition to the application's pool.
   * @defaultValue 4
   */
  poolSize?: number;
}

/**
 * How long finished deliveries are kept, in ms since the event happened. `docs/operations.md` explains which rows are deleted, and
 * when. Due and held deliveries, and the events of these deliveries, are never deleted. From one hour to ten years.
 */
export interface RetentionOptions {
  /**
   * Retention period of succeeded deliveries, and of events without a delivery. This period also has three other effects.
   * `replay()` finds no older events. The verify view recognizes no older webhooks. `publish()` forgets an idempotency key after
   * this period.
   *
   * @defaultValue 2_592_000_000 (30 days)
   */
  succeededMs?: number;
  /** Retention period of exhausted and discarded deliveries, and of damaged events. @defaultValue 7_776_000_000 (90 days) */
  failedMs?: number;
}

/** How the secrets of listeners are stored and rotated. `docs/signing.md` explains how to start, rotate and move keys. */
export interface SecretsOptions {
  /** How long a replaced secret signs in addition to the new secret, in ms. @defaultValue 86_400_000 (24 hours) */
  rotationOverlapMs?: number;
  /**
   * Keys that seal (encrypt with AES-256-GCM) the secrets and credentials of listeners in the tables. The first key seals new
   * values. Every key can open the values that it sealed. Without keys, anyone who can read the database or a backup can sign in
   * your name, and a warning is logged at start. If a key is lost, the deliveries of some listeners wait until the key is available
   * again: the listeners whose secrets the lost key sealed. See `docs/signing.md`.
   *
   * @defaultValue none: secrets are stored unencrypted
   */
  keys?: readonly SealingKeyOptions[];
  /**
   * Whether unsealed secrets and credentials are refused. With `false`, an attacker who can write the tables can insert a secret of
   * their choice. Run `listeners.resealSecrets()` before you set this option to `true`. With `true`, deliveries of a listener with
   * an unsealed secret wait, and `SECRET_NOT_SEALED` is logged. Requires `keys`. See `docs/signing.md#secrets-at-rest`.
   *
   * @defaultValue false
   */
  requireSealed?: boolean;
}

/**
 * Quotas of one owner. They apply to services that are bound to an owner. Services that are not bound to an owner have no quotas. Each
 * process counts the calls per minute for itself.
 */
export interface LimitsOptions {
  /** Maximum number of listeners of one owner. See `docs/owners.md#quotas`. 1 to 1,000,000. @defaultValue 1_000 */
  listenersPerOwner?: number;
  /** Maximum number of calls of `sendTest()` by one owner in a minute. 1 to 1,000,000. @defaultValue 30 */
  testsPerMinute?: number;
  /**
   * Maximum number of calls of `resend()`, `recover()` and `replay()` by one owner in a minute, counted together.
   * 1 to 1,000,000. @defaultValue 60
   */
  resendsPerMinute?: number;
  /** Number of attempts after which an owner cannot resend a delivery. 1 to 1,000,000. @defaultValue 100 */
  attemptsPerDelivery?: number;
}

/**
 * The formats and schemes that owner-bound services accept. By default, they do not accept the application's own formats and
 * schemes. A format of the application may show data that customers must not see, such as the context of an event.
 */
export interface CustomersOptions {
  /**
   * Names of the payload formats that owner-bound services accept. See `docs/owners.md#what-customers-choose`.
   *
   * @defaultValue the built-in formats: `standard`, `cloudevents`, `cloudevents-binary`
   */
  formats?: readonly string[];
  /** Names of the signature schemes that owner-bound services accept. See `docs/signing.md#schemes`. @defaultValue the built-in schemes */
  schemes?: readonly string[];
}

/** Which attempts are logged. */
export interface LogOptions {
  /**
   * Which attempts have a line in the log. The line is an object with the delivery, the listener and the answer. It
   * never contains the query of the URL, a header or the payload. An accepted attempt has the level `debug`. A failed
   * attempt has the level `warn`. A failed attempt after which the delivery is exhausted, or after which the listener
   * is disabled, has the level `error`.
   *
   * - `'failed'`: all attempts that were not accepted.
   * - `'all'`: every attempt.
   * - `'none'`: no attempt. Then a disabled listener and an exhausted delivery are logged as text. Exhausted deliveries are
   *   logged at most once a minute for each listener.
   *
   * @defaultValue 'failed'
   */
  attempts?: 'failed' | 'all' | 'none';

  /**
   * Of which attempts the tables keep details: the URL, the headers of the request and of the answer, and how long each step took.
   * `DeliveryService.get()` returns them. Headers take at most 2 KB. Secrets in them are masked before they are stored. See
   * `docs/observability.md#details-of-an-attempt`.
   *
   * - `'failed'`: of attempts that were not accepted. A first attempt that was accepted writes no further row and no further byte.
   * - `'all'`: of every attempt. Then an accepted first attempt writes a second row.
   * - `'thin'`: of no attempt. The tables keep outcome, status, error, duration and response only.
   *
   * @defaultValue 'failed'
   */
  details?: 'failed' | 'all' | 'thin';
}

/** How receivers agree to receive webhooks before the first webhook is sent. */
export interface HandshakeOptions {
  /**
   * Handshake for listeners that do not set a handshake. If the default is not `'none'`, owner-bound services reject `'none'`. So
   * customers may choose the method, but cannot turn the handshake off. See `docs/receiving/README.md#handshakes`.
   *
   * @defaultValue 'none'
   */
  default?: Handshake;
  /**
   * The DNS name by which receivers know this sender, such as `'events.example.com'`. The name is sent in the header
   * `WebHook-Request-Origin`. The handshake `'cloudevents'` requires this option. Receivers compare the name with the names that
   * they accept. So give all processes the same name. Do not change the name unless all receivers accept the new name.
   *
   * @defaultValue none
   */
  origin?: string;
}

/** One key of {@link SecretsOptions.keys}. */
export interface SealingKeyOptions {
  /**
   * The id of the key: 1 to 32 letters, digits, `-`, `_` and `.`. The id is stored with each value that the key sealed. Never reuse
   * the id of another key.
   */
  id: string;
  /** The key: 32 bytes, or the base64 of 32 bytes. This command makes a key: `openssl rand -base64 32`. */
  key: string | Uint8Array;
}

/** The parts of an ioredis `Redis` or `Cluster` that the module uses. */
export interface RedisConnection {
  publish(channel: string, message: string): Promise<unknown>;
  subscribe(channel: string): Promise<unknown>;
  ping(): Promise<unknown>;
  disconnect(): void;
  on(event: 'message', received: (channel: string, message: string) => void): unknown;
  on(event: 'error', failed: (error: Error) => void): unknown;
  on(event: 'close', closed: () => void): unknown;
}

export interface WebhooksOptions {
  /** Prefix of the name of each webhook table. At most 40 characters of `A-Za-z0-9_`. @defaultValue `'webhook_'` */
  tablePrefix?: string;
  /**
   * PostgreSQL only: the schema of the webhook tables. Every statement of the module names the schema, so writers may have any
   * `search_path`. See `docs/schema-per-tenant.md`. 1 to 63 characters of `A-Za-z0-9_`.
   *
   * @defaultValue the `schema` of the data source; if the data source has no `schema`, the first schema of the
   * `search_path`
   */
  tableSchema?: string;
  /**
   * Capture mode of entities that do not set a capture mode. `'orm'`: TypeORM writes of this application are captured. `'trigger'`:
   * triggers of the database capture every write, including writes of other programs. See `docs/capture.md#trigger-mode`.
   *
   * @defaultValue 'orm'
   */
  capture?: CaptureMode;
  /**
   * The types that `publish()` may send. Types must be declared, because then a misspelt type in `publish()` or in a listener causes
   * an error. If types were not declared, the webhooks of a misspelt type would silently never arrive.
   *
   * @defaultValue none
   */
  publishedTypes?: readonly (string | PublishedType)[];
  /**
   * A function that returns the manager of the transaction that surrounds a call, for applications that store this manager themselves.
   * `publish()` and the services of listeners and deliveries call this function each time they are called, and join the returned
   * transaction. You do not need this option for transactions of typeorm-transactional and `@nestjs-cls/transactional`. See
   * `docs/transactions.md`.
   *
   * @defaultValue none
   * @example WebhooksModule.forRoot({ currentManager: () => unitOfWork.getStore()?.manager })
   */
  currentManager?: () => EntityManager | undefined;
  /**
   * Whether a write waits for the first attempt of its deliveries. `'queued'`: the write returns as soon as it is committed. `'inline'`:
   * the write also waits for the first attempt of its deliveries, at most `dispatcher.timeoutMs`. A failed attempt never rejects the
   * write: the delivery is retried as with `'queued'`.
   *
   * @defaultValue 'queued'
   */
  dispatch?: 'queued' | 'inline';
  dispatcher?: DispatcherOptions;
  /**
   * The maximum length of a chain of events in which each event causes the next event. An event causes another event if its handler
   * writes. The handler may run in process, or in a receiver that uses `withIncomingWebhook()`. The event of such a write is one level
   * deeper than the handled event. A write that would exceed the limit fails with `WEBHOOK_LOOP`. If the value is too low, legitimate
   * chains fail. If the value is too high, a loop runs longer. With 0, a handler may not make events: a write of a handler fails if
   * the write would make an event. See `docs/capture.md#loops`. 0 to 1,000.
   *
   * @defaultValue 16
   */
  maxCausationDepth?: number;
  /**
   * How many milliseconds a COMMIT waits for writes that are not awaited. The time runs only while none of these writes is running a
   * statement. When the time is over, the COMMIT is refused with `WRITES_UNFINISHED`, and the transaction is rolled back. If the value is
   * too low, a hook that awaits slow work fails its transaction. If the value is too high, a hook that awaits this COMMIT blocks its
   * connection for that time. See `docs/capture.md#writes-that-nobody-awaits-when-their-transaction-ends`. 1 to 3,600,000.
   *
   * @defaultValue 10_000
   */
  unfinishedWritesTimeoutMs?: number;
  /**
   * How processes that share a database notify each other of commits. On PostgreSQL the module sends NOTIFY after the commit, so NOTIFY
   * is never part of your transaction. For LISTEN, a process that dispatches keeps one connection in addition to
   * `dispatcher.poolSize`. A pooler in transaction mode, such as PgBouncer, does not forward notifications. In that case set `url` to
   * the URL of the server itself, with user, password and database. On every database, `redis` notifies through Redis instead. `false`
   * turns notifications off: `dispatcher.pollIntervalMs` is then the longest delay, as on MySQL, MariaDB and SQLite without `redis`.
   *
   * @defaultValue `{}`: LISTEN uses the connection settings of the data source
   */
  wakeUp?:
    | false
    | {
        /**
         * Makes a connection to Redis or Valkey with ioredis. The module calls this function for each connection that it needs, and closes
         * the connections: one to notify, and one to listen in a process that dispatches. Redis stores nothing. While Redis is away, the
         * poll finds commits of other processes. @defaultValue none
         * @example WebhooksModule.forRoot({ wakeUp: { redis: () => new Redis(process.env.REDIS_URL) } })
         */
        redis?: () => RedisConnection;
        /** URL of the server itself, with user, password and database, if the data source uses a pooler. @defaultValue none */
        url?: string;
      };
  payload?: {
    /**
     * Maximum size of a sent payload, in UTF-8 bytes. A larger payload is sent thin: it contains the id, `"truncated": true`, and
     * as many fields as the limit allows. @defaultValue 262_144
     */
    maxPayloadBytes?: number;
    /**
     * Maximum size of a stored payload, in UTF-8 bytes. A larger payload is stored without its largest fields.
     * @defaultValue 4_194_304
     */
    maxStoredBytes?: number;
    /**
     * The `source` of events in the formats `cloudevents` and `cloudevents-binary`: a URI reference that names this
     * application. `source` and `id` together identify an event (CloudEvents 1.0.2, `source`). So each application needs a
     * different `source`.
     *
     * @defaultValue 'urn:nestjs-entity-webhooks'
     */
    cloudEventsSource?: string;
    /**
     * The URL below which receivers find the JSON Schemas of payloads, such as the route `event-types/schemas` of the API. Events in the formats
     * `cloudevents` and `cloudevents-binary` then have the attribute `dataschema`: `{schemaBaseUrl}/order.updated.1.json`.
     *
     * @defaultValue no `dataschema`
     */
    schemaBaseUrl?: string;
  };
  secrets?: SecretsOptions;
  /** How receivers agree to receive webhooks before the first webhook is sent. See `docs/receiving/README.md`. */
  handshake?: HandshakeOptions;
  /** The formats and schemes that customers may choose. */
  customers?: CustomersOptions;
  /** Quotas of each owner. */
  limits?: LimitsOptions;
  /**
   * How long events, deliveries and attempts are kept. With `false`, nothing is ever deleted, and the tables grow. @defaultValue `{}`
   */
  retention?: false | RetentionOptions;
  security?: SecurityOptions;
  log?: LogOptions;
  /**
   * Whether events about webhooks themselves are stored. Listeners can receive such stored events: `webhooks.listener.failing`,
   * `disabling_soon`, `disabled` and `recovered`, `webhooks.delivery.exhausted`, `webhooks.outbox.damaged`, `webhooks.lag.high` and
   * `normal`. See `docs/observability.md`.
   *
   * @defaultValue false
   */
  operationalEvents?: boolean;
  sqlite?: {
    /**
     * Whether each query runner of a file database gets its own connection. With `false`, TypeORM's driver mixes concurrent
     * transactions, and rows and events are lost. See `docs/sqlite.md`.
     *
     * @defaultValue true
     */
    isolate?: boolean;
    /** How long a writer waits for the current writer, in ms. @defaultValue 10_000 */
    lockTimeoutMs?: number;
  };
}

/**
 * One part that the application provides: a class that Nest instantiates, or a Nest provider without its token.
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
 * Parts that an application replaces or adds. Nest instantiates parts while it wires modules. So `useFactory` of `forRootAsync()`
 * cannot return parts.
 */
export interface WebhooksParts {
  /** Sends a signed request. See `docs/replaceable-parts.md`. @defaultValue `HttpTransport` */
  transport?: WebhooksPart<WebhookTransport>;
  /** Decides when a failed attempt is retried. @defaultValue `StandardRetrySchedule` */
  retrySchedule?: WebhooksPart<RetrySchedule>;
  /** Stores events, deliveries and attempts in files, a day at a time, before retention deletes them. See `docs/archive.md`. @defaultValue none: old rows are only deleted */
  archive?: WebhooksPart<WebhookArchive>;
  /** Payload formats in addition to the built-in formats. A listener chooses a format by its `name`. @defaultValue none */
  payloadFormats?: readonly WebhooksPart<PayloadFormat>[];
  /**
   * Signature schemes in addition to the built-in schemes. A listener chooses schemes by their `name`. See `docs/signing.md`. @defaultValue none
   */
  signatureSchemes?: readonly WebhooksPart<SignatureScheme>[];
  /** Modules whose providers the parts inject. @defaultValue none */
  imports?: ModuleMetadata['imports'];
}

/** Options that must be known while Nest wires modules, before any factory runs. */
export interface WebhooksInstanceOptions {
  /**
   * Name of the TypeORM data source whose entities this instance serves. The instance has the same name: `@InjectListeners('billing')`.
   * The webhook tables are in the database of this data source.
   *
   * @defaultValue the default data source
   */
  dataSource?: string;
  parts?: WebhooksParts;
}

/** Options of `WebhooksModule.forRoot()`. `docs/options.md` lists their ranges. */
export type WebhooksModuleOptions = WebhooksOptions & WebhooksInstanceOptions;

/**
 * Options of `WebhooksModule.forRootAsync()`.
 *
 * @example { inject: [Config], useFactory: (config: Config) => ({ secrets: { keys: config.webhookKeys } }) }
 */
export interface WebhooksModuleAsyncOptions extends WebhooksInstanceOptions {
  /** Modules whose providers `useFactory` injects. */
  imports?: ModuleMetadata['imports'];
  // oxlint-disable-next-line typescript/no-explicit-any -- Nest types the arguments of factories the same way
  inject?: any[];
  // oxlint-disable-next-line typescript/no-explicit-any -- Nest types the arguments of factories the same way
  useFactory: (...args: any[]) => WebhooksOptions | Promise<WebhooksOptions>;
}
