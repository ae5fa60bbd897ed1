import { expect } from 'vitest';
import type { Shop } from './shop-app.js';

/**
 * Copies the first row of a table until the table has so many rows.
 *
 * @param changes SQL of the columns that are not copied. `n.i` is the number of the copy
 */
export async function copyRows(
  { dataSource }: Shop,
  table: string,
  rows: number,
  changes: Readonly<Record<string, string>>,
): Promise<void> {
  const countOf = async () => Number((await dataSource.query(`SELECT COUNT(*) AS count FROM ${table}`))[0].count);
  const columns = ((await dataSource.query(`PRAGMA table_info(${table})`)) as { name: string }[])
    .map(({ name }) => name)
    .filter((name) => name !== 'seq');
  await dataSource.query(
    `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows - (await countOf())})
     INSERT INTO ${table} (${columns.join(', ')})
     SELECT ${columns.map((name) => changes[name] ?? name).join(', ')} FROM n, (SELECT * FROM ${table} LIMIT 1)`,
  );
  expect(await countOf()).toBe(rows);
}

/** The SQL of an id, such as `lst_019ad5a0-0000-7000-8000-000000000007`. */
export function copiedId(prefix: string, number: string): string {
  return `printf('${prefix}_019ad5a0-0000-7000-8000-%012d', ${number})`;
}
