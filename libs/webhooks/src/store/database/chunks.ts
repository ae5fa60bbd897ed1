import sql, { join, type Sql } from 'sql-template-tag';

/** The maximum number of values in one IN list. A statement has at most 32,766 parameters on SQLite and 65,535 on PostgreSQL. */
const VALUES_PER_LIST = 5_000;

/**
 * The maximum number of characters in one statement. MariaDB accepts 16 MB (`max_allowed_packet`). In JSON inside SQL, a quote becomes four
 * characters. A character takes up to four bytes.
 */
const CHARACTERS_PER_STATEMENT = 1_000_000;

/**
 * Splits a list into chunks for statements of limited size.
 *
 * @param lengthOf the number of characters of an item, if items are long. An item that is longer than the limit gets its own chunk.
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

/** `= any(…)` for whole numbers on PostgreSQL. The list is one parameter, so the statement text is the same for any number of values. */
export function anyOf(wholeNumbers: readonly unknown[]): Sql {
  return sql`= any(cast(${`{${wholeNumbers.join(',')}}`} as bigint[]))`;
}
