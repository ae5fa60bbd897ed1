import sql, { raw } from 'sql-template-tag';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { stateOf } from './delivery-rows.js';
import { lockListenerStates, refreshReadyAt } from '../listeners/listener-state.js';
import { execute, query, type Script } from '../database/script.js';

/** `lastErrorCode` of a delivery that was pending for longer than `dispatcher.maxAgeMs`. */
export const TOO_OLD = 'TOO_OLD';

/** Events that one transaction reads. */
const EVENTS_PER_BATCH = 200;
/** Deliveries that one transaction discards or deletes; one event may have a hundred thousand. */
const DELIVERIES_PER_BATCH = 500;
/** Removed listeners that one transaction deletes. */
export const LISTENERS_PER_BATCH = 100;

/** In these states, no fan-out adds deliveries to the event. */
const FINISHED_STATES: readonly string[] = ['routed', 'damaged'];

export interface OldEvent {
  readonly seq: number;
  readonly state: string;
  readonly createdAt: number;
}

/**
 * Reads events after a sequence and before a time, in the order of their sequence. It uses only the primary key, so the table needs no
 * further index, and a caller that continues after the last one reads each event once.
 *
 * Sequence and time have the same order, except for events that were written at the same moment. So the first batch without an old event is
 * the end.
 */
export function* readOldEvents(
  database: Database,
  { afterSeq, before }: { afterSeq: number; before: number },
): Script<{ events: OldEvent[]; isEnd: boolean }> {
  const { events: e } = database.tables;
  const rows = yield* query<{ seq: unknown; state: string; createdAt: unknown }>(
    sql`select ${e.select('e', 'seq', 'state', 'createdAt')} from ${e.sql} e where e.${e.$.seq} > ${afterSeq} order by e.${e.$.seq} limit ${EVENTS_PER_BATCH}`,
  );
  const read = rows.map(({ seq, state, createdAt }) => ({ seq: Number(seq), state, createdAt: Number(createdAt) }));
  const last = read.findLastIndex(({ createdAt }) => createdAt < before);
  return {
    events: read.slice(0, last + 1).filter(({ createdAt }) => createdAt < before),
    isEnd: last + 1 < EVENTS_PER_BATCH,
  };
}

/** The result for one batch of events. */
export interface DiscardResult {
  /** The number of discarded deliveries, by listener. */
  readonly discarded: ReadonlyMap<string, number>;
  /** The first event with deliveries left: the event is still pending, a delivery is being sent, or there are too many for one batch. */
  readonly firstLeft: number | null;
}

/** Discards the pending deliveries of these events: due, held, or behind an open circuit. */
export function* discardPending(database: Database, events: readonly OldEvent[], now: number): Script<DiscardResult> {
  const { deliveries: d } = database.tables;
  const discarded = new Map<string, number>();
  const left = new Set(events.filter(({ state }) => !FINISHED_STATES.includes(state)).map(({ seq }) => seq));
  const firstLeft = () => (left.size ? Math.min(...left) : null);
  if (!events.length) return { discarded, firstLeft: null };
  const found = yield* query<{ seq: unknown; eventSeq: unknown; listenerId: string; state: string }>(
    sql`select ${d.select('d', 'seq', 'eventSeq', 'listenerId', 'state')} from ${d.sql} d where d.${d.$.eventSeq} ${inList(events.map(({ seq }) => seq))} and ${stateOf(database)} in ('due', 'leased') order by d.${d.$.eventSeq}, d.${d.$.listenerId} limit ${DELIVERIES_PER_BATCH}`,
  );
  for (const { eventSeq, state } of found) if (state === 'leased') left.add(Number(eventSeq));
  if (found.length === DELIVERIES_PER_BATCH) left.add(Number(found.at(-1)?.eventSeq));
  const due = found.filter(({ state }) => state === 'due');
  if (!due.length) return { discarded, firstLeft: firstLeft() };
  const listenerIds = [...new Set(due.map(({ listenerId }) => listenerId))];
  // Lock the listeners first, in the same order as a claim.
  yield* lockListenerStates(database, listenerIds);
  const locked = yield* query<{ seq: unknown; listenerId: string }>(
    sql`select ${d.select('d', 'seq', 'listenerId')} from ${d.sql} d where d.${d.$.seq} ${inList(due.map(({ seq }) => seq))} and ${stateOf(database)} = 'due' order by d.${d.$.seq}${database.skipLocked}`,
  );
  const taken = new Set(locked.map(({ seq }) => String(seq)));
  for (const { seq, eventSeq } of due) if (!taken.has(String(seq))) left.add(Number(eventSeq));
  if (!locked.length) return { discarded, firstLeft: firstLeft() };
  yield* execute(
    sql`update ${d.sql} set ${d.$.state} = ${'discarded'}, ${d.$.lastErrorCode} = ${TOO_OLD}, ${d.$.finishedAt} = ${now} where ${d.$.seq} ${inList(locked.map(({ seq }) => seq))}`,
  );
  yield* refreshReadyAt(database, listenerIds);
  for (const { listenerId } of locked) discarded.set(listenerId, (discarded.get(listenerId) ?? 0) + 1);
  return { discarded, firstLeft: firstLeft() };
}

/** Finished deliveries of events before these times are deleted, and then events without deliveries. In ms since 1970. */
export interface RetentionLimits {
  readonly succeededBefore: number;
  /** For exhausted and discarded deliveries, and for damaged events. */
  readonly failedBefore: number;
}

