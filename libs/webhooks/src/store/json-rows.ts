import sql, { join, raw, type Sql } from 'sql-template-tag';
import type { DialectName } from './column-kinds.js';
import type { Database } from './database.js';
import type { TableName, TableSql } from './tables.js';

type JsonColumn = 'bigint' | 'text';

/**
 * Rows as a table named `r`, from one parameter of JSON: the statement has the same text for any number of rows.
 *
 * @param columns names (lower case) and types; each row has exactly these keys. Text must be whole Unicode without NUL,
 * which PostgreSQL's JSON refuses.
 */
export function jsonRows<C extends Record<string, JsonColumn>>(
  dialect: DialectName,
  columns: C,
  rows: readonly Record<keyof C, string | number | null>[],
): Sql {
  const names = Object.entries(columns);
  const list = (each: (name: string, type: JsonColumn) => string) =>
    raw(names.map(([name, type]) => each(name, type)).join(', '));
  const json = JSON.stringify(rows);
  switch (dialect) {
    case 'postgres':
      return sql`json_to_recordset(cast(${json} as json)) as r(${list((name, type) => `${name} ${type}`)})`;
    case 'mysql':
      return sql`json_table(${json}, '$[*]' columns(${list((name, type) => `${name} ${MYSQL_TYPES[type]} path '$.${name}'`)})) as r`;
    case 'sqlite':
      return sql`(select ${list((name) => `value ->> '$.${name}' as ${name}`)} from json_each(${json})) as r`;
  }
}

/** With the collation of our columns: MySQL compares two texts of different ones only by force. */
const MYSQL_TYPES: Readonly<Record<JsonColumn, string>> = {
  bigint: 'bigint',
  text: 'longtext character set utf8mb4 collate utf8mb4_bin',
};

/**
 * Updates the rows whose `seq` is in `rows`, a {@link jsonRows} with a column `seq`.
 *
 * @param set values by property; they may name `r`, and the table as `t`
 */
export function updateFromRows<T extends TableName>(
  database: Database,
  table: T,
  rows: Sql,
  set: Partial<Record<keyof TableSql<T>['$'], Sql>>,
): Sql {
  const { sql: path, $ } = database.tables[table] as { sql: Sql; $: Record<string, Sql> & { seq: Sql } };
  const isMysql = database.dialect === 'mysql';
  // MySQL wants the table's name where `r` has such a column, too, and PostgreSQL refuses it.
  const prefix = isMysql ? sql`t.` : sql``;
  const sets = join(
    Object.entries<Sql | undefined>(set).map(([property, value]) => sql`${prefix}${$[property]} = ${value}`),
  );
  // The other order would be a scan of the whole table, to which MySQL is sometimes tempted.
  return isMysql
    ? sql`update ${rows} straight_join ${path} as t on t.${$.seq} = r.seq set ${sets}`
    : sql`update ${path} as t set ${sets} from ${rows} where t.${$.seq} = r.seq`;
}
