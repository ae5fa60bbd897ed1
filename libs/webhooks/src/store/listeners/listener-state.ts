import sql, { type Sql } from 'sql-template-tag';
import { ownerKeyOf } from '../../hash.js';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { atTimesOf } from '../database/event-times.js';
import { jsonRows, updateFromRows } from '../database/json-rows.js';
import { query, type Script } from '../database/script.js';
import type { ListenerState } from '../../health/listener-state.js';
import { numberOrNull } from '../database/number-or-null.js';

type StateRow = Record<keyof ListenerState, unknown> & { listenerId: string; rateTaken: string | null };

const COLUMNS = [
  'seq',
  'listenerId',
  'readyAt',
  'failuresInARow',
  'failingSince',
  'failuresCountFrom',
  'pausedUntil',
  'rateTaken',
  'handshakeAt',
  'handshakeFrom',
  'handshakeTries',
] as const;

/** Inserts the row of a new listener. @param handshakeAt the time of the first handshake attempt. `null`: no handshake */
export function* insertListenerState(
  database: Database,
  listenerId: string,
  handshakeAt: number | null = null,
): Script<void> {
  const { sql: path, $ } = database.tables.listenerState;
  yield sql`insert into ${path} (${$.listenerId}, ${$.failuresInARow}, ${$.handshakeAt}, ${$.handshakeTries}, ${$.readyAt}) values (${listenerId}, ${0}, ${handshakeAt}, ${0}, ${handshakeAt})`;
}

/**
 * Finds listeners with deliveries to send at `now`, and locks their rows for this transaction. The listener that has waited longest comes
 * first.
 */
export function* claimReadyListeners(
  database: Database,
  options: { now: number; limit: number; except: readonly string[]; exceptOwners: readonly string[] },
): Script<ListenerState[]> {
  const { listenerState: s } = database.tables;
  const columns = s.select('s', ...COLUMNS);
  const exceptListeners = options.except.length ? sql` and not s.${s.$.listenerId} ${inList(options.except)}` : sql``;
  const except = sql`${exceptListeners}${isNotOwnedBy(database, options.exceptOwners)}`;
  const isReady = sql`s.${s.$.readyAt} <= ${options.now}`;
  const ready = sql`${s.sql} s where ${isReady}${except} order by s.${s.$.readyAt}, s.${s.$.seq} limit ${options.limit}`;
  if (database.dialect !== 'mysql') {
    return (yield* query<StateRow>(sql`select ${columns} from ${ready}${database.skipLocked}`)).map(toState);
  }
  // InnoDB locks every index record that a locking read passes. So find candidates by a plain read, and then lock the candidates by key.
  const found = yield* query<{ seq: unknown }>(sql`select ${s.select('s', 'seq')} from ${ready}`);
  if (!found.length) return [];
  const rows = yield* query<StateRow>(
    sql`select ${columns} from ${s.sql} s where s.${s.$.seq} ${inList(found.map(({ seq }) => seq))} and ${isReady} order by s.${s.$.seq}${database.skipLocked}`,
  );
  return rows.map(toState).toSorted((a, b) => Number(a.readyAt) - Number(b.readyAt));
}

/** Like {@link claimReadyListeners}, but only these listeners: one lookup for each. */
export function* claimTheseListeners(
  database: Database,
  listenerIds: readonly string[],
  options: { now: number; exceptOwners: readonly string[] },
): Script<ListenerState[]> {
  if (!listenerIds.length) return [];
  const { listenerState: s } = database.tables;
  const isReady = sql`s.${s.$.readyAt} <= ${options.now}${isNotOwnedBy(database, options.exceptOwners)}`;
  const rows = yield* query<StateRow>(
    sql`select ${s.select('s', ...COLUMNS)} from ${s.sql} s where s.${s.$.listenerId} ${inList(listenerIds)} and ${isReady} order by s.${s.$.listenerId}${database.skipLocked}`,
  );
  return rows.map(toState).toSorted((a, b) => Number(a.readyAt) - Number(b.readyAt));
}

