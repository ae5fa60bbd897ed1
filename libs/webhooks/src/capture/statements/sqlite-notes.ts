import type { CapturedWrite } from './captured-write.js';
import type { RowNotes } from './row-notes.js';
import type { ReadRow } from '../images/written-table.js';

/** The part of a better-sqlite3 connection that is used here. */
interface SqliteConnection {
  function(name: string, options: { varargs: boolean }, run: (...args: never[]) => unknown): unknown;
}

/** The maximum number of values for one call. SQLite allows 127 arguments for a function, and newer releases allow more. */
const VALUES_PER_CALL = 100;

/** The notes of the statements that are under way. The key is a statement number, because statements may share a connection. */
const underWay = new Map<number, SqliteNotes>();
const prepared = new WeakSet<SqliteConnection>();
let lastNumber = 0;

/**
 * Notes rows by calling functions that are registered on the connection, because SQLite has no variables. A function gets each value in the
 * form in which a SELECT would return the value.
 */
export class SqliteNotes implements RowNotes {
  private readonly number = ++lastNumber;
  private readonly values: string[];
  private readonly notes: unknown[][] = [];
  private isTaken = true;

  private constructor(private readonly write: CapturedWrite) {
    this.values = write.table.noted.values(`${write.table.name}.`);
  }

  static async on(write: CapturedWrite): Promise<SqliteNotes> {
    prepare((await write.runner.connect()) as SqliteConnection);
    return new SqliteNotes(write);
  }

  get returned(): RowNotes['returned'] {
    return { list: 'webhooks_met(?) AS "wh_met"', parameters: [this.number] };
  }

  async begin(): Promise<void> {
    underWay.set(this.number, this);
  }

  /** Appends a WHERE to the statement. TypeORM composes no condition for an upsert on SQLite, so the statement has no other WHERE. */
  notingStatement(text: string, parameters: unknown[]): [string, unknown[]] {
    const calls: string[] = [];
    for (let start = 0; start < this.values.length; start += VALUES_PER_CALL) {
      const some = this.values.slice(start, start + VALUES_PER_CALL);
      calls.push(`webhooks_note(?, ${start}, ${some.join(', ')})`);
    }
    return [`${text} WHERE ${calls.join(' AND ')}`, [...parameters, ...calls.map(() => this.number)]];
  }

  async read(records: readonly Record<string, unknown>[]): Promise<(ReadRow | null)[]> {
    const { table, runner } = this.write;
    return records.map(({ wh_met: met }) => {
      if (met === null) return null;
      const note = this.notes[Number(met)] ?? [];
      return table.noted.read(runner, table.noted.rowOf('wh_o', note), 'wh_o');
    });
  }

  end(): void {
    underWay.delete(this.number);
  }

  note(start: number, values: readonly unknown[]): number {
    if (start === 0) this.notes.push([...values]);
    else this.notes.at(-1)?.push(...values);
    this.isTaken = false;
    return 1;
  }

  /** The index of the note of the row that is being returned; `null` for an inserted row. */
  take(): number | null {
    if (this.isTaken) return null;
    this.isTaken = true;
    return this.notes.length - 1;
  }
}

function prepare(connection: SqliteConnection): void {
  if (prepared.has(connection)) return;
  prepared.add(connection);
  connection.function('webhooks_note', { varargs: true }, (write: number, start: number, ...values: unknown[]) =>
    underWay.get(write)?.note(start, values),
  );
  connection.function('webhooks_met', { varargs: true }, (write: number) => underWay.get(write)?.take() ?? null);
}
