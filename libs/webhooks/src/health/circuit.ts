import type { ListenerState } from './listener-state.js';

/** When a listener that fails is left alone, and when it is given up. Times in milliseconds. */
export interface CircuitPolicy {
  /** Failures in a row after which the circuit opens. */
  readonly failures: number;
  /** How long it stays open at first; twice as long after each probe that fails. */
  readonly cooldownMs: number;
  readonly maxCooldownMs: number;
  /** A listener none of whose attempts succeeded for this long is disabled. */
  readonly disableAfterMs: number;
}

/** What one attempt says of the health of its listener. */
export interface HealthSign {
  readonly accepted: boolean;
  readonly status: number | null;
  readonly retryAfterMs: number | null;
  /** When the attempt was made. */
  readonly at: number;
}

/** Overload, or a gateway whose receiver is down: more requests make it worse (RFC 9110, 15.6.3 to 15.6.5; RFC 6585, 4). */
const PACING_STATUSES: ReadonlySet<number | null> = new Set([429, 502, 503, 504]);
const FIRST_PACE_MS = 1_000;
const MIN_ATTEMPTS_BEFORE_DISABLING = 10;

/** Whether only a probe may be sent. */
export function isOpen(failuresInARow: number, policy: CircuitPolicy): boolean {
  return failuresInARow >= policy.failures;
}

/**
 * What attempts make of their listener's health, in the order in which they ended.
 *
 * closed: everything goes. A success ends a run of failures. After `failures` in a row it opens: nothing goes for
 * `cooldownMs`, then one delivery, the probe, which closes it by succeeding, or starts a pause twice as long. 429, 502, 503
 * and 504 pause a listener at once, for what `Retry-After` says or a second that doubles.
 *
 * An attempt that began before the end of the last pause says nothing new by failing. It was under way when the pause began, or
 * is another process's, which had not heard of it: counted, the requests that a dead receiver holds would double its pause
 * once each.
 *
 * @returns the state, and whether the listener has now failed for long enough to be disabled
 */
export function afterAttempts(
  before: ListenerState,
  signs: readonly HealthSign[],
  now: number,
  policy: CircuitPolicy,
): { state: ListenerState; giveUp: boolean } {
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
    giveUp:
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
