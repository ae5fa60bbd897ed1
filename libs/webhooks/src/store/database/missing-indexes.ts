import type { EntityMetadata } from 'typeorm';
import sql, { join, raw, type Sql } from 'sql-template-tag';
import type { Database } from './database.js';
import { query, type Script } from './script.js';
import type { TableName, TableSql } from './tables.js';

type AnyTable = Pick<TableSql<TableName>, 'metadata' | 'path'>;

/** An index that exists in the database. */
interface ExistingIndex {
  /** The place of its table among the tables of the database object. */
  readonly place: number | string;
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
  const tables: readonly AnyTable[] = Object.values(database.tables);
  const found = yield* query<ExistingIndex>(existingIndexes(database, tables));
  return tables.flatMap(({ metadata, path }, place) => {
    const existing = found.filter((one) => Number(one.place) === place);
    return metadata.indices.flatMap((index) => {
      const columns = index.columns.map(({ databaseName }) => databaseName);
      const exists = existing.some(
        ({ name, isUnique, columns: its }) =>
          name === index.name ||
          (database.dialect !== 'mysql' && its === columns.join() && Boolean(Number(isUnique)) === index.isUnique),
      );
      return exists ? [] : [createStatement(metadata, index, columns, path)];
    });
  });
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

/**
 * Reads the indexes of all tables in one round trip. MariaDB opens every table of the schema unless a condition names one table, so there
 * each table has its own select.
 */
function existingIndexes({ dialect }: Database, tables: readonly AnyTable[]): Sql {
  const selects = tables.map(({ metadata: { tableName, database }, path }, place) => {
    const n = raw(String(place));
    switch (dialect) {
      case 'postgres':
        return sql`select ${n} as place, to_regclass(${path}) as id`;
      case 'mysql':
        return sql`select ${n} as place, index_name as name, 1 - min(non_unique) as \`isUnique\`, group_concat(column_name order by seq_in_index) as \`columns\`
          from information_schema.statistics where table_schema = coalesce(${database ?? null}, database()) and table_name = ${tableName} group by index_name`;
      case 'sqlite':
        return sql`select ${n} as place, ${tableName} as name`;
    }
  });
  const all = join(selects, ' union all ');
  switch (dialect) {
    case 'postgres':
      return sql`select t.place, i.relname as "name", case when x.indisunique then 1 else 0 end as "isUnique",
        (select string_agg(a.attname, ',' order by k.n) from unnest(cast(x.indkey as smallint[])) with ordinality as k(attnum, n) join pg_attribute a on a.attrelid = x.indrelid and a.attnum = k.attnum) as "columns"
        from (${all}) t join pg_index x on x.indrelid = t.id join pg_class i on i.oid = x.indexrelid where x.indisvalid`;
    case 'mysql':
      return all;
    case 'sqlite':
      return sql`select t.place, l.name as "name", l."unique" as "isUnique", (select group_concat(c.name) from (select name from pragma_index_info(l.name) order by seqno) c) as "columns"
        from (${all}) t join pragma_index_list(t.name) l`;
  }
}
