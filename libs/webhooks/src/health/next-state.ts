import type { RetrySchedule } from './retry-schedule.js';
import type { Outcome } from '../sending/outcome.js';

/** 410 Gone: the receiver says that it wants no more (Standard Webhooks specification). */
export const GONE = 410;

/** What becomes of a delivery after an attempt. */
export interface NextState {
  readonly state: 'succeeded' | 'due' | 'exhausted';
  /** When to try again, for `due`; otherwise when it ended. */
  readonly at: number;
}

/**
 * What an attempt makes of its delivery.
 *
 * @param failuresBefore failed attempts since the schedule began
 * @param retryUntil no attempt is made after this time: the delivery would be too old
 */
export function nextState(
  outcome: Outcome,
  failuresBefore: number,
  schedule: RetrySchedule,
  now: number,
  retryUntil: number,
): NextState {
  if (outcome.kind === 'accepted') return { state: 'succeeded', at: now };
  if (outcome.status === GONE) return { state: 'exhausted', at: now };
  const delay = schedule.delayMs(failuresBefore + 1);
  if (delay === null) return { state: 'exhausted', at: now };
  const at = Math.ceil(now + Math.max(delay, outcome.retryAfterMs ?? 0));
  return at > retryUntil ? { state: 'exhausted', at: now } : { state: 'due', at };
}
