import { api } from './api.js';
import type { Statistics } from './shapes.js';
import { useLoaded, type Loaded } from './use-loaded.js';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

/** How far back one looks, and the time of one bar. */
export const RANGES = {
  '1h': [HOUR, '1m'],
  '24h': [DAY, '1h'],
  '7d': [7 * DAY, '1h'],
  '30d': [30 * DAY, '1d'],
} as const;
export type Range = keyof typeof RANGES;

export function rangeOf(query: URLSearchParams): Range {
  const given = query.get('range');
  return given !== null && given in RANGES ? (given as Range) : '24h';
}

const POLL_MS = 30_000;

/** Attempts over time: of everything that the caller sees, or of one listener. */
export function useStatistics(range: Range, listenerId?: string): Loaded<Statistics> {
  return useLoaded(
    `stats ${listenerId ?? 'all'} ${range}`,
    (signal) => {
      const [length, step] = RANGES[range];
      const now = Date.now();
      // Both ends are given: the clocks of the browser and of the server differ.
      const query = { since: new Date(now - length), until: new Date(now), step };
      return listenerId === undefined
        ? api.getStatistics({ query }, { signal })
        : api.getListenerStatistics({ id: listenerId, query }, { signal });
    },
    POLL_MS,
  );
}

export const STEP_MS: Readonly<Record<Statistics['step'], number>> = {
  '1m': HOUR / 60,
  '5m': HOUR / 12,
  '1h': HOUR,
  '1d': DAY,
};

/** Every attempt of the whole time. */
export function attemptsOf({ accepted, rejected, unreachable, blocked }: Statistics['totals']): number {
  return accepted + rejected + unreachable + blocked;
}

export function minutesOf({ since, until }: Statistics): number {
  return (new Date(until).getTime() - new Date(since).getTime()) / 60_000;
}
