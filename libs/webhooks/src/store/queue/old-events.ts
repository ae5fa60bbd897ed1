import sql, { raw, type Sql } from 'sql-template-tag';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { atTimes } from '../database/event-times.js';
import { stateOf } from './delivery-rows.js';
import { lockListenerStates, refreshReadyAt } from '../listeners/listener-state.js';
import { execute, query, type Script } from '../database/script.js';
import { deleteEvents, isOfEvent } from '../outbox/delete-events.js';
import { readEventStates, type EventState } from '../outbox/event-state.js';

/** `lastErrorCode` of a delivery that was pending for longer than `dispatcher.maxAgeMs`. */
export const TOO_OLD = 'TOO_OLD';

/** The number of events that one transaction reads. */
const EVENTS_PER_BATCH = 200;
/** The maximum number of deliveries that one transaction discards or deletes. One event may have a hundred thousand deliveries. */
const DELIVERIES_PER_BATCH = 500;
/** The maximum number of removed listeners that one transaction deletes. */
export const LISTENERS_PER_BATCH = 100;

/** The condition that no fan-out can add deliveries to the event, because it is not in the outbox, and no process sends it. */
export const isFinished = (state: EventState) => state === 'delivered' || state === 'damaged';

export interface OldEvent {
  readonly seq: number;
  readonly state: EventState;
  readonly createdAt: number;
  /** The time from which the age counts: when the event was restored from an archive, or else when it happened. */
  readonly agedFrom: number;
}

/**
 * Reads events after a sequence and before a time, in the order of their sequence. The statement uses only the primary key, so the table
 * needs no further index. A caller that continues after the last event reads each event once.
 *
 * Sequence and time have the same order, except for events that were written at the same moment. So the first batch without an old event is
 * the last batch.
 */
export function* readOldEvents(
  database: Database,
  { afterSeq, before }: { afterSeq: number; before: number },
): Script<{ events: OldEvent[]; isEnd: boolean }> {
  const { events: e } = database.tables;
  const rows = yield* query<AgedRow>(
    sql`select ${e.select('e', 'seq', 'createdAt', 'restoredAt')} from ${e.sql} e where e.${e.$.seq} > ${afterSeq} order by e.${e.$.seq} limit ${EVENTS_PER_BATCH}`,
  );
  const read = yield* withStates(database, rows);
  const last = read.findLastIndex(({ agedFrom }) => agedFrom < before);
  return {
    events: read.slice(0, last + 1).filter(({ agedFrom }) => agedFrom < before),
    isEnd: last + 1 < EVENTS_PER_BATCH,
  };
}

/** The columns that give an {@link OldEvent}. */
export interface AgedRow {
  readonly seq: unknown;
  readonly createdAt: unknown;
  readonly restoredAt: unknown;
}

/** Reads the states of events. */
export function* withStates(database: Database, rows: readonly AgedRow[]): Script<OldEvent[]> {
  const stateOf = yield* readEventStates(
    database,
    rows.map(({ seq }) => seq),
  );
  return rows.map(({ seq, createdAt, restoredAt }) => ({
    seq: Number(seq),
    state: stateOf(seq),
    createdAt: Number(createdAt),
    agedFrom: Number(restoredAt ?? createdAt),
  }));
}

/** Conditions on the times of these events, for statements about their rows. */
function timesOf(database: Database, events: readonly OldEvent[]) {
  const { events: e, deliveries: d } = database.tables;
  const times = events.map(({ createdAt }) => createdAt);
  const plain = (column: Sql) => atTimes(database, column, times);
  return { event: plain(sql`e.${e.$.createdAt}`), delivery: plain(sql`d.${d.$.eventAt}`), plain };
}

/** The result for one batch of events. */
export interface DiscardResult {
  /** The number of discarded deliveries, by listener. */
  readonly discarded: ReadonlyMap<string, number>;
  /**
   * The first event with deliveries left. Deliveries are left if the event is still pending, if a delivery is being sent, or if one batch
   * is too small.
   */
  readonly firstLeft: number | null;
}

