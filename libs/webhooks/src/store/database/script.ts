import type { Sql } from 'sql-template-tag';

/** A row as the driver returns it; `query<Row>()` declares the columns that a statement selects. */
export type Row = Record<string, unknown>;

export interface StatementResult {
  rows: Row[];
  /** The number of rows that the statement changed. */
  affected: number;
  /** The result of each statement that was sent with {@link together}. */
  all?: readonly StatementResult[];
}

/** Several statements that do not need each other's results. */
export class Together {
  constructor(
    readonly statements: readonly Sql[],
    /** No statement follows: the COMMIT may be sent with these. */
    readonly isEnd: boolean,
  ) {}
}

/**
 * The body of one transaction: a generator that yields statements and receives their results.
 *
 * A script is written once. On server databases it runs asynchronously over a pool. On SQLite it runs synchronously, so that no other code
 * of this process runs between its statements. It may run again from the start after a deadlock, so it changes nothing outside the
 * database before it returns.
 *
 * A statement that fails ends the script and its transaction. A script that continued would commit half of its work on SQLite and MySQL,
 * and nothing on PostgreSQL, without an error.
 */
export type Script<T> = Generator<Sql | Together, T, StatementResult>;

/** Runs a statement and returns its rows. */
export function* query<R = Row>(statement: Sql): Script<R[]> {
  const { rows } = yield statement;
  return rows as R[];
}

/** Runs a statement and returns the number of rows that it changed. */
export function* execute(statement: Sql): Script<number> {
  const { affected } = yield statement;
  return affected;
}

/**
 * Runs statements that do not need each other's results, in order. PostgreSQL gets them in one write if the driver can pipeline: one round
 * trip instead of several.
 *
 * @param isEnd no statement follows in this transaction, so that the COMMIT is sent with these
 */
export function* together(
  statements: readonly Sql[],
  { isEnd }: { isEnd: boolean },
): Script<readonly StatementResult[]> {
  const { all = [] } = yield new Together(statements, isEnd);
  return all;
}
