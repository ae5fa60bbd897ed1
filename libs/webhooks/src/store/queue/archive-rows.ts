import sql, { type Sql } from 'sql-template-tag';
import { DAY, HOUR } from '../../time.js';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { byteLength } from '../database/dialect-sql.js';
import { atTimes } from '../database/event-times.js';
import type { PagePosition } from '../database/page.js';
import { query, type Script } from '../database/script.js';
import { anyLease } from '../outbox/leases.js';
import { isOfEvent } from '../outbox/delete-events.js';
import { withinBytes } from '../outbox/event-bytes.js';
import { selectEvent, type ClaimedEvent } from '../outbox/outbox-events.js';
import type { AttemptRow } from './delivery-rows.js';
import { isFinished, withStates, type AgedRow, type OldEvent } from './old-events.js';

/**
 * The rows of one file. The selection is stored before the file is begun, and it selects the same rows when it is read again, in whatever
 * order rows changed meanwhile: a row that changed later is not selected any more. So a file can be made again after a crash, and rows that no
 * file has are never deleted.
 */
export interface ArchiveSelection {
  /** In days (UTC) since 1970. */
  readonly day: number;
  /** The last sequences when the selection was made. */
  readonly last: { readonly events: number; readonly deliveries: number; readonly attempts: number };
  /** Only deliveries that ended before this time. */
  readonly endedBefore: number;
  /** Not the events that were restored from an archive at this time or later. */
  readonly restoredBefore: number;
}

/** How many rows one transaction reads. */
const EVENTS_PER_PAGE = 200;
const DELIVERIES_PER_PAGE = 100;
/** Deliveries that ended within this time are left for a later file. So no clock of another process that is behind can hide an attempt. */
const ENDED_FOR_MS = HOUR;

/** The time of the first event in a period; `null` if there is none. Times are in ms since 1970. */
export function* firstEventTime(
  database: Database,
  { from, before }: { from: number; before: number },
): Script<number | null> {
  const { events: e } = database.tables;
  const [row] = yield* query<{ createdAt: unknown }>(
    sql`select ${e.select('e', 'createdAt')} from ${e.sql} e${e.through('createdAt')} where e.${e.$.createdAt} >= ${from} and e.${e.$.createdAt} < ${before} order by e.${e.$.createdAt} limit 1`,
  );
  return row ? Number(row.createdAt) : null;
}

/**
 * Selects the rows of a day as they are now.
 *
 * @returns `null` while events of the day are unfinished: such an event could end, and be deleted, without being in the file
 */
export function* selectDay(
  database: Database,
  day: number,
  { now, keptMs }: { now: number; keptMs: number },
): Script<ArchiveSelection | null> {
  const { outbox: o, leases: l } = database.tables;
  // One statement: an event may move from the outbox to a lease, or back.
  const unfinished = yield* query(
    sql`select 1 as found from ${o.sql} o where o.${o.$.eventAt} >= ${day * DAY} and o.${o.$.eventAt} < ${(day + 1) * DAY}
      union all select 1 from ${l.sql} l where ${anyLease(database)} and l.${l.$.lastAt} >= ${day * DAY} and l.${l.$.firstAt} < ${(day + 1) * DAY} limit 1`,
  );
  if (unfinished.length) return null;
  const last = { events: 0, deliveries: 0, attempts: 0 };
  for (const name of ['events', 'deliveries', 'attempts'] as const) {
    const { sql: path, $ } = database.tables[name];
    const [row] = yield* query<{ last: unknown }>(sql`select max(${$.seq}) as last from ${path}`);
    last[name] = Number(row?.last ?? 0);
  }
  return { day, last, endedBefore: now - ENDED_FOR_MS, restoredBefore: now - keptMs };
}

/** The position before the first event of a day. */
export function startOf({ day }: ArchiveSelection): PagePosition {
  return { at: day * DAY, seq: '0' };
}

/** The condition for events `e` of the day after a position, in the order of their time. */
function isOfDay({ tables: { events: e } }: Database, { day, last }: ArchiveSelection, { at, seq }: PagePosition): Sql {
  const isAfter = sql`e.${e.$.createdAt} >= ${at} and (e.${e.$.createdAt} > ${at} or e.${e.$.seq} > ${seq})`;
  return sql`${isAfter} and e.${e.$.createdAt} < ${(day + 1) * DAY} and e.${e.$.seq} <= ${last.events}`;
}

/** Whether the age of an event of the day is over: an event that was restored lately is kept. */
function isAged({ restoredAt }: Pick<AgedRow, 'restoredAt'>, { restoredBefore }: ArchiveSelection): boolean {
  return restoredAt === null || Number(restoredAt) < restoredBefore;
}

/** A page of rows. `next` is where the next page begins; `null` after the last page. */
interface EventKeys {
  readonly events: readonly OldEvent[];
  readonly next: PagePosition | null;
}

