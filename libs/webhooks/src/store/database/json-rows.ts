import sql, { join, raw, type Sql } from 'sql-template-tag';
import type { DialectName } from '../../dialect.js';
import type { Database } from './database.js';
import type { TableName, TableSql } from './tables.js';

/** The type of a column. A `hash` is passed as hexadecimal text, and {@link jsonValue} converts the text to bytes. */
type JsonColumn = 'bigint' | 'text' | 'hash';

/**
 * Rows as a table `r`, from one JSON parameter. So the statement text is the same for any number of rows.
 *
 * @param columns names (lower case) and types. Each row has exactly these keys. Pass a bigint as text if it exceeds a JavaScript number.
 * NUL and unpaired surrogates become U+FFFD.
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

/**
 * Replaces NUL and unpaired surrogates, because PostgreSQL rejects these characters. JavaScript strings can contain these characters, and
 * JSON escapes them.
 */
function jsonText(rows: readonly object[]): string {
  const text = JSON.stringify(rows);
  if (!text.includes('\\ud') && !text.includes('\\u0000')) return text;
  return JSON.stringify(rows, (_, value: unknown) =>
    typeof value === 'string' ? value.replaceAll(/[\0\p{Surrogate}]/gu, '\ufffd') : value,
  );
}

/**
 * The types in MySQL. Texts have the collation of the webhook tables, because MySQL refuses to compare two texts with different collations.
 */
const MYSQL_TYPES: Readonly<Record<JsonColumn, string>> = {
  bigint: 'bigint',
  text: 'longtext character set utf8mb4 collate utf8mb4_bin',
  hash: 'char(32)',
};

/** A column of {@link jsonRows}, converted to its type. */
export function jsonValue(dialect: DialectName, name: string, type: JsonColumn): Sql {
  if (type !== 'hash') return raw(`r.${name}`);
  return raw(dialect === 'postgres' ? `decode(r.${name}, 'hex')` : `unhex(r.${name})`);
}

/**
 * Inserts rows from one parameter. A `values` list of 250 deliveries would have 4,250 parameters. PostgreSQL takes longer to plan such a
 * list than to insert its rows.
 *
 * @param columns the type of each property's column. A number instead of a type is the value for every row
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
    // Generate the column names of `r`. With the names of the table, the columns would be ambiguous after `on conflict`.
    const name = `c${values.length}`;
    names[property] = name;
    types[name] = type;
    values.push(jsonValue(dialect, name, type));
  }
  const pairs = Object.entries(names);
  const given = rows.map((row) => {
    const one: Record<string, string | number | undefined> = {};
    // Leave out a null. The JSON is then shorter by a third.
    for (const [property, name] of pairs)
      one[name] = (row as Record<string, string | number | null>)[property] ?? undefined;
    return one;
  });
  const list = join(Object.keys(columns).map((property) => $[property] as Sql));
  // Without the `where`, SQLite would read a following `on conflict` as the condition of a join.
  return sql`insert into ${path} (${list}) select ${join(values)} from ${jsonRows(dialect, types, given)} where 1 = 1`;
}

/**
 * Updates the rows whose `seq` is in `rows`, a {@link jsonRows} with a column `seq`.
 *
 * @param set values by property. A value may refer to `r`, and to the table as `t`
 */
export function updateFromRows<T extends TableName>(
  database: Database,
  table: T,
  rows: Sql,
  set: Partial<Record<keyof TableSql<T>['$'], Sql>>,
): Sql {
  const { sql: path, $ } = database.tables[table] as { sql: Sql; $: Record<string, Sql> & { seq: Sql } };
  const isMysql = database.dialect === 'mysql';
  // MySQL needs the prefix if `r` has a column of the same name. PostgreSQL rejects the prefix.
  const prefix = isMysql ? sql`t.` : sql``;
  const sets = join(
    Object.entries<Sql | undefined>(set).map(([property, value]) => sql`${prefix}${$[property]} = ${value}`),
  );
  // Without `straight_join`, MySQL sometimes begins with the table, and then scans the whole table.
  return isMysql
    ? sql`update ${rows} straight_join ${path} as t on t.${$.seq} = r.seq set ${sets}`
    : sql`update ${path} as t set ${sets} from ${rows} where t.${$.seq} = r.seq`;
}
