import type { ListenerState } from './listener-state.js';

/** When requests to a failing listener stop, and when the listener is disabled. Times are in milliseconds. */
export interface CircuitPolicy {
  /** Number of consecutive failures that opens the circuit of a listener. 1 to 1,000,000. @defaultValue 10 */
  readonly failures: number;
  /**
   * How long the circuit stays open at first. After each failed probe, the circuit stays open for twice as long. At most a day.
   * @defaultValue 30_000
   */
  readonly cooldownMs: number;
  /** The longest pause between probes. From `cooldownMs` to a day. @defaultValue 600_000 (10 minutes) */
  readonly maxCooldownMs: number;
  /**
   * A listener is disabled when none of its attempts has succeeded for this time, after at least ten attempts.
   * At most a year.
   *
   * @defaultValue 432_000_000 (5 days)
   */
  readonly disableAfterMs: number;
}

/** How long operators had paused all sending, up to a time. In this time no attempt could succeed. Times are in milliseconds. */
export interface SendingPause {
  /** When sending was resumed; now, if it is still paused. */
  readonly endedAt: number;
  readonly lengthMs: number;
}

/** The policy, and the last pause of all sending. */
export type JudgingPolicy = CircuitPolicy & { readonly sendingPause?: SendingPause | undefined };

/**
 * When a listener is disabled that fails since a time, in ms since 1970. Time in which nothing was sent does not count: otherwise the first
 * failure after a long pause would disable a listener that had no chance to recover.
 */
export function disablesAt(failingSince: number, { disableAfterMs, sendingPause }: JudgingPolicy): number {
  const pausedMs = sendingPause && failingSince < sendingPause.endedAt ? sendingPause.lengthMs : 0;
  return failingSince + disableAfterMs + pausedMs;
}

/** The result of one attempt, in the form that decides the health of its listener. */
export interface HealthSign {
  readonly accepted: boolean;
  readonly status: number | null;
  readonly retryAfterMs: number | null;
  /** When the attempt began. */
  readonly at: number;
}

/**
 * These statuses mean that the receiver is overloaded, or that a gateway cannot reach the receiver. More requests would make the
 * overload worse (RFC 9110, 15.6.3 to 15.6.5; RFC 6585, 4).
 */
const PACING_STATUSES: ReadonlySet<number | null> = new Set([429, 502, 503, 504]);
const FIRST_PACE_MS = 1_000;
const MIN_ATTEMPTS_BEFORE_DISABLING = 10;

/** Whether the circuit is open. While it is open, only a probe may be sent. */
export function isOpen(failuresInARow: number, policy: CircuitPolicy): boolean {
  return failuresInARow >= policy.failures;
}

/**
 * Applies attempts to the health of their listener, in the order in which they ended.
 *
 * While the circuit is closed, every delivery may be sent, and a success resets the count of failures. After `failures`
 * consecutive failures, the circuit opens. Then nothing is sent for `cooldownMs`. After that pause, one delivery is
 * sent as a probe. If the probe succeeds, the circuit closes. If the probe fails, the next pause is twice as long. The
 * statuses 429, 502, 503 and 504 pause a listener already after the first failure. That pause lasts for the time in
 * `Retry-After`. Without `Retry-After`, the pause lasts one second at first, and doubles with each failure.
 *
 * A failure does not count if its attempt began before the end of the last pause. Such an attempt was in flight when
 * the pause began, or another process sent the attempt before that process knew of the pause. A dead receiver may hold
 * many requests open. If their failures counted, each of these requests would double the pause.
 *
 * @returns the state, and whether the listener has now failed long enough to be disabled
 */
export function afterAttempts(
  before: ListenerState,
  signs: readonly HealthSign[],
  now: number,
  policy: JudgingPolicy,
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
      now >= disablesAt(failingSince, policy),
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
