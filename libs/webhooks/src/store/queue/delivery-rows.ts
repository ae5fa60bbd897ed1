import sql, { join, type Sql } from 'sql-template-tag';
import { ownerKeyOf } from '../../hash.js';
import { canBeStored } from '../database/can-be-stored.js';
import type { Database } from '../database/database.js';
import { atSameTime, atTimesOf } from '../database/event-times.js';
import { typed } from '../database/dialect-sql.js';
import { numberOrNull } from '../database/number-or-null.js';
import { expectDeliveries } from '../listeners/listener-state.js';
import type { OwnerScope } from '../listeners/listener-rows.js';
import { isAfter, isUpTo, MAX_SCANNED, type PagePosition, type ScanEnd } from '../database/page.js';
import type { Triggered } from '../../attempt-trigger.js';
import type { RenderedBody, RenderedEvent } from './rendered-body.js';
import { execute, query, type Script } from '../database/script.js';
import { auditText } from '../system/audit.js';

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
  /** From {@link lastTiming}. */
  lastTiming: unknown;
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
  trigger: string | null;
  triggeredBy: string | null;
  /** JSON in the form of `stored-details.ts`. */
  details: string | null;
}

/** What an attempt in the row of its delivery never has: it was made by the schedule, and an attempt with details has its own row. */
export const FROM_DELIVERY_ROW = { trigger: null, triggeredBy: null, details: null } as const;

export interface DeliveryFilterRow {
  scope: OwnerScope;
  owner?: string;
  listenerId?: string;
  eventId?: string;
  type?: string;
  state?: string;
  /** The smallest and the largest status of the last attempt. */
  status?: readonly [min: number, max: number];
  /** The error code of the last attempt. */
  errorCode?: string;
  since?: number;
  until?: number;
}

/**
 * The state of a delivery `d` as an expression, for statements that must find the row by other columns. With the plain column, MariaDB may
 * choose its index of states. For each batch, MariaDB would then sort all deliveries that have ever failed, and a locking read would lock
 * all these deliveries.
 */
export function stateOf(database: Database): Sql {
  const { deliveries: d } = database.tables;
  return sql`coalesce(d.${d.$.state}, '')`;
}

/** The state that is shown. `held` is not a stored state. A `due` delivery is shown as `held` if its listener is not active. */
function shownState(database: Database): Sql {
  const { deliveries: d } = database.tables;
  return sql`case when d.${d.$.state} = ${'due'} and ${listenerState(database)} <> ${'active'} then ${typed(database.dialect, 'text', 'held')} else d.${d.$.state} end`;
}

/**
 * Marks the condition as likely on SQLite, because nearly all deliveries have succeeded. Otherwise SQLite would read and sort the whole
 * table instead of the newest rows.
 */
function hasSucceeded({ dialect, tables: { deliveries: d } }: Database): Sql {
  const condition = sql`d.${d.$.state} = ${'succeeded'}`;
  return dialect === 'sqlite' ? sql`likely(${condition})` : condition;
}

/**
 * The state of the listener of a delivery `d`. This is a subquery, so that the listener is read only for due deliveries. For a join,
 * PostgreSQL with outdated statistics would read all listeners.
 */
function listenerState({ tables: { deliveries: d, listeners: l } }: Database): Sql {
  return sql`(select l.${l.$.state} from ${l.sql} l where l.${l.$.id} = d.${d.$.listenerId})`;
}

/** The index that returns a list in order. Lists of rare rows do not need such an index. */
function pathOf(database: Database, { scope, owner, listenerId, eventId, state }: DeliveryFilterRow): Sql {
  const { deliveries: d } = database.tables;
  if (eventId !== undefined || (state !== undefined && state !== 'succeeded')) return sql``;
  if (listenerId !== undefined) return d.through('listenerId', 'createdAt', 'seq');
  if ((scope ?? owner) !== undefined) return d.through('ownerKey', 'createdAt', 'seq');
  return d.through('createdAt', 'seq');
}

function selectDeliveries(database: Database, path = sql``): Sql {
  return sql`select ${deliveryColumns(database)} from ${database.tables.deliveries.sql} d${path}`;
}