export interface PruneResult {
  readonly deliveries: number;
  readonly events: number;
  /** Whether these events have more deliveries to delete than fit into one batch. */
  readonly hasMore: boolean;
}

/**
 * Deletes finished deliveries of these events with their attempts, then the events without deliveries. Due, leased and held deliveries
 * stay, and so do their events.
 *
 * An event's row is locked before the check for deliveries. A replay locks it too before it adds a delivery.
 */
export function* prune(
  database: Database,
  events: readonly OldEvent[],
  { succeededBefore, failedBefore }: RetentionLimits,
): Script<PruneResult> {
  const { events: e, deliveries: d, attempts: a } = database.tables;
  const nothing = { deliveries: 0, events: 0, hasMore: false };
  const asked = events.filter(({ state }) => FINISHED_STATES.includes(state)).map(({ seq }) => seq);
  if (!asked.length) return nothing;
  const held = yield* query<{ seq: unknown }>(
    sql`select ${e.select('e', 'seq')} from ${e.sql} e where e.${e.$.seq} ${inList(asked)} and e.${e.$.state} ${inList(FINISHED_STATES)} order by e.${e.$.seq}${database.skipLocked}`,
  );
  if (!held.length) return nothing;
  const seqs = held.map(({ seq }) => seq);
  // The statement finds the rows through the events' key; this condition only filters.
  const finished = sql`(d.${d.$.state} = 'succeeded' and e.${e.$.createdAt} < ${succeededBefore} or d.${d.$.state} in ('exhausted', 'discarded') and e.${e.$.createdAt} < ${failedBefore})`;
  const found = yield* query<{ seq: unknown }>(
    sql`select ${d.select('d', 'seq')} from ${e.sql} e join ${d.sql} d on d.${d.$.eventSeq} = e.${e.$.seq} where e.${e.$.seq} ${inList(seqs)} and ${finished} limit ${DELIVERIES_PER_BATCH}`,
  );
  let deleted = 0;
  if (found.length) {
    const locked = yield* query<{ seq: unknown }>(
      sql`select ${d.select('d', 'seq')} from ${d.sql} d where d.${d.$.seq} ${inList(found.map(({ seq }) => seq))} and ${stateOf(database)} in ('succeeded', 'exhausted', 'discarded') order by d.${d.$.seq}${database.skipLocked}`,
    );
    const finishedSeqs = locked.map(({ seq }) => seq);
    deleted = finishedSeqs.length;
    if (deleted) {
      yield* execute(sql`delete from ${a.sql} where ${a.$.deliverySeq} ${inList(finishedSeqs)}`);
      yield* execute(sql`delete from ${d.sql} where ${d.$.seq} ${inList(finishedSeqs)}`);
    }
  }
  const unneeded = yield* query<{ seq: unknown }>(
    sql`select ${e.select('e', 'seq')} from ${e.sql} e where e.${e.$.seq} ${inList(seqs)} and (e.${e.$.state} = 'routed' and e.${e.$.createdAt} < ${succeededBefore} or e.${e.$.state} = 'damaged' and e.${e.$.createdAt} < ${failedBefore}) and not exists (select 1 from ${d.sql} d where d.${d.$.eventSeq} = e.${e.$.seq}) order by e.${e.$.seq}`,
  );
  for (const some of chunks(unneeded)) {
    yield* execute(sql`delete from ${e.sql} where ${e.$.seq} ${inList(some.map(({ seq }) => seq))}`);
  }
  return {
    deliveries: deleted,
    events: unneeded.length,
    hasMore: found.length === DELIVERIES_PER_BATCH && deleted > 0,
  };
}

/**
 * Deletes listeners that were removed before a time, with their state, once they have no deliveries.
 *
 * @returns how many; fewer than {@link LISTENERS_PER_BATCH} at the end
 */
export function* pruneListeners(database: Database, removedBefore: number): Script<number> {
  const { listeners: l, listenerState: s, routes: r, deliveries: d } = database.tables;
  // Reads the first delivery whose listener id is at least this id, in the order of an index that begins with the id: one lookup each. For
  // a delivery of exactly this listener (`not exists`, or `=`), PostgreSQL expects to find one soon, and reads all deliveries. MariaDB
  // reads all deliveries for a range.
  const reach = raw(database.dialect === 'mysql' ? '=' : '>=');
  const first = sql`(select d.${d.$.listenerId} from ${d.sql} d where d.${d.$.listenerId} ${reach} l.${l.$.id} order by d.${d.$.listenerId}, d.${d.$.createdAt}, d.${d.$.seq} limit 1)`;
  const found = yield* query<{ seq: unknown; id: string }>(
    sql`select ${l.select('l', 'seq', 'id')} from ${l.sql} l where l.${l.$.deletedAt} is not null and l.${l.$.deletedAt} < ${removedBefore} and coalesce(${first}, '') <> l.${l.$.id} order by l.${l.$.deletedAt} limit ${LISTENERS_PER_BATCH}`,
  );
  if (!found.length) return 0;
  const ids = inList(found.map(({ id }) => id));
  for (const table of [s, r]) yield* execute(sql`delete from ${table.sql} where ${table.$.listenerId} ${ids}`);
  yield* execute(
    sql`delete from ${l.sql} where ${l.$.seq} ${inList(found.map(({ seq }) => seq).toSorted((x, y) => Number(x) - Number(y)))}`,
  );
  return found.length;
}
