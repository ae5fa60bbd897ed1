import type { JsonObject } from '../json.js';

/**
 * Says which listeners may receive an event. The audience is decided when the event happens.
 * - `application`: listeners without an owner (the type declares no owner, or this row has no owner)
 * - `owner`: listeners of the event's owner, and listeners without an owner
 * - `owner_only`: only listeners of the event's owner (the row now belongs to another owner)
 * - `every`: all listeners (`EVERY_OWNER`)
 * - `test`: one listener, for which `sendTest()` made an example
 */
export type Audience = 'application' | 'owner' | 'owner_only' | 'every' | 'test';

/**
 * Use `owner: EVERY_OWNER` for rows that belong to all owners, such as a shared catalogue. Listeners with and without an owner may receive
 * the events of these rows.
 */
export const EVERY_OWNER: unique symbol = Symbol.for('nestjs-entity-webhooks:every-owner');
export type EveryOwner = typeof EVERY_OWNER;

/** An event. `publish()` returns events in this form. In-process handlers receive the same form after the commit. */
export interface WebhookEvent<Data extends object = JsonObject> {
  /** Id of the event: `evt_` and a UUIDv7. The id is sent as `webhook-id`. It is the same for every listener, retry and resend. */
  readonly id: string;
  /** Type of the event, such as `order.updated`. */
  readonly type: string;
  /** The time of the event: ISO 8601 in UTC, with milliseconds. */
  readonly timestamp: string;
  readonly data: Data;
  /** On updates: the old values of the changed fields. */
  readonly previous?: Partial<Data>;
  /** The owner of the event. `null` when no owner is declared, and for `EVERY_OWNER`. */
  readonly owner: string | null;
  /** Who or what made the event: the context of `withContext()`. Receivers do not see it. */
  readonly context: JsonObject | null;
}

/** An event on its way into the outbox. */
export interface NewEvent {
  readonly event: WebhookEvent;
  /** The event types of the entity's parents for the same action. Listeners for the type of a parent receive the event, too. */
  readonly superTypes: readonly string[];
  readonly audience: Audience;
  /** Events with the same key are about the same row. */
  readonly orderKey: Buffer | null;
  /** Whether every listener receives the event in order, even a listener with `ordering: 'none'`. */
  readonly isOrdered: boolean;
  readonly dedupeKey: Buffer | null;
  /** The length of the chain of events that led to this event; see `docs/capture.md`. */
  readonly depth: number;
  /** The version of the type's payload. @defaultValue 1 */
  readonly version?: number;
  readonly createdAt: number;
}
