import type { OutcomeKind } from '../sending/outcome.js';

/** Emitted as `webhooks.delivery.succeeded`, `.failed` (one attempt; more will follow) and `.exhausted` (the end). */
export interface DeliveryLifecycleEvent {
  readonly deliveryId: string;
  readonly eventId: string;
  readonly listenerId: string;
  /** Where it was sent. */
  readonly url: string;
  readonly type: string;
  /** The listener's owner. */
  readonly owner: string | null;
  /** Number of the attempt, from 1. */
  readonly attempt: number;
  readonly outcome: OutcomeKind;
  readonly status: number | null;
  readonly errorCode: string | null;
  readonly durationMs: number;
  /** When the next attempt is due; `null` when none is. */
  readonly nextAttemptAt: Date | null;
}

/** Emitted as `webhooks.listener.disabled`. */
export interface ListenerDisabledLifecycleEvent {
  readonly listenerId: string;
  readonly url: string;
  readonly owner: string | null;
  readonly reason: string;
}

/** Emitted as `webhooks.listener.circuit_opened`: so many attempts in a row failed that only one at a time is made. */
export interface CircuitOpenedLifecycleEvent {
  readonly listenerId: string;
  readonly url: string;
  readonly owner: string | null;
  readonly failuresInARow: number;
  /** When the next attempt is made. */
  readonly pausedUntil: Date;
}

/** Emitted as `webhooks.delivery.discarded`: deliveries that waited too long, once for each listener and look. */
export interface DeliveriesDiscardedLifecycleEvent {
  readonly listenerId: string;
  readonly count: number;
  /** `TOO_OLD`, as in their `lastErrorCode`: they waited for longer than `dispatcher.maxAgeMs`. */
  readonly reason: string;
}

/** Emitted as `webhooks.outbox.damaged`: it could not be read, and nobody receives it until somebody repairs it. */
export interface EventDamagedLifecycleEvent {
  readonly eventId: string;
  readonly type: string;
  readonly reason: string;
}

/** Emitted as `webhooks.image.damaged`: no event can be made of what a trigger wrote down, until somebody mends the cause. */
export interface ImageDamagedLifecycleEvent {
  /** `seq` of the image. */
  readonly seq: string;
  /** The table whose row it is of, as TypeORM says it. */
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

/** Names of what is emitted on EventEmitter2, beside `webhooks.event.<type>`. */
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

/** The name under which an event of a type is emitted in process: `webhooks.event.order.created`. */
export function eventName(type: string): string {
  return `webhooks.event.${type}`;
}