/** A page of the selected events, without their content. */
export function* readArchivedKeys(
  database: Database,
  selection: ArchiveSelection,
  after: PagePosition,
): Script<EventKeys> {
  const { events: e } = database.tables;
  const rows = yield* query<AgedRow>(
    sql`select ${e.select('e', 'seq', 'createdAt', 'restoredAt')} from ${e.sql} e${e.through('createdAt')} where ${isOfDay(database, selection, after)} order by e.${e.$.createdAt}, e.${e.$.seq} limit ${EVENTS_PER_PAGE}`,
  );
  const aged = rows.filter((row) => isAged(row, selection));
  return { events: yield* withStates(database, aged), next: nextOf(rows, EVENTS_PER_PAGE) };
}

/** An event with its content. */
export interface ArchivedEventRow extends ClaimedEvent {
  erasedAt: unknown;
  /** Why the event is damaged. */
  reason: string | null;
}

/** A page of events. */
export interface ArchivedEventPage {
  readonly events: readonly ArchivedEventRow[];
  readonly next: PagePosition | null;
  /** Whether the page has each event of the day between its first and its last. */
  readonly isWhole: boolean;
}

/**
 * A page of the events that belong into the file. Left out are events that are in the outbox or being sent again, and events whose deliveries are all
 * pending or not selected: they come when a delivery has ended.
 */
export function* readArchivedEvents(
  database: Database,
  selection: ArchiveSelection,
  after: PagePosition,
): Script<ArchivedEventPage> {
  const { events: e, deliveries: d } = database.tables;
  const delivery = sql`select 1 from ${d.sql} d where ${isOfEvent(database)}`;
  const isEnded = sql`d.${d.$.state} in ('succeeded', 'exhausted', 'discarded') and d.${d.$.finishedAt} < ${selection.endedBefore}`;
  const found = yield* query<AgedRow & { bytes: unknown; waits: unknown }>(
    sql`select ${e.select('e', 'seq', 'createdAt', 'restoredAt')}, ${byteLength(database.dialect, sql`e.${e.$.payload}`)} ${e.as('bytes')}, case when exists (${delivery}) and not exists (${delivery} and ${isEnded}) then 1 else 0 end ${e.as('waits')} from ${e.sql} e${e.through('createdAt')} where ${isOfDay(database, selection, after)} order by e.${e.$.createdAt}, e.${e.$.seq} limit ${EVENTS_PER_PAGE}`,
  );
  const page = withinBytes(found);
  const next = nextOf(page, page.length < found.length ? page.length : EVENTS_PER_PAGE);
  const states = yield* withStates(database, page);
  const isWanted = (row: (typeof page)[number] | undefined) =>
    row !== undefined && Number(row.waits) === 0 && isAged(row, selection);
  const wanted = states.filter(({ state }, n) => isFinished(state) && isWanted(page[n]));
  const events = wanted.length ? yield* readContents(database, wanted) : [];
  return { events, next, isWhole: events.length === page.length };
}

function* readContents(database: Database, wanted: readonly OldEvent[]): Script<ArchivedEventRow[]> {
  const { events: e, damaged: x } = database.tables;
  const seqs = inList(wanted.map(({ seq }) => seq));
  const times = wanted.map(({ createdAt }) => createdAt);
  const rows = yield* query<ArchivedEventRow>(
    sql`select ${selectEvent(database)}, ${e.select('e', 'erasedAt')} from ${e.sql} e where e.${e.$.seq} ${seqs}${atTimes(database, sql`e.${e.$.createdAt}`, times)} order by e.${e.$.createdAt}, e.${e.$.seq}`,
  );
  const damaged = yield* query<{ seq: unknown; reason: string }>(
    sql`select ${x.select('x', 'seq', 'reason')} from ${x.sql} x where x.${x.$.seq} ${seqs}`,
  );
  const reasons = new Map(damaged.map(({ seq, reason }) => [String(seq), reason]));
  return rows.map((row) => ({ ...row, reason: reasons.get(String(row.seq)) ?? null }));
}

function nextOf(rows: readonly AgedRow[], full: number): PagePosition | null {
  const last = rows.at(-1);
  return last && rows.length === full ? { at: Number(last.createdAt), seq: String(last.seq) } : null;
}

/** A delivery that has ended. The properties of its first attempt may be in the row: `outcome` is not `null` then. */
export interface ArchivedDeliveryRow {
  id: string;
  eventSeq: unknown;
  eventAt: unknown;
  eventId: string;
  listenerId: string;
  type: string;
  owner: string | null;
  state: string;
  body: string | null;
  format: string | null;
  version: unknown;
  attempts: unknown;
  lastStatus: unknown;
  lastErrorCode: string | null;
  outcome: string | null;
  status: unknown;
  errorCode: string | null;
  errorDetail: string | null;
  durationMs: unknown;
  response: string | null;
  startedAt: unknown;
  createdAt: unknown;
  finishedAt: unknown;
}

export interface ArchivedAttemptRow extends AttemptRow {
  deliveryId: string;
}

