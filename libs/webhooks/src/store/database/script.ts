import type { Sql } from 'sql-template-tag';

/** A row as the driver gives it; `query<Row>()` says which columns a statement selects. */
export type Row = Record<string, unknown>;

export interface StatementResult {
  rows: Row[];
  /** Rows changed, where the statement changes any. */
  affected: number;
  /** Of each, for several statements {@link together}. */
  all?: readonly StatementResult[];
}

/** Several statements, of which none needs the result of another. */
export class Together {
  constructor(
    readonly statements: readonly Sql[],
    /** Nothing follows: the COMMIT may go with them. */
    readonly isEnd: boolean,
  ) {}
}

/**
 * The body of one transaction: a generator that yields statements and receives their results.
 *
 * Written once, it runs asynchronously over a pool on server databases, and synchronously on SQLite, where nothing else
 * of this process can then come between its statements. It may run again from the start after a deadlock, so it changes
 * nothing outside the database before it returns.
 *
 * A statement that fails ends it there, and its transaction with it: a script that went on would commit half of itself on
 * SQLite and MySQL, and on PostgreSQL nothing, without an error.
 */
export type Script<T> = Generator<Sql | Together, T, StatementResult>;

/** Runs a statement and gives its rows. */
export function* query<R = Row>(statement: Sql): Script<R[]> {
  const { rows } = yield statement;
  return rows as R[];
}

/** Runs a statement and gives the number of rows it changed. */
export function* execute(statement: Sql): Script<number> {
  const { affected } = yield statement;
  return affected;
}

/**
 * Runs statements of which none needs the result of another, in their order. PostgreSQL gets them all at once, where its driver can do
 * that: one wait instead of several, and in a busy process a wait is a turn of the event loop.
 *
 * @param isEnd nothing follows in this transaction, so that its COMMIT goes with them
 */
export function* together(
  statements: readonly Sql[],
  { isEnd }: { isEnd: boolean },
): Script<readonly StatementResult[]> {
  const { all = [] } = yield new Together(statements, isEnd);
  return all;
}
