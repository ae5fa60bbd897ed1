import type { AttemptTrigger } from '../../attempt-trigger.js';
import type { EventLease } from '../outbox/leases.js';
import type { ListenerTarget } from './listener-target.js';

/** A delivery that this process may send now, with everything that sending needs. */
export interface ClaimedDelivery {
  /** The sequence of the delivery's row; `null` if the delivery has no row yet. The record of its first attempt inserts the row. */
  readonly seq: string | null;
  readonly id: string;
  readonly leaseToken: string;
  /** The lease that covers the event, if the delivery has no row. */
  readonly lease: EventLease | null;
  /** When the event was routed. */
  readonly routedAt: number;
  /** The number of attempts before this attempt. */
  readonly attempts: number;
  /** The number of attempts since the schedule began, or since a resend restarted the schedule. */
  readonly retries: number;
  /** Why the next attempt is made; missing or `null`: the schedule. */
  readonly trigger?: AttemptTrigger | null;
  /** The person or program that asked for the attempt. */
  readonly triggeredBy?: string | null;
  readonly type: string;
  readonly owner: string | null;
  readonly event: {
    readonly id: string;
    readonly seq: string;
    readonly payload: string;
    /** Time of the event, in ms since 1970. */
    readonly createdAt: number;
    /** The context and the depth of the event, in stored form. */
    readonly context: string | null;
    /** Whether the event is an example event from `sendTest`. */
    readonly isTest: boolean;
  };
  readonly body: string;
  /** The format that rendered the body. The listener may have another format now. `null`: the body is the event's own text. */
  readonly format: string | null;
  /** The older version in which the body was rendered. `null`: the body has the version of the event's own text. */
  readonly version: number | null;
  /** Whether later deliveries of the same row wait for this delivery. */
  readonly isOrdered: boolean;
  /** For a listener with a rate limit: the longest time between the claim and the start of the request. */
  readonly startWithinMs?: number | null;
  readonly listener: ListenerTarget;
}

/** A handshake that this process may attempt now. */
export interface ClaimedHandshake {
  readonly listener: ListenerTarget;
  readonly owner: string | null;
  /** After this time another process may attempt the handshake. The value also identifies this attempt. */
  readonly leaseUntil: number;
  /** The number of attempts that failed before this attempt. */
  readonly failures: number;
}
