import sql from 'sql-template-tag';
import { ownerKeyOf } from '../../hash.js';
import { DAY } from '../../time.js';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { numberOrNull } from '../database/number-or-null.js';
import { query, type Script } from '../database/script.js';
import { COUNTED, readBacklog } from './read-backlog.js';

/** The work that waits, of the whole instance or of one owner. Each count ends at {@link COUNTED}. */
export interface SystemFigures {
  readonly outboxLagMs: number;
  readonly queueLagMs: number;
  readonly pending: number;
  readonly due: number;
  readonly retrying: number;
  readonly held: number;
  readonly exhausted24h: number;
  readonly disabled: number;
}

/** Reads the figures of the whole instance by four queries that use indexes. */
export function* readSystemFigures(
  database: Database,
  now: number,
  tablePaths: readonly string[],
): Script<SystemFigures> {
  const { outboxLagMs, queueLagMs, pending, waiting, listeners } = yield* readBacklog(database, now, tablePaths);
  return {
    outboxLagMs,
    queueLagMs,
    pending,
    due: waiting.due,
    retrying: waiting.retry + waiting.paused,
    held: waiting.held,
    exhausted24h: yield* countExhausted(database, now - DAY),
    disabled: listeners.disabled,
  };
}

/**
 * Reads the newest exhausted deliveries only. MySQL has no index over their times, so it reads the end of its index over the states: the
 * lease of a finished delivery is null, so these entries are in the order of their sequence.
 */
function* countExhausted(database: Database, since: number): Script<number> {
  const { deliveries: d } = database.tables;
  const isMysql = database.dialect === 'mysql';
  const path = isMysql ? d.through('state', 'leaseUntil') : sql``;
  const order = isMysql
    ? sql`d.${d.$.leaseUntil} desc, d.${d.$.seq} desc`
    : sql`d.${d.$.createdAt} desc, d.${d.$.seq} desc`;
  const [row] = yield* query<{ count: unknown }>(
    sql`select count(*) ${d.as('count')} from (select d.${d.$.createdAt} as created_at from ${d.sql} d${path} where d.${d.$.state} = 'exhausted' order by ${order} limit ${COUNTED}) c where c.created_at >= ${since}`,
  );
  return Number(row?.count);
}

/**
 * Reads the figures of one owner. Every query reads rows of this owner only, so that its time says nothing about others. Of events and
 * exhausted deliveries, only the newest {@link COUNTED} of the owner are looked at.
 */
export function* readOwnerFigures(database: Database, owner: string, now: number): Script<SystemFigures> {
  const events = yield* pendingEventsOf(database, owner);
  const listeners = yield* listenersOf(database, owner);
  const active = listeners.filter(({ state }) => state === 'active');
  const readyAt = active.map((one) => numberOrNull(one.readyAt)).filter((at) => at !== null);
  const waiting = yield* waitingOf(
    database,
    listeners.map(({ id }) => id),
    now,
  );
  const sum = (some: readonly OwnListener[], pick: (counted: Waiting) => number) =>
    some.reduce((total, { id }) => total + pick(waiting.get(id) ?? NOTHING), 0);
  const isPaused = ({ pausedUntil }: OwnListener) => Number(pausedUntil ?? 0) > now;
  const free = active.filter((one) => !isPaused(one));
  const due = sum(free, ({ ready }) => ready);
  return {
    outboxLagMs: events.oldestAt === null ? 0 : Math.max(0, now - events.oldestAt),
    queueLagMs: readyAt.length ? Math.max(0, now - Math.min(...readyAt)) : 0,
    pending: events.count,
    due,
    retrying: sum(active, ({ total }) => total) - due,
    held: sum(
      listeners.filter(({ state }) => state !== 'active'),
      ({ total }) => total,
    ),
    exhausted24h: yield* exhaustedOf(database, owner, now - DAY),
    disabled: listeners.filter(({ state }) => state === 'disabled').length,
  };
}

/** Looks up the outbox row of each event separately: a join could read the outbox rows of other owners. */
function* pendingEventsOf(
  database: Database,
  owner: string,
): Script<{ readonly count: number; readonly oldestAt: number | null }> {
  const { events: e, outbox: o } = database.tables;
  const path = e.through('ownerKey', 'createdAt', 'seq');
  const newest = sql`select e.${e.$.seq} as seq, e.${e.$.createdAt} as created_at from ${e.sql} e${path} where e.${e.$.ownerKey} = ${ownerKeyOf(owner)} order by e.${e.$.createdAt} desc, e.${e.$.seq} desc limit ${COUNTED}`;
  const [row] = yield* query<{ count: unknown; oldest: unknown }>(
    sql`select count(*) ${e.as('count')}, min(c.created_at) ${e.as('oldest')} from (${newest}) c where (select o.${o.$.seq} from ${o.sql} o where o.${o.$.seq} = c.seq) is not null`,
  );
  return { count: Number(row?.count), oldestAt: numberOrNull(row?.oldest) };
}

interface OwnListener {
  readonly id: string;
  readonly state: string;
  readonly readyAt: unknown;
  readonly pausedUntil: unknown;
}

function* listenersOf(database: Database, owner: string): Script<OwnListener[]> {
  const { listeners: l, listenerState: s } = database.tables;
  return yield* query<OwnListener>(
    sql`select ${l.select('l', 'id', 'state')}, ${s.select('s', 'readyAt', 'pausedUntil')} from ${l.sql} l${l.through('ownerKey', 'createdAt', 'seq')} join ${s.sql} s on s.${s.$.listenerId} = l.${l.$.id} where l.${l.$.ownerKey} = ${ownerKeyOf(owner)} and l.${l.$.deletedAt} is null limit ${COUNTED}`,
  );
}

/** Deliveries of a listener that are not finished and not being sent, and those of them whose time has come. */
interface Waiting {
  readonly total: number;
  readonly ready: number;
}

const NOTHING: Waiting = { total: 0, ready: 0 };

function* waitingOf(database: Database, ids: readonly string[], now: number): Script<Map<string, Waiting>> {
  if (!ids.length) return new Map();
  const { deliveries: d } = database.tables;
  const path = d.through('listenerId', 'state', 'nextAt', 'seq');
  const some = sql`select d.${d.$.listenerId} as listener, d.${d.$.nextAt} as next_at from ${d.sql} d${path} where d.${d.$.listenerId} ${inList(ids)} and d.${d.$.state} = 'due' limit ${COUNTED}`;
  const rows = yield* query<{ listener: string; total: unknown; ready: unknown }>(
    sql`select c.listener, count(*) as total, sum(case when c.next_at <= ${now} then 1 else 0 end) as ready from (${some}) c group by c.listener`,
  );
  return new Map(rows.map(({ listener, total, ready }) => [listener, { total: Number(total), ready: Number(ready) }]));
}

function* exhaustedOf(database: Database, owner: string, since: number): Script<number> {
  const { deliveries: d } = database.tables;
  const path = d.through('ownerKey', 'createdAt', 'seq');
  const newest = sql`select d.${d.$.state} as state from ${d.sql} d${path} where d.${d.$.ownerKey} = ${ownerKeyOf(owner)} and d.${d.$.createdAt} >= ${since} order by d.${d.$.createdAt} desc, d.${d.$.seq} desc limit ${COUNTED}`;
  const [row] = yield* query<{ count: unknown }>(
    sql`select count(*) ${d.as('count')} from (${newest}) c where c.state = 'exhausted'`,
  );
  return Number(row?.count);
}
