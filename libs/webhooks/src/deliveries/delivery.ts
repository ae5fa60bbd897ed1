import type { JsonObject } from '../json.js';
import type { OutcomeKind } from '../sending/outcome.js';
import type { AttemptPhases } from '../sending/phases.js';
import type { AttemptTrigger } from '../attempt-trigger.js';

/**
 * - `due`: the delivery will be sent now, or at `nextAttemptAt`
 * - `leased`: a process is sending the delivery
 * - `held`: the listener is disabled, or has not passed its handshake
 * - `succeeded`: the receiver answered 2xx
 * - `exhausted`: every attempt failed
 * - `discarded`: the listener was removed, the payload format could not render the event, the delivery was pending for longer than
 *   `dispatcher.maxAgeMs`, `enable()` of the listener was called with `held: 'discard'`, or `discard()` was called
 */
export type DeliveryState = 'due' | 'leased' | 'held' | 'succeeded' | 'exhausted' | 'discarded';

/** The state of a finished delivery that did not succeed. `DeliveryService.recover()` can make such a delivery due again. */
export type FailedState = 'exhausted' | 'discarded';

export const DELIVERY_STATES: readonly DeliveryState[] = [
  'due',
  'leased',
  'held',
  'succeeded',
  'exhausted',
  'discarded',
];
export const FAILED_STATES: readonly FailedState[] = ['exhausted', 'discarded'];

/** One event for one listener. */
export interface Delivery {
  /** `dlv_` and a UUIDv7 with the time of the event. */
  readonly id: string;
  readonly eventId: string;
  readonly listenerId: string;
  readonly type: string;
  /** The listener's owner. */
  readonly owner: string | null;
  readonly state: DeliveryState;
  /** Number of requests made so far. */
  readonly attemptCount: number;
  readonly nextAttemptAt: Date | null;
  /** HTTP status of the last attempt; `null` if the receiver did not answer. */
  readonly lastStatus: number | null;
  /** Error code of the last attempt; `null` if the last attempt succeeded. */
  readonly lastErrorCode: string | null;
  /**
   * Duration of the last attempt. `null` before the first attempt, and in a service that is bound to an owner, if a guard or the proxy refused
   * the attempt.
   */
  readonly lastDurationMs: number | null;
  /** Time from `createdAt` to `finishedAt`, with every attempt and the waiting times between them. `null` until the delivery has finished. */
  readonly totalDurationMs: number | null;
  readonly createdAt: Date;
  readonly finishedAt: Date | null;
}

/** One HTTP request of a delivery. */
export interface Attempt {
  readonly number: number;
  readonly outcome: OutcomeKind;
  readonly status: number | null;
  /** A `SendErrorCode`; `null` if the attempt succeeded. */
  readonly errorCode: string | null;
  /** Details of the error, for operators; `null` in a service that is bound to an owner. */
  readonly errorDetail: string | null;
  /** Duration of the attempt. `null` in a service that is bound to an owner, if a guard or the proxy refused the attempt. */
  readonly durationMs: number | null;
  /** First 4 KB of the answer's body. */
  readonly response: string | null;
  /**
   * Whether the process had lost its lease of the delivery. In that case the request was made, but its outcome did not change
   * the delivery.
   */
  readonly superseded: boolean;
  readonly startedAt: Date;
  /**
   * Why the attempt was made:
   *
   * - `schedule`: the delivery was new, or the retry schedule made its next attempt due
   * - `resend`, `recover`, `replay`: a person or a program asked for it. Later retries have `schedule` again
   * - `test`: the event is an example event of `sendTest()`
   * - `probe`: the circuit of the listener was open, and this attempt decided whether it closes
   */
  readonly trigger: 'schedule' | AttemptTrigger;
  /** The name that was given to `withActor()`; `null` without a name, and in a service that is bound to an owner. */
  readonly triggeredBy: string | null;
  /** The URL of the listener at the time of the attempt. `null` if `log.details` keeps no details of this attempt. */
  readonly url: string | null;
  /** The headers of the request, with names in lower case and masked secrets. `null` without details, or if the request did not begin. */
  readonly requestHeaders: Readonly<Record<string, string>> | null;
  /**
   * The headers of the answer, with names in lower case and masked secrets. `null` without details or without an answer, and in a service
   * that is bound to an owner, if a guard refused the attempt.
   */
  readonly responseHeaders: Readonly<Record<string, string>> | null;
  /** The number of headers that are left out, because all headers together would take more than 2 KB. */
  readonly omittedHeaders: number;
  /** How long each step took. `null` without details, and wherever `durationMs` is `null`. */
  readonly phases: AttemptPhases | null;
}

/** What a stream leaves out: the answer and the details, which may have 6 KB. */
export const NOT_STREAMED = [
  'response',
  'url',
  'requestHeaders',
  'responseHeaders',
  'omittedHeaders',
  'phases',
] as const satisfies readonly (keyof Attempt)[];

/** An attempt in a stream. */
export type StreamedAttempt = Omit<Attempt, (typeof NOT_STREAMED)[number]>;

/** A delivery with its attempts and its context. */
export interface DeliveryDetails extends Delivery {
  /**
   * The event's context, set with `withContext()`. The context is for operators: it is `null` in a service that is
   * bound to an owner.
   */
  readonly context: JsonObject | null;
  /** All attempts, the oldest first. */
  readonly attempts: readonly Attempt[];
}

/** `'5xx'` means 500 to 599. */
export type StatusClass = '1xx' | '2xx' | '3xx' | '4xx' | '5xx';

export interface DeliveryFilter {
  listenerId?: string;
  eventId?: string;
  type?: string;
  state?: DeliveryState;
  owner?: string;
  /** The HTTP status of the last attempt: one, or all of a class such as `'5xx'`. */
  status?: number | StatusClass;
  /** The error code of the last attempt. */
  errorCode?: string;
  /** Created at this time or later. */
  since?: Date;
  /** Only deliveries that were created before this time. */
  until?: Date;
}

/** Options of calls that work in batches. */
export interface BulkOptions {
  /** Called after each batch with the number of deliveries so far, for example to show the progress. */
  onBatch?: (count: number) => void;
}

export interface RecoverOptions extends BulkOptions {
  /** Only deliveries to this listener. @defaultValue every listener that the service sees */
  listenerId?: string;
  /** Deliveries created at this time or later. */
  since: Date;
  /** Deliveries created before this time. @defaultValue now */
  until?: Date;
  /** The states of the deliveries to send again. */
  state: FailedState | readonly FailedState[];
}

/** The state of a pending delivery. `DeliveryService.discard()` can discard pending deliveries. */
export type PendingState = 'due' | 'held';

export const PENDING_STATES: readonly PendingState[] = ['due', 'held'];

export interface DiscardOptions extends BulkOptions {
  /** Only deliveries to this listener. @defaultValue every listener that the service sees */
  listenerId?: string;
  /** Deliveries created at this time or later. @defaultValue the beginning */
  since?: Date;
  /** Deliveries created before this time. @defaultValue now */
  until?: Date;
  /** The states of the deliveries to discard. */
  state: PendingState | readonly PendingState[];
}

export interface ReplayOptions extends BulkOptions {
  listenerId: string;
  /** Events that happened at this time or later. */
  since: Date;
  /** Events that happened before this time. @defaultValue now */
  until?: Date;
  /** Whether to count the deliveries without creating them. @defaultValue false */
  dryRun?: boolean;
}
