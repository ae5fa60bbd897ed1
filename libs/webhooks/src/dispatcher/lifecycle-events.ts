import type { OutcomeKind } from '../sending/outcome.js';

/**
 * This event is emitted as `webhooks.delivery.succeeded` after an accepted attempt, and as
 * `webhooks.delivery.failed` after each failed attempt. If no attempt follows, it is also emitted as
 * `webhooks.delivery.exhausted`.
 */
export interface DeliveryLifecycleEvent {
  readonly deliveryId: string;
  readonly eventId: string;
  readonly listenerId: string;
  /** URL to which the request was sent. */
  readonly url: string;
  readonly type: string;
  /** Owner of the listener; `null` for the application's own listeners. */
  readonly owner: string | null;
  /** Number of the attempt, from 1. */
  readonly attempt: number;
  readonly outcome: OutcomeKind;
  readonly status: number | null;
  readonly errorCode: string | null;
  readonly durationMs: number;
  /** When the next attempt is due; `null` when there is no next attempt. */
  readonly nextAttemptAt: Date | null;
}

/** This event is emitted as `webhooks.listener.disabled`. */
export interface ListenerDisabledLifecycleEvent {
  readonly listenerId: string;
  readonly url: string;
  readonly owner: string | null;
  readonly reason: string;
}

/**
 * This event is emitted as `webhooks.listener.circuit_opened`. After `failuresInARow` consecutive failures, only
 * one probe at a time is sent.
 */
export interface CircuitOpenedLifecycleEvent {
  readonly listenerId: string;
  readonly url: string;
  readonly owner: string | null;
  readonly failuresInARow: number;
  /** When the next attempt is due. */
  readonly pausedUntil: Date;
}

/**
 * This event is emitted as `webhooks.delivery.discarded` if deliveries were pending for too long, once for each listener and run of
 * the chore. It is also emitted if a call or a task discarded deliveries, once for each listener and batch.
 */
export interface DeliveriesDiscardedLifecycleEvent {
  readonly listenerId: string;
  readonly count: number;
  /**
   * `TOO_OLD`: the deliveries were pending for longer than `dispatcher.maxAgeMs`. Their `lastErrorCode` has the same value. `DISCARDED`: a
   * call or a task discarded the deliveries
   */
  readonly reason: string;
}

/**
 * This event is emitted as `webhooks.outbox.damaged` if an event in the outbox cannot be read. No listener receives the
 * damaged event until you repair its row.
 */
export interface EventDamagedLifecycleEvent {
  readonly eventId: string;
  readonly type: string;
  readonly reason: string;
}

/**
 * This event is emitted as `webhooks.image.damaged` if a row captured by a trigger cannot be turned into an event.
 * The row becomes an event after you fix the cause.
 */
export interface ImageDamagedLifecycleEvent {
  /** `seq` of the image. */
  readonly seq: string;
  /** Table of the captured row, as TypeORM names it. */
  readonly tablePath: string;
  readonly reason: string;
}

export type LifecycleEvent =
  | DeliveryLifecycleEvent
  | DeliveriesDiscardedLifecycleEvent
  | ListenerDisabledLifecycleEvent
  | CircuitOpenedLifecycleEvent
  | EventDamagedLifecycleEvent
  | ImageDamagedLifecycleEvent;

/** The reason of deliveries that a call or a task discarded. Their `lastErrorCode` is that of their last attempt. */
export const DISCARDED = 'DISCARDED';

/**
 * Names of the lifecycle events on EventEmitter2. Captured and published events are emitted as
 * `webhooks.event.<type>`.
 */
export const LIFECYCLE_EVENTS = {
  succeeded: 'webhooks.delivery.succeeded',
  failed: 'webhooks.delivery.failed',
  exhausted: 'webhooks.delivery.exhausted',
  discarded: 'webhooks.delivery.discarded',
  listenerDisabled: 'webhooks.listener.disabled',
  circuitOpened: 'webhooks.listener.circuit_opened',
  eventDamaged: 'webhooks.outbox.damaged',
  imageDamaged: 'webhooks.image.damaged',
} as const;

/** The name under which an event of a type is emitted in this process: `webhooks.event.order.created`. */
export function eventName(type: string): string {
  return `webhooks.event.${type}`;
}
