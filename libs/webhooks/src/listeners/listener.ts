import type { EntityClass, Ordering } from '../entities/webhook.decorator.js';
import type { VersionPins, VersionPinsInput } from '../events/payload-pins.js';
import type { Json, JsonObject } from '../json.js';
import type { ListenerAuth } from './credentials/listener-auth.js';
import type { ListenerTls, ShownListenerTls } from './credentials/listener-tls.js';
import type { Handshake } from '../options/handshake-methods.js';
import type { RateLimit } from '../health/rate-limit.js';

/** Conditions on one property. All conditions must hold. */
export interface WhereConditions {
  equals?: Json | Date | bigint;
  in?: readonly (Json | Date | bigint)[];
  ne?: Json | Date | bigint;
  gt?: number | string | bigint | Date;
  gte?: number | string | bigint | Date;
  lt?: number | string | bigint | Date;
  lte?: number | string | bigint | Date;
  /** Whether the property is present and not `null`. */
  exists?: boolean;
  /** Whether the update changed the property. */
  changed?: boolean;
  changedFrom?: Json | Date | bigint;
  changedTo?: Json | Date | bigint;
}

/**
 * A filter for events. For each property, give a value that the property must equal, or conditions, or a nested
 * object. All conditions must hold.
 *
 * @example { status: { changedTo: 'paid' }, 'address.city': 'Lyon', total: { gte: '100.00' } }
 */
export interface Where {
  [property: string]: Json | Date | bigint | undefined | WhereConditions | Where;
}

/** The properties of a listener that customers may set. */
export interface ListenerInput {
  /** The URL to which webhooks are sent: `https:` and a public address, unless the option `security` allows more. */
  url: string;
  /** Event types, `prefix.*` or `*`. Either `events` or `entity` is required. */
  events?: readonly string[];
  /** A filter for these events. @defaultValue no condition */
  where?: Where;
  /** A name for lists; at most 255 characters. */
  name?: string | null;
  /** A description for people; at most 500 characters. */
  description?: string | null;
  /** Headers of each request. Everyone who reads the listener sees these headers, so put secret headers into `auth`. */
  headers?: Readonly<Record<string, string>>;
  /**
   * The secret that signs requests. It starts with `whsec_`, followed by the base64 of 24 to 64 bytes. If `standard` is not among the
   * schemes, any text of at most 512 bytes is allowed. So receivers can keep their old secret. The log warns about a secret below 24
   * bytes.
   *
   * @defaultValue a new secret of 32 random bytes
   */
  secret?: string;
  /** `false`: the listener is disabled from the start. @defaultValue true */
  enabled?: boolean;
  /**
   * Names of signature schemes: `standard`, `standard-v1a`, `github`, `stripe`, `google-code`, or schemes of the application. Each scheme
   * adds its headers to the requests. See `docs/signing.md`.
   *
   * @defaultValue `['standard']`
   */
  schemes?: readonly string[];
  /**
   * Credentials that the receiving server requires in addition to the signature. The credentials are stored sealed, and shown with `***`
   * instead of secret values. If you change the URL to another origin, give `auth` again.
   *
   * @defaultValue none
   */
  auth?: ListenerAuth | null;
  /**
   * A client certificate, if the server requires a client certificate, or the private authorities that signed the certificate of the server,
   * or both. Only for `https:` URLs. The key is stored sealed, and never shown. If you change the URL to another origin, give `tls` again.
   *
   * @defaultValue no client certificate, and the public authorities
   */
  tls?: ListenerTls | null;
  /** The name of a payload format. @defaultValue `'standard'` */
  format?: string;
  /**
   * The versions of the payloads, by event type, for types with several versions. A type that you do not name gets its newest version, and
   * keeps it when the application deploys a newer one. `'latest'`: always the newest version. See `docs/payload.md`.
   *
   * `update()` changes the types that you name, and keeps the versions of the others. `{ 'order.updated': null }` moves one type to its
   * newest version, and `null` moves all types.
   *
   * @example { 'order.updated': 1 }
   */
  versions?: VersionPinsInput | null;
  /**
   * `'entity'`: the events of one row are sent one at a time, in the order of their commits. `'none'`: only events of entities that set
   * `ordering: 'entity'` are sent in this way. See `docs/ordering.md`.
   *
   * @defaultValue 'none'
   */
  ordering?: Ordering;
  /**
   * Whether requests have the header `webhook-sequence`: a whole number that grows with each event of one row, in the order of their commits.
   * A receiver that stores the highest number of each row can ignore older events. No scheme signs this header. See `docs/ordering.md`.
   *
   * @defaultValue false
   */
  sequence?: boolean;
  /** The maximum number of requests in a period, for all processes together. @defaultValue no limit */
  rateLimit?: RateLimit | null;
  /**
   * How the receiver must agree before the first webhook is sent. After a change of the URL, the receiver at the new URL must
   * agree. See `docs/receiving/README.md`.
   *
   * @defaultValue `handshake.default`
   */
  handshake?: Handshake;
}

/**
 * Properties of a listener that only the application sets. `CreateListenerDto` is for customers and does not have these
 * properties.
 */
export interface ListenerReferences {
  /** The id of the listener in another system, unique among the listeners of one owner. At most 255 characters. See `findByExternalId()`. */
  externalId?: string | null;
  /** Data of the application: a JSON object of at most 4 KiB. Metadata is never sent. */
  metadata?: JsonObject | null;
}

