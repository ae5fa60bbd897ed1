import sql, { join, type Sql } from 'sql-template-tag';
import { ownerKeyOf } from '../../hash.js';
import { canBeStored } from '../database/can-be-stored.js';
import type { Database } from '../database/database.js';
import { typed } from '../database/dialect-sql.js';
import { expectDeliveries } from '../listeners/listener-state.js';
import type { OwnerScope } from '../listeners/listener-rows.js';
import { isAfter, type PagePosition } from '../database/page.js';
import type { RenderedEvent } from './new-deliveries.js';
import { execute, query, type Script } from '../database/script.js';

export interface DeliveryRow {
  seq: unknown;
  id: string;
  listenerId: string;
  type: string;
  owner: string | null;
  state: string;
  attempts: unknown;
  nextAt: unknown;
  lastStatus: unknown;
  lastErrorCode: string | null;
  createdAt: unknown;
  finishedAt: unknown;
  eventId: string;
}

export interface AttemptRow {
  number: unknown;
  outcome: string;
  status: unknown;
  errorCode: string | null;
  errorDetail: string | null;
  durationMs: unknown;
  response: string | null;
  superseded: unknown;
  startedAt: unknown;
}

export interface DeliveryFilterRow {
  scope: OwnerScope;
  owner?: string;
  listenerId?: string;
  eventId?: string;
  type?: string;
  state?: string;
  since?: number;
  until?: number;
}

/**
 * The state of a delivery `d` as an expression, for statements that must find the row by other columns. With the plain column, MariaDB may
 * choose its index of states: it then sorts all deliveries that ever failed for each batch, and a locking read locks them.
 */
export function stateOf(database: Database): Sql {
  const { deliveries: d } = database.tables;
  return sql`coalesce(d.${d.$.state}, '')`;
}

/** `held` is no stored state: it is `due`, for a listener that is not active. */
function shownState(database: Database): Sql {
  const { deliveries: d, listeners: l } = database.tables;
  return sql`case when d.${d.$.state} = ${'due'} and l.${l.$.state} <> ${'active'} then ${typed(database.dialect, 'text', 'held')} else d.${d.$.state} end`;
}

function fromDeliveries(database: Database, path = sql``): Sql {
  const { deliveries: d, listeners: l } = database.tables;
  return sql`from ${d.sql} d${path} left join ${l.sql} l on l.${l.$.id} = d.${d.$.listenerId}`;
}

/** The index that returns a list in order. Lists of rare rows do without it. */
function pathOf(database: Database, { scope, owner, listenerId, eventId, state }: DeliveryFilterRow): Sql {
  const { deliveries: d } = database.tables;
  if (eventId !== undefined || (state !== undefined && state !== 'succeeded')) return sql``;
  if (listenerId !== undefined) return d.through('listenerId', 'createdAt', 'seq');
  if ((scope ?? owner) !== undefined) return d.through('ownerKey', 'createdAt', 'seq');
  return d.through('createdAt', 'seq');
}

function selectDeliveries(database: Database, path?: Sql): Sql {
  const { deliveries: d, events: e } = database.tables;
  const columns = d.select(
    'd',
    ...(['seq', 'id', 'listenerId', 'type', 'owner', 'attempts', 'nextAt', 'lastStatus'] as const),
    ...(['lastErrorCode', 'createdAt', 'finishedAt'] as const),
  );
  return sql`select ${columns}, ${shownState(database)} ${d.as('state')}, (select e.${e.$.id} from ${e.sql} e where e.${e.$.seq} = d.${d.$.eventSeq}) ${d.as('eventId')} ${fromDeliveries(database, path)}`;
}

function conditions(database: Database, filter: DeliveryFilterRow): Sql[] {
  const { deliveries: d, events: e, listeners: l } = database.tables;
  const { listenerId, eventId, type, state } = filter;
  if (![listenerId, eventId, type].every((text) => canBeStored(text ?? ''))) return [sql`1 = 0`];
  const where = [sql`d.${d.$.deletedAt} is null`];
  for (const owner of [filter.scope, filter.owner]) {
    if (owner !== undefined) where.push(sql`d.${d.$.ownerKey} = ${ownerKeyOf(owner)}`);
  }
  if (listenerId !== undefined) where.push(sql`d.${d.$.listenerId} = ${listenerId}`);
  if (eventId !== undefined) {
    where.push(sql`d.${d.$.eventSeq} in (select e.${e.$.seq} from ${e.sql} e where e.${e.$.id} = ${eventId})`);
  }
  if (type !== undefined) where.push(sql`d.${d.$.type} = ${type}`);
  // As literal text, because the partial index of exhausted deliveries has this condition.
  if (state === 'exhausted') where.push(sql`d.${d.$.state} = 'exhausted'`);
  else if (state !== undefined) where.push(sql`d.${d.$.state} = ${state === 'held' ? 'due' : state}`);
  if (state === 'held') where.push(sql`l.${l.$.state} <> ${'active'}`);
  if (state === 'due') where.push(sql`l.${l.$.state} = ${'active'}`);
  if (filter.since !== undefined) where.push(sql`d.${d.$.createdAt} >= ${filter.since}`);
  if (filter.until !== undefined) where.push(sql`d.${d.$.createdAt} < ${filter.until}`);
  return where;
}

