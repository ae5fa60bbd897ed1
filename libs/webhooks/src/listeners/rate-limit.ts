import { InvalidListenerError } from './errors.js';

/** At most `limit` requests are taken to be sent in any stretch of `perSeconds`, by all processes together. */
export interface RateLimit {
  readonly limit: number;
  readonly perSeconds: number;
}

/** Largest limit, in requests. */
export const MAX_RATE = 1_000_000;
/** Longest stretch, in seconds. */
export const MAX_RATE_SECONDS = 86_400;

/** Requests taken in the slot of time that begins at `start`, in ms; the oldest slot first. */
type Slots = [start: number, count: number][];

/** As JSON, for the listener's row. @throws InvalidListenerError `INVALID_RATE_LIMIT` */
export function writeRateLimit(given: RateLimit | null | undefined): string | null {
  if (given === undefined || given === null) return null;
  const { limit, perSeconds, ...others } = given;
  const isWhole = (value: unknown, max: number) =>
    Number.isInteger(value) && Number(value) >= 1 && Number(value) <= max;
  if (!isWhole(limit, MAX_RATE) || !isWhole(perSeconds, MAX_RATE_SECONDS) || Object.keys(others).length) {
    throw new InvalidListenerError(
      'INVALID_RATE_LIMIT',
      'rateLimit is { limit, perSeconds }: whole numbers from 1 to 1,000,000 requests and from 1 to 86,400 seconds.',
    );
  }
  return JSON.stringify({ limit, perSeconds });
}

/**
 * One limit that keeps both: a listener's own, and the requests a minute that its receiver granted. Where the two stretches do not
 * divide each other it is somewhat stricter than both.
 *
 * @param given `{ limit, perSeconds }` as JSON @param allowedRate requests a minute @returns `null`: no limit
 */
export function limitOf(given: string | null, allowedRate: number | null): RateLimit | null {
  const own = given === null ? null : (JSON.parse(given) as RateLimit);
  if (own === null) return allowedRate === null ? null : { limit: allowedRate, perSeconds: MINUTE_SECONDS };
  if (allowedRate === null) return own;
  const { limit, perSeconds } = own;
  // In the shorter stretch what the longer one's limit leaves to each of those it is made of.
  const [short, long] =
    perSeconds <= MINUTE_SECONDS
      ? [own, { limit: allowedRate, perSeconds: MINUTE_SECONDS }]
      : [{ limit: allowedRate, perSeconds: MINUTE_SECONDS }, own];
  const share = Math.floor(long.limit / Math.ceil(long.perSeconds / short.perSeconds));
  if (share >= 1) return { limit: Math.min(short.limit, share), perSeconds: short.perSeconds };
  return { limit: Math.min(limit, allowedRate), perSeconds: long.perSeconds };
}

const MINUTE_SECONDS = 60;

/** The stretch is remembered in this many slots: each one is forgotten as a whole. */
const SLOTS = 20;
/** A slot that is shorter would be over before what was taken in it could start. */
const CHECKED_SLOT_MS = 1_000;

/**
 * What a limit leaves at `now`, by a sliding window: the whole `limit` may go at once, and then nothing until the first of it
 * is `perSeconds` old. A receiver counts the same way. (A bucket that refills while it is emptied, as in GCRA, lets nearly twice
 * the limit through in one stretch.)
 *
 * Requests are remembered by slots of a twentieth of the stretch and count until the whole slot has passed. So a listener that
 * always has something waiting gets up to 5 % less than its limit, and never more.
 *
 * @param taken what `takenAfter` gave last
 */
export function allowanceOf({ limit, perSeconds }: RateLimit, taken: string | null, now: number) {
  const stretchMs = perSeconds * 1_000;
  const slotMs = stretchMs / SLOTS;
  const endOf = (start: number) => start + slotMs + stretchMs;
  const slots = taken === null ? [] : (JSON.parse(taken) as Slots).filter(([start]) => endOf(start) > now);
  const allowed = Math.max(0, limit - slots.reduce((sum, [, count]) => sum + count, 0));
  return {
    /** How many requests may be taken now. */
    allowed,
    /**
     * How long what is taken now may take to start, in ms: to the end of its slot, since it counts from there on. Later it would arrive with
     * what is taken in another stretch. `null`: it is not looked at.
     */
    startWithinMs: slotMs < CHECKED_SLOT_MS ? null : (Math.floor(now / slotMs) + 1) * slotMs - now,
    /** What to remember after `count` of them were. */
    takenAfter(count: number): string {
      const start = Math.floor(now / slotMs) * slotMs;
      const last = slots.at(-1);
      // A clock that was ahead has taken in a later slot: that one counts for longer, which is safe.
      const after: Slots =
        last && last[0] >= start ? [...slots.slice(0, -1), [last[0], last[1] + count]] : [...slots, [start, count]];
      return JSON.stringify(after);
    },
    /** When one more may go (ms), after `count` have gone. */
    nextAt(count: number): number {
      const [first] = slots;
      if (count < allowed) return now;
      return endOf(first?.[0] ?? Math.floor(now / slotMs) * slotMs);
    },
  };
}
