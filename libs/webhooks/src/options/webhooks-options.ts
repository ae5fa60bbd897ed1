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

/** A type that `publish()` may send, in addition to the types of entities. */
export interface PublishedType {
  /** `invoice.overdue` */
  type: string;
  /**
   * The properties of `data` that filters may name. Numbers are compared by value.
   *
   * @defaultValue filters may name any property, so a misspelt name in a filter is not reported
   */
  fields?: readonly string[];
  /** `data` of the example events that `sendTest()` sends. @defaultValue a text for each of `fields` */
  example?: JsonObject;
}

/** How the dispatcher sends deliveries. `docs/options.md` explains how these options affect each other. */
export interface DispatcherOptions {
  /**
   * Whether sending starts when the application starts. Use `false` for scripts, tests and processes that only serve
   * requests. Their events are stored, and another process or `DispatcherService.drain()` sends them.
   *
   * @defaultValue true
   */
  autoStart?: boolean;
  /**
   * Requests in flight at once in this process. If the value is too low, slow receivers delay all other deliveries. If it is too
   * high, sockets and memory run out. 1 to 10,000.
   *
   * @defaultValue 64
   */
  concurrency?: number;
  /**
   * How many of these requests may go to one listener at once, in this process. One slow receiver takes at most this many, and a
   * receiver gets at most this many requests at once from each process. 1 to 10,000.
   *
   * @defaultValue 16
   */
  concurrencyPerListener?: number;
  /**
   * How many of these requests may go to all listeners of one owner at once, in this process. It also limits how many response bodies
   * of that owner are read at once. The lower the value, the more customers with slow receivers it takes to delay the others. If it is
   * too low, a customer with many busy listeners waits. Listeners without an owner are not limited. 1 to 10,000.
   *
   * @defaultValue half of `concurrency`
   */
  concurrencyPerOwner?: number;
  /**
   * When sending to a failing listener pauses. After `failures` failed attempts in a row the circuit of the listener opens, in all
   * processes. Its pending deliveries then wait without using up attempts. After `cooldownMs` one delivery is sent as a probe. If it
   * succeeds, the circuit closes. If it fails, the next pause is twice as long, up to `maxCooldownMs`. A listener is disabled if
   * none of its attempts succeeded for `disableAfterMs`. Times are in ms.
   */
  circuit?: Partial<CircuitPolicy>;
  /** The longest wait that the header `Retry-After` of a receiver can cause, in ms. @defaultValue 86_400_000 (24 hours) */
  retryAfterCapMs?: number;
  /**
   * The greatest age of a delivery that is still pending (retried, circuit open, listener disabled), in ms since its event happened. No
   * retry is made after this time. See `docs/operations.md`. The delivery is discarded, and its `lastErrorCode` is `TOO_OLD`. The
   * dispatcher checks the age every five minutes. `resend()`, `recover()` and `replay()` also send older deliveries.
   *
   * @defaultValue 2_592_000_000 (30 days)
   */
  maxAgeMs?: number;
  /** Events or deliveries that one statement claims, and that memory holds until they are sent. 1 to 1,000. @defaultValue 250 */
  eventsPerBatch?: number;
  /** Time limit of one attempt (name resolution, connect, TLS, headers and body together), in ms. @defaultValue 15_000 */
  timeoutMs?: number;
  /**
   * How long a delivery belongs to the process that claimed it, in ms. Then another process may claim it, so the lease must be
   * longer than `timeoutMs`. If a process dies, its deliveries wait for up to this long.
   *
   * @defaultValue 60_000
   */
  leaseMs?: number;
  /**
   * How often the dispatcher polls the database for work that no commit of this process announced, in ms. On MySQL, MariaDB and
   * SQLite, events of other processes wait for up to this long. On PostgreSQL, the poll finds events whose notification was lost;
   * see `wakeUp`.
   *
   * @defaultValue 1_000
   */
  pollIntervalMs?: number;
  /** Connections of the dispatcher's own pool on server databases, in addition to the application's pool. @defaultValue 4 */
  poolSize?: number;
}

/**
 * How long finished deliveries are kept, in ms since the event happened. `docs/operations.md` explains what is deleted when. Due and
 * held deliveries, and their events, are never deleted. From one hour to ten years.
 */
export interface RetentionOptions {
  /**
   * Retention period of succeeded deliveries, and of events without a delivery. It also limits how far `replay()` reaches back, how
   * long the verify view recognizes a webhook, and how long `publish()` remembers an idempotency key.
   *
   * @defaultValue 2_592_000_000 (30 days)
   */
  succeededMs?: number;
  /** Retention period of exhausted and discarded deliveries, and of damaged events. @defaultValue 7_776_000_000 (90 days) */
  failedMs?: number;
}

