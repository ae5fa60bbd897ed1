import sql, { bulk, join, raw, type Sql } from 'sql-template-tag';
import { ownerKeyOf } from '../../hash.js';
import { DAY, HOUR, MINUTE } from '../../time.js';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { numberOrNull } from '../database/number-or-null.js';
import { execute, query, type Script } from '../database/script.js';
import { addParts, MAX_PARTS_LENGTH, partsText, readParts, type StatsParts } from './stats-parts.js';

/** The time that one row of new statistics covers. */
export const STATS_SPAN_MS = MINUTE;
/** After this time, the rows of five minutes become one row. */
export const STATS_MINUTES_FOR_MS = 6 * HOUR;
/** The time that a row covers then. */
export const STATS_FINE_SPAN_MS = 5 * MINUTE;
/** After this time, the rows of an hour become one row. */
export const STATS_FINE_FOR_MS = 7 * DAY;
/** After this time, rows are deleted. */
export const STATS_KEPT_MS = 90 * DAY;
/** Stands for all listeners together, so that the figures of the instance are read from few rows. */
export const ALL_LISTENERS = 'all';

/** The columns of the histogram, each with the longest duration that it counts. */
const HISTOGRAM = [
  ['upTo10', 10],
  ['upTo25', 25],
  ['upTo50', 50],
  ['upTo100', 100],
  ['upTo250', 250],
  ['upTo500', 500],
  ['upTo1000', 1_000],
  ['upTo2500', 2_500],
  ['upTo5000', 5_000],
  ['upTo10000', 10_000],
  ['upTo30000', 30_000],
  ['longer', Infinity],
] as const;

/** The longest duration that each part of a histogram counts, in ms. */
export const DURATION_BOUNDS: readonly number[] = HISTOGRAM.map(([, bound]) => bound);
const BUCKETS = HISTOGRAM.map(([column]) => column);
const COUNTS = ['accepted', 'rejected', 'unreachable', 'blocked', 'exhausted'] as const;
const SUMS = [...COUNTS, 'durationMs', ...BUCKETS] as const;

/** Figures about attempts. Blocked attempts have no duration here, because it would reveal details of the internal network. */
export interface StatsFigures {
  accepted: number;
  rejected: number;
  unreachable: number;
  blocked: number;
  /** Deliveries whose last attempt failed. */
  exhausted: number;
  /** Sum of the durations that the histogram counts. */
  durationMs: number;
  /** In ms since 1970. */
  lastAcceptedAt: number | null;
  /** Attempts by their duration: see {@link DURATION_BOUNDS}. */
  readonly histogram: number[];
  /** Attempts by type and by error. Empty for figures that were read as sums of several rows. */
  readonly parts: StatsParts;
}

/** Figures of one listener and one time. */
export interface StatsEntry {
  readonly listenerId: string;
  readonly startsAt: number;
  readonly figures: StatsFigures;
}

export function noFigures(): StatsFigures {
  return {
    ...{ accepted: 0, rejected: 0, unreachable: 0, blocked: 0, exhausted: 0, durationMs: 0, lastAcceptedAt: null },
    histogram: DURATION_BOUNDS.map(() => 0),
    parts: new Map(),
  };
}

export function addFigures(to: StatsFigures, from: StatsFigures): void {
  addCounts(to, from, 1);
  addParts(to.parts, from.parts);
  if (from.lastAcceptedAt !== null) to.lastAcceptedAt = Math.max(to.lastAcceptedAt ?? 0, from.lastAcceptedAt);
}

/** The reverse of {@link addFigures}, except for the time of the last accepted attempt and for the parts. */
export function subtractFigures(from: StatsFigures, some: StatsFigures): void {
  addCounts(from, some, -1);
}

function addCounts(to: StatsFigures, from: StatsFigures, sign: 1 | -1): void {
  for (const key of COUNTS) to[key] += sign * from[key];
  to.durationMs += sign * from.durationMs;
  for (const [index, count] of from.histogram.entries())
    to.histogram[index] = (to.histogram[index] ?? 0) + sign * count;
}

/** Rows of one statement. */
export const ENTRIES_PER_STATEMENT = 200;

