import sql, { join, raw, type Sql } from 'sql-template-tag';
import type { DialectName } from '../../dialect.js';

/**
 * Makes an insert skip rows whose unique key already exists.
 *
 * @param key the escaped columns of the key
 * @param where the condition of a partial index. Without this condition the database does not find the index
 */
export function skipConflict(dialect: DialectName, key: readonly Sql[], where: Sql = sql``): Sql {
  const [first] = key;
  // `insert ignore` would also ignore other errors.
  if (dialect === 'mysql') return sql` on duplicate key update ${first} = ${first}`;
  const columns = key.map((column) => column.sql).join(', ');
  return sql`${raw(` on conflict (${columns})`)}${where} do nothing`;
}

/** Whether a text column contains a text, as a condition. Unlike `like`, no character of the text is special. */
export function contains(dialect: DialectName, column: Sql, text: string): Sql {
  return dialect === 'postgres' ? sql`strpos(${column}, ${text}) > 0` : sql`instr(${column}, ${text}) > 0`;
}

/** A parameter with an explicit type, for places where PostgreSQL cannot infer the type, such as the branches of a `case`. */
export function typed(dialect: DialectName, type: 'bigint' | 'integer' | 'text', value: unknown): Sql {
  return dialect === 'postgres' ? sql`cast(${value} as ${raw(type)})` : sql`${value}`;
}

/**
 * Makes an insert replace values of a row whose unique key already exists.
 *
 * @param key the escaped columns of the key
 * @param columns the escaped columns that get the new values
 */
export function replacing(dialect: DialectName, key: readonly Sql[], columns: readonly Sql[]): Sql {
  if (dialect === 'mysql') {
    return sql` on duplicate key update ${join(columns.map((column) => sql`${column} = values(${column})`))}`;
  }
  const sets = columns.map((column) => sql`${column} = excluded.${column}`);
  return sql` on conflict (${join([...key])}) do update set ${join(sets)}`;
}

/** The length of a text column in bytes. */
export function byteLength(dialect: DialectName, text: Sql): Sql {
  // SQLite has octet_length only since 3.43.
  return dialect === 'sqlite' ? sql`length(cast(${text} as blob))` : sql`octet_length(${text})`;
}
