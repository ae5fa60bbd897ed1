import sql from 'sql-template-tag';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { jsonRows, updateFromRows } from '../database/json-rows.js';
import { lockListenerStates, nextDueOf, readyFrom, writeListenerStates } from '../listeners/listener-state.js';
import type { ListenerState } from '../../health/listener-state.js';
import { execute, query, type Script } from '../database/script.js';

/** The correct time, and the number of milliseconds by which the clock was ahead of it. */
export interface SetBackTime {
  readonly now: number;
  readonly aheadMs: number;
}

const LISTENERS_PER_PAGE = 100;
const DELIVERIES_PER_PAGE = 500;

/** The end of a page. `listener` is a `seq` of the listener queue; `delivery` is a `seq` of the deliveries of this page's listeners. */
export interface SetBackPosition {
  readonly listener: string;
  readonly delivery: string;
}

export const SET_BACK_START: SetBackPosition = { listener: '0', delivery: '0' };

/**
 * Corrects a page of listeners that have due deliveries or a pause. A clock that was ahead has written times in the future. The correction
 * moves these times back.
 *
 * The `nextAt` of a delivery is such a time in two cases: its last attempt is in the future, or the delivery became due immediately and has
 * had no attempt since then. For a pause or handshake, the time of the write is not stored. So every pause and handshake that ends in the
 * future is moved back. In the worst case, a pause ends too early. The difference is the time by which the clock was ahead. A probe follows
 * such a pause.
 *
 * Several processes may make this correction one after the other. If one process has already corrected a time, the next process changes
 * nothing, or ends a pause early.
 *
 * @returns the position at which the next page begins; `null` at the end
 */
export function* setBackListeners(
  database: Database,
  after: SetBackPosition,
  time: SetBackTime,
): Script<SetBackPosition | null> {
  const { listenerState: s } = database.tables;
  const found = yield* query<{ seq: unknown; listenerId: string }>(
    sql`select ${s.select('s', 'seq', 'listenerId')} from ${s.sql} s where s.${s.$.seq} > ${after.listener} and (s.${s.$.readyAt} is not null or s.${s.$.pausedUntil} is not null) order by s.${s.$.seq} limit ${LISTENERS_PER_PAGE}`,
  );
  const last = found.at(-1);
  if (!last) return null;
  const ids = found.map(({ listenerId }) => listenerId);
  // A claim takes deliveries only from listeners that it has locked, so lock the listeners first.
  const states = yield* lockListenerStates(database, ids);
  const delivery = yield* setBackDeliveries(database, ids, after.delivery, time);
  if (delivery !== null) return { listener: after.listener, delivery };
  const next = yield* nextDueOf(database, ids);
  yield* writeListenerStates(
    database,
    states.map((state) => setBackState(state, next.get(state.listenerId), time)),
  );
  return { listener: String(last.seq), delivery: '0' };
}

function setBackState(
  state: ListenerState,
  nextDueAt: number | undefined,
  { now, aheadMs }: SetBackTime,
): ListenerState {
  const back = (at: number | null) => (at === null || at <= now ? at : Math.max(now, at - aheadMs));
  const pausedUntil = back(state.pausedUntil);
  return {
    ...state,
    pausedUntil,
    failuresCountFrom: back(state.failuresCountFrom),
    failingSince: state.failingSince === null ? null : Math.min(state.failingSince, now),
    handshakeAt: back(state.handshakeAt),
    rateTaken: takenUntil(state.rateTaken, now),
    readyAt: readyFrom(nextDueAt, pausedUntil),
  };
}

/** Drops requests that were counted at a time in the future. Otherwise these requests would count until that time. */
function takenUntil(rateTaken: string | null, now: number): string | null {
  if (rateTaken === null) return null;
  const slots = JSON.parse(rateTaken) as [start: number, count: number][];
  return JSON.stringify(slots.filter(([start]) => start <= now));
}

interface DueRow {
  seq: unknown;
  id: string;
  retries: unknown;
  nextAt: unknown;
  startedAt: unknown;
}