/** How the secrets of listeners are stored and rotated. `docs/signing.md` explains how to start, rotate and move keys. */
export interface SecretsOptions {
  /** How long a replaced secret still signs beside the new one, in ms. @defaultValue 86_400_000 (24 hours) */
  rotationOverlapMs?: number;
  /**
   * Keys that seal (encrypt with AES-256-GCM) the secrets and credentials of listeners in the tables. The first key seals, and every
   * key opens. Without keys, anyone who can read the database or a backup can sign in your name, and a warning is logged at start.
   * If a key is lost, listeners whose secrets it sealed wait until the key is available again. See `docs/signing.md`.
   *
   * @defaultValue none: secrets are stored unencrypted
   */
  keys?: readonly SealingKeyOptions[];
  /**
   * Whether only sealed secrets and credentials are used. Without this, an attacker who can write the tables can insert a secret of
   * their choice. Run `listeners.resealSecrets()` before you turn it on: deliveries of a listener with an unsealed secret wait, and
   * `SECRET_NOT_SEALED` is logged. Requires `keys`. See `docs/signing.md#secrets-at-rest`.
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
  /** Listeners of one owner. See `docs/owners.md#quotas`. 1 to 1,000,000. @defaultValue 1_000 */
  listenersPerOwner?: number;
  /** Calls of `sendTest()` by one owner in a minute. 1 to 1,000,000. @defaultValue 30 */
  testsPerMinute?: number;
  /** Calls of `resend()`, `recover()` and `replay()` by one owner in a minute. 1 to 1,000,000. @defaultValue 60 */
  resendsPerMinute?: number;
  /** Number of attempts after which an owner cannot resend a delivery. 1 to 1,000,000. @defaultValue 100 */
  attemptsPerDelivery?: number;
}

/**
 * The formats and schemes that owner-bound services accept. The application's own formats and schemes are not accepted by default,
 * because they may show data that customers must not see, such as the context of an event.
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

/** How receivers agree to receive webhooks before the first one is sent. */
export interface HandshakeOptions {
  /**
   * Handshake for listeners that don't set one. Unless this is `'none'`, owner-bound services reject `'none'`: customers may pick the
   * method but cannot opt out. See `docs/receiving/README.md#handshakes`.
   *
   * @defaultValue 'none'
   */
  default?: Handshake;
  /**
   * The DNS name by which receivers know this sender, such as `'events.example.com'`. It is sent as `WebHook-Request-Origin`, and the
   * handshake `'cloudevents'` requires it. Receivers compare it: give all processes the same name, and do not change it unless
   * all receivers accept the new name.
   *
   * @defaultValue none
   */
  origin?: string;
}

/** One key of {@link SecretsOptions.keys}. */
export interface SealingKeyOptions {
  /** Stored beside each value that the key sealed: 1 to 32 letters, digits, `-`, `_` and `.`. Never reuse the id of another key. */
  id: string;
  /** 32 bytes, or their base64: `openssl rand -base64 32`. */
  key: string | Uint8Array;
}

