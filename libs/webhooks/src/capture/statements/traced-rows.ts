import type { ReadRow } from '../images/written-table.js';

/** One update of a row by an upsert: the before image, and the key before and after. */
export interface UpdatedRow {
  readonly old: ReadRow | null;
  readonly oldKey: string;
  readonly key: string;
}

/** What an upsert has done with a row. */
export interface TracedRow {
  /** The first update of the row; `null` if the statement has not updated the row. */
  readonly updated: UpdatedRow | null;
  /**
   * - `existing`: the row was in the table before the statement.
   * - `inserted`: the statement has inserted the row.
   * - `unseen`: the row was not in the table when the statement began, and it existed when the statement updated it. Either the statement or
   *   another writer has inserted the row.
   */
  readonly origin: 'existing' | 'inserted' | 'unseen';
}

/** A row that the statement has inserted and not updated. No trace contains such a row. */
export const INSERTED: TracedRow = { updated: null, origin: 'inserted' };

/**
 * Follows the rows of an upsert from key to key. The upsert may move a row to another key, and then insert or move another row to the key
 * that has become free.
 *
 * @param existing the keys of the rows before the statement
 * @param updates the updates of the statement, in their order
 * @returns the rows by their keys after the statement. A row that is not in the map was inserted
 */
export function tracedRows(existing: ReadonlySet<string>, updates: readonly UpdatedRow[]): Map<string, TracedRow> {
  const rows = new Map<string, TracedRow>();
  for (const key of existing) rows.set(key, { updated: null, origin: 'existing' });
  const left = new Set<string>();
  for (const update of updates) {
    const { oldKey, key } = update;
    // No other writer can insert a key that this statement has freed, because the key stays locked.
    const row = rows.get(oldKey) ?? { updated: null, origin: left.has(oldKey) ? 'inserted' : 'unseen' };
    rows.delete(oldKey);
    if (key !== oldKey) left.add(oldKey);
    rows.set(key, { ...row, updated: row.updated ?? update });
  }
  return rows;
}