/** Corrects deliveries of these listeners. @returns the last delivery of a full page; `null` at the end */
function* setBackDeliveries(
  database: Database,
  listenerIds: readonly string[],
  after: string,
  { now, aheadMs }: SetBackTime,
): Script<string | null> {
  const { deliveries: d, attempts: a } = database.tables;
  const lastStart = sql`coalesce((select a.${a.$.startedAt} from ${a.sql} a where a.${a.$.deliveryId} = d.${d.$.id} order by a.${a.$.seq} desc limit 1), d.${d.$.startedAt})`;
  const rows = yield* query<DueRow>(
    sql`select ${d.select('d', 'seq', 'id', 'retries', 'nextAt')}, ${lastStart} ${d.as('startedAt')} from ${d.sql} d${d.through('listenerId', 'state', 'nextAt', 'seq')}
    where d.${d.$.listenerId} ${inList(listenerIds)} and d.${d.$.state} = 'due' and d.${d.$.nextAt} > ${now} and d.${d.$.seq} > ${after}
    order by d.${d.$.seq} limit ${DELIVERIES_PER_PAGE}`,
  );
  const isAhead = ({ retries, startedAt }: DueRow) => Number(retries) === 0 || Number(startedAt ?? 0) > now;
  const aheadRows = rows.filter(isAhead);
  const ahead = aheadRows.map(({ seq, retries, nextAt }) => ({
    seq: String(seq),
    next: Number(retries) === 0 ? now : Math.max(now, Number(nextAt) - aheadMs),
  }));
  if (ahead.length) {
    const back = jsonRows(database.dialect, { seq: 'bigint', next: 'bigint' }, ahead);
    yield updateFromRows(database, 'deliveries', back, { nextAt: sql`r.next` });
    // Set the time to now, so that the next process does not move it back again.
    const ids = inList(aheadRows.map(({ id }) => id));
    for (const [{ sql: path, $ }, key] of [[a, a.$.deliveryId] as const, [d, d.$.id] as const]) {
      yield* execute(
        sql`update ${path} set ${$.startedAt} = ${$.startedAt} - ${aheadMs} where ${key} ${ids} and ${$.startedAt} > ${now}`,
      );
    }
  }
  return rows.length < DELIVERIES_PER_PAGE ? null : String(rows.at(-1)?.seq);
}

/**
 * Moves back leases that are longer than a new lease could be, the deliveries under these leases, events, chores and tasks.
 *
 * @param leaseMs the longest lease of a delivery, and of an event
 */
export function* setBackLeases(database: Database, leaseMs: number, { now, aheadMs }: SetBackTime): Script<void> {
  const { deliveries: d, leases: l, chores: c, tasks: t } = database.tables;
  yield* execute(
    sql`update ${d.sql} set ${d.$.leaseUntil} = ${d.$.leaseUntil} - ${aheadMs} where ${d.$.state} = 'leased' and ${d.$.leaseUntil} > ${now + leaseMs}`,
  );
  yield* execute(
    sql`update ${l.sql} set ${l.$.leaseUntil} = ${l.$.leaseUntil} - ${aheadMs} where ${l.$.leaseUntil} > ${now + leaseMs}`,
  );
  // A leased delivery was due when it was claimed, and is due again when its lease expires.
  yield* execute(
    sql`update ${d.sql} set ${d.$.nextAt} = ${now} where ${d.$.state} = 'leased' and ${d.$.nextAt} > ${now}`,
  );
  for (const property of ['dueAt', 'leaseUntil'] as const) {
    const column = c.$[property];
    yield* execute(sql`update ${c.sql} set ${column} = ${column} - ${aheadMs} where ${column} > ${now}`);
  }
  yield* execute(
    sql`update ${t.sql} set ${t.$.leaseUntil} = ${t.$.leaseUntil} - ${aheadMs} where ${t.$.leaseUntil} > ${now}`,
  );
}

/** The time of the last written row. If this time is later than now, a clock was ahead. `0` if there are no rows. */
export function* readLastWritten(database: Database): Script<number> {
  const { events: e, deliveries: d, attempts: a } = database.tables;
  const [row] = yield* query<{ event: unknown; first: unknown; attempt: unknown }>(
    sql`select (select e.${e.$.createdAt} from ${e.sql} e order by e.${e.$.seq} desc limit 1) as event, (select d.${d.$.startedAt} from ${d.sql} d order by d.${d.$.seq} desc limit 1) as first, (select a.${a.$.startedAt} from ${a.sql} a order by a.${a.$.seq} desc limit 1) as attempt`,
  );
  return Math.max(Number(row?.event ?? 0), Number(row?.first ?? 0), Number(row?.attempt ?? 0));
}