/** Input of `ListenerService.create()`. */
export interface CreateListenerInput extends ListenerInput, ListenerReferences {
  /**
   * A class, or the name of the entity. The listener then receives all types of this entity: `{ entity: User }` means `events:
   * ['user.*']`.
   */
  entity?: EntityClass | string;
  /** A short form of `where`: `property` and `value` together mean `where: { [property]: value }`. */
  property?: string;
  value?: Json | Date | bigint;
  /**
   * The Ed25519 key (`whsk_…`) with which schemes such as `standard-v1a` sign. Set `privateKey` if several listeners should have the same
   * public key. `generateSigningKey()` makes a key.
   *
   * @defaultValue a new key for each listener with such a scheme
   */
  privateKey?: string;
  /**
   * The owner of the listener. @defaultValue no owner: the listener belongs to the application, and receives events of
   * every owner
   */
  owner?: string | number | bigint | null;
}

/** Input of `ListenerService.update()`. */
export type UpdateListenerInput = Partial<Omit<ListenerInput, 'secret' | 'enabled'>> & ListenerReferences;

/** A listener in the form that services return. It contains no secrets. */
export interface Listener {
  /** `lst_` and a UUIDv7. */
  readonly id: string;
  /**
   * The owner of the listener. `null` if the listener belongs to the application. Such a listener receives events of
   * every owner.
   */
  readonly owner: string | null;
  readonly url: string;
  /** Patterns of event types. */
  readonly events: readonly string[];
  /** The filter, in the form that was given; `{}` if there is no condition. */
  readonly where: Where;
  readonly name: string | null;
  readonly externalId: string | null;
  readonly metadata: JsonObject | null;
  readonly description: string | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly schemes: readonly string[];
  /**
   * The public keys (`whpk_…`) that verify Ed25519 signatures of this listener, newest first. During the overlap of a rotation, there
   * are two keys.
   */
  readonly publicKeys: readonly string[];
  /** Until when the secret that `rotateSecret()` replaced signs, too. `null`: only the current secret signs. */
  readonly oldSecretUntil: Date | null;
  /** Until when the Ed25519 key that `rotateSigningKey()` replaced signs, too. `null`: only the current key signs, or there is none. */
  readonly oldSigningKeyUntil: Date | null;
  /** The credentials, with `***` instead of secret values. */
  readonly auth: ListenerAuth | null;
  /** The subjects and the expiry of the certificates. The key is never shown. */
  readonly tls: ShownListenerTls | null;
  readonly format: string;
  /** The pinned version of each type that has several versions, or `'latest'`. `{}` if no type of the listener has several versions. */
  readonly versions: VersionPins;
  /** The pinned versions that this process does not offer. Deliveries of these types wait. Empty if there are none. */
  readonly missingVersions: readonly { readonly type: string; readonly version: number }[];
  readonly ordering: Ordering;
  readonly sequence: boolean;
  readonly rateLimit: RateLimit | null;
  readonly handshake: Handshake;
  /**
   * Why the last handshake failed: the error code of an attempt, or `HANDSHAKE_REFUSED`. `null` if the handshake has passed, or was not tried
   * yet.
   */
  readonly handshakeError: string | null;
  /**
   * The maximum number of requests per minute that the receiver set in a `cloudevents` handshake. The dispatcher
   * obeys this limit.
   */
  readonly allowedRate: number | null;
  /**
   * `'pending'`: the handshake has not passed yet. The handshake is retried for about three days. `'pending'` and `'disabled'` listeners get
   * no webhooks, and their deliveries are held.
   */
  readonly state: 'active' | 'pending' | 'disabled';
  /** The reason that was given to `disable()`, or the reason why the dispatcher disabled the listener. */
  readonly disabledReason: string | null;
  /** 1 for a new listener. It grows with each change of its settings or its state, for `{ ifRevision }`. */
  readonly revision: number;
  /** Number of failed attempts since the last successful attempt. */
  readonly failuresInARow: number;
  /** Time of the first of these failed attempts. */
  readonly failingSince: Date | null;
  /**
   * Nothing is sent before this time, because the receiver asked for a pause or the circuit is open. A `resend`, a test event or a new URL
   * ends the pause.
   */
  readonly pausedUntil: Date | null;
  /** The expected time of the next request; `null` if nothing is pending. */
  readonly nextAttemptAt: Date | null;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

/** Whether requests of a listener succeed. */
export interface ListenerHealth {
  /**
   * - `closed`: deliveries are sent
   * - `open`: too many requests failed in a row, so nothing is sent before `pausedUntil`
   * - `probing`: the pause is over, and the next request decides
   */
  readonly circuit: 'closed' | 'open' | 'probing';
  readonly failuresInARow: number;
  readonly failingSince: Date | null;
  readonly pausedUntil: Date | null;
  /** Why the last attempt failed, by the error code of a recent delivery. `null` if the last attempt did not fail, or if no recent delivery shows it. */
  readonly lastErrorCode: string | null;
  /** When the receiver accepted a request last, a few seconds late. `null`: not within the 90 days of the statistics. */
  readonly lastAcceptedAt: Date | null;
  /** Number of pending deliveries, counted up to 1,000. */
  readonly waiting: number;
}

/** Which listeners a list contains. */
export interface ListenerFilter {
  state?: Listener['state'];
  owner?: string;
  /** Listeners that receive events of this type, by its name, a `prefix.*` or `*`. */
  type?: string;
  /** Part of the URL, the name or the description, in upper or lower case. */
  search?: string;
  /** `true`: only listeners whose last attempt failed. */
  failing?: boolean;
}

/** For changes of a listener that the caller has read before. */
export interface ListenerChangeOptions {
  /** Change nothing if the `revision` of the listener is another one. @defaultValue any revision */
  readonly ifRevision?: number;
}

/** The result of `create()` and `rotateSecret()`. No other call returns a secret. */
export type ListenerWithSecret = Listener & { readonly secret: string };
