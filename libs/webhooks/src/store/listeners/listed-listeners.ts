import sql, { join, type Sql } from 'sql-template-tag';
import { ownerKeyOf } from '../../hash.js';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { contains } from '../database/dialect-sql.js';
import { isAfter, isUpTo, MAX_SCANNED, type PagePosition, type ScanEnd } from '../database/page.js';
import { query, type Script } from '../database/script.js';
import { COLUMNS, HEALTH, type ListenerRow, type OwnerScope } from './listener-rows.js';

/** Selects listeners for a list. The last three filters have no index: see {@link listenerScanEnd}. */
export interface ListenerFilterRow {
  /** `null`: the listeners of the application, which have no owner. */
  scope: OwnerScope | null;
  state?: string;
  /** Listeners with one of these patterns. */
  patterns?: readonly string[];
  /** A part of the URL, the name or the description, in lower case. */
  search?: string;
  /** Only listeners whose last attempt failed. */
  isFailing?: boolean;
}

/** The last listener that a page with such a filter may read. */
export function* listenerScanEnd(
  database: Database,
  filter: ListenerFilterRow,
  after: PagePosition | null,
): Script<ScanEnd> {
  const { listeners: l } = database.tables;
  const { scope, state, patterns, search, isFailing } = filter;
  if (patterns === undefined && search === undefined && !isFailing) return null;
  const plain = { scope, ...(state === undefined ? {} : { state }) };
  const [end] = yield* query<{ createdAt: unknown; seq: unknown }>(
    sql`select ${l.select('l', 'createdAt', 'seq')} ${fromListeners(database, plain, after)} limit 1 offset ${MAX_SCANNED - 1}`,
  );
  return end ? { at: Number(end.createdAt), seq: String(end.seq) } : null;
}

/** Newest first. @param options `until`: from {@link listenerScanEnd} */
export function* listListeners(
  database: Database,
  options: ListenerFilterRow & { after: PagePosition | null; until?: ScanEnd; limit: number },
): Script<ListenerRow[]> {
  const { listeners: l } = database.tables;
  const rows = yield* query<Omit<ListenerRow, (typeof HEALTH)[number]>>(
    sql`select ${l.select('l', ...COLUMNS)} ${fromListeners(database, options, options.after, options.until)} limit ${options.limit}`,
  );
  return yield* withHealth(database, rows);
}

function fromListeners(
  database: Database,
  options: ListenerFilterRow,
  after: PagePosition | null,
  until: ScanEnd = null,
): Sql {
  const { dialect } = database;
  const { listeners: l } = database.tables;
  const where = [sql`l.${l.$.deletedAt} is null`];
  let path = l.through('createdAt', 'seq');
  if (options.state === 'disabled') path = l.through('state', 'createdAt', 'seq');
  if (options.scope !== undefined) path = l.through('ownerKey', 'createdAt', 'seq');
  if (options.scope === null) where.push(sql`l.${l.$.ownerKey} is null`);
  else if (options.scope !== undefined) where.push(sql`l.${l.$.ownerKey} = ${ownerKeyOf(options.scope)}`);
  // Write the state as literal text, because the partial index of disabled listeners has this condition.
  if (options.state === 'disabled') where.push(sql`l.${l.$.state} = 'disabled'`);
  else if (options.state !== undefined) where.push(sql`l.${l.$.state} = ${options.state}`);
  where.push(...withoutIndex(database, options));
  if (after) where.push(isAfter(dialect, sql`l.${l.$.createdAt}`, sql`l.${l.$.seq}`, after));
  if (until) where.push(isUpTo(dialect, sql`l.${l.$.createdAt}`, sql`l.${l.$.seq}`, until));
  return sql`from ${l.sql} l${path} where ${join(where, ' and ')} order by l.${l.$.createdAt} desc, l.${l.$.seq} desc`;
}

/** Conditions that no index serves. */
function withoutIndex(database: Database, { patterns, search, isFailing }: ListenerFilterRow): Sql[] {
  const { dialect } = database;
  const { listeners: l, listenerState: s } = database.tables;
  const where: Sql[] = [];
  if (patterns !== undefined) {
    // The column contains a JSON list.
    const each = patterns.map((pattern) => contains(dialect, sql`l.${l.$.patterns}`, JSON.stringify(pattern)));
    where.push(sql`(${join(each, ' or ')})`);
  }
  if (search !== undefined) {
    const each = [l.$.url, l.$.name, l.$.description].map((column) =>
      contains(dialect, sql`lower(coalesce(l.${column}, ''))`, search),
    );
    where.push(search.includes('\0') ? sql`1 = 0` : sql`(${join(each, ' or ')})`);
  }
  if (isFailing) {
    where.push(
      sql`exists (select 1 from ${s.sql} s where s.${s.$.listenerId} = l.${l.$.id} and s.${s.$.failuresInARow} > 0)`,
    );
  }
  return where;
}

/** Uses a separate statement: with outdated statistics, PostgreSQL would join a page with the whole table of states. */
function* withHealth(
  database: Database,
  rows: readonly Omit<ListenerRow, (typeof HEALTH)[number]>[],
): Script<ListenerRow[]> {
  const { listenerState: s } = database.tables;
  const states = new Map<string, ListenerRow>();
  for (const some of chunks(rows.map(({ id }) => id))) {
    const found = yield* query<ListenerRow & { listenerId: string }>(
      sql`select ${s.select('s', 'listenerId', ...HEALTH)} from ${s.sql} s where s.${s.$.listenerId} ${inList(some)}`,
    );
    for (const { listenerId, ...state } of found) states.set(listenerId, state as ListenerRow);
  }
  return rows.map((row) => ({ ...row, ...(states.get(row.id) as ListenerRow) }));
}