export interface WebhooksOptions {
  /** Prefix of the name of each table. At most 40 of `A-Za-z0-9_`. @defaultValue `'webhook_'` */
  tablePrefix?: string;
  /**
   * PostgreSQL only: the schema of the tables. Every statement of the module names the schema, so writers may have any `search_path`.
   * See `docs/schema-per-tenant.md`. 1 to 63 of `A-Za-z0-9_`.
   *
   * @defaultValue the data source's `schema`; without one, the first of the `search_path`
   */
  tableSchema?: string;
  /**
   * Capture mode of entities that don't set one. `'orm'`: TypeORM writes of this application are captured. `'trigger'`: triggers of
   * the database capture every write, also of other programs. See `docs/capture.md#trigger-mode`.
   *
   * @defaultValue 'orm'
   */
  capture?: CaptureMode;
  /**
   * The types that `publish()` may send. Because they are declared, a misspelt type in `publish()` or in a listener causes an error
   * instead of a webhook that never arrives.
   *
   * @defaultValue none
   */
  publishedTypes?: readonly (string | PublishedType)[];
  /**
   * Returns the manager of the transaction that surrounds a call, for applications that store this manager themselves.
   * `publish()` and the services of listeners and deliveries join that transaction. They call this function on each call. Transactions of
   * typeorm-transactional and `@nestjs-cls/transactional` are found without this option. See `docs/transactions.md`.
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
   * How many events in a row may cause each other. A write that handles an event, in process or in a receiver that uses
   * `withIncomingWebhook()`, makes an event that is one level deeper. A write that would exceed the limit fails with `WEBHOOK_LOOP`. If
   * the value is too low, legitimate chains fail. If it is too high, a loop runs longer. With 0, handlers cannot write anything that
   * makes events. See `docs/capture.md#loops`. 0 to 1,000.
   *
   * @defaultValue 16
   */
  maxCausationDepth?: number;
  /**
   * How many milliseconds a COMMIT waits for writes that are not awaited. The time runs only while none of these writes is running a
   * statement. Then the COMMIT is refused with `WRITES_UNFINISHED`, and the transaction is rolled back. If the value is too low, a hook that
   * awaits slow work fails its transaction. If it is too high, a hook that awaits this COMMIT blocks its connection for as long.
   * See `docs/capture.md#writes-that-nobody-awaits-when-their-transaction-ends`. 1 to 3,600,000.
   *
   * @defaultValue 10_000
   */
  unfinishedWritesTimeoutMs?: number;
  /**
   * How processes on one PostgreSQL database notify each other of commits. NOTIFY is sent after the commit and is never part of your
   * transaction. For LISTEN, a process that dispatches keeps one connection in addition to `dispatcher.poolSize`. A pooler in
   * transaction mode, such as PgBouncer, does not forward notifications. In that case set `url` to the URL of the server itself, with
   * user, password and database. `false` turns notifications off: `dispatcher.pollIntervalMs` is then the longest delay, as on the
   * other databases.
   *
   * @defaultValue `{}`: LISTEN uses the connection settings of the data source
   */
  wakeUp?:
    | false
    | {
        /** URL of the server itself, with user, password and database, if the data source uses a pooler. @defaultValue none */
        url?: string;
      };
  payload?: {
    /** Larger payloads are sent thin: the id, `"truncated": true`, and the fields that fit. UTF-8 bytes. @defaultValue 262_144 */
    maxPayloadBytes?: number;
    /** Larger payloads are stored without their largest fields. UTF-8 bytes. @defaultValue 4_194_304 */
    maxStoredBytes?: number;
    /**
     * `source` of events in the formats `cloudevents` and `cloudevents-binary`: a URI reference that names this application.
     * `source` and `id` together identify an event (CloudEvents 1.0.2, `source`), so applications need different sources.
     *
     * @defaultValue 'urn:nestjs-entity-webhooks'
     */
    cloudEventsSource?: string;
  };
  secrets?: SecretsOptions;
  /** How receivers agree before the first webhook is sent. See `docs/receiving/README.md`. */
  handshake?: HandshakeOptions;
  /** The formats and schemes that customers may choose. */
  customers?: CustomersOptions;
  /** Quotas of each owner. */
  limits?: LimitsOptions;
  /** How long events, deliveries and attempts are kept; with `false` nothing is ever deleted, and the tables grow. @defaultValue `{}` */
  retention?: false | RetentionOptions;
  security?: SecurityOptions;
  sqlite?: {
    /**
     * Whether each query runner of a file database gets its own connection. Without this, TypeORM's driver mixes concurrent
     * transactions, and rows and events are lost. See `docs/sqlite.md`.
     *
     * @defaultValue true
     */
    isolate?: boolean;
    /** How long a writer waits for the writer before it, in ms. @defaultValue 10_000 */
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
 * Parts that an application replaces or adds. Nest instantiates them while it wires modules, so `useFactory` of `forRootAsync()` cannot
 * return them.
 */
export interface WebhooksParts {
  /** Sends a signed request. See `docs/replaceable-parts.md`. @defaultValue `HttpTransport` */
  transport?: WebhooksPart<WebhookTransport>;
  /** Decides when a failed attempt is retried. @defaultValue `StandardRetrySchedule` */
  retrySchedule?: WebhooksPart<RetrySchedule>;
  /** Payload formats in addition to the built-in ones. A listener chooses a format by its `name`. @defaultValue none */
  payloadFormats?: readonly WebhooksPart<PayloadFormat>[];
  /** Signature schemes in addition to the built-in ones. A listener chooses schemes by their `name`. See `docs/signing.md`. @defaultValue none */
  signatureSchemes?: readonly WebhooksPart<SignatureScheme>[];
  /** Modules whose providers the parts inject. @defaultValue none */
  imports?: ModuleMetadata['imports'];
}

/** Options that must be known while Nest wires modules, before any factory runs. */
export interface WebhooksInstanceOptions {
  /**
   * Name of the TypeORM data source whose entities this instance serves, and of the instance: `@InjectListeners('billing')`. The webhook
   * tables are in the same database.
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
