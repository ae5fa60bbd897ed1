import { BadRequestError } from '../errors.js';
import { addFigures, DURATION_BOUNDS, noFigures, STATS_FINE_FOR_MS, type StatsFigures } from '../store/system/stats.js';
import { DAY, HOUR, MINUTE } from '../time.js';

/** The time that one point of statistics covers. */
export type StatsStep = '5m' | '1h' | '1d';

const STEPS: Readonly<Record<StatsStep, number>> = { '5m': 5 * MINUTE, '1h': HOUR, '1d': DAY };
/** 7 days in steps of five minutes, or 90 days in steps of an hour. */
const MAX_POINTS = 2_200;

/** What is asked for. */
export interface StatsOptions {
  /** @defaultValue 24 hours ago */
  since?: Date;
  /** @defaultValue now */
  until?: Date;
  /** @defaultValue `'5m'` for at most a day, `'1h'` for at most 14 days, `'1d'` for more */
  step?: StatsStep;
}

/**
 * One point: its beginning in ms since 1970, the attempts by outcome, and durations in ms within which half, and 95 of 100, of the attempts
 * ended. Durations are estimated from 12 classes, and are `null` without attempts. Blocked attempts do not count for them.
 */
export type StatsPoint = readonly [
  startsAt: number,
  accepted: number,
  rejected: number,
  unreachable: number,
  blocked: number,
  p50: number | null,
  p95: number | null,
];

/** Attempts over time. */
export interface Statistics {
  /** May be longer than the step that was asked for: figures that are older than 7 days are kept for each hour. */
  readonly step: StatsStep;
  readonly since: Date;
  readonly until: Date;
  readonly series: readonly { readonly key: string; readonly points: readonly StatsPoint[] }[];
  /** The sums of the whole time. */
  readonly totals: {
    readonly accepted: number;
    readonly rejected: number;
    readonly unreachable: number;
    readonly blocked: number;
    /** Deliveries whose last attempt failed. */
    readonly exhausted: number;
    readonly p50: number | null;
    readonly p95: number | null;
  };
}

/** A time in whole steps. Times are in ms since 1970. */
export interface StatsRange {
  readonly step: StatsStep;
  readonly stepMs: number;
  readonly since: number;
  readonly until: number;
}

/** @throws BadRequestError `INVALID_STATS_RANGE` */
export function statsRange(
  { since, until, step }: { since: number | undefined; until: number | undefined; step: StatsStep | undefined },
  now: number,
): StatsRange {
  const to = until ?? now;
  const from = since ?? to - DAY;
  const wanted = step ?? defaultStep(to - from);
  // Older figures are kept for each hour.
  const used = wanted === '5m' && from < now - STATS_FINE_FOR_MS ? '1h' : wanted;
  const stepMs = STEPS[used];
  const range = {
    step: used,
    stepMs,
    since: Math.floor(from / stepMs) * stepMs,
    until: Math.ceil(to / stepMs) * stepMs,
  };
  const points = (range.until - range.since) / stepMs;
  if (points > 0 && points <= MAX_POINTS) return range;
  throw new BadRequestError(
    'INVALID_STATS_RANGE',
    `The time has ${Math.max(0, points)} steps of ${used}. Allowed: 1 to ${MAX_POINTS}. Set \`since\` before \`until\`, or a longer \`step\`.`,
  );
}

function defaultStep(rangeMs: number): StatsStep {
  if (rangeMs <= DAY) return '5m';
  return rangeMs <= 14 * DAY ? '1h' : '1d';
}

/** The points of a range, also those without attempts. */
export function statisticsOf(
  { step, stepMs, since, until }: StatsRange,
  rows: readonly { readonly startsAt: number; readonly figures: StatsFigures }[],
): Statistics {
  const all = noFigures();
  const steps = new Map<number, StatsFigures>();
  for (const { startsAt, figures } of rows) {
    const at = Math.floor(startsAt / stepMs) * stepMs;
    const sum = steps.get(at) ?? noFigures();
    addFigures(sum, figures);
    addFigures(all, figures);
    steps.set(at, sum);
  }
  const points: StatsPoint[] = [];
  for (let at = since; at < until; at += stepMs) points.push(pointOf(at, steps.get(at)));
  const { accepted, rejected, unreachable, blocked, exhausted, histogram } = all;
  return {
    ...{ step, since: new Date(since), until: new Date(until), series: [{ key: 'all', points }] },
    totals: {
      ...{ accepted, rejected, unreachable, blocked, exhausted },
      ...{ p50: quantile(histogram, 0.5), p95: quantile(histogram, 0.95) },
    },
  };
}

function pointOf(at: number, figures: StatsFigures | undefined): StatsPoint {
  if (!figures) return [at, 0, 0, 0, 0, null, null];
  const { accepted, rejected, unreachable, blocked, histogram } = figures;
  return [at, accepted, rejected, unreachable, blocked, quantile(histogram, 0.5), quantile(histogram, 0.95)];
}

/**
 * The duration within which a share of the attempts ended, in whole ms. Inside a class, durations are taken as evenly spread. The last class
 * has no end, so its beginning is the answer.
 */
function quantile(histogram: readonly number[], share: number): number | null {
  const total = histogram.reduce((sum, count) => sum + count, 0);
  if (!total) return null;
  let rank = share * total;
  for (const [index, count] of histogram.entries()) {
    const from = index === 0 ? 0 : (DURATION_BOUNDS[index - 1] as number);
    const to = DURATION_BOUNDS[index] as number;
    if (rank <= count && count > 0) return Math.round(Number.isFinite(to) ? from + (to - from) * (rank / count) : from);
    rank -= count;
  }
  return DURATION_BOUNDS.at(-2) ?? null;
}
