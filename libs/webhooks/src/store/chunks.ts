import sql, { join, type Sql } from 'sql-template-tag';

/** Values of one IN list: SQLite takes 32,766 parameters in a statement, PostgreSQL 65,535. */
const VALUES_PER_LIST = 5_000;

/** Cuts a list for statements of a bounded size. */
export function* chunks<T>(items: readonly T[], size = VALUES_PER_LIST): Generator<readonly T[]> {
  for (let start = 0; start < items.length; start += size) yield items.slice(start, start + size);
}

/** `in (?, ?, …)`; the list must not be empty. */
export function inList(values: readonly unknown[]): Sql {
  return sql`in (${join(values)})`;
}