/**
 * The condition excludes listeners of owners without free slots. The condition is added only while there is such an owner. The condition
 * costs one lookup for each ready listener. The quota of an owner limits the number of listeners.
 */
function isNotOwnedBy(database: Database, owners: readonly string[]): Sql {
  if (!owners.length) return sql``;
  const { listenerState: s, listeners: l } = database.tables;
  const isOwned = sql`select case when l.${l.$.ownerKey} ${inList(owners.map(ownerKeyOf))} then 1 else 0 end from ${l.sql} l where l.${l.$.id} = s.${s.$.listenerId}`;
  return sql` and coalesce((${isOwned}), 0) = 0`;
}

/**
 * Locks the rows of these listeners, and waits for other transactions that hold the rows.
 *
 * All statements lock in the order of the ids, so two transactions never wait for each other. The order is not the order of `seq`. With
 * that order, PostgreSQL would read all listeners along the primary key.
 */
export function* lockListenerStates(database: Database, listenerIds: readonly string[]): Script<ListenerState[]> {
  const { listenerState: s } = database.tables;
  const states: ListenerState[] = [];
  for (const some of chunks(listenerIds.toSorted())) {
    const rows = yield* query<StateRow>(
      sql`select ${s.select('s', ...COLUMNS)} from ${s.sql} s where s.${s.$.listenerId} ${inList(some)} order by s.${s.$.listenerId}${database.forUpdate}`,
    );
    states.push(...rows.map(toState));
  }
  return states;
}

/**
 * Updates rows that this transaction has locked. If a listener has a pending handshake, the handshake decides when the listener is ready,
 * and the due deliveries do not.
 */
export function* writeListenerStates(database: Database, states: readonly ListenerState[]): Script<void> {
  for (const some of chunks(states, 1_000)) {
    const rows = jsonRows(
      database.dialect,
      {
        seq: 'bigint',
        ready: 'bigint',
        failures: 'bigint',
        since: 'bigint',
        count_from: 'bigint',
        resume: 'bigint',
        rate: 'text',
        handshake: 'bigint',
        handshake_from: 'bigint',
        handshake_tries: 'bigint',
      },
      some.map((state) => ({
        seq: state.seq,
        ready: state.handshakeAt ?? state.readyAt,
        failures: state.failuresInARow,
        since: state.failingSince,
        count_from: state.failuresCountFrom,
        resume: state.pausedUntil,
        rate: state.rateTaken,
        handshake: state.handshakeAt,
        handshake_from: state.handshakeFrom,
        handshake_tries: state.handshakeTries,
      })),
    );
    yield updateFromRows(database, 'listenerState', rows, {
      readyAt: sql`r.ready`,
      failuresInARow: sql`r.failures`,
      failingSince: sql`r.since`,
      failuresCountFrom: sql`r.count_from`,
      pausedUntil: sql`r.resume`,
      rateTaken: sql`r.rate`,
      handshakeAt: sql`r.handshake`,
      handshakeFrom: sql`r.handshake_from`,
      handshakeTries: sql`r.handshake_tries`,
    });
  }
}

/**
 * Finds for each listener the time from which its first due delivery may be sent. A pause does not count. Listeners without due deliveries
 * have no entry.
 */
export function* nextDueOf(database: Database, listenerIds: readonly string[]): Script<Map<string, number>> {
  const { listenerState: s, deliveries: d } = database.tables;
  const next = new Map<string, number>();
  // Use one index lookup per listener. `min()` with `group by` would read every due delivery of these listeners.
  const first = sql`(select d.${d.$.nextAt} from ${d.sql} d${d.through('listenerId', 'state', 'nextAt', 'seq')} where d.${d.$.listenerId} = s.${s.$.listenerId} and d.${d.$.state} = 'due' order by d.${d.$.nextAt} limit 1)`;
  for (const some of chunks(listenerIds)) {
    const rows = yield* query<{ listenerId: string; nextAt: unknown }>(
      sql`select ${s.select('s', 'listenerId')}, ${first} ${s.as('nextAt')} from ${s.sql} s where s.${s.$.listenerId} ${inList(some)}`,
    );
    for (const { listenerId, nextAt } of rows) if (nextAt !== null) next.set(listenerId, Number(nextAt));
  }
  return next;
}