/** Discards the pending deliveries of these events: due, held, or behind an open circuit. */
export function* discardPending(database: Database, events: readonly OldEvent[], now: number): Script<DiscardResult> {
  const { events: e, deliveries: d } = database.tables;
  const discarded = new Map<string, number>();
  const left = new Set(events.filter(({ state }) => !isFinished(state)).map(({ seq }) => seq));
  const firstLeft = () => (left.size ? Math.min(...left) : null);
  if (!events.length) return { discarded, firstLeft: null };
  const at = timesOf(database, events);
  const found = yield* query<{ seq: unknown; eventSeq: unknown; listenerId: string; state: string }>(
    sql`select ${d.select('d', 'seq', 'eventSeq', 'listenerId', 'state')} from ${e.sql} e join ${d.sql} d on ${isOfEvent(database)} where e.${e.$.seq} ${inList(events.map(({ seq }) => seq))}${at.event}${at.delivery} and ${stateOf(database)} in ('due', 'leased') order by d.${d.$.eventSeq}, d.${d.$.listenerId} limit ${DELIVERIES_PER_BATCH}`,
  );
  for (const { eventSeq, state } of found) if (state === 'leased') left.add(Number(eventSeq));
  if (found.length === DELIVERIES_PER_BATCH) left.add(Number(found.at(-1)?.eventSeq));
  const due = found.filter(({ state }) => state === 'due');
  if (!due.length) return { discarded, firstLeft: firstLeft() };
  const listenerIds = [...new Set(due.map(({ listenerId }) => listenerId))];
  // Lock the listeners first, in the same order as a claim locks them.
  yield* lockListenerStates(database, listenerIds);
  const locked = yield* query<{ seq: unknown; listenerId: string }>(
    sql`select ${d.select('d', 'seq', 'listenerId')} from ${d.sql} d where d.${d.$.seq} ${inList(due.map(({ seq }) => seq))}${at.delivery} and ${stateOf(database)} = 'due' order by d.${d.$.seq}${database.skipLocked}`,
  );
  const taken = new Set(locked.map(({ seq }) => String(seq)));
  for (const { seq, eventSeq } of due) if (!taken.has(String(seq))) left.add(Number(eventSeq));
  if (!locked.length) return { discarded, firstLeft: firstLeft() };
  yield* execute(
    sql`update ${d.sql} set ${d.$.state} = ${'discarded'}, ${d.$.lastErrorCode} = ${TOO_OLD}, ${d.$.finishedAt} = ${now} where ${d.$.seq} ${inList(locked.map(({ seq }) => seq))}${at.plain(d.$.eventAt)}`,
  );
  yield* refreshReadyAt(database, listenerIds);
  for (const { listenerId } of locked) discarded.set(listenerId, (discarded.get(listenerId) ?? 0) + 1);
  return { discarded, firstLeft: firstLeft() };
}

/**
 * The limits of retention, in ms since 1970. Finished deliveries of events before these times are deleted, and then events without
 * deliveries are deleted.
 */
export interface RetentionLimits {
  readonly succeededBefore: number;
  /** The limit for exhausted and discarded deliveries, and for damaged events. */
  readonly failedBefore: number;
  /** Only deliveries that ended before this time. @defaultValue all */
  readonly endedBefore?: number;
}

export interface PruneResult {
  readonly deliveries: number;
  readonly events: number;
  /** Whether these events have more deliveries to delete than fit into one batch. */
  readonly hasMore: boolean;
}

/**
 * Deletes finished deliveries of these events with their attempts, and then the events without deliveries. Due, leased and held deliveries
 * stay, and the events of these deliveries stay, too.
 *
 * The row of an event is locked before the check for deliveries. A replay also locks this row before it adds a delivery.
 */
