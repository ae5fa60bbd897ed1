import type { JsonObject } from '../json.js';

/**
 * Which listeners may receive an event. Decided when the event happens.
 * - `application`: listeners without an owner (the type declares no owner, or this row has no owner)
 * - `owner`: listeners of the event's owner, and listeners without an owner
 * - `owner_only`: only listeners of the event's owner (the row now belongs to another owner)
 * - `every`: all listeners (`EVERY_OWNER`)
 * - `test`: one listener, for which `sendTest()` made an example
 */
export type Audience = 'application' | 'owner' | 'owner_only' | 'every' | 'test';

/**
 * Use as `owner: EVERY_OWNER`, for rows that belong to all owners, such as a shared catalogue. Every listener may receive
 * their events, independent of the owner of the listener.
 */
export const EVERY_OWNER: unique symbol = Symbol('EVERY_OWNER');
export type EveryOwner = typeof EVERY_OWNER;

/** An event, as `publish()` returns it, and as it is emitted in process after the commit. */
export interface WebhookEvent<Data extends object = JsonObject> {
  /** `evt_` and a UUIDv7; sent as `webhook-id`, the same for every listener, retry and resend. */
  readonly id: string;
  /** `order.updated` */
  readonly type: string;
  /** When it happened, ISO 8601 UTC with milliseconds. */
  readonly timestamp: string;
  readonly data: Data;
  /** On updates: the old values of the changed fields. */
  readonly previous?: Partial<Data>;
  /** The owner; `null` when none is declared, and for `EVERY_OWNER`. */
  readonly owner: string | null;
  /** Who or what made the event: the context of `withContext()`. Receivers do not see it. */
  readonly context: JsonObject | null;
}

/** An event on its way into the outbox. */
export interface NewEvent {
  readonly event: WebhookEvent;
  /** The same action's types of the entity's parents: listeners for a parent receive the event, too. */
  readonly superTypes: readonly string[];
  readonly audience: Audience;
  /** Events with the same key are about the same row. */
  readonly orderKey: Buffer | null;
  /** Whether every listener receives the event in order, even a listener with `ordering: 'none'`. */
  readonly isOrdered: boolean;
  readonly dedupeKey: Buffer | null;
  /** The number of events that caused this one, one after the other; see `docs/capture.md`. */
  readonly depth: number;
  readonly createdAt: number;
}
