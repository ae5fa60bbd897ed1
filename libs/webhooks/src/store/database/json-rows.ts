import sql, { join, raw, type Sql } from 'sql-template-tag';
import type { DialectName } from '../../dialect.js';
import type { Database } from './database.js';
import type { TableName, TableSql } from './tables.js';

/** `hash` travels as hexadecimal text; {@link jsonValue} makes bytes of it. */
type JsonColumn = 'bigint' | 'text' | 'hash';

/**
 * Rows as a table named `r`, from one parameter of JSON: the statement has the same text for any number of rows.
 *
 * @param columns names (lower case) and types; each row has exactly these keys. A bigint may be given as text, which holds
 * more than a number. NUL and halves of surrogate pairs become U+FFFD.
 */
export function jsonRows<C extends Record<string, JsonColumn>>(
  dialect: DialectName,
  columns: C,
  rows: readonly { readonly [K in keyof C]?: string | number | null }[],
): Sql {
  const names = Object.entries(columns);
  const list = (each: (name: string, type: JsonColumn) => string) =>
    raw(names.map(([name, type]) => each(name, type)).join(', '));
  const json = jsonText(rows);
  switch (dialect) {
    case 'postgres':
      return sql`json_to_recordset(cast(${json} as json)) as r(${list((name, type) => `${name} ${type === 'bigint' ? 'bigint' : 'text'}`)})`;
    case 'mysql':
      return sql`json_table(${json}, '$[*]' columns(${list((name, type) => `${name} ${MYSQL_TYPES[type]} path '$.${name}'`)})) as r`;
    case 'sqlite':
      return sql`(select ${list((name) => `value ->> '$.${name}' as ${name}`)} from json_each(${json})) as r`;
  }
}

/** PostgreSQL refuses NUL and halves of surrogate pairs, which JavaScript's texts may hold, and JSON escapes. */
function jsonText(rows: readonly object[]): string {
  const text = JSON.stringify(rows);
  if (!text.includes('\\ud') && !text.includes('\\u0000')) return text;
  return JSON.stringify(rows, (_, value: unknown) =>
    typeof value === 'string' ? value.replaceAll(/[\0\p{Surrogate}]/gu, '\ufffd') : value,
  );
}

/** With the collation of our columns: MySQL compares two texts of different ones only by force. */
const MYSQL_TYPES: Readonly<Record<JsonColumn, string>> = {
  bigint: 'bigint',
  text: 'longtext character set utf8mb4 collate utf8mb4_bin',
  hash: 'char(32)',
};

/** A column of {@link jsonRows} as a value of its type. */
function jsonValue(dialect: DialectName, name: string, type: JsonColumn): Sql {
  if (type !== 'hash') return raw(`r.${name}`);
  return raw(dialect === 'postgres' ? `decode(r.${name}, 'hex')` : `unhex(r.${name})`);
}

/**
 * Inserts rows from one parameter. A `values` list of 250 deliveries has 4,250 parameters, which cost PostgreSQL more to plan
 * than to insert.
 *
 * @param columns properties of the table and what they are inserted from; a number is the same in every row
 */
export function insertFromRows<
  T extends TableName,
  C extends Partial<Record<keyof TableSql<T>['$'], JsonColumn | number>>,
>(
  database: Database,
  table: T,
  columns: C,
  rows: readonly { readonly [K in keyof C as C[K] extends number ? never : K]: string | number | null }[],
): Sql {
  const { dialect } = database;
  const { sql: path, $ } = database.tables[table] as { sql: Sql; $: Record<string, Sql> };
  const types: Record<string, JsonColumn> = {};
  const names: Record<string, string> = {};
  const values: Sql[] = [];
  for (const [property, type] of Object.entries(columns as Record<string, JsonColumn | number>)) {
    if (typeof type === 'number') {
      values.push(raw(String(type)));
      continue;
    }
    // Names of their own: after `on conflict` the table's would be ambiguous.
    const name = `c${values.length}`;
    names[property] = name;
    types[name] = type;
    values.push(jsonValue(dialect, name, type));
  }
  const pairs = Object.entries(names);
  const given = rows.map((row) => {
    const one: Record<string, string | number | undefined> = {};
    // A null is a key that is not there, which makes the text shorter by a third.
    for (const [property, name] of pairs)
      one[name] = (row as Record<string, string | number | null>)[property] ?? undefined;
    return one;
  });
  const list = join(Object.keys(columns).map((property) => $[property] as Sql));
  // SQLite would read an `on conflict` after it as the join's condition, but for the `where`.
  return sql`insert into ${path} (${list}) select ${join(values)} from ${jsonRows(dialect, types, given)} where 1 = 1`;
}

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
