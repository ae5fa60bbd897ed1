import sql, { join, type Sql } from 'sql-template-tag';
import { EVERY_OWNER_KEY, ownerKeyOf } from '../../hash.js';
import { canBeStored } from '../database/can-be-stored.js';
import type { Database } from '../database/database.js';
import { atTimesOf } from '../database/event-times.js';
import { isAfter, isUpTo, MAX_SCANNED, type PagePosition, type ScanEnd } from '../database/page.js';
import { readEventStates, type EventState } from './event-state.js';
import { query, type Script } from '../database/script.js';
import type { Audience } from '../../events/webhook-event.js';
import { inList } from '../database/chunks.js';
import { selectEvent, type ClaimedEvent } from './outbox-events.js';
import type { OwnerScope } from '../listeners/listener-rows.js';

/** An event in a list. */
export interface ListedEventRow {
  seq: unknown;
  id: string;
  type: string;
  state: EventState;
  audience: Audience;
  owner: string | null;
  superTypes: string | null;
  createdAt: unknown;
  erasedAt: unknown;
}

/** An event with its content; JSON columns as text. */
export interface ShownEventRow extends ListedEventRow {
  /** `null`: the content was erased. */
  payload: string | null;
  droppedFields: string | null;
  context: string | null;
  orderKey: Uint8Array | null;
}

export interface EventFilterRow {
  scope: OwnerScope;
  owner?: string;
  type?: string;
  /** The events of one row, or of one order key of `publish()`. */
  orderKey?: Buffer;
  since?: number;
  until?: number;
}

/** The columns of a list. They exclude the content, because a page of large events would be too large. */
const LISTED = ['seq', 'id', 'type', 'superTypes', 'audience', 'owner', 'createdAt', 'erasedAt'] as const;

/** A row before its state is known. */
type StatelessRow<T extends ListedEventRow = ListedEventRow> = Omit<T, 'state'>;

/** One page of events: its rows, and the start of the next page if the page has fewer rows than the limit. */
export interface EventPage {
  readonly rows: ListedEventRow[];
  readonly scanEnd: ScanEnd;
}

/**
 * Newest first. An owner sees the events of their rows and the events for every owner. No index contains both in one order. So this
 * function reads each kind in the order of its index, and merges them.
 */
export function* listEvents(
  database: Database,
  filter: EventFilterRow,
  after: PagePosition | null,
  limit: number,
): Script<EventPage> {
  const { scope, owner } = filter;
  if (scope === undefined)
    return yield* listOfKey(database, filter, owner === undefined ? null : ownerKeyOf(owner), {
      ...{ after, limit },
      mostScanned: MAX_SCANNED,
    });
  if (owner !== undefined && owner !== scope) return { rows: [], scanEnd: null };
  // The limit applies to the page, so both scans share it.
  const part = { after, limit, mostScanned: MAX_SCANNED / 2 };
  const own = yield* listOfKey(database, filter, ownerKeyOf(scope), part);
  const every = yield* listOfKey(database, filter, EVERY_OWNER_KEY, part);
  const scanEnd = later(own.scanEnd, every.scanEnd);
  const rows = [...own.rows, ...every.rows].filter((row) => isVisible(row, scope)).toSorted(newestFirst);
  // Beyond the end of one scan there may be rows that this scan has not read. So rows of the other scan beyond this position must wait for
  // the next page.
  return {
    rows: scanEnd ? rows.filter((row) => !isBeyond(row, scanEnd)).slice(0, limit) : rows.slice(0, limit),
    scanEnd,
  };
}

/** Reads an event that the owner may see. `undefined` if there is none, or if it belongs to another owner. */
export function* readListedEvent(database: Database, id: string, scope: OwnerScope): Script<ShownEventRow | undefined> {
  if (!canBeStored(id)) return undefined;
  const { events: e } = database.tables;
  const [row] = yield* query<StatelessRow<ShownEventRow>>(
    sql`select ${e.select('e', ...LISTED, 'payload', 'droppedFields', 'context', 'orderKey')} from ${e.sql} e where e.${e.$.id} = ${id}${atTimesOf(database, sql`e.${e.$.createdAt}`, [id])}`,
  );
  // Compare once more with ===: a collation treats some different texts as equal.
  if (row?.id !== id || !isVisible(row, scope)) return undefined;
  const stateOf = yield* readEventStates(database, [row.seq]);
  return { ...row, state: stateOf(row.seq) };
}

/** The contents of listed events. */
export function* readContents(database: Database, seqs: readonly unknown[]): Script<ClaimedEvent[]> {
  const { events: e } = database.tables;
  return yield* query<ClaimedEvent>(
    sql`select ${selectEvent(database)} from ${e.sql} e${e.byKey} where e.${e.$.seq} ${inList(seqs)}`,
  );
}

/** As for listeners, events of a type without an owner are visible only to the application. */
function isVisible({ audience, owner }: StatelessRow, scope: OwnerScope): boolean {
  return scope === undefined || audience === 'every' || (audience !== 'application' && owner === scope);
}

/** One scan of a page. */
interface EventScan {
  readonly after: PagePosition | null;
  readonly limit: number;
  readonly mostScanned: number;
}