export function* prune(
  database: Database,
  events: readonly OldEvent[],
  { succeededBefore, failedBefore, endedBefore }: RetentionLimits,
): Script<PruneResult> {
  const { events: e, deliveries: d, attempts: a } = database.tables;
  const nothing = { deliveries: 0, events: 0, hasMore: false };
  const asked = events.filter(({ state }) => isFinished(state)).map(({ seq }) => seq);
  if (!asked.length) return nothing;
  const at = timesOf(database, events);
  const held = yield* query<{ seq: unknown }>(
    sql`select ${e.select('e', 'seq')} from ${e.sql} e where e.${e.$.seq} ${inList(asked)}${at.event} order by e.${e.$.seq}${database.skipLocked}`,
  );
  // Check this again under the lock, because an operator may have put a damaged event back into the outbox.
  const stateNow = yield* readEventStates(
    database,
    held.map(({ seq }) => seq),
  );
  const seqs = held.map(({ seq }) => seq).filter((seq) => isFinished(stateNow(seq)));
  if (!seqs.length) return nothing;
  // The statement finds the rows through the events' key; this condition only filters.
  const agedFrom = sql`coalesce(e.${e.$.restoredAt}, e.${e.$.createdAt})`;
  const isEnded = endedBefore === undefined ? sql`` : sql` and d.${d.$.finishedAt} < ${endedBefore}`;
  const finished = sql`(d.${d.$.state} = 'succeeded' and ${agedFrom} < ${succeededBefore} or d.${d.$.state} in ('exhausted', 'discarded') and ${agedFrom} < ${failedBefore})${isEnded}`;
  const found = yield* query<{ seq: unknown; id: string }>(
    sql`select ${d.select('d', 'seq', 'id')} from ${e.sql} e join ${d.sql} d on ${isOfEvent(database)} where e.${e.$.seq} ${inList(seqs)}${at.event}${at.delivery} and ${finished} limit ${DELIVERIES_PER_BATCH}`,
  );
  let deleted = 0;
  if (found.length) {
    const locked = yield* query<{ seq: unknown }>(
      sql`select ${d.select('d', 'seq')} from ${d.sql} d where d.${d.$.seq} ${inList(found.map(({ seq }) => seq))}${at.delivery} and ${stateOf(database)} in ('succeeded', 'exhausted', 'discarded')${isEnded} order by d.${d.$.seq}${database.skipLocked}`,
    );
    const finishedSeqs = locked.map(({ seq }) => seq);
    const isLocked = new Set(finishedSeqs.map(String));
    const ids = found.filter(({ seq }) => isLocked.has(String(seq))).map(({ id }) => id);
    deleted = finishedSeqs.length;
    if (deleted) {
      yield* execute(sql`delete from ${a.sql} where ${a.$.deliveryId} ${inList(ids)}${at.plain(a.$.eventAt)}`);
      yield* execute(sql`delete from ${d.sql} where ${d.$.seq} ${inList(finishedSeqs)}${at.plain(d.$.eventAt)}`);
    }
  }
  const isDamaged = (seq: unknown) => stateNow(seq) === 'damaged';
  const old = yield* query<AgedRow & { dedupeKey: Buffer | null }>(
    sql`select ${e.select('e', 'seq', 'dedupeKey', 'createdAt', 'restoredAt')} from ${e.sql} e where e.${e.$.seq} ${inList(seqs)}${at.event} and not exists (select 1 from ${d.sql} d where ${isOfEvent(database)}${at.delivery}) order by e.${e.$.seq}`,
  );
  const unneeded = old.filter(
    ({ seq, createdAt, restoredAt }) =>
      Number(restoredAt ?? createdAt) < (isDamaged(seq) ? failedBefore : succeededBefore),
  );
  yield* deleteEvents(database, unneeded);
  return {
    deliveries: deleted,
    events: unneeded.length,
    hasMore: found.length === DELIVERIES_PER_BATCH && deleted > 0,
  };
}

/**
 * Deletes listeners that were removed before a time, together with their state. Listeners with deliveries stay.
 *
 * @returns the number of deleted listeners. If the number is below {@link LISTENERS_PER_BATCH}, no such listener is left
 */
export function* pruneListeners(database: Database, removedBefore: number): Script<number> {
  const { listeners: l, listenerState: s, routes: r, stats: t, deliveries: d } = database.tables;
  // Read the first delivery whose listener id is at least this id, in the order of an index that begins with the id. This read takes one
  // lookup for each listener. If the query searched for a delivery of exactly this listener (`not exists`, or `=`), PostgreSQL would expect
  // to find one soon, and would read all deliveries. MariaDB needs `=`: for a range, MariaDB would read all deliveries.
  const reach = raw(database.dialect === 'mysql' ? '=' : '>=');
  const first = sql`(select d.${d.$.listenerId} from ${d.sql} d where d.${d.$.listenerId} ${reach} l.${l.$.id} order by d.${d.$.listenerId}, d.${d.$.createdAt}, d.${d.$.seq} limit 1)`;
  const found = yield* query<{ seq: unknown; id: string }>(
    sql`select ${l.select('l', 'seq', 'id')} from ${l.sql} l where l.${l.$.deletedAt} is not null and l.${l.$.deletedAt} < ${removedBefore} and coalesce(${first}, '') <> l.${l.$.id} order by l.${l.$.deletedAt} limit ${LISTENERS_PER_BATCH}`,
  );
  if (!found.length) return 0;
  const ids = inList(found.map(({ id }) => id));
  for (const table of [s, r, t]) yield* execute(sql`delete from ${table.sql} where ${table.$.listenerId} ${ids}`);
  yield* execute(
    sql`delete from ${l.sql} where ${l.$.seq} ${inList(found.map(({ seq }) => seq).toSorted((x, y) => Number(x) - Number(y)))}`,
  );
  return found.length;
}
