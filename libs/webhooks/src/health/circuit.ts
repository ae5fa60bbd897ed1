import type { ListenerState } from './listener-state.js';

/** When requests to a failing listener stop, and when the listener is disabled. Times are in milliseconds. */
export interface CircuitPolicy {
  /** Number of consecutive failures that opens the circuit of a listener. 1 to 1,000,000. @defaultValue 10 */
  readonly failures: number;
  /** How long the circuit stays open at first; twice as long after each probe that fails. At most a day. @defaultValue 30_000 */
  readonly cooldownMs: number;
  /** The longest pause between probes. From `cooldownMs` to a day. @defaultValue 600_000 (10 minutes) */
  readonly maxCooldownMs: number;
  /**
   * A listener is disabled when none of its attempts, at least ten, has succeeded for this long. At most a year.
   *
   * @defaultValue 432_000_000 (5 days)
   */
  readonly disableAfterMs: number;
}

/** What one attempt shows about the health of its listener. */
export interface HealthSign {
  readonly accepted: boolean;
  readonly status: number | null;
  readonly retryAfterMs: number | null;
  /** When the attempt began. */
  readonly at: number;
}

/**
 * Overload, or a gateway whose receiver is down. More requests would make it worse (RFC 9110, 15.6.3 to 15.6.5; RFC
 * 6585, 4).
 */
const PACING_STATUSES: ReadonlySet<number | null> = new Set([429, 502, 503, 504]);
const FIRST_PACE_MS = 1_000;
const MIN_ATTEMPTS_BEFORE_DISABLING = 10;

/** Whether the circuit is open, so that only a probe may be sent. */
export function isOpen(failuresInARow: number, policy: CircuitPolicy): boolean {
  return failuresInARow >= policy.failures;
}

/**
 * Applies attempts to the health of their listener, in the order in which they ended.
 *
 * While the circuit is closed, every delivery may be sent, and a success resets the count of failures. After `failures`
 * consecutive failures the circuit opens: nothing is sent for `cooldownMs`, then one delivery, the probe. If the probe
 * succeeds, the circuit closes. If it fails, the next pause is twice as long. The statuses 429, 502, 503 and 504 pause
 * a listener after the first failure, for the time in `Retry-After`, or for one second that doubles.
 *
 * A failure does not count if its attempt began before the end of the last pause. Such an attempt was in flight when
 * the pause began, or another process sent it before it knew of the pause. If these failures counted, each request that
 * a dead receiver holds open would double the pause.
 *
 * @returns the state, and whether the listener has now failed long enough to be disabled
 */
export function afterAttempts(
  before: ListenerState,
  signs: readonly HealthSign[],
  now: number,
  policy: CircuitPolicy,
): { state: ListenerState; isExpired: boolean } {
  let { failuresInARow, failingSince, failuresCountFrom, pausedUntil } = before;
  for (const sign of signs) {
    if (sign.accepted) {
      failuresInARow = 0;
      failingSince = null;
      failuresCountFrom = null;
      pausedUntil = null;
      continue;
    }
    if (failuresCountFrom !== null && sign.at < failuresCountFrom) continue;
    failuresInARow++;
    failingSince ??= sign.at;
    const pause = Math.max(cooldown(failuresInARow, policy), pace(sign, failuresInARow, policy));
    if (pause > 0) {
      pausedUntil = now + pause;
      failuresCountFrom = pausedUntil;
    }
  }
  return {
    state: { ...before, failuresInARow, failingSince, failuresCountFrom, pausedUntil },
    isExpired:
      failingSince !== null &&
      failuresInARow >= MIN_ATTEMPTS_BEFORE_DISABLING &&
      now - failingSince >= policy.disableAfterMs,
  };
}

function cooldown(failuresInARow: number, { failures, cooldownMs, maxCooldownMs }: CircuitPolicy): number {
  if (failuresInARow < failures) return 0;
  return Math.min(maxCooldownMs, cooldownMs * 2 ** Math.min(failuresInARow - failures, 30));
}

function pace({ status, retryAfterMs }: HealthSign, failuresInARow: number, { maxCooldownMs }: CircuitPolicy): number {
  if (!PACING_STATUSES.has(status)) return 0;
  return retryAfterMs ?? Math.min(maxCooldownMs, FIRST_PACE_MS * 2 ** Math.min(failuresInARow - 1, 30));
}