/** Must be called after deliveries of these listeners became due at these times. The listeners are then checked by that time. */
export function* expectDeliveries(database: Database, dueAt: ReadonlyMap<string, number>): Script<void> {
  if (!dueAt.size) return;
  const states = yield* lockListenerStates(database, [...dueAt.keys()]);
  const earlier: ListenerState[] = [];
  for (const state of states) {
    const readyAt = Math.max(dueAt.get(state.listenerId) ?? 0, state.pausedUntil ?? 0);
    if (state.readyAt === null || state.readyAt > readyAt) earlier.push({ ...state, readyAt });
  }
  yield* writeListenerStates(database, earlier);
}

/** Pauses these listeners until a time. The listeners did not cause this pause, so their health stays unchanged. */
export function* pauseListeners(database: Database, listenerIds: readonly string[], until: number): Script<void> {
  const states = yield* lockListenerStates(database, listenerIds);
  yield* writeListenerStates(
    database,
    states.map((state) => {
      const pausedUntil = Math.max(state.pausedUntil ?? 0, until);
      return { ...state, pausedUntil, readyAt: Math.max(state.readyAt ?? 0, pausedUntil) };
    }),
  );
}

/**
 * Ends the pause of a listener because a delivery was requested explicitly. Puts that delivery first. If the circuit is open, the delivery
 * is the probe: other deliveries are sent only if the probe succeeds.
 */
export function* endPause(database: Database, listenerId: string, deliveryId: string, now: number): Script<void> {
  const [state] = yield* lockListenerStates(database, [listenerId]);
  if (!state || state.pausedUntil === null || state.pausedUntil <= now) return;
  const { deliveries: d } = database.tables;
  const first = (yield* nextDueOf(database, [listenerId])).get(listenerId) ?? now;
  const nextAt = Math.min(now, first - 1);
  yield sql`update ${d.sql} set ${d.$.nextAt} = ${nextAt} where ${d.$.id} = ${deliveryId}${atTimesOf(database, d.$.eventAt, [deliveryId])}`;
  // An attempt that begins now does not belong to the attempts that were in flight when the pause began, so its failure counts.
  yield* writeListenerStates(database, [{ ...state, pausedUntil: now, failuresCountFrom: now, readyAt: nextAt }]);
}

/** Recomputes `readyAt` of these listeners from their due deliveries. */
export function* refreshReadyAt(database: Database, listenerIds: readonly string[]): Script<void> {
  const states = yield* lockListenerStates(database, listenerIds);
  const next = yield* nextDueOf(database, listenerIds);
  yield* writeListenerStates(
    database,
    states.map((state) => ({ ...state, readyAt: readyFrom(next.get(state.listenerId), state.pausedUntil) })),
  );
}

/** The time at which a listener must be checked. The time is that of its first due delivery, but not earlier than `notBefore`. */
export function readyFrom(nextDueAt: number | undefined, notBefore: number | null): number | null {
  return nextDueAt === undefined ? null : Math.max(nextDueAt, notBefore ?? 0);
}

function toState(row: StateRow): ListenerState {
  return {
    seq: String(row.seq),
    listenerId: row.listenerId,
    readyAt: numberOrNull(row.readyAt),
    failuresInARow: Number(row.failuresInARow),
    failingSince: numberOrNull(row.failingSince),
    failuresCountFrom: numberOrNull(row.failuresCountFrom),
    pausedUntil: numberOrNull(row.pausedUntil),
    rateTaken: row.rateTaken,
    handshakeAt: numberOrNull(row.handshakeAt),
    handshakeFrom: numberOrNull(row.handshakeFrom),
    handshakeTries: Number(row.handshakeTries),
  };
}