/** Adds figures to the rows, by one statement. Give at most {@link ENTRIES_PER_STATEMENT}. */
export function addStats(database: Database, entries: readonly StatsEntry[], spanMs = STATS_SPAN_MS): Sql {
  const { stats: t } = database.tables;
  const columns = ['listenerId', 'startsAt', 'spanMs', 'lastAcceptedAt', 'parts', ...SUMS] as const;
  const rows = entries.map(({ listenerId, startsAt, figures }) => [
    ...[listenerId, startsAt, spanMs, figures.lastAcceptedAt, partsText(figures.parts)],
    ...COUNTS.map((key) => figures[key]),
    ...[figures.durationMs, ...figures.histogram],
  ]);
  const isMysql = database.dialect === 'mysql';
  const into = isMysql ? t.sql : sql`${t.sql} as t`;
  const before = (column: Sql) => (isMysql ? column : sql`t.${column}`);
  const added = (column: Sql) => (isMysql ? sql`values(${column})` : sql`excluded.${column}`);
  const last = t.$.lastAcceptedAt;
  const sets = [
    sql`${last} = case when coalesce(${added(last)}, 0) > coalesce(${before(last)}, 0) then ${added(last)} else ${before(last)} end`,
    sql`${t.$.parts} = ${appended(database, before(t.$.parts), added(t.$.parts))}`,
    ...SUMS.map((key) => sql`${t.$[key]} = ${before(t.$[key])} + ${added(t.$[key])}`),
  ];
  const conflict = isMysql
    ? sql` on duplicate key update `
    : sql` on conflict (${t.$.listenerId}, ${t.$.startsAt}, ${t.$.spanMs}) do update set `;
  return sql`insert into ${into} (${join(columns.map((key) => t.$[key]))}) values ${bulk(rows)}${conflict}${join(sets)}`;
}

/** Appends a text, unless the result would be too long. */
function appended({ dialect }: Database, before: Sql, added: Sql): Sql {
  const [old, more] = [sql`coalesce(${before}, '')`, sql`coalesce(${added}, '')`];
  const both = dialect === 'mysql' ? sql`concat(${old}, ${more})` : sql`${old} || ${more}`;
  return sql`case when ${added} is null or length(${old}) + length(${more}) > ${raw(String(MAX_PARTS_LENGTH))} then ${before} else ${both} end`;
}

type StatsRow = Record<(typeof SUMS)[number] | 'startsAt' | 'lastAcceptedAt', unknown>;

function toFigures(row: StatsRow, parts: string | null = null): StatsFigures {
  return {
    accepted: Number(row.accepted),
    rejected: Number(row.rejected),
    unreachable: Number(row.unreachable),
    blocked: Number(row.blocked),
    exhausted: Number(row.exhausted),
    durationMs: Number(row.durationMs),
    lastAcceptedAt: numberOrNull(row.lastAcceptedAt),
    histogram: BUCKETS.map((key) => Number(row[key])),
    parts: readParts(parts),
  };
}

/** Whose figures are read: one listener, the listeners of one owner, or everybody. */
export type StatsOf = { readonly listenerId: string } | { readonly owner: string } | 'all';

/** A time from `since` until before `until`, in ms since 1970. */
interface TimeRange {
  readonly since: number;
  readonly until: number;
}

/** The figures of a time that begins at `startsAt`. */
export interface TimedFigures {
  readonly startsAt: number;
  readonly figures: StatsFigures;
}

/** Reads figures, by the beginning of each row. */
export function* readStats(database: Database, of: StatsOf, { since, until }: TimeRange): Script<TimedFigures[]> {
  const { stats: t } = database.tables;
  const sums = SUMS.map((key) => sql`sum(t.${t.$[key]}) ${t.as(key)}`);
  const rows = yield* query<StatsRow>(
    sql`select ${t.select('t', 'startsAt')}, max(t.${t.$.lastAcceptedAt}) ${t.as('lastAcceptedAt')}, ${join(sums)} from ${t.sql} t where t.${t.$.listenerId} ${isOf(database, of)} and t.${t.$.startsAt} >= ${since} and t.${t.$.startsAt} < ${until} group by t.${t.$.startsAt} order by t.${t.$.startsAt}`,
  );
  return rows.map((row) => ({ startsAt: Number(row.startsAt), figures: toFigures(row) }));
}

/** The most rows that one read looks at to distinguish types or errors. */
const ROWS_OF_PARTS = 20_000;

/** The figures by type and by error of a row. */
export interface TimedParts {
  readonly startsAt: number;
  readonly parts: StatsParts;
}

/** Reads figures by type and by error, the newest first. Rows of the same time may occur several times. */
export function* readStatsParts(database: Database, of: StatsOf, { since, until }: TimeRange): Script<TimedParts[]> {
  const { stats: t } = database.tables;
  const rows = yield* query<{ startsAt: unknown; parts: string }>(
    sql`select ${t.select('t', 'startsAt', 'parts')} from ${t.sql} t where t.${t.$.listenerId} ${isOf(database, of)} and t.${t.$.startsAt} >= ${since} and t.${t.$.startsAt} < ${until} and t.${t.$.parts} is not null order by t.${t.$.startsAt} desc limit ${ROWS_OF_PARTS}`,
  );
  return rows.map(({ startsAt, parts }) => ({ startsAt: Number(startsAt), parts: readParts(parts) }));
}

/** The condition for the listeners whose figures are read. */
function isOf(database: Database, of: StatsOf): Sql {
  if (of === 'all') return sql`= ${ALL_LISTENERS}`;
  return 'owner' in of ? isOfOwner(database, of.owner) : sql`= ${of.listenerId}`;
}

function isOfOwner({ tables: { listeners: l } }: Database, owner: string): Sql {
  return sql`in (select l.${l.$.id} from ${l.sql} l where l.${l.$.ownerKey} = ${ownerKeyOf(owner)})`;
}

