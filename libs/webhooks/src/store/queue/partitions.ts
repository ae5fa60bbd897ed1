import sql, { raw } from 'sql-template-tag';
import { DAY } from '../../time.js';
import type { Database } from '../database/database.js';
import { dayOf, partitionName } from '../database/partition-names.js';
import { query, type Script } from '../database/script.js';
import { PARTITION_COLUMNS, type PartitionedTable } from '../database/tables.js';
import { UNFINISHED } from './task-rows.js';

/** A partition of one table. */
export interface Partition {
  readonly table: PartitionedTable;
  /** Escaped path. */
  readonly path: string;
  /** From this time, in ms since 1970. `null`: the default partition, or a partition that the library did not make. */
  readonly from: number | null;
  /** Up to this time. */
  readonly to: number | null;
  readonly isDefault: boolean;
}

const TABLES = Object.keys(PARTITION_COLUMNS) as readonly PartitionedTable[];
const BOUNDS = /^FOR VALUES FROM \('(-?\d+)'\) TO \('(-?\d+)'\)$/;

/** Reads the partitions from the catalogue of the database. Locks nothing. */
export function* readPartitions(database: Database): Script<Partition[]> {
  const { driver } = database.tables.events.metadata.connection;
  const partitions: Partition[] = [];
  for (const table of TABLES) {
    const rows = yield* query<{ schema: string; name: string; bound: string }>(
      sql`select n.nspname as schema, c.relname as name, pg_get_expr(c.relpartbound, c.oid) as bound from pg_inherits i join pg_class c on c.oid = i.inhrelid join pg_namespace n on n.oid = c.relnamespace where i.inhparent = to_regclass(${database.tables[table].path})`,
    );
    for (const { schema, name, bound } of rows) {
      const [, from, to] = BOUNDS.exec(bound) ?? [];
      partitions.push({
        table,
        path: `${driver.escape(schema)}.${driver.escape(name)}`,
        from: from === undefined ? null : Number(from),
        to: to === undefined ? null : Number(to),
        isDefault: bound === 'DEFAULT',
      });
    }
  }
  return partitions;
}

/** The days that should have partitions now and have not, in order. A day counts if one of the tables lacks its partition. */
export function missingDays(partitions: readonly Partition[], now: number, daysAhead: number): number[] {
  const today = dayOf(now);
  const days = Array.from({ length: daysAhead + 1 }, (_, n) => today + n);
  return days.filter((day) => TABLES.some((table) => !isCovered(partitions, table, day)));
}

function isCovered(partitions: readonly Partition[], table: PartitionedTable, day: number): boolean {
  return partitions.some(
    (one) => one.table === table && (one.from ?? Infinity) < (day + 1) * DAY && (one.to ?? -Infinity) > day * DAY,
  );
}

/** The days whose partitions were over before a time, in order. @param before in ms since 1970 */
export function pastDays(partitions: readonly Partition[], before: number): number[] {
  const isDay = ({ from, to }: Partition) => from !== null && to !== null && from % DAY === 0 && to - from === DAY;
  const days = partitions
    .filter((one) => isDay(one) && (one.to as number) <= before)
    .map(({ from }) => dayOf(from as number));
  return [...new Set(days)].toSorted((a, b) => a - b);
}

/**
 * What became of a day. `busy`: another transaction has a lock. `kept`: when made, the default partition has rows of that day, which stay
 * there; when dropped, something unfinished names the day. Any other text is an error.
 */
export type DayResult = 'done' | 'busy' | 'kept' | 'denied' | `failed: ${string}`;

const CHANGE_LIMITS = {
  /** How long a change waits for a lock. Each write that needs a conflicting lock waits behind it, and so for this long at most. */
  lockMs: 100,
  /** The longest time for one change, in which PostgreSQL also scans the default partition, and for which writers may have to wait. */
  changeMs: 1_000,
};

/**
 * Makes the partitions of one day, where they are missing. Each is created beside the table and then attached, because `ATTACH PARTITION`
 * blocks no insert into other partitions: it locks the table only against other changes of its definition, and the default partition.
 */
export function* makeDay(database: Database, partitions: readonly Partition[], day: number): Script<DayResult> {
  const { driver } = database.tables.events.metadata.connection;
  const [from, to] = [day * DAY, (day + 1) * DAY];
  for (const table of TABLES) {
    if (isCovered(partitions, table, day)) continue;
    const { path: parent, metadata, $ } = database.tables[table];
    const column = ($ as Readonly<Record<string, { readonly sql: string }>>)[PARTITION_COLUMNS[table]]?.sql;
    const others = partitions.find((one) => one.table === table && one.isDefault);
    const schema = (others ?? partitions.find((one) => one.table === table))?.path.split('.')[0];
    const name = driver.escape(partitionName(metadata.tableName, day));
    const path = schema === undefined ? name : `${schema}.${name}`;
    const result = yield* change(`
      ${others ? `if exists (select 1 from ${others.path} where ${column} >= ${from} and ${column} < ${to}) then ${answer('kept')} return; end if;` : ''}
      create table ${path} (like ${parent} including all);
      alter table ${parent} attach partition ${path} for values from (${from}) to (${to});
      ${answer('done')}`);
    if (result !== 'done') return result;
  }
  return 'done';
}

