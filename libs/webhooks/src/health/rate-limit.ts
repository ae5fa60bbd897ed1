import { InvalidListenerError } from '../listener-errors.js';

/** All processes together take at most `limit` requests in any period of `perSeconds`. */
export interface RateLimit {
  readonly limit: number;
  readonly perSeconds: number;
}

/** Largest limit, in requests. */
export const MAX_RATE = 1_000_000;
/** Longest period, in seconds. */
export const MAX_RATE_SECONDS = 86_400;

/** Requests taken in the time slot that begins at `start`, in ms. The oldest slot comes first. */
type Slots = [start: number, count: number][];

/** Returns the rate limit as JSON for the row of the listener. @throws InvalidListenerError `INVALID_RATE_LIMIT` */
export function writeRateLimit(given: RateLimit | null | undefined): string | null {
  if (given === undefined || given === null) return null;
  const { limit, perSeconds, ...others } = given;
  const isWhole = (value: unknown, max: number) =>
    Number.isInteger(value) && Number(value) >= 1 && Number(value) <= max;
  if (!isWhole(limit, MAX_RATE) || !isWhole(perSeconds, MAX_RATE_SECONDS) || Object.keys(others).length) {
    throw new InvalidListenerError(
      'INVALID_RATE_LIMIT',
      '`rateLimit` must be { limit, perSeconds }. Allowed: for `limit` a whole number from 1 to 1,000,000, for `perSeconds` a whole number from 1 to 86,400.',
    );
  }
  return JSON.stringify({ limit, perSeconds });
}

/**
 * Combines two limits into one limit that satisfies both. The two limits are the limit of the listener, and the
 * requests per minute that its receiver granted. If one period is not a multiple of the other period, the result is
 * slightly stricter than both limits.
 *
 * @param given `{ limit, perSeconds }` as JSON
 * @param allowedRate requests per minute
 * @returns `null`: no limit
 */
export function limitOf(given: string | null, allowedRate: number | null): RateLimit | null {
  const own = given === null ? null : (JSON.parse(given) as RateLimit);
  if (own === null) return allowedRate === null ? null : { limit: allowedRate, perSeconds: MINUTE_SECONDS };
  if (allowedRate === null) return own;
  const { limit, perSeconds } = own;
  // Each shorter period may use an equal share of the limit of the longer period.
  const [short, long] =
    perSeconds <= MINUTE_SECONDS
      ? [own, { limit: allowedRate, perSeconds: MINUTE_SECONDS }]
      : [{ limit: allowedRate, perSeconds: MINUTE_SECONDS }, own];
  const share = Math.floor(long.limit / Math.ceil(long.perSeconds / short.perSeconds));
  if (share >= 1) return { limit: Math.min(short.limit, share), perSeconds: short.perSeconds };
  return { limit: Math.min(limit, allowedRate), perSeconds: long.perSeconds };
}

const MINUTE_SECONDS = 60;

/** Number of slots into which a period is divided. Each slot expires as a whole. */
const SLOTS = 20;
/**
 * The minimum length of a slot for which starts are checked. A shorter slot may end before its requests can
 * start.
 */
const CHECKED_SLOT_MS = 1_000;

/**
 * Returns how many requests a limit still allows at `now`. The limit is a sliding window: all requests of `limit` may be used at the same
 * moment. Then no request is allowed until the first request is `perSeconds` old. Receivers usually count in the same way. (A bucket that
 * is refilled continuously, as in GCRA, would allow nearly twice the limit in one period.)
 *
 * Requests are counted in slots. A slot is one twentieth of the period. A request counts until its whole slot
 * has expired. So a listener that always has pending deliveries gets up to 5 % less than its limit, and never
 * more.
 *
 * @param taken the last result of `takenAfter`
 */
export function allowanceOf({ limit, perSeconds }: RateLimit, taken: string | null, now: number) {
  const periodMs = perSeconds * 1_000;
  const slotMs = periodMs / SLOTS;
  const endOf = (start: number) => start + slotMs + periodMs;
  const slots = taken === null ? [] : (JSON.parse(taken) as Slots).filter(([start]) => endOf(start) > now);
  const allowed = Math.max(0, limit - slots.reduce((sum, [, count]) => sum + count, 0));
  return {
    /** How many requests may be taken now. */
    allowed,
    /**
     * How long a request that is taken now may wait before it starts, in ms. The request may wait until the end of its slot, because the
     * age of a slot is counted from the end of the slot. If the request started later, the receiver would count the request in another
     * period. `null` if the start is not checked.
     */
    startWithinMs: slotMs < CHECKED_SLOT_MS ? null : (Math.floor(now / slotMs) + 1) * slotMs - now,
    /** The value to store after `count` requests were taken. */
    takenAfter(count: number): string {
      const start = Math.floor(now / slotMs) * slotMs;
      const last = slots.at(-1);
      // Another process with a faster clock has used a later slot. Count in that slot. A later slot expires later, so
      // the limit is never exceeded.
      const after: Slots =
        last && last[0] >= start ? [...slots.slice(0, -1), [last[0], last[1] + count]] : [...slots, [start, count]];
      return JSON.stringify(after);
    },
    /** When one more request may be taken, in ms, after `count` requests. */
    nextAt(count: number): number {
      const [first] = slots;
      if (count < allowed) return now;
      return endOf(first?.[0] ?? Math.floor(now / slotMs) * slotMs);
    },
  };
}
