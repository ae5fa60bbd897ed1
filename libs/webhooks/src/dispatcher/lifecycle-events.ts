import type { OutcomeKind } from '../sending/outcome.js';

/**
 * Emitted as `webhooks.delivery.succeeded`, as `webhooks.delivery.failed` after each failed attempt, and also as
 * `webhooks.delivery.exhausted` when no attempt follows.
 */
export interface DeliveryLifecycleEvent {
  readonly deliveryId: string;
  readonly eventId: string;
  readonly listenerId: string;
  /** URL that the request was sent to. */
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

/** Emitted as `webhooks.listener.disabled`. */
export interface ListenerDisabledLifecycleEvent {
  readonly listenerId: string;
  readonly url: string;
  readonly owner: string | null;
  readonly reason: string;
}

/**
 * Emitted as `webhooks.listener.circuit_opened`: after `failuresInARow` consecutive failures, only one probe at a
 * time is sent.
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
 * Emitted as `webhooks.delivery.discarded`, once for each listener and run of the chore, for deliveries that were
 * pending too long.
 */
export interface DeliveriesDiscardedLifecycleEvent {
  readonly listenerId: string;
  readonly count: number;
  /** `TOO_OLD`, as in their `lastErrorCode`: they were pending for longer than `dispatcher.maxAgeMs`. */
  readonly reason: string;
}

/** Emitted as `webhooks.outbox.damaged`: the event cannot be read. No listener receives it until you repair its row. */
export interface EventDamagedLifecycleEvent {
  readonly eventId: string;
  readonly type: string;
  readonly reason: string;
}

/**
 * Emitted as `webhooks.image.damaged`: a row captured by a trigger cannot be turned into an event until you fix the
 * cause.
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
