import type { EntityMetadata } from 'typeorm';
import sql, { type Sql } from 'sql-template-tag';
import type { Database } from './database.js';
import { query, type Script } from './script.js';
import type { TableName } from './tables.js';

/** An index that exists in the database. */
interface ExistingIndex {
  readonly name: string;
  readonly isUnique: unknown;
  /** The column names, separated by commas. */
  readonly columns: string;
}

/**
 * Finds the indexes that the webhook tables lack. An interrupted migration can leave tables without some indexes. If a unique index is
 * missing, the tables may contain duplicate rows. If another index is missing, a statement reads a whole table, or fails because the
 * statement names that index.
 *
 * An index with the same columns and another name is enough. On MySQL and MariaDB the name must be the same, too, because statements name
 * the index.
 *
 * @returns the statements that create the missing indexes
 */
export function* missingIndexes(database: Database): Script<string[]> {
  const missing: string[] = [];
  for (const table of Object.keys(database.tables) as TableName[]) {
    const { metadata, path } = database.tables[table];
    const existing = yield* query<ExistingIndex>(existingIndexes(database, metadata, path));
    for (const index of metadata.indices) {
      const columns = index.columns.map(({ databaseName }) => databaseName);
      const exists = existing.some(
        ({ name, isUnique, columns: found }) =>
          name === index.name ||
          (database.dialect !== 'mysql' && found === columns.join() && Boolean(Number(isUnique)) === index.isUnique),
      );
      if (!exists) missing.push(createStatement(metadata, index, columns, path));
    }
  }
  return missing;
}

function createStatement(
  { connection }: EntityMetadata,
  { name, isUnique, where }: EntityMetadata['indices'][number],
  columns: readonly string[],
  path: string,
): string {
  const escape = (text: string) => connection.driver.escape(text);
  const condition = where ? ` WHERE ${where}` : '';
  return `CREATE ${isUnique ? 'UNIQUE ' : ''}INDEX ${escape(name)} ON ${path} (${columns.map(escape).join(', ')})${condition}`;
}

function existingIndexes({ dialect }: Database, { tableName, database }: EntityMetadata, path: string): Sql {
  switch (dialect) {
    case 'postgres':
      return sql`select i.relname as "name", case when x.indisunique then 1 else 0 end as "isUnique",
        (select string_agg(a.attname, ',' order by k.n) from unnest(cast(x.indkey as smallint[])) with ordinality as k(attnum, n) join pg_attribute a on a.attrelid = x.indrelid and a.attnum = k.attnum) as "columns"
        from pg_index x join pg_class i on i.oid = x.indexrelid where x.indrelid = to_regclass(${path}) and x.indisvalid`;
    case 'mysql':
      return sql`select index_name as \`name\`, 1 - min(non_unique) as \`isUnique\`, group_concat(column_name order by seq_in_index) as \`columns\`
        from information_schema.statistics where table_schema = coalesce(${database ?? null}, database()) and table_name = ${tableName} group by index_name`;
    case 'sqlite':
      return sql`select l.name as "name", l."unique" as "isUnique", (select group_concat(c.name) from (select name from pragma_index_info(l.name) order by seqno) c) as "columns"
        from pragma_index_list(${tableName}) l`;
  }
}