/** The columns of {@link DeliveryRow}, of deliveries `d`. */
export function deliveryColumns(database: Database): Sql {
  const { deliveries: d, events: e } = database.tables;
  const columns = d.select(
    'd',
    ...(['seq', 'id', 'listenerId', 'type', 'owner', 'attempts', 'nextAt', 'lastStatus'] as const),
    ...(['lastErrorCode', 'createdAt', 'finishedAt'] as const),
  );
  return sql`${columns}, ${lastTiming(database)} ${d.as('lastTiming')}, ${shownState(database)} ${d.as('state')}, (select e.${e.$.id} from ${e.sql} e where e.${e.$.seq} = d.${d.$.eventSeq}${atSameTime(database, sql`e.${e.$.createdAt}`, sql`d.${d.$.eventAt}`)}) ${d.as('eventId')}`;
}

/**
 * The duration of the last attempt of a delivery `d`, in ms. The duration of a blocked attempt, which customers must not see, is shown as
 * `-1 - ms`: one number, because a second subquery would read the attempt again. `null` before the first attempt. The first attempt may be in
 * the row of the delivery.
 */
function lastTiming(database: Database): Sql {
  const { attempts: a, deliveries: d } = database.tables;
  const timing = (outcome: Sql, ms: Sql) => sql`case when ${outcome} = ${'blocked'} then -1 - ${ms} else ${ms} end`;
  const at = atSameTime(database, sql`a.${a.$.eventAt}`, sql`d.${d.$.eventAt}`);
  const own = sql`select ${timing(sql`a.${a.$.outcome}`, sql`a.${a.$.durationMs}`)} from ${a.sql} a${a.through('deliveryId', 'seq')} where a.${a.$.deliveryId} = d.${d.$.id}${at} and a.${a.$.superseded} = 0 order by a.${a.$.seq} desc limit 1`;
  return sql`coalesce((${own}), ${timing(sql`d.${d.$.outcome}`, sql`d.${d.$.durationMs}`)})`;
}

/** The duration and the kind of {@link lastTiming}. */
export function readTiming(timing: unknown): { readonly durationMs: number | null; readonly isBlocked: boolean } {
  const value = numberOrNull(timing);
  const isBlocked = value !== null && value < 0;
  return { durationMs: isBlocked ? -1 - value : value, isBlocked };
}

function conditions(database: Database, filter: DeliveryFilterRow): Sql[] {
  const { deliveries: d, events: e } = database.tables;
  const { listenerId, eventId, type, state, status, errorCode } = filter;
  if (![listenerId, eventId, type, errorCode].every((text) => canBeStored(text ?? ''))) return [sql`1 = 0`];
  const where: Sql[] = [];
  for (const owner of [filter.scope, filter.owner]) {
    if (owner !== undefined) where.push(sql`d.${d.$.ownerKey} = ${ownerKeyOf(owner)}`);
  }
  if (listenerId !== undefined) where.push(sql`d.${d.$.listenerId} = ${listenerId}`);
  if (eventId !== undefined) {
    const isEvent = sql`e.${e.$.id} = ${eventId}${atTimesOf(database, sql`e.${e.$.createdAt}`, [eventId])}`;
    const of = (column: Sql) => sql`(select e.${column} from ${e.sql} e where ${isEvent})`;
    const at = atTimesOf(database, sql`d.${d.$.eventAt}`, [eventId]);
    where.push(sql`d.${d.$.eventAt} = ${of(e.$.createdAt)} and d.${d.$.eventSeq} = ${of(e.$.seq)}${at}`);
  }
  if (type !== undefined) where.push(sql`d.${d.$.type} = ${type}`);
  // Write the state as literal text, because the partial index of exhausted deliveries has this condition.
  if (state === 'exhausted') where.push(sql`d.${d.$.state} = 'exhausted'`);
  else if (state === 'succeeded') where.push(hasSucceeded(database));
  else if (state !== undefined) where.push(sql`d.${d.$.state} = ${state === 'held' ? 'due' : state}`);
  if (state === 'held') where.push(sql`${listenerState(database)} <> ${'active'}`);
  if (state === 'due') where.push(sql`${listenerState(database)} = ${'active'}`);
  if (status !== undefined) where.push(sql`d.${d.$.lastStatus} between ${status[0]} and ${status[1]}`);
  if (errorCode !== undefined) where.push(sql`d.${d.$.lastErrorCode} = ${errorCode}`);
  if (filter.since !== undefined) where.push(sql`d.${d.$.createdAt} >= ${filter.since}`);
  if (filter.until !== undefined) where.push(sql`d.${d.$.createdAt} < ${filter.until}`);
  return where.length ? where : [sql`1 = 1`];
}

