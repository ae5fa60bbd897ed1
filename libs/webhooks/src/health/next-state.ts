import type { RetrySchedule } from './retry-schedule.js';
import type { Outcome } from '../sending/outcome.js';
import { GONE, type AttemptRecord } from '../store/queue/record-attempts.js';

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
): AttemptRecord['next'] {
  if (outcome.kind === 'accepted') return { state: 'succeeded', at: now };
  if (outcome.status === GONE) return { state: 'exhausted', at: now };
  const delay = schedule.delayMs(failuresBefore + 1);
  if (delay === null) return { state: 'exhausted', at: now };
  const at = Math.ceil(now + Math.max(delay, outcome.retryAfterMs ?? 0));
  return at > retryUntil ? { state: 'exhausted', at: now } : { state: 'due', at };
}