/**
 * Drops the partitions of one day, unless something unfinished names the day: an event in the outbox or under a lease, a damaged event, a
 * delivery that is due or being sent, or a task. With `beyond`, rows after these sequences keep the day, too. Each attempt on a stored delivery is a row.
 *
 * `DROP TABLE` needs the same lock of the whole table as `DETACH PARTITION`, and holds it as short (docs/decisions/0014-partitions.md has the figures). `DETACH …
 * CONCURRENTLY` is not possible beside a default partition. The table of events is locked last, because the application inserts into it.
 * Under the locks, no other transaction has an uncommitted row in these tables, so the second check sees everything.
 */
export function* dropDay(
  database: Database,
  partitions: readonly Partition[],
  day: number,
  { limits = CHANGE_LIMITS, beyond }: { limits?: typeof CHANGE_LIMITS; beyond?: LastSequences | undefined } = {},
): Script<DayResult> {
  const ofDay = partitionsOf(partitions, day);
  const isNeeded = [unfinished(database, ofDay, day), ...(beyond ? [rowsBeyond(database, ofDay, beyond)] : [])];
  const check = `if ${isNeeded.join(' or ')} then ${answer('kept')} return; end if;`;
  const inOrder = (['attempts', 'deliveries', 'events'] as const).filter((table) =>
    ofDay.some((one) => one.table === table),
  );
  return yield* change(
    `
    ${check}
    ${inOrder.map((table) => `lock table only ${database.tables[table].path} in access exclusive mode;`).join('\n')}
    ${check}
    ${ofDay.map(({ path }) => `drop table ${path};`).join('\n')}
    ${answer('done')}`,
    limits,
  );
}

/** Whether a task is unfinished that may reach any row of the log. */
export function* hasTask(database: Database): Script<boolean> {
  const rows = yield* query(sql`select 1 as "one" where ${raw(isTask(database))}`);
  return rows.length > 0;
}

/** The condition that such a task exists. `reseal` is about listeners. */
function isTask({ tables: { tasks: t } }: Database): string {
  const states = UNFINISHED.map((state) => `'${state}'`).join();
  return `exists (select 1 from ${t.path} where ${t.$.state.sql} in (${states}) and ${t.$.kind.sql} <> 'reseal')`;
}

/** The last sequence of each table that a day may have when it is dropped. */
export type LastSequences = Readonly<Record<PartitionedTable, number>>;

/** No row at all. */
export const NO_ROWS: LastSequences = { events: 0, deliveries: 0, attempts: 0 };

/** Whether a table has the partition of a day. */
export function hasDay(partitions: readonly Partition[], day: number): boolean {
  return partitionsOf(partitions, day).length > 0;
}

function partitionsOf(partitions: readonly Partition[], day: number): Partition[] {
  return partitions.filter(({ from, to }) => from === day * DAY && to === (day + 1) * DAY);
}

/** The condition that a day has rows after these sequences. The primary keys begin with the sequence. */
function rowsBeyond(database: Database, ofDay: readonly Partition[], last: LastSequences): string {
  const some = ofDay.map(
    ({ table, path }) => `exists (select 1 from ${path} where ${database.tables[table].$.seq.sql} > ${last[table]})`,
  );
  return some.length ? `(${some.join(' or ')})` : 'false';
}

/** Whether something unfinished names a day. */
export function* isUnfinished(database: Database, partitions: readonly Partition[], day: number): Script<boolean> {
  const ofDay = partitionsOf(partitions, day);
  const [row] = yield* query<{ is: boolean }>(sql`select ${raw(unfinished(database, ofDay, day))} as "is"`);
  return row?.is === true;
}

/**
 * The condition that something unfinished names a day. It is cheap, because it is checked under the lock: the partial indexes of deliveries
 * have few rows, and the rows of the outbox are found by the first and the last sequence of the day, and by their key.
 *
 * A task may reach each row of the log, so each task delays the drop, except `reseal`, which is about listeners.
 */
