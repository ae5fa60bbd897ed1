import type { EntityClass, Ordering } from '../entities/webhook.decorator.js';
import type { Json, JsonObject } from '../json.js';
import type { ListenerAuth } from './credentials/listener-auth.js';
import type { ListenerTls, ShownListenerTls } from './credentials/listener-tls.js';
import type { Handshake } from '../options/handshake-methods.js';
import type { RateLimit } from '../health/rate-limit.js';

/** What one property must be; several keys must all hold. */
export interface WhereConditions {
  equals?: Json | Date | bigint;
  in?: readonly (Json | Date | bigint)[];
  ne?: Json | Date | bigint;
  gt?: number | string | bigint | Date;
  gte?: number | string | bigint | Date;
  lt?: number | string | bigint | Date;
  lte?: number | string | bigint | Date;
  /** Present and not `null`. */
  exists?: boolean;
  /** Among what an update changed. */
  changed?: boolean;
  changedFrom?: Json | Date | bigint;
  changedTo?: Json | Date | bigint;
}

/**
 * Which events: a value that a property equals, conditions on it, or a nested object. All must hold.
 *
 * @example { status: { changedTo: 'paid' }, 'address.city': 'Lyon', total: { gte: '100.00' } }
 */
export interface Where {
  [property: string]: Json | Date | bigint | undefined | WhereConditions | Where;
}

/** What a customer may say of a listener of theirs. */
export interface ListenerInput {
  /** Where to POST: `https:`, and a public address, unless `security` says otherwise. */
  url: string;
  /** Types, `prefix.*` or `*`. Either this or `entity`. */
  events?: readonly string[];
  /** @defaultValue every event of the types */
  where?: Where;
  /** A name for lists; at most 255 characters. */
  name?: string | null;
  /** For people; at most 500 characters. */
  description?: string | null;
  /** Sent with each request, and shown to whoever reads the listener: for what is secret there is `auth`. */
  headers?: Readonly<Record<string, string>>;
  /**
   * `whsec_` and the base64 of 24 to 64 bytes. If `standard` is not among the schemes: any text of at most 512 bytes, so that receivers
   * can keep the secret that they have. The log warns of a secret below 24 bytes.
   *
   * @defaultValue a new one, of 32 random bytes
   */
  secret?: string;
  /**
   * Names of signature schemes, each of which adds its headers: `standard`, `standard-v1a`, `github`, `stripe`, `google-code` or
   * the application's own; see `docs/signing.md`.
   *
   * @defaultValue `['standard']`
   */
  schemes?: readonly string[];
  /**
   * What the receiver's server asks for beside the signature; stored sealed, and shown with `***` in place of what is secret. A URL
   * of another origin needs it anew.
   *
   * @defaultValue nothing
   */
  auth?: ListenerAuth | null;
  /**
   * A client certificate for a server that asks for one, or the private authorities that signed its own; for `https:` URLs. Stored
   * sealed, and shown without the key. A URL of another origin needs it anew.
   *
   * @defaultValue no client certificate, and the public authorities
   */
  tls?: ListenerTls | null;
  /** Name of a payload format. @defaultValue `'standard'` */
  format?: string;
  /**
   * `entity`: the events of one row come one at a time, in the order of their commits; see `docs/ordering.md`.
   *
   * @defaultValue 'none': only those of entities that are ordered themselves
   */
  ordering?: Ordering;
  /**
   * Also send the header `webhook-sequence`: a whole number, which grows with each event of one row in the order of their
   * commits. A receiver that keeps the highest per row can drop what is older. No scheme signs it; see `docs/ordering.md`.
   *
   * @defaultValue false
   */
  sequence?: boolean;
  /** The most requests it is sent in a stretch of time, by all processes together. @defaultValue no limit */
  rateLimit?: RateLimit | null;
  /**
   * How its receiver has to agree before anything is sent to it; a new URL is asked anew. See `docs/receiving/README.md`.
   *
   * @defaultValue `handshake.default`
   */
  handshake?: Handshake;
}

/** Data that only the application sets on a listener: `CreateListenerDto`, which customers fill in, has neither property. */
export interface ListenerReferences {
  /** Its id in another system; unique among the listeners of its owner. At most 255 characters. See `findByExternalId()`. */
  externalId?: string | null;
  /** Data of the application: a JSON object of at most 4 KiB. Never sent. */
  metadata?: JsonObject | null;
}

/** What the application may say of a listener. */
export interface CreateListenerInput extends ListenerInput, ListenerReferences {
  /** All types of one entity: `{ entity: User }` is `events: ['user.*']`. A class, or the entity's name. */
  entity?: EntityClass | string;
  /** With `value`: the short form of `where: { [property]: value }`. */
  property?: string;
  value?: Json | Date | bigint;
  /**
   * `whsk_…`: the Ed25519 key that schemes such as `standard-v1a` sign with, when several listeners are to share one, and
   * receivers one public key. `generateSigningKey()` makes one.
   *
   * @defaultValue a key of its own for each listener that names such a scheme
   */
  privateKey?: string;
  /** Whose it is. @defaultValue nobody's: the application's own, which receives the rows of every owner */
  owner?: string | number | bigint | null;
}

export type UpdateListenerInput = Partial<Omit<ListenerInput, 'secret'>> & ListenerReferences;

/** A listener as it is shown: without its secrets. */
export interface Listener {
  /** `lst_` and a UUIDv7. */
  readonly id: string;
  readonly owner: string | null;
  readonly url: string;
  /** Patterns of event types. */
  readonly events: readonly string[];
  /** As it was given; `{}` for no condition. */
  readonly where: Where;
  readonly name: string | null;
  readonly externalId: string | null;
  readonly metadata: JsonObject | null;
  readonly description: string | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly schemes: readonly string[];
  /** `whpk_…`, newest first: what its Ed25519 signatures are verified with; two while a rotation overlaps. */
  readonly publicKeys: readonly string[];
  /** With `***` in place of what is secret. */
  readonly auth: ListenerAuth | null;
  /** Whose certificates, and until when; never the key. */
  readonly tls: ShownListenerTls | null;
  readonly format: string;
  readonly ordering: Ordering;
  readonly sequence: boolean;
  readonly rateLimit: RateLimit | null;
  readonly handshake: Handshake;
  /** Why the last try of its handshake failed, of one that has not passed: a code of an attempt, or `HANDSHAKE_REFUSED`. */
  readonly handshakeError: string | null;
  /** Requests a minute that its receiver granted in a `cloudevents` handshake, and which are kept. */
  readonly allowedRate: number | null;
  /**
   * `pending` ones wait for their handshake, which is tried again for some three days. They and `disabled` ones are sent nothing; what is
   * for them is held.
   */
  readonly state: 'active' | 'pending' | 'disabled';
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
  /** The next time at which something may be sent, as far as known; `null` when nothing is due. */
  readonly nextAttemptAt: Date | null;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

/** A new listener, or a rotated secret: the only time that a secret is shown. */
export type ListenerWithSecret = Listener & { readonly secret: string };