/** @param key of an owner; `null`: all events */
function* listOfKey(
  database: Database,
  filter: EventFilterRow,
  key: Buffer | null,
  { after, limit, mostScanned }: EventScan,
): Script<EventPage> {
  const { events: e } = database.tables;
  const { type } = filter;
  if (type !== undefined && !canBeStored(type)) return { rows: [], scanEnd: null };
  const columns = e.select('e', ...LISTED);
  const hasNoIndex = type !== undefined || filter.orderKey !== undefined;
  if (hasNoIndex && database.dialect === 'postgres') {
    const scanned = sql`select ${columns}, ${e.select('e', 'orderKey')} ${fromEvents(database, filter, key, after, null, [])} limit ${mostScanned}`;
    return yield* selectedAmong(database, scanned, filter, { limit, mostScanned });
  }
  const scanEnd = hasNoIndex ? yield* scanEndOf(database, filter, key, { after, mostScanned }) : null;
  const selected = withoutIndex(filter, sql`e.${e.$.type}`, sql`e.${e.$.orderKey}`);
  const rows = yield* query<StatelessRow>(
    sql`select ${columns} ${fromEvents(database, filter, key, after, scanEnd, selected)} limit ${limit}`,
  );
  return { rows: yield* withStates(database, rows), scanEnd };
}

/** Conditions that no index serves. A row has few events, so an index of rows would cost every write more than these scans. */
function withoutIndex({ type, orderKey }: EventFilterRow, typeColumn: Sql, keyColumn: Sql): Sql[] {
  return [
    ...(type === undefined ? [] : [sql`${typeColumn} = ${type}`]),
    ...(orderKey === undefined ? [] : [sql`${keyColumn} = ${orderKey}`]),
  ];
}

/**
 * Filters the scanned rows, and also returns the end of the scan. If PostgreSQL could see the filter, it would expect few rows of a rare
 * type, and read and sort the whole table. A materialized CTE hides the filter.
 */
function* selectedAmong(
  database: Database,
  scanned: Sql,
  filter: EventFilterRow,
  { limit, mostScanned }: Pick<EventScan, 'limit' | 'mostScanned'>,
): Script<EventPage> {
  const selected = join(withoutIndex(filter, sql`s."type"`, sql`s."orderKey"`), ' and ');
  const rows = yield* query<StatelessRow & { isEnd: boolean }>(
    sql`with s as materialized (${scanned}) (select s.*, false as "isEnd" from s where ${selected} order by s."createdAt" desc, s."seq" desc limit ${limit}) union all (select s.*, true from s where (select count(*) from s) = ${mostScanned} order by s."createdAt", s."seq" limit 1)`,
  );
  const end = rows.find(({ isEnd }) => isEnd);
  return {
    rows: yield* withStates(
      database,
      rows.filter(({ isEnd }) => !isEnd),
    ),
    scanEnd: end ? { at: Number(end.createdAt), seq: String(end.seq) } : null,
  };
}

function* withStates(database: Database, rows: readonly StatelessRow[]): Script<ListedEventRow[]> {
  const stateOf = yield* readEventStates(
    database,
    rows.map(({ seq }) => seq),
  );
  return rows.map((row) => ({ ...row, state: stateOf(row.seq) }));
}

function* scanEndOf(
  database: Database,
  filter: EventFilterRow,
  key: Buffer | null,
  { after, mostScanned }: Pick<EventScan, 'after' | 'mostScanned'>,
): Script<ScanEnd> {
  const { events: e } = database.tables;
  const [end] = yield* query<{ createdAt: unknown; seq: unknown }>(
    sql`select ${e.select('e', 'createdAt', 'seq')} ${fromEvents(database, filter, key, after, null, [])} limit 1 offset ${mostScanned - 1}`,
  );
  return end ? { at: Number(end.createdAt), seq: String(end.seq) } : null;
}

function fromEvents(
  { dialect, tables: { events: e } }: Database,
  { since, until }: EventFilterRow,
  key: Buffer | null,
  after: PagePosition | null,
  scanEnd: ScanEnd,
  more: readonly Sql[],
): Sql {
  const [createdAt, seq] = [sql`e.${e.$.createdAt}`, sql`e.${e.$.seq}`];
  const where = [key === null ? sql`1 = 1` : sql`e.${e.$.ownerKey} = ${key}`, ...more];
  if (since !== undefined) where.push(sql`${createdAt} >= ${since}`);
  if (until !== undefined) where.push(sql`${createdAt} < ${until}`);
  if (after) where.push(isAfter(dialect, createdAt, seq, after));
  if (scanEnd) where.push(isUpTo(dialect, createdAt, seq, scanEnd));
  const path = key === null ? e.through('createdAt') : e.through('ownerKey', 'createdAt', 'seq');
  return sql`from ${e.sql} e${path} where ${join(where, ' and ')} order by ${createdAt} desc, ${seq} desc`;
}

function newestFirst(a: ListedEventRow, b: ListedEventRow): number {
  return Number(b.createdAt) - Number(a.createdAt) || Number(b.seq) - Number(a.seq);
}

function isBeyond(row: ListedEventRow, { at, seq }: PagePosition): boolean {
  const createdAt = Number(row.createdAt);
  return createdAt < at || (createdAt === at && Number(row.seq) < Number(seq));
}

/** The newer of two ends, because both scans are complete up to this position. */
function later(a: ScanEnd, b: ScanEnd): ScanEnd {
  if (!a || !b) return a ?? b;
  return a.at > b.at || (a.at === b.at && Number(a.seq) > Number(b.seq)) ? a : b;
}