/** The last delivery of a page. */
export interface DeliveryPosition extends PagePosition {
  readonly listenerId: string;
}

/** A page of deliveries with their attempts. */
export interface ArchivedDeliveryPage {
  readonly deliveries: readonly ArchivedDeliveryRow[];
  readonly attempts: readonly ArchivedAttemptRow[];
  readonly next: DeliveryPosition | null;
  /** Whether the page has each delivery of the day between its first and its last. */
  readonly isWhole: boolean;
}

/** A page of the selected deliveries that have ended, in the order of the index that finds the deliveries of an event. */
export function* readArchivedDeliveries(
  database: Database,
  selection: ArchiveSelection,
  after: DeliveryPosition,
): Script<ArchivedDeliveryPage> {
  const { deliveries: d } = database.tables;
  const { at, seq, listenerId } = after;
  const isAfter = sql`(d.${d.$.eventAt} > ${at} or d.${d.$.eventSeq} > ${seq} or d.${d.$.eventSeq} = ${seq} and d.${d.$.listenerId} > ${listenerId})`;
  const found = yield* query<Omit<ArchivedDeliveryRow, 'eventId'>>(
    sql`select ${d.select('d', 'id', 'eventSeq', 'eventAt', 'listenerId', 'type', 'owner', 'state', 'body', 'format', 'version', 'attempts', 'lastStatus', 'lastErrorCode', 'outcome', 'status', 'errorCode', 'errorDetail', 'durationMs', 'response', 'startedAt', 'createdAt', 'finishedAt')} from ${d.sql} d${d.through('eventAt', 'eventSeq', 'listenerId')} where d.${d.$.eventAt} >= ${at} and d.${d.$.eventAt} < ${(selection.day + 1) * DAY} and ${isAfter} order by d.${d.$.eventAt}, d.${d.$.eventSeq}, d.${d.$.listenerId} limit ${DELIVERIES_PER_PAGE}`,
  );
  const idOf = yield* eventIds(database, selection, found);
  const deliveries = found
    .filter((row) => isEnded(row, selection))
    .flatMap((row) => {
      const eventId = idOf.get(String(row.eventSeq));
      return eventId === undefined ? [] : [{ ...row, eventId }];
    });
  const last = found.length === DELIVERIES_PER_PAGE ? found.at(-1) : undefined;
  return {
    deliveries,
    attempts: deliveries.length ? yield* readAttemptsOf(database, deliveries) : [],
    next: last ? { at: Number(last.eventAt), seq: String(last.eventSeq), listenerId: last.listenerId } : null,
    isWhole: deliveries.length === found.length,
  };
}

function isEnded(
  { state, finishedAt }: Pick<ArchivedDeliveryRow, 'state' | 'finishedAt'>,
  selection: ArchiveSelection,
) {
  const hasEnded = state === 'succeeded' || state === 'exhausted' || state === 'discarded';
  return hasEnded && finishedAt !== null && Number(finishedAt) < selection.endedBefore;
}

/** The ids of the selected events of these deliveries, by sequence. Unfinished events are left out. */
function* eventIds(
  database: Database,
  selection: ArchiveSelection,
  found: readonly Pick<ArchivedDeliveryRow, 'eventSeq' | 'eventAt'>[],
): Script<ReadonlyMap<string, string>> {
  if (!found.length) return new Map();
  const { events: e } = database.tables;
  const seqs = [...new Set(found.map(({ eventSeq }) => String(eventSeq)))];
  const times = found.map(({ eventAt }) => eventAt);
  const rows = yield* query<AgedRow & { id: string }>(
    sql`select ${e.select('e', 'seq', 'id', 'createdAt', 'restoredAt')} from ${e.sql} e where e.${e.$.seq} ${inList(seqs)}${atTimes(database, sql`e.${e.$.createdAt}`, times)}`,
  );
  const states = yield* withStates(database, rows);
  const isWanted = (row: AgedRow, n: number) =>
    Number(row.seq) <= selection.last.events && isAged(row, selection) && isFinished((states[n] as OldEvent).state);
  return new Map(rows.filter(isWanted).map(({ seq, id }) => [String(seq), id]));
}

function* readAttemptsOf(database: Database, deliveries: readonly ArchivedDeliveryRow[]): Script<ArchivedAttemptRow[]> {
  const { attempts: a } = database.tables;
  const times = deliveries.map(({ eventAt }) => eventAt);
  return yield* query<ArchivedAttemptRow>(
    sql`select ${a.select('a', 'deliveryId', 'number', 'outcome', 'status', 'errorCode', 'errorDetail', 'durationMs', 'response', 'superseded', 'startedAt', 'trigger', 'triggeredBy', 'details')} from ${a.sql} a where a.${a.$.deliveryId} ${inList(deliveries.map(({ id }) => id))}${atTimes(database, sql`a.${a.$.eventAt}`, times)} order by a.${a.$.deliveryId}, a.${a.$.seq}`,
  );
}