function unfinished(database: Database, ofDay: readonly Partition[], day: number): string {
  const { tables } = database;
  const { outbox: o, damaged: x, leases: l, deliveries: d, events: e } = tables;
  const path = (table: PartitionedTable) => ofDay.find((one) => one.table === table)?.path;
  const [events, deliveries] = [path('events'), path('deliveries')];
  const exists = (from: string, where: string) => `exists (select 1 from ${from} where ${where})`;
  const some = [
    isTask(database),
    exists(
      l.path,
      `${l.$.leaseUntil.sql} > 0 and ${l.$.lastAt.sql} >= ${day * DAY} and ${l.$.firstAt.sql} < ${(day + 1) * DAY}`,
    ),
    ...(deliveries ? ['due', 'leased'].map((state) => exists(deliveries, `${d.$.state.sql} = '${state}'`)) : []),
  ];
  for (const table of [o, x]) {
    const [seq, at] = [table.$.seq.sql, table.$.eventAt.sql];
    if (!events) continue;
    const edge = (of: 'min' | 'max') => `(select ${of}(${e.$.seq.sql}) from ${events})`;
    some.push(
      exists(
        table.path,
        `${seq} >= ${edge('min')} and ${seq} <= ${edge('max')} and ${at} >= ${day * DAY} and ${at} < ${(day + 1) * DAY}`,
      ),
    );
  }
  return `(${some.join(' or ')})`;
}

/** The idempotency keys of the events of a day, a page at a time. @returns the last sequence; `null` after the last page */
export function* forgetKeys(
  database: Database,
  partitions: readonly Partition[],
  { day, afterSeq, limit }: { day: number; afterSeq: number; limit: number },
): Script<number | null> {
  const { events: e, idempotencyKeys: k } = database.tables;
  const path = partitions.find(({ table, from }) => table === 'events' && from === day * DAY)?.path;
  if (path === undefined) return null;
  const page = sql`select ${e.select('e', 'seq', 'id', 'dedupeKey')} from ${raw(path)} e where e.${e.$.seq} > ${afterSeq} order by e.${e.$.seq} limit ${limit}`;
  const [row] = yield* query<{ last: unknown }>(
    sql`with page as materialized (${page}), gone as (
      delete from ${k.sql} k using page where k.${k.$.key} = page."dedupeKey" and k.${k.$.eventId} = page.id
    ) select max(page.seq) as last from page`,
  );
  return row?.last === null || row?.last === undefined ? null : Number(row.last);
}

/** What may be wrong with the partitions. */
export interface PartitionHealth {
  /** Whether the default partitions have rows: when these were written, their day had no partition. */
  readonly hasDefaultRows: boolean;
  /** The first day from today on that has no partition, in days since 1970; `null`: the next days have partitions. */
  readonly firstMissing: number | null;
  /** Whether the user of this connection may make and drop partitions. */
  readonly isOwner: boolean;
  /** `max_locks_per_transaction` of the server. */
  readonly locks: number;
}

/** How many of the next days are checked. The upkeep makes more, and has time to try again. */
const CHECKED_DAYS = 7;

/** Reads what may be wrong with the partitions. */
export function* readPartitionHealth(database: Database, now: number): Script<PartitionHealth> {
  const partitions = yield* readPartitions(database);
  const others = partitions.filter(({ isDefault }) => isDefault);
  const hasRows = others.map(({ path }) => `exists (select 1 from ${path})`);
  const [row] = yield* query<{ hasDefaultRows: boolean; isOwner: boolean; locks: unknown }>(
    sql`select ${raw(hasRows.join(' or ') || 'false')} as "hasDefaultRows", pg_has_role(c.relowner, 'usage') as "isOwner", current_setting('max_locks_per_transaction') as locks from pg_class c where c.oid = to_regclass(${database.tables.events.path})`,
  );
  return {
    hasDefaultRows: row?.hasDefaultRows === true,
    firstMissing: missingDays(partitions, now, CHECKED_DAYS)[0] ?? null,
    isOwner: row?.isOwner === true,
    locks: Number(row?.locks),
  };
}

/**
 * A statement that searches each partition locks each of them, with each of its indexes: about 600 locks with 60 days. The server has
 * room for `max_locks_per_transaction` times `max_connections` locks. If it is full, any statement of any client may fail.
 */
export const FEWEST_LOCKS = 256;

const RESULT = 'webhooks.partition';

function answer(result: DayResult): string {
  return `perform set_config('${RESULT}', '${result}', true);`;
}

/**
 * Runs statements that change the definition of tables. A change that reaches a limit fails, and the transaction goes on: a
 * block with an exception handler releases its locks when it fails.
 */
function* change(statements: string, limits = CHANGE_LIMITS): Script<DayResult> {
  yield sql`set local lock_timeout = ${raw(String(limits.lockMs))}`;
  yield sql`set local statement_timeout = ${raw(String(limits.changeMs))}`;
  yield raw(`do $webhooks$ begin
    ${statements}
  exception
    when lock_not_available or query_canceled or deadlock_detected then ${answer('busy')}
    when check_violation then ${answer('kept')}
    when insufficient_privilege then ${answer('denied')}
    when others then perform set_config('${RESULT}', 'failed: ' || sqlerrm, true);
  end $webhooks$`);
  yield sql`set local lock_timeout to default`;
  yield sql`set local statement_timeout to default`;
  const [row] = yield* query<{ result: DayResult }>(sql`select current_setting(${RESULT}) as result`);
  return row?.result ?? 'busy';
}
