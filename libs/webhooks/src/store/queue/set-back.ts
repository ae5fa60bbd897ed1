import sql from 'sql-template-tag';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { jsonRows, updateFromRows } from '../database/json-rows.js';
import { lockListenerStates, nextDueOf, readyFrom, writeListenerStates } from '../listeners/listener-state.js';
import type { ListenerState } from '../../health/listener-state.js';
import { execute, query, type Script } from '../database/script.js';

/** The correct time, and how far the clock was ahead of it. */
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
 * Corrects a page of listeners that have due deliveries or a pause: times from a clock that was ahead are moved back.
 *
 * The `nextAt` of a delivery is such a time if its last attempt is in the future, or if it became due immediately and has had no attempt
 * since. Pauses and handshakes do not store when they were written, so all that are in the future are moved back. At worst a pause ends too
 * early, by as much as the clock was ahead, and a probe follows.
 *
 * Several processes may do this one after the other: times that one process has corrected, the next process leaves, or ends early.
 *
 * @returns where to continue; `null` at the end
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
  // A claim takes deliveries only from listeners that it has locked.
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

/** Drops requests that were counted in the future: they would count until that time. */
function takenUntil(rateTaken: string | null, now: number): string | null {
  if (rateTaken === null) return null;
  const slots = JSON.parse(rateTaken) as [start: number, count: number][];
  return JSON.stringify(slots.filter(([start]) => start <= now));
}

interface DueRow {
  seq: unknown;
  retries: unknown;
  nextAt: unknown;
  startedAt: unknown;
}

/** @returns the last delivery of a full page; `null` at the end */
function* setBackDeliveries(
  database: Database,
  listenerIds: readonly string[],
  after: string,
  { now, aheadMs }: SetBackTime,
): Script<string | null> {
  const { deliveries: d, attempts: a } = database.tables;
  const lastStart = sql`(select a.${a.$.startedAt} from ${a.sql} a where a.${a.$.deliverySeq} = d.${d.$.seq} order by a.${a.$.seq} desc limit 1)`;
  const rows = yield* query<DueRow>(
    sql`select ${d.select('d', 'seq', 'retries', 'nextAt')}, ${lastStart} ${d.as('startedAt')} from ${d.sql} d${d.through('listenerId', 'state', 'nextAt', 'seq')}
    where d.${d.$.listenerId} ${inList(listenerIds)} and d.${d.$.state} = 'due' and d.${d.$.nextAt} > ${now} and d.${d.$.seq} > ${after}
    order by d.${d.$.seq} limit ${DELIVERIES_PER_PAGE}`,
  );
  const isAhead = ({ retries, startedAt }: DueRow) => Number(retries) === 0 || Number(startedAt ?? 0) > now;
  const ahead = rows.filter(isAhead).map(({ seq, retries, nextAt }) => ({
    seq: String(seq),
    next: Number(retries) === 0 ? now : Math.max(now, Number(nextAt) - aheadMs),
  }));
  if (ahead.length) {
    const back = jsonRows(database.dialect, { seq: 'bigint', next: 'bigint' }, ahead);
    yield updateFromRows(database, 'deliveries', back, { nextAt: sql`r.next` });
    // So that the next process does not move them back again.
    yield* execute(
      sql`update ${a.sql} set ${a.$.startedAt} = ${a.$.startedAt} - ${aheadMs} where ${a.$.deliverySeq} ${inList(ahead.map(({ seq }) => seq))} and ${a.$.startedAt} > ${now}`,
    );
  }
  return rows.length < DELIVERIES_PER_PAGE ? null : String(rows.at(-1)?.seq);
}

/**
 * Moves back leases that are longer than a new lease could be, the deliveries under these leases, and chores.
 *
 * @param leaseMs of a delivery
 */
export function* setBackLeases(database: Database, leaseMs: number, { now, aheadMs }: SetBackTime): Script<void> {
  const { deliveries: d, chores: c } = database.tables;
  yield* execute(
    sql`update ${d.sql} set ${d.$.leaseUntil} = ${d.$.leaseUntil} - ${aheadMs} where ${d.$.state} = 'leased' and ${d.$.leaseUntil} > ${now + leaseMs}`,
  );
  // A leased delivery was due when it was claimed, and is due again when its lease expires.
  yield* execute(
    sql`update ${d.sql} set ${d.$.nextAt} = ${now} where ${d.$.state} = 'leased' and ${d.$.nextAt} > ${now}`,
  );
  for (const property of ['dueAt', 'leaseUntil'] as const) {
    const column = c.$[property];
    yield* execute(sql`update ${c.sql} set ${column} = ${column} - ${aheadMs} where ${column} > ${now}`);
  }
}

/** The time of the last written row. If it is later than now, a clock was ahead. `0` if there are no rows. */
export function* readLastWritten(database: Database): Script<number> {
  const { events: e, attempts: a } = database.tables;
  const [row] = yield* query<{ event: unknown; attempt: unknown }>(
    sql`select (select e.${e.$.createdAt} from ${e.sql} e order by e.${e.$.seq} desc limit 1) as event, (select a.${a.$.startedAt} from ${a.sql} a order by a.${a.$.seq} desc limit 1) as attempt`,
  );
  return Math.max(Number(row?.event ?? 0), Number(row?.attempt ?? 0));
}