/** Lists deliveries. The newest delivery comes first. @param until from {@link deliveryScanEnd} */
export function* listDeliveries(
  database: Database,
  filter: DeliveryFilterRow,
  after: PagePosition | null,
  limit: number,
  until: ScanEnd = null,
): Script<DeliveryRow[]> {
  const select = selectDeliveries(database, pathOf(database, filter));
  return yield* query<DeliveryRow>(sql`${select} ${pageOf(database, filter, after, until)} limit ${limit}`);
}

/** The last delivery that a page may read if no index serves its filter (type, status or error). */
export function* deliveryScanEnd(
  database: Database,
  { type, status, errorCode, ...indexed }: DeliveryFilterRow,
  after: PagePosition | null,
): Script<ScanEnd> {
  if (type === undefined && status === undefined && errorCode === undefined) return null;
  const { deliveries: d } = database.tables;
  const [end] = yield* query<{ createdAt: unknown; seq: unknown }>(
    sql`select ${d.select('d', 'createdAt', 'seq')} from ${d.sql} d${pathOf(database, indexed)} ${pageOf(database, indexed, after, null)} limit 1 offset ${MAX_SCANNED - 1}`,
  );
  return end ? { at: Number(end.createdAt), seq: String(end.seq) } : null;
}

function pageOf(database: Database, filter: DeliveryFilterRow, after: PagePosition | null, until: ScanEnd): Sql {
  const { deliveries: d } = database.tables;
  const where = conditions(database, filter);
  if (after) where.push(isAfter(database.dialect, sql`d.${d.$.createdAt}`, sql`d.${d.$.seq}`, after));
  if (until) where.push(isUpTo(database.dialect, sql`d.${d.$.createdAt}`, sql`d.${d.$.seq}`, until));
  return sql`where ${join(where, ' and ')} order by d.${d.$.createdAt} desc, d.${d.$.seq} desc`;
}

export function* readDelivery(database: Database, id: string, scope: OwnerScope): Script<DeliveryRow | undefined> {
  if (!canBeStored(id)) return undefined;
  const { deliveries: d } = database.tables;
  const [row] = yield* query<DeliveryRow>(
    sql`${selectDeliveries(database)} where d.${d.$.id} = ${id}${atTimesOf(database, sql`d.${d.$.eventAt}`, [id])}`,
  );
  if (!row || row.id !== id || (scope !== undefined && row.owner !== scope)) return undefined;
  return row;
}

/** Oldest first. An attempt that was recorded together with its delivery, without details, is in the row of the delivery. */
export function* readAttempts(database: Database, deliveryId: string): Script<AttemptRow[]> {
  const { attempts: a, deliveries: d } = database.tables;
  const properties = ['outcome', 'status', 'errorCode', 'errorDetail', 'durationMs', 'response', 'startedAt'] as const;
  const first = yield* query<Omit<AttemptRow, 'trigger' | 'triggeredBy' | 'details'>>(
    sql`select 1 ${d.as('number')}, 0 ${d.as('superseded')}, ${d.select('d', ...properties)} from ${d.sql} d where d.${d.$.id} = ${deliveryId}${atTimesOf(database, sql`d.${d.$.eventAt}`, [deliveryId])} and d.${d.$.outcome} is not null`,
  );
  const others = yield* query<AttemptRow>(
    sql`select ${a.select('a', 'number', 'superseded', 'trigger', 'triggeredBy', 'details', ...properties)} from ${a.sql} a where a.${a.$.deliveryId} = ${deliveryId}${atTimesOf(database, sql`a.${a.$.eventAt}`, [deliveryId])} order by a.${a.$.seq}`,
  );
  return [...first.map((row) => ({ ...row, ...FROM_DELIVERY_ROW })), ...others].toSorted(
    (x, y) => Number(x.startedAt) - Number(y.startedAt),
  );
}

export function* countDeliveries(
  database: Database,
  filter: DeliveryFilterRow,
): Script<{ state: string; count: unknown }[]> {
  const { deliveries: d } = database.tables;
  return yield* query(
    sql`select c.state ${d.as('state')}, count(*) ${d.as('count')} from (select ${shownState(database)} as state from ${d.sql} d where ${join(conditions(database, filter), ' and ')}) c group by c.state`,
  );
}

/** The body of a delivery, and the values that determine its content type. */
export interface DeliveryBodyRow {
  type: string;
  /** The version of the body; `null`: that of the payload. */
  version: unknown;
  /** `null`: the text of the event. */
  body: string | null;
  format: string | null;
  listenerFormat: string | null;
  payload: string | null;
  thinPayload: string | null;
  erasedAt: unknown;
}

