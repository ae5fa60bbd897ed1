import sql, { raw, type Sql } from 'sql-template-tag';
import type { DialectName } from '../../dialect.js';

/**
 * Makes an insert skip rows whose unique key already exists.
 *
 * @param key the escaped columns of the key
 * @param where the condition of a partial index: without it the database does not find that index
 */
export function skipConflict(dialect: DialectName, key: readonly Sql[], where: Sql = sql``): Sql {
  const [first] = key;
  // `insert ignore` would also ignore other errors.
  if (dialect === 'mysql') return sql` on duplicate key update ${first} = ${first}`;
  const columns = key.map((column) => column.sql).join(', ');
  return sql`${raw(` on conflict (${columns})`)}${where} do nothing`;
}

/** A parameter where PostgreSQL cannot infer a type, as in the branches of a `case`. */
export function typed(dialect: DialectName, type: 'bigint' | 'integer' | 'text', value: unknown): Sql {
  return dialect === 'postgres' ? sql`cast(${value} as ${raw(type)})` : sql`${value}`;
}
