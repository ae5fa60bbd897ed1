import type { RetrySchedule } from './retry-schedule.js';
import type { StateAfterAttempt } from './transitions.js';
import type { Outcome } from '../sending/outcome.js';

/** 410 Gone: the receiver wants no more webhooks (Standard Webhooks specification). */
export const STATUS_GONE = 410;

/** The state of a delivery after an attempt. */
export interface NextState {
  readonly state: StateAfterAttempt;
  /** For `due`, the time of the next attempt. For the other states, the time at which the delivery ended. */
  readonly at: number;
}

/**
 * Decides the next state of a delivery after an attempt.
 *
 * @param failuresBefore failed attempts since the schedule began
 * @param retryUntil no attempt is made after this time, because the delivery would be too old
 */
export function nextState(
  outcome: Pick<Outcome, 'kind' | 'status' | 'retryAfterMs'>,
  failuresBefore: number,
  schedule: RetrySchedule,
  now: number,
  retryUntil: number,
): NextState {
  if (outcome.kind === 'accepted') return { state: 'succeeded', at: now };
  if (outcome.status === STATUS_GONE) return { state: 'exhausted', at: now };
  const delay = schedule.delayMs(failuresBefore + 1);
  if (delay === null) return { state: 'exhausted', at: now };
  const at = Math.ceil(now + Math.max(delay, outcome.retryAfterMs ?? 0));
  return at > retryUntil ? { state: 'exhausted', at: now } : { state: 'due', at };
}
