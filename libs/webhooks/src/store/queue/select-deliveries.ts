import sql, { join, raw, type Sql } from 'sql-template-tag';
import { ownerKeyOf } from '../../hash.js';
import { canBeStored } from '../database/can-be-stored.js';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import type { PagePosition } from '../database/page.js';
import { query, type Script } from '../database/script.js';
import type { OwnerScope } from '../listeners/listener-rows.js';
import { stateOf } from './delivery-rows.js';

/** The maximum number of deliveries that one batch of bulk work changes. */
const DELIVERIES_PER_BATCH = 500;
/** The maximum number of deliveries that one batch reads to find these deliveries. So a batch is short even if few deliveries match. */
const SCANNED_PER_BATCH = 5_000;

/** The deliveries that bulk work is about. */
export interface DeliverySelection {
  readonly scope: OwnerScope;
  readonly owner?: string | undefined;
  readonly listenerId?: string | undefined;
  /** Shown states of one kind: `due` and `held`, or `exhausted` and `discarded`. */
  readonly states: readonly string[];
  readonly types?: readonly string[] | undefined;
  /** The error code of the last attempt. */
  readonly errorCode?: string | undefined;
  /** The row whose events are delivered. */
  readonly orderKey?: Buffer | undefined;
  /** Created before this time. */
  readonly until: number;
  /** Only deliveries with fewer attempts than this number. */
  readonly attemptsBelow?: number | undefined;
}

export interface SelectedDelivery {
  seq: unknown;
  id: string;
  listenerId: string;
  owner: string | null;
  lastErrorCode: string | null;
  createdAt: unknown;
  eventSeq: unknown;
}

/** A batch of the selection, the oldest delivery first. */
export interface SelectedBatch {
  readonly rows: readonly SelectedDelivery[];
  /** Where the next batch begins; `null` after the last batch. */
  readonly next: PagePosition | null;
}

/** Finds the next deliveries of a selection. A plain read, which locks nothing. @param most at most {@link DELIVERIES_PER_BATCH} */
export function* selectDeliveries(
  database: Database,
  selection: DeliverySelection,
  after: PagePosition,
  most = DELIVERIES_PER_BATCH,
): Script<SelectedBatch> {
  const limit = Math.min(most, DELIVERIES_PER_BATCH);
  if (!isPossible(selection)) return { rows: [], next: null };
  const { deliveries: d } = database.tables;
  const end = yield* scanEnd(database, selection, after);
  const columns = d.select('d', 'seq', 'id', 'listenerId', 'owner', 'lastErrorCode', 'createdAt', 'eventSeq');
  const rows = yield* query<SelectedDelivery>(
    sql`select ${columns} ${from(database, selection, after, end)} order by d.${d.$.createdAt}, d.${d.$.seq} limit ${limit}`,
  );
  const last = rows.at(-1);
  const next = last && rows.length === limit ? positionOf(last) : end;
  // Compare the owners again with ===, because a collation treats some different texts as equal.
  const isPermitted = ({ owner }: SelectedDelivery) =>
    [selection.scope, selection.owner].every((given) => given === undefined || owner === given);
  return { rows: rows.filter(isPermitted), next };
}

/** The number of selected deliveries in a part of the selection, and their first and last time. */
export interface CountedPart {
  readonly count: number;
  readonly oldest: number | null;
  readonly newest: number | null;
  readonly next: PagePosition | null;
}

/** Counts the next deliveries of a selection. @param limit where the count ends */
export function* countSelected(
  database: Database,
  selection: DeliverySelection,
  after: PagePosition,
  limit: number,
): Script<CountedPart> {
  if (!isPossible(selection)) return { count: 0, oldest: null, newest: null, next: null };
  const { deliveries: d } = database.tables;
  const end = yield* scanEnd(database, selection, after);
  const [row] = yield* query<{ count: unknown; oldest: unknown; newest: unknown }>(
    sql`select count(*) ${d.as('count')}, min(c.at) ${d.as('oldest')}, max(c.at) ${d.as('newest')} from (select d.${d.$.createdAt} as at ${from(database, selection, after, end)} order by d.${d.$.createdAt}, d.${d.$.seq} limit ${limit}) c`,
  );
  const time = (value: unknown) => (value === null || value === undefined ? null : Number(value));
  return { count: Number(row?.count), oldest: time(row?.oldest), newest: time(row?.newest), next: end };
}

