import type { ReadRow } from '../images/written-table.js';

/**
 * Makes an upsert note each row just before the upsert updates that row. Only the database knows which rows conflict, by which key, index
 * and collation, and which values another writer has changed in the meantime. An inserted row has no note.
 */
export interface RowNotes {
  /** Must be called before the statement is sent. */
  begin(): Promise<void>;
  /** Must be called when the rows were read, or when the statement has failed. */
  end(): void;
  /** Returns the statement with the parts that note rows. */
  notingStatement(text: string, parameters: unknown[]): [string, unknown[]];
  /** The additional RETURNING list, and its parameters. */
  readonly returned: { readonly list: string; readonly parameters: readonly unknown[] };
  /** The before images, one for each returned record. `null` for an inserted row. */
  read(records: readonly Record<string, unknown>[]): Promise<(ReadRow | null)[]>;
}
