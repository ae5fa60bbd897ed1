import sql, { raw, type Sql } from 'sql-template-tag';
import type { Database } from './database.js';
import { query, type Script } from './script.js';
import { type TableName } from './tables.js';
import { databaseName } from './table-names.js';

/** Webhook tables of another prefix in the same schema. */
export interface OtherTables {
  readonly prefix: string;
  /** Whether these tables have an event or a delivery that is waiting to be sent. */
  readonly isPending: boolean;
  /** Whether these tables have listeners. */
  readonly hasListeners: boolean;
}

const SUFFIX = databaseName('listenerState');

/**
 * Finds tables of an instance with another `tablePrefix`. Looks for one table name first. If that table exists, looks for the names of the
 * other tables that this function reads.
 */
export function* findOtherTables(database: Database): Script<OtherTables[]> {
  const { tableName } = database.tables.listenerState.metadata;
  if (!tableName.endsWith(SUFFIX)) return []; // a naming strategy of the application changed the name
  const ours = tableName.slice(0, -SUFFIX.length);
  const names = new Set((yield* query<{ name: string }>(tableNames(database))).map(({ name }) => name));
  const found: OtherTables[] = [];
  for (const name of names) {
    const prefix = name.slice(0, -SUFFIX.length);
    if (!name.endsWith(SUFFIX) || prefix === ours) continue;
    const isWhole = (['events', 'outbox', 'listeners', 'deliveries'] as const).every((table) =>
      names.has(prefix + table),
    );
    if (isWhole) found.push({ prefix, ...(yield* readOther(database, ours, prefix)) });
  }
  return found;
}

function* readOther(
  database: Database,
  ours: string,
  prefix: string,
): Script<Pick<OtherTables, 'isPending' | 'hasListeners'>> {
  const { deliveries: d, listeners: l } = database.tables;
  const pathOf = (table: TableName) => {
    const { path, metadata } = database.tables[table];
    return raw(path.replace(metadata.tableName, prefix + metadata.tableName.slice(ours.length)));
  };
  const exists = (from: Sql) => sql`(select count(*) from (select 1 from ${from} limit 1) x)`;
  const [row] = yield* query<{ events: unknown; due: unknown; leased: unknown; listeners: unknown }>(
    sql`select ${exists(sql`${pathOf('outbox')} t`)} as events, ${exists(sql`${pathOf('deliveries')} t where t.${d.$.state} = 'due'`)} as due, ${exists(sql`${pathOf('deliveries')} t where t.${d.$.state} = 'leased'`)} as leased, ${exists(sql`${pathOf('listeners')} t where t.${l.$.deletedAt} is null`)} as listeners`,
  );
  const isThere = (value: unknown) => Number(value) > 0;
  return {
    isPending: isThere(row?.events) || isThere(row?.due) || isThere(row?.leased),
    hasListeners: isThere(row?.listeners),
  };
}

/** Whether this instance has listeners. */
export function* hasListeners(database: Database): Script<boolean> {
  const { listeners: l } = database.tables;
  return (yield* query(sql`select l.${l.$.seq} from ${l.sql} l where l.${l.$.deletedAt} is null limit 1`)).length > 0;
}

function tableNames(database: Database): Sql {
  const { path, metadata } = database.tables.listenerState;
  switch (database.dialect) {
    case 'postgres':
      return sql`select c.relname as "name" from pg_class c join pg_class o on o.relnamespace = c.relnamespace where o.oid = to_regclass(${path}) and c.relkind in ('r', 'p')`;
    case 'mysql':
      return sql`select table_name as \`name\` from information_schema.tables where table_schema = coalesce(${metadata.database ?? null}, database())`;
    case 'sqlite':
      return sql`select name from sqlite_master where type = 'table'`;
  }
}
