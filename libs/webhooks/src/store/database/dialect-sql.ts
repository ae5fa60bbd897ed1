import sql, { raw, type Sql } from 'sql-template-tag';
import type { DialectName } from '../../dialect.js';

/**
 * Makes an insert skip rows whose unique key stands already.
 *
 * @param key its columns, already escaped
 * @param where the condition of its index, where that holds some rows only: without it no index is found
 */
export function skipConflict(dialect: DialectName, key: readonly Sql[], where: Sql = sql``): Sql {
  const [first] = key;
  // `insert ignore` would also swallow errors that are none of our business.
  if (dialect === 'mysql') return sql` on duplicate key update ${first} = ${first}`;
  const columns = key.map((column) => column.sql).join(', ');
  return sql`${raw(` on conflict (${columns})`)}${where} do nothing`;
}

/** A parameter where PostgreSQL cannot infer a type, as in the branches of a `case`. */
export function typed(dialect: DialectName, type: 'bigint' | 'integer' | 'text', value: unknown): Sql {
  return dialect === 'postgres' ? sql`cast(${value} as ${raw(type)})` : sql`${value}`;
}
