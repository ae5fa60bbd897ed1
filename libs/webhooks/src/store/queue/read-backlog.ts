import sql, { type Sql } from 'sql-template-tag';
import type { Database } from '../database/database.js';
import { numberOrNull } from '../database/number-or-null.js';
import { query, type Script } from '../database/script.js';
import { parseSending, selectSending } from '../system/sending.js';
import { oldestImageAt } from '../outbox/images.js';

/** The pending work, for monitoring. Each count ends at {@link COUNTED}. */
export interface Backlog {
  /** The age of the oldest event, or of the oldest image of a trigger, that is not routed yet. 0: all events and images are routed. */
  readonly outboxLagMs: number;
  /** How long ago the queue should have checked the listener that has waited longest. 0: no listener waits. */
  readonly queueLagMs: number;
  /** Whether an operator has paused all sending. Then due deliveries are late on purpose. */
  readonly isPaused: boolean;
  /** The number of events that are not routed yet. Images of triggers do not count. */
  readonly pending: number;
  /** The number of deliveries that are not being sent at the moment, by reason. */
  readonly waiting: {
    /** Deliveries that may be sent now. */
    readonly due: number;
    /** Deliveries that may be sent at a later time. */
    readonly retry: number;
    /** Deliveries whose listener is not active. */
    readonly held: number;
    /** Deliveries whose listener is paused, for example because its circuit is open. */
    readonly paused: number;
  };
  readonly listeners: {
    /** Active listeners whose last attempt succeeded. */
    readonly active: number;
    /** Active listeners whose last attempt failed. */
    readonly failing: number;
    /** Listeners whose handshake has not succeeded yet. */
    readonly pending: number;
    readonly disabled: number;
  };
}

/** The backlog of an empty database. */
export const NO_BACKLOG: Backlog = {
  outboxLagMs: 0,
  queueLagMs: 0,
  isPaused: false,
  pending: 0,
  waiting: { due: 0, retry: 0, held: 0, paused: 0 },
  listeners: { active: 0, failing: 0, pending: 0, disabled: 0 },
};

/** The limit of each count. This limit is enough to see a problem. A count up to this limit is cheap in a table of any size. */
export const COUNTED = 10_000;

/**
 * Reads the backlog by three queries. Each query uses an index, so the time of the queries does not depend on the size of the tables.
 *
 * @param tablePaths the tables whose images this process converts
 */
export function* readBacklog(database: Database, now: number, tablePaths: readonly string[]): Script<Backlog> {
  const [outbox = {}] = yield* query(outboxQuery(database, now, tablePaths));
  const waiting = byVerdict(yield* query<Verdict>(waitingQuery(database, now)));
  const listeners = byVerdict(yield* query<Verdict>(listenersQuery(database)));
  const since = (...times: unknown[]) =>
    Math.max(0, ...times.map((at) => numberOrNull(at)).map((at) => (at === null ? 0 : now - at)));
  const free = waiting('free');
  return {
    outboxLagMs: since(outbox['event_at'], outbox['image_at']),
    queueLagMs: since(outbox['ready_at']),
    isPaused: parseSending(outbox['sending'] as string | null).paused,
    pending: Number(outbox['event_count']),
    waiting: {
      due: free.ready,
      retry: free.total - free.ready,
      held: waiting('held').total,
      paused: waiting('paused').total,
    },
    listeners: {
      active: listeners('active').total,
      failing: listeners('failing').total,
      pending: listeners('pending').total,
      disabled: Number(outbox['disabled_count']),
    },
  };
}

/** The number of deliveries or listeners with the same verdict, and how many of them are due. */
type Verdict = { verdict: string; total: unknown; ready: unknown };

function byVerdict(rows: readonly Verdict[]) {
  return (wanted: string) => {
    const row = rows.find(({ verdict }) => verdict === wanted);
    return { total: Number(row?.total ?? 0), ready: Number(row?.ready ?? 0) };
  };
}

// States are literal text, because the conditions of partial indexes contain the states as literal text.

function outboxQuery(database: Database, now: number, tablePaths: readonly string[]): Sql {
  const { outbox: o, listenerState: s, listeners: l } = database.tables;
  const pending = sql`from ${o.sql} o order by o.${o.$.seq}`;
  const oldest = sql`(select o.${o.$.eventAt} ${pending} limit 1)`;
  const count = sql`(select count(*) from (select o.${o.$.seq} ${pending} limit ${COUNTED}) c)`;
  const disabled = sql`(select count(*) from (select l.${l.$.seq} from ${l.sql} l where l.${l.$.state} = 'disabled' and l.${l.$.deletedAt} is null limit ${COUNTED}) c)`;
  return sql`select ${oldest} as event_at, ${count} as event_count, ${tablePaths.length ? oldestImageAt(database, tablePaths) : sql`null`} as image_at, (select min(s.${s.$.readyAt}) from ${s.sql} s) as ready_at, ${disabled} as disabled_count, ${selectSending(database)} as sending`;
}

/**
 * The states of listeners are read by subqueries, one for each listener with a pending delivery. With a join and outdated statistics, the
 * database might read all listeners.
 */
function waitingQuery(database: Database, now: number): Sql {
  const { deliveries: d, listeners: l, listenerState: s } = database.tables;
  const some = sql`select d.${d.$.listenerId} as listener, d.${d.$.nextAt} as next_at from ${d.sql} d where d.${d.$.state} = 'due' limit ${COUNTED}`;
  const grouped = sql`select p.listener, count(*) as total, sum(case when p.next_at <= ${now} then 1 else 0 end) as ready from (${some}) p group by p.listener`;
  const state = sql`(select l.${l.$.state} from ${l.sql} l where l.${l.$.id} = c.listener)`;
  const pausedUntil = sql`(select s.${s.$.pausedUntil} from ${s.sql} s where s.${s.$.listenerId} = c.listener)`;
  const judged = sql`select c.total, c.ready, case when ${state} <> 'active' then 'held' when ${pausedUntil} > ${now} then 'paused' else 'free' end as verdict from (${grouped}) c`;
  return sql`select b1.verdict, sum(b1.total) as total, sum(b1.ready) as ready from (${judged}) b1 group by b1.verdict`;
}

/** Counts listeners that are not disabled, in the order of an index. Without this order, SQLite would read the table. */
function listenersQuery(database: Database): Sql {
  const { listeners: l, listenerState: s } = database.tables;
  const failures = sql`(select s.${s.$.failuresInARow} from ${s.sql} s where s.${s.$.listenerId} = c.id)`;
  const some = sql`select l.${l.$.id} as id, l.${l.$.state} as state from ${l.sql} l where l.${l.$.deletedAt} is null and l.${l.$.state} <> 'disabled' order by l.${l.$.createdAt}, l.${l.$.seq} limit ${COUNTED}`;
  const judged = sql`select case when c.state <> 'active' then 'pending' when ${failures} > 0 then 'failing' else 'active' end as verdict from (${some}) c`;
  return sql`select b1.verdict, count(*) as total, 0 as ready from (${judged}) b1 group by b1.verdict`;
}