function positionOf({ createdAt, seq }: { createdAt: unknown; seq: unknown }): PagePosition {
  return { at: Number(createdAt), seq: String(seq) };
}

/** No row has a text that cannot be stored, and the database would refuse the text. */
function isPossible({ listenerId, errorCode, types = [] }: DeliverySelection): boolean {
  return [listenerId, errorCode, ...types].every((text) => canBeStored(text ?? ''));
}

/** The position of the last delivery that this batch may read; `null` if this batch reaches the end. */
function* scanEnd(
  database: Database,
  { scope, owner, listenerId, until }: DeliverySelection,
  after: PagePosition,
): Script<PagePosition | null> {
  const { deliveries: d } = database.tables;
  const indexed = { scope, owner, listenerId, until, states: [] };
  const [end] = yield* query<{ createdAt: unknown; seq: unknown }>(
    sql`select ${d.select('d', 'createdAt', 'seq')} ${from(database, indexed, after, null)} order by d.${d.$.createdAt}, d.${d.$.seq} limit 1 offset ${SCANNED_PER_BATCH - 1}`,
  );
  return end ? positionOf(end) : null;
}

function from(database: Database, selection: DeliverySelection, after: PagePosition, end: PagePosition | null): Sql {
  const { deliveries: d, events: e } = database.tables;
  const { listenerId, states, types, errorCode, orderKey, until, attemptsBelow } = selection;
  const where = [
    sql`d.${d.$.createdAt} >= ${after.at} and d.${d.$.createdAt} < ${until} and (d.${d.$.createdAt} > ${after.at} or d.${d.$.seq} > ${after.seq})`,
  ];
  if (end) {
    where.push(sql`d.${d.$.createdAt} <= ${end.at} and (d.${d.$.createdAt} < ${end.at} or d.${d.$.seq} <= ${end.seq})`);
  }
  for (const owner of [selection.scope, selection.owner]) {
    if (owner !== undefined) where.push(sql`d.${d.$.ownerKey} = ${ownerKeyOf(owner)}`);
  }
  if (listenerId !== undefined) where.push(sql`d.${d.$.listenerId} = ${listenerId}`);
  if (states.length) where.push(isInState(database, states));
  if (types !== undefined) where.push(sql`d.${d.$.type} ${inList(types)}`);
  if (errorCode !== undefined) where.push(sql`d.${d.$.lastErrorCode} = ${errorCode}`);
  if (attemptsBelow !== undefined) where.push(sql`d.${d.$.attempts} < ${attemptsBelow}`);
  if (orderKey !== undefined) {
    where.push(sql`(select e.${e.$.orderKey} from ${e.sql} e where e.${e.$.seq} = d.${d.$.eventSeq}) = ${orderKey}`);
  }
  return sql`from ${d.sql} d where ${join(where, ' and ')}`;
}

/** `held` is not a stored state. A held delivery is a `due` delivery whose listener is not active. */
function isInState(database: Database, states: readonly string[]): Sql {
  const { deliveries: d, listeners: l } = database.tables;
  const [isDue, isHeld] = [states.includes('due'), states.includes('held')];
  if (!isDue && !isHeld) return sql`${stateOf(database)} ${inList(states)}`;
  const pending = sql`${stateOf(database)} = ${'due'}`;
  if (isDue && isHeld) return pending;
  const listenerState = sql`(select l.${l.$.state} from ${l.sql} l where l.${l.$.id} = d.${d.$.listenerId})`;
  return sql`${pending} and ${listenerState} ${raw(isDue ? '=' : '<>')} ${'active'}`;
}