/** The body of a delivery that {@link readDelivery} has found. */
export function* readBodyOf(database: Database, delivery: DeliveryRow): Script<DeliveryBodyRow | undefined> {
  const { deliveries: d, events: e, listeners: l } = database.tables;
  const listenerFormat = sql`(select l.${l.$.format} from ${l.sql} l where l.${l.$.id} = d.${d.$.listenerId}) ${l.as('listenerFormat')}`;
  const [row] = yield* query<DeliveryBodyRow>(
    sql`select ${d.select('d', 'type', 'version', 'body', 'format')}, ${e.select('e', 'payload', 'thinPayload', 'erasedAt')}, ${listenerFormat} from ${d.sql} d join ${e.sql} e on e.${e.$.seq} = d.${d.$.eventSeq}${atTimesOf(database, sql`e.${e.$.createdAt}`, [delivery.id])} where d.${d.$.id} = ${delivery.id}${atTimesOf(database, sql`d.${d.$.eventAt}`, [delivery.id])}`,
  );
  return row;
}

/** The stored context of a delivery's event. */
export function* readContextOf(database: Database, delivery: DeliveryRow): Script<string | null> {
  const { events: e } = database.tables;
  const [event] = yield* query<{ context: string | null }>(
    sql`select ${e.select('e', 'context')} from ${e.sql} e where e.${e.$.id} = ${delivery.eventId}${atTimesOf(database, sql`e.${e.$.createdAt}`, [delivery.eventId])}`,
  );
  return event?.context ?? null;
}

/** When the content of a delivery's event was erased. */
export function* readErasedAt(
  database: Database,
  delivery: Pick<DeliveryRow, 'eventId'>,
): Script<{ readonly erasedAt: unknown } | undefined> {
  const { events: e } = database.tables;
  const [event] = yield* query<{ erasedAt: unknown }>(
    sql`select ${e.select('e', 'erasedAt')} from ${e.sql} e where e.${e.$.id} = ${delivery.eventId}${atTimesOf(database, sql`e.${e.$.createdAt}`, [delivery.eventId])}`,
  );
  return event;
}

/** The event of a delivery, in the form that payload formats get; `erasedAt` is not `null` if its content was erased. */
export function* readEventOf(
  database: Database,
  delivery: DeliveryRow,
): Script<(RenderedEvent & { readonly erasedAt: unknown }) | undefined> {
  const { events: e } = database.tables;
  const [event] = yield* query<RenderedEvent & { readonly erasedAt: unknown }>(
    sql`select ${e.select('e', 'id', 'type', 'payload', 'context', 'erasedAt')} from ${e.sql} e where e.${e.$.id} = ${delivery.eventId}${atTimesOf(database, sql`e.${e.$.createdAt}`, [delivery.eventId])}`,
  );
  return event;
}

/** Sets the trigger of the next attempt. */
export function triggeredBy({ tables: { deliveries: d } }: Database, { trigger, by }: Triggered): Sql {
  return sql`${d.$.trigger} = ${trigger}, ${d.$.triggeredBy} = ${auditText(by)}`;
}

/**
 * Makes a delivery due now, restarts its schedule, and removes the delivery from any order.
 *
 * @param triggered what makes the next attempt
 * @param rendered the new body and its format. `undefined` leaves body and format unchanged
 * @returns whether the state of the delivery allowed the change
 */
export function* rearmDelivery(
  database: Database,
  delivery: Pick<DeliveryRow, 'id' | 'listenerId'>,
  now: number,
  triggered: Triggered,
  rendered: RenderedBody | undefined,
): Script<boolean> {
  const { sql: path, $ } = database.tables.deliveries;
  const text = rendered
    ? sql`, ${$.body} = ${rendered.body}, ${$.format} = ${rendered.format}, ${$.version} = ${rendered.version}, ${$.lastErrorCode} = ${null}`
    : sql``;
  const changed = yield* execute(
    sql`update ${path} set ${$.state} = ${'due'}, ${$.retries} = 0, ${$.nextAt} = ${now}, ${$.orderKey} = ${null}, ${$.finishedAt} = ${null}, ${triggeredBy(database, triggered)}${text} where ${$.id} = ${delivery.id}${atTimesOf(database, $.eventAt, [delivery.id])} and ${$.state} <> ${'leased'}`,
  );
  if (changed > 0) yield* expectDeliveries(database, new Map([[delivery.listenerId, now]]));
  return changed > 0;
}
