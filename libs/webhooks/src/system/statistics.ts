import { BadRequestError } from '../errors.js';
import {
  addFigures,
  DURATION_BOUNDS,
  noFigures,
  STATS_FINE_FOR_MS,
  STATS_MINUTES_FOR_MS,
  subtractFigures,
  type StatsFigures,
  type TimedFigures,
  type TimedParts,
} from '../store/system/stats.js';
import { addParts, attemptsOf, isErrorCode, type StatsParts } from '../store/system/stats-parts.js';
import { invalidValue } from '../show.js';
import { DAY, HOUR, MINUTE } from '../time.js';

/** The time that one point of statistics covers. */
export type StatsStep = '1m' | '5m' | '1h' | '1d';

const STEPS: Readonly<Record<StatsStep, number>> = { '1m': MINUTE, '5m': 5 * MINUTE, '1h': HOUR, '1d': DAY };
/** 7 days in steps of five minutes, or 90 days in steps of an hour. */
const MAX_POINTS = 2_200;

/**
 * What each series counts:
 *
 * - `outcome`: one series of all attempts. Each point has a count for each outcome
 * - `listener`: a series for each of the ten listeners with the most attempts, and one for all others
 * - `type`: a series for each of the ten event types with the most attempts, and one for all others
 * - `error`: a series for each of the ten most frequent error codes, and one for all other failed attempts. Accepted attempts are left out
 */
export type StatsBy = 'outcome' | 'listener' | 'type' | 'error';

const BYS: readonly StatsBy[] = ['outcome', 'listener', 'type', 'error'];
/** The most types or errors with a separate series. */
const KEYS_SHOWN = 10;
/** The most listeners with a separate series. */
export const LISTENERS_SHOWN = 10;
/** The key of the series of all attempts, and the key of the series of listeners without a separate series. */
const ALL = 'all';
const OTHERS = 'other';

/** The period and the step of statistics. */
export interface StatsOptions {
  /** @defaultValue 24 hours ago */
  since?: Date;
  /** @defaultValue now */
  until?: Date;
  /** @defaultValue `'5m'` for at most a day, `'1h'` for at most 14 days, `'1d'` for more */
  step?: StatsStep;
  /** @defaultValue `'outcome'` */
  by?: StatsBy;
}

/**
 * One point: its beginning in ms since 1970, the attempts by outcome, and durations in ms within which half, and 95 of 100, of the attempts
 * ended. Durations are estimated from 12 classes, and are `null` without attempts, by type and by error. They do not include blocked
 * attempts.
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
  /**
   * The step of the points. It may be longer than the requested step: figures for each minute are kept for 6 hours, figures for 5 minutes
   * for 7 days, and later only figures for each hour.
   */
  readonly step: StatsStep;
  readonly since: Date;
  readonly until: Date;
  /**
   * By outcome: one series with the key `all`. By listener, type or error: the key is the id of a listener, an event type or an error code,
   * or `other` for all without a separate series.
   */
  readonly series: readonly { readonly key: string; readonly points: readonly StatsPoint[] }[];
  /** The sums over the whole period. */
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

/** A period that consists of whole steps. Times are in ms since 1970. */
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
  const used = keptStep(wanted, now - from);
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
    `The period has ${Math.max(0, points)} steps of ${used}. Allowed: 1 to ${MAX_POINTS}. Set \`since\` before \`until\`, or a longer \`step\`.`,
  );
}

/** The shortest step for which figures of this age are kept, but no shorter than the step that is wanted. */
function keptStep(wanted: StatsStep, ageMs: number): StatsStep {
  if (wanted !== '1m' && wanted !== '5m') return wanted;
  if (ageMs > STATS_FINE_FOR_MS) return '1h';
  return ageMs > STATS_MINUTES_FOR_MS ? '5m' : wanted;
}

function defaultStep(rangeMs: number): StatsStep {
  if (rangeMs <= DAY) return '5m';
  return rangeMs <= 14 * DAY ? '1h' : '1d';
}

/** @throws BadRequestError `INVALID_STATS_BY` */
export function statsBy(by: StatsBy | undefined): StatsBy {
  if (by === undefined) return 'outcome';
  if (BYS.includes(by)) return by;
  throw new BadRequestError('INVALID_STATS_BY', invalidValue('by', by, BYS.join(', ')));
}

/** The figures of one instance. Only {@link all} is filled by outcome. */
export interface StatsReading {
  readonly range: StatsRange;
  readonly by: StatsBy;
  readonly all: readonly TimedFigures[];
  /** By listener: the busiest listeners, by their ids. */
  readonly listeners: ReadonlyMap<string, readonly TimedFigures[]>;
  /** By type and by error. */
  readonly parts: readonly TimedParts[];
}

/** @param readings of at least one instance, with the same options */
export function statisticsFrom(readings: readonly [StatsReading, ...StatsReading[]]): Statistics {
  const [{ range, by }] = readings;
  const all = readings.flatMap((reading) => reading.all);
  if (by === 'outcome') return statisticsOf(range, all);
  if (by !== 'listener') {
    const parts = readings.flatMap((reading) => reading.parts);
    return statisticsByPart(range, all, parts, by);
  }
  const listeners = readings.flatMap((reading) => [...reading.listeners]);
  const busiest = readings.length === 1 ? listeners : listeners.toSorted(([, a], [, b]) => sumOf(b) - sumOf(a));
  return statisticsByKey(range, all, new Map(busiest.slice(0, LISTENERS_SHOWN)));
}

