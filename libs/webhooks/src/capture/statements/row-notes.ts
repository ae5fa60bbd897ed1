import type { ReadRow } from '../images/written-table.js';

/**
 * Has an upsert note each row that it updates, as it was right before: the database alone knows by which key or index a row conflicts, by
 * which collation, and what another writer has made of the row in the meantime. A row that it inserts has no note.
 */
export interface RowNotes {
  /** Before the statement is sent. */
  begin(): Promise<void>;
  /** When it has been sent and the rows were read, or when it has failed. */
  end(): void;
  /** The statement that notes. */
  notingStatement(text: string, parameters: unknown[]): [string, unknown[]];
  /** What the statement returns beside each row, and its parameters. */
  readonly returned: { readonly list: string; readonly parameters: readonly unknown[] };
  /** The rows as they were, one for each record that the statement returned; `null` for a row that it inserted. */
  read(records: readonly Record<string, unknown>[]): Promise<(ReadRow | null)[]>;
}