/** Newest first. */
export function* listDeliveries(
  database: Database,
  filter: DeliveryFilterRow,
  after: PagePosition | null,
  limit: number,
): Script<DeliveryRow[]> {
  const { deliveries: d } = database.tables;
  const where = conditions(database, filter);
  if (after) where.push(isAfter(database.dialect, sql`d.${d.$.createdAt}`, sql`d.${d.$.seq}`, after));
  return yield* query<DeliveryRow>(
    sql`${selectDeliveries(database, pathOf(database, filter))} where ${join(where, ' and ')} order by d.${d.$.createdAt} desc, d.${d.$.seq} desc limit ${limit}`,
  );
}

export function* readDelivery(database: Database, id: string, scope: OwnerScope): Script<DeliveryRow | undefined> {
  if (!canBeStored(id)) return undefined;
  const { deliveries: d } = database.tables;
  const [row] = yield* query<DeliveryRow>(
    sql`${selectDeliveries(database)} where d.${d.$.id} = ${id} and d.${d.$.deletedAt} is null`,
  );
  if (!row || row.id !== id || (scope !== undefined && row.owner !== scope)) return undefined;
  return row;
}

export function* readAttempts(database: Database, deliverySeq: unknown): Script<AttemptRow[]> {
  const { attempts: a } = database.tables;
  const columns = a.select(
    'a',
    ...(['number', 'outcome', 'status', 'errorCode', 'errorDetail', 'durationMs', 'response'] as const),
    ...(['superseded', 'startedAt'] as const),
  );
  return yield* query<AttemptRow>(
    sql`select ${columns} from ${a.sql} a where a.${a.$.deliverySeq} = ${deliverySeq} order by a.${a.$.seq}`,
  );
}

export function* countDeliveries(
  database: Database,
  filter: DeliveryFilterRow,
): Script<{ state: string; count: unknown }[]> {
  const { deliveries: d } = database.tables;
  return yield* query(
    sql`select c.state ${d.as('state')}, count(*) ${d.as('count')} from (select ${shownState(database)} as state ${fromDeliveries(database)} where ${join(conditions(database, filter), ' and ')}) c group by c.state`,
  );
}

/** The stored context of a delivery's event. */
export function* readContextOf(database: Database, delivery: DeliveryRow): Script<string | null> {
  const { events: e } = database.tables;
  const [event] = yield* query<{ context: string | null }>(
    sql`select ${e.select('e', 'context')} from ${e.sql} e where e.${e.$.id} = ${delivery.eventId}`,
  );
  return event?.context ?? null;
}

/** The event of a delivery, as payload formats get it. */
export function* readEventOf(database: Database, delivery: DeliveryRow): Script<RenderedEvent | undefined> {
  const { events: e } = database.tables;
  const [event] = yield* query<RenderedEvent>(
    sql`select ${e.select('e', 'id', 'type', 'payload', 'context')} from ${e.sql} e where e.${e.$.id} = ${delivery.eventId}`,
  );
  return event;
}

/**
 * Makes a delivery due now, restarts its schedule, and removes it from any order.
 *
 * @param rendered the new body and its format; `undefined` leaves them unchanged
 * @returns whether its state allowed it
 */
export function* rearmDelivery(
  database: Database,
  delivery: Pick<DeliveryRow, 'id' | 'listenerId'>,
  now: number,
  rendered: { readonly body: string | null; readonly format: string } | undefined,
): Script<boolean> {
  const { sql: path, $ } = database.tables.deliveries;
  const format = rendered?.body === null ? null : rendered?.format;
  const text = rendered
    ? sql`, ${$.body} = ${rendered.body}, ${$.format} = ${format}, ${$.lastErrorCode} = ${null}`
    : sql``;
  const changed = yield* execute(
    sql`update ${path} set ${$.state} = ${'due'}, ${$.retries} = 0, ${$.nextAt} = ${now}, ${$.orderKey} = ${null}, ${$.finishedAt} = ${null}${text} where ${$.id} = ${delivery.id} and ${$.state} <> ${'leased'}`,
  );
  if (changed > 0) yield* expectDeliveries(database, new Map([[delivery.listenerId, now]]));
  return changed > 0;
}