function sumOf(rows: readonly TimedFigures[]): number {
  return rows.reduce((sum, { figures }) => sum + attemptsOf(figures), 0);
}

/** One series of all attempts. */
function statisticsOf(range: StatsRange, rows: readonly TimedFigures[]): Statistics {
  return shown(range, rows, [{ key: ALL, points: pointsOf(range, stepsOf(range, rows)) }]);
}

/**
 * A series for each part, and one for what the parts leave of all attempts.
 *
 * @param rows of all attempts. Read them after the parts, because figures are added meanwhile
 */
function statisticsByKey(
  range: StatsRange,
  rows: readonly TimedFigures[],
  parts: ReadonlyMap<string, readonly TimedFigures[]>,
): Statistics {
  const others = stepsOf(range, rows);
  const series = [...parts].map(([key, some]) => {
    const steps = stepsOf(range, some);
    for (const [at, figures] of steps) subtractFigures(stepAt(others, at), figures);
    return { key, points: pointsOf(range, steps) };
  });
  const points = pointsOf(range, others);
  const isOther = points.some(([, ...counts]) => counts.some((count) => (count ?? 0) > 0));
  return shown(range, rows, isOther ? [...series, { key: OTHERS, points }] : series);
}

/**
 * A series for each of the most frequent types or errors, and one for what they leave of all attempts.
 *
 * @param rows of all attempts. Read them after the parts, because figures are added meanwhile
 */
function statisticsByPart(
  range: StatsRange,
  rows: readonly TimedFigures[],
  timed: readonly TimedParts[],
  by: 'type' | 'error',
): Statistics {
  const wanted = timed.map(({ startsAt, parts }) => ({
    startsAt,
    parts: new Map([...parts].filter(([key]) => isErrorCode(key) === (by === 'error'))),
  }));
  const series = busiestKeys(wanted).map((key): [string, TimedFigures[]] => {
    const ofKey = wanted.filter(({ parts }) => parts.has(key));
    return [key, ofKey.map(({ startsAt, parts }) => ({ startsAt, figures: { ...noFigures(), ...parts.get(key) } }))];
  });
  const counts = rows.map(({ startsAt, figures: { accepted, ...figures } }) => ({
    startsAt,
    // Durations are not kept by type and by error.
    figures: { ...figures, accepted: by === 'error' ? 0 : accepted, histogram: noFigures().histogram },
  }));
  return { ...statisticsByKey(range, counts, new Map(series)), totals: statisticsOf(range, rows).totals };
}

/** The keys with the most attempts. */
function busiestKeys(timed: readonly TimedParts[]): string[] {
  const sums: StatsParts = new Map();
  for (const { parts } of timed) addParts(sums, parts);
  const busiest = [...sums].toSorted(([, a], [, b]) => attemptsOf(b) - attemptsOf(a));
  return busiest.slice(0, KEYS_SHOWN).map(([key]) => key);
}

function shown(
  { step, since, until }: StatsRange,
  rows: readonly TimedFigures[],
  series: Statistics['series'],
): Statistics {
  const all = noFigures();
  for (const { figures } of rows) addFigures(all, figures);
  const { accepted, rejected, unreachable, blocked, exhausted, histogram } = all;
  return {
    ...{ step, since: new Date(since), until: new Date(until), series },
    totals: {
      ...{ accepted, rejected, unreachable, blocked, exhausted },
      ...{ p50: quantile(histogram, 0.5), p95: quantile(histogram, 0.95) },
    },
  };
}

/** The sums of each step that has rows. */
function stepsOf({ stepMs }: StatsRange, rows: readonly TimedFigures[]): Map<number, StatsFigures> {
  const steps = new Map<number, StatsFigures>();
  for (const { startsAt, figures } of rows) addFigures(stepAt(steps, Math.floor(startsAt / stepMs) * stepMs), figures);
  return steps;
}

function stepAt(steps: Map<number, StatsFigures>, at: number): StatsFigures {
  const figures = steps.get(at) ?? noFigures();
  steps.set(at, figures);
  return figures;
}

/** The points of a period, including points without attempts. */
function pointsOf({ stepMs, since, until }: StatsRange, steps: ReadonlyMap<number, StatsFigures>): StatsPoint[] {
  const points: StatsPoint[] = [];
  for (let at = since; at < until; at += stepMs) points.push(pointOf(at, steps.get(at)));
  return points;
}

function pointOf(at: number, figures: StatsFigures | undefined): StatsPoint {
  if (!figures) return [at, 0, 0, 0, 0, null, null];
  const { accepted, rejected, unreachable, blocked, histogram } = figures;
  return [at, accepted, rejected, unreachable, blocked, quantile(histogram, 0.5), quantile(histogram, 0.95)];
}

/**
 * The duration within which a share of the attempts ended, in whole ms. The function assumes that durations are evenly distributed inside a
 * class. The last class has no upper bound, so the result is its lower bound.
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
