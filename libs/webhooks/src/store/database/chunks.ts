import sql, { join, type Sql } from 'sql-template-tag';

/** Values of one IN list: SQLite takes 32,766 parameters in a statement, PostgreSQL 65,535. */
const VALUES_PER_LIST = 5_000;

/**
 * Characters of one statement. MariaDB takes 16 MB (`max_allowed_packet`), and a quote inside of JSON inside of SQL is four
 * characters, as a character may be four bytes.
 */
const CHARACTERS_PER_STATEMENT = 1_000_000;

/**
 * Cuts a list for statements of a bounded size.
 *
 * @param lengthOf characters of an item, where they are many. One that is longer than a statement should be has its own.
 */
export function* chunks<T>(
  items: readonly T[],
  size = VALUES_PER_LIST,
  lengthOf: (item: T) => number = () => 0,
): Generator<readonly T[]> {
  let start = 0;
  let length = 0;
  for (let end = 0; end < items.length; end++) {
    const added = lengthOf(items[end] as T);
    if (end > start && (end - start >= size || length + added > CHARACTERS_PER_STATEMENT)) {
      yield items.slice(start, end);
      start = end;
      length = 0;
    }
    length += added;
  }
  if (start < items.length) yield items.slice(start);
}

/** `in (?, ?, …)`; the list must not be empty. */
export function inList(values: readonly unknown[]): Sql {
  return sql`in (${join(values)})`;
}

/** The same for whole numbers on PostgreSQL: one parameter and one text, however many they are. */
export function anyOf(wholeNumbers: readonly unknown[]): Sql {
  return sql`= any(cast(${`{${wholeNumbers.join(',')}}`} as bigint[]))`;
}
