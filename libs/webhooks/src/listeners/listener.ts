import type { EntityClass, Ordering } from '../entities/webhook.decorator.js';
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
 * A filter for events: for each property a value that it must equal, conditions, or a nested object. All must hold.
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
  /** Headers of each request. They are shown when the listener is read, so put secret headers into `auth`. */
  headers?: Readonly<Record<string, string>>;
  /**
   * Starts with `whsec_`, followed by the base64 of 24 to 64 bytes. If `standard` is not among the schemes: any text of at most 512 bytes,
   * so that receivers can keep their old secret. The log warns about a secret below 24 bytes.
   *
   * @defaultValue a new secret of 32 random bytes
   */
  secret?: string;
  /**
   * Names of signature schemes: `standard`, `standard-v1a`, `github`, `stripe`, `google-code`, or schemes of the application. Each scheme
   * adds its headers. See `docs/signing.md`.
   *
   * @defaultValue `['standard']`
   */
  schemes?: readonly string[];
  /**
   * Credentials that the receiving server requires in addition to the signature. They are stored sealed, and shown with `***` instead of
   * secret values. Give them again with a URL of another origin.
   *
   * @defaultValue none
   */
  auth?: ListenerAuth | null;
  /**
   * A client certificate for a server that requires one, or the private authorities that signed the certificate of the server, or both. Only
   * for `https:` URLs. The key is stored sealed and never shown. Give `tls` again with a URL of another origin.
   *
   * @defaultValue no client certificate, and the public authorities
   */
  tls?: ListenerTls | null;
  /** The name of a payload format. @defaultValue `'standard'` */
  format?: string;
  /**
   * `'entity'`: the events of one row are sent one at a time, in the order of their commits. `'none'`: this holds only for entities that set
   * `ordering` themselves. See `docs/ordering.md`.
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
   * How the receiver must agree before the first webhook is sent. A new URL must agree again. See `docs/receiving/README.md`.
   *
   * @defaultValue `handshake.default`
   */
  handshake?: Handshake;
}

/** Properties of a listener that only the application sets. `CreateListenerDto`, which is for customers, does not have them. */
export interface ListenerReferences {
  /** The id of the listener in another system, unique among the listeners of one owner. At most 255 characters. See `findByExternalId()`. */
  externalId?: string | null;
  /** Data of the application: a JSON object of at most 4 KiB. Never sent. */
  metadata?: JsonObject | null;
}

/** Input of `ListenerService.create()`. */
export interface CreateListenerInput extends ListenerInput, ListenerReferences {
  /** Subscribes to all types of one entity: `{ entity: User }` means `events: ['user.*']`. A class, or the name of the entity. */
  entity?: EntityClass | string;
  /** `property` and `value` together are short for `where: { [property]: value }`. */
  property?: string;
  value?: Json | Date | bigint;
  /**
   * `whsk_…`: the Ed25519 key with which schemes such as `standard-v1a` sign. Set it if several listeners should have the same public key.
   * `generateSigningKey()` makes a key.
   *
   * @defaultValue a new key for each listener with such a scheme
   */
  privateKey?: string;
  /** The owner of the listener. @defaultValue none: a listener of the application, which receives events of every owner */
  owner?: string | number | bigint | null;
}

/** Input of `ListenerService.update()`. */
export type UpdateListenerInput = Partial<Omit<ListenerInput, 'secret'>> & ListenerReferences;

/** A listener as services return it, without secrets. */
export interface Listener {
  /** `lst_` and a UUIDv7. */
  readonly id: string;
  /** `null`: a listener of the application, which receives events of every owner. */
  readonly owner: string | null;
  readonly url: string;
  /** Patterns of event types. */
  readonly events: readonly string[];
  /** The filter as it was given; `{}` if there is no condition. */
  readonly where: Where;
  readonly name: string | null;
  readonly externalId: string | null;
  readonly metadata: JsonObject | null;
  readonly description: string | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly schemes: readonly string[];
  /** `whpk_…`, newest first: the public keys that verify Ed25519 signatures of this listener. Two during the overlap of a rotation. */
  readonly publicKeys: readonly string[];
  /** `***` stands for secret values. */
  readonly auth: ListenerAuth | null;
  /** Subjects and expiry of the certificates, never the key. */
  readonly tls: ShownListenerTls | null;
  readonly format: string;
  readonly ordering: Ordering;
  readonly sequence: boolean;
  readonly rateLimit: RateLimit | null;
  readonly handshake: Handshake;
  /** Why the last handshake failed: a code of an attempt, or `HANDSHAKE_REFUSED`. `null` if the handshake has passed or was not tried yet. */
  readonly handshakeError: string | null;
  /** The limit of requests per minute that the receiver set in a `cloudevents` handshake. The dispatcher keeps it. */
  readonly allowedRate: number | null;
  /**
   * `'pending'`: the handshake has not passed yet. It is retried for about three days. `'pending'` and `'disabled'` listeners get no requests,
   * and their deliveries are held.
   */
  readonly state: 'active' | 'pending' | 'disabled';
  /** The reason given to `disable()`, or why the dispatcher disabled the listener. */
  readonly disabledReason: string | null;
  /** Number of failed attempts since the last successful attempt. */
  readonly failuresInARow: number;
  /** Time of the first of these failed attempts. */
  readonly failingSince: Date | null;
  /**
   * Nothing is sent before this time, because the receiver asked for a pause or the circuit is open. A `resend`, a test event or a new URL
   * ends the pause.
   */
  readonly pausedUntil: Date | null;
  /** When the next request may be sent, as far as known; `null` if nothing is pending. */
  readonly nextAttemptAt: Date | null;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

/** The result of `create()` and `rotateSecret()`. No other call returns a secret. */
export type ListenerWithSecret = Listener & { readonly secret: string };