/** The most rows of an instance that one read looks at to find its busiest listeners. */
const ROWS_RANKED = 50_000;

/**
 * Finds the listeners with the most attempts, the busiest first. For a whole instance, only the newest rows of the period are counted, so
 * that the cost has a limit.
 */
export function* readBusiestListeners(
  database: Database,
  of: Exclude<StatsOf, { readonly listenerId: string }>,
  { since, until }: TimeRange,
  count: number,
): Script<string[]> {
  const { stats: t } = database.tables;
  const isOne = of === 'all' ? sql`<> ${ALL_LISTENERS}` : isOfOwner(database, of.owner);
  const newest = of === 'all' ? sql` order by t.${t.$.startsAt} desc limit ${ROWS_RANKED}` : sql``;
  const attempts = sql`t.${t.$.accepted} + t.${t.$.rejected} + t.${t.$.unreachable} + t.${t.$.blocked}`;
  const rows = yield* query<{ listenerId: string }>(
    sql`select r.id ${t.as('listenerId')} from (select t.${t.$.listenerId} as id, ${attempts} as n from ${t.sql} t where t.${t.$.startsAt} >= ${since} and t.${t.$.startsAt} < ${until} and t.${t.$.listenerId} ${isOne}${newest}) r group by r.id order by sum(r.n) desc, r.id limit ${count}`,
  );
  return rows.map(({ listenerId }) => listenerId);
}

/** Reads the figures of some listeners. */
export function* readListenerStats(
  database: Database,
  listenerIds: readonly string[],
  { since, until }: TimeRange,
): Script<(TimedFigures & { listenerId: string })[]> {
  if (!listenerIds.length) return [];
  const { stats: t } = database.tables;
  const rows = yield* query<StatsRow & { listenerId: string }>(
    sql`select ${t.select('t', 'listenerId', 'startsAt', 'lastAcceptedAt', ...SUMS)} from ${t.sql} t where t.${t.$.listenerId} ${inList(listenerIds)} and t.${t.$.startsAt} >= ${since} and t.${t.$.startsAt} < ${until}`,
  );
  return rows.map((row) => ({
    listenerId: row.listenerId,
    startsAt: Number(row.startsAt),
    figures: toFigures(row),
  }));
}

const ROLLED_AT_ONCE = 500;

/**
 * Makes one row of `spanMs` from old rows of shorter times.
 *
 * @param after the result of an earlier call
 * @param before rolls the rows of whole spans before this time
 * @returns where the next call begins, and whether there may be more
 */
export function* rollStats(
  database: Database,
  after: number,
  { before, spanMs }: { readonly before: number; readonly spanMs: number },
): Script<{ last: number; hasMore: boolean }> {
  const floored = (at: number) => Math.floor(at / spanMs) * spanMs;
  const { stats: t } = database.tables;
  const rows = yield* query<StatsRow & { seq: unknown; listenerId: string; parts: string | null }>(
    sql`select ${t.select('t', 'seq', 'listenerId', 'startsAt', 'lastAcceptedAt', 'parts', ...SUMS)} from ${t.sql} t where t.${t.$.startsAt} >= ${after} and t.${t.$.startsAt} < ${floored(before)} and t.${t.$.spanMs} < ${raw(String(spanMs))} order by t.${t.$.startsAt} limit ${ROLLED_AT_ONCE}`,
  );
  const spans = new Map<string, StatsEntry>();
  for (const row of rows) {
    const startsAt = floored(Number(row.startsAt));
    const key = `${startsAt} ${row.listenerId}`;
    const entry = spans.get(key) ?? { listenerId: row.listenerId, startsAt, figures: noFigures() };
    addFigures(entry.figures, toFigures(row, row.parts));
    spans.set(key, entry);
  }
  for (const some of chunks([...spans.values()], ENTRIES_PER_STATEMENT)) yield addStats(database, some, spanMs);
  if (rows.length) yield* execute(sql`delete from ${t.sql} where ${t.$.seq} ${inList(rows.map(({ seq }) => seq))}`);
  const last = rows.at(-1);
  // The beginning of the span: rows of five minutes that another call makes later from minutes of the same hour come after it.
  return { last: last ? floored(Number(last.startsAt)) : after, hasMore: rows.length === ROLLED_AT_ONCE };
}

/** Deletes old rows. @returns whether there may be more */
export function* pruneStats(database: Database, before: number): Script<boolean> {
  const { stats: t } = database.tables;
  const rows = yield* query<{ seq: unknown }>(
    sql`select ${t.select('t', 'seq')} from ${t.sql} t where t.${t.$.startsAt} < ${before} order by t.${t.$.startsAt} limit ${ROLLED_AT_ONCE}`,
  );
  if (rows.length) yield* execute(sql`delete from ${t.sql} where ${t.$.seq} ${inList(rows.map(({ seq }) => seq))}`);
  return rows.length === ROLLED_AT_ONCE;
}
