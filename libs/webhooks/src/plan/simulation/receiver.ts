import type { Outcome } from '../../sending/outcome.js';

/** How a receiver answers. */
export interface ReceiverBehavior {
  /** Time until the answer, in ms; `Infinity`: it never answers, and the sender waits until its time limit. */
  readonly answerMs: number;
  /** The status of the answer. */
  readonly status: number;
}

/** A time in which a receiver answers differently. Times are in ms since the start of the simulation. */
interface Outage {
  readonly from: number;
  readonly until: number;
  readonly behavior: ReceiverBehavior;
}

/** The receiver of one listener. */
export interface Receiver {
  readonly behavior: ReceiverBehavior;
  readonly outage?: Outage | undefined;
}

/** The four kinds of receivers, as far as only their behavior decides. The answer time of the first two is the user's. */
export const FAILING: ReceiverBehavior = { answerMs: 50, status: 500 };
export const SILENT: ReceiverBehavior = { answerMs: Infinity, status: 0 };

/** The part of an {@link Outcome} that decides about the delivery and the listener. */
export type SimulatedOutcome = Pick<Outcome, 'kind' | 'status' | 'retryAfterMs'>;

/** @returns the outcome of a request, and the time until it is known, in ms */
export function answerOf(
  { behavior, outage }: Receiver,
  now: number,
  timeoutMs: number,
): { outcome: SimulatedOutcome; afterMs: number } {
  const isOut = outage !== undefined && now >= outage.from && now < outage.until;
  const { answerMs, status } = isOut ? outage.behavior : behavior;
  if (answerMs >= timeoutMs) {
    return { outcome: { kind: 'unreachable', status: null, retryAfterMs: null }, afterMs: timeoutMs };
  }
  const kind = status >= 200 && status < 300 ? 'accepted' : 'rejected';
  return { outcome: { kind, status, retryAfterMs: null }, afterMs: answerMs };
}
