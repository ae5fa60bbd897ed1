import type { JsonObject } from '../json.js';

/**
 * Who an event may reach, decided when it happens:
 * - `application`: listeners without an owner (the type declares no owner, or this row has none)
 * - `owner`: listeners of this owner, and those without an owner
 * - `owner_only`: listeners of this owner and nobody else (a row that left this owner)
 * - `every`: all listeners (`EVERY_OWNER`)
 * - `test`: the listener that it was made for, an example of `sendTest`
 */
export type Audience = 'application' | 'owner' | 'owner_only' | 'every' | 'test';

/**
 * Written as `owner: EVERY_OWNER`: these rows are everybody's, a shared catalogue. Every listener may receive them,
 * whoever owns it.
 */
export const EVERY_OWNER: unique symbol = Symbol('EVERY_OWNER');
export type EveryOwner = typeof EVERY_OWNER;

/** One thing that happened, as `publish()` returns it and as it is emitted in process after the commit. */
export interface WebhookEvent<Data extends object = JsonObject> {
  /** `evt_` and a UUIDv7; sent as `webhook-id`, the same for every listener, retry and resend. */
  readonly id: string;
  /** `order.updated` */
  readonly type: string;
  /** When it happened, ISO 8601 UTC with milliseconds. */
  readonly timestamp: string;
  readonly data: Data;
  /** On updates: the old values of what changed, and only those. */
  readonly previous?: Partial<Data>;
  /** Whose it is, where an owner is declared. */
  readonly owner: string | null;
  /** Who or what made it: what `withContext()` said where it happened. Receivers do not see it. */
  readonly context: JsonObject | null;
}

/** An event on its way into the outbox. */
export interface NewEvent {
  readonly event: WebhookEvent;
  /** Types of the entity's parents with the same action: listeners for the parent receive it too. */
  readonly superTypes: readonly string[];
  readonly audience: Audience;
  /** Events with one key are about one row. */
  readonly orderKey: Buffer | null;
  /** Delivered in order to every listener, whether that one asks for it or not. */
  readonly isOrdered: boolean;
  readonly dedupeKey: Buffer | null;
  /** How many events in a row led to this one; see `docs/capture.md`. */
  readonly depth: number;
  readonly createdAt: number;
}
