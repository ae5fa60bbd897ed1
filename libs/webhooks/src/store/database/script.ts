import type { Sql } from 'sql-template-tag';

/** A row as the driver returns it. `query<Row>()` declares the columns that a statement selects. */
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
    /** Whether these statements are the last. Then the COMMIT may be sent together with these statements. */
    readonly isEnd: boolean,
  ) {}
}

/**
 * The body of one transaction: a generator that yields statements and receives their results.
 *
 * Each script is written once for all databases. On server databases a script runs asynchronously over a pool. On SQLite a script runs
 * synchronously, so that no other code of this process runs between its statements. A script may run again from the start after a deadlock.
 * So a script changes nothing outside the database before it returns.
 *
 * A statement that fails ends the script and its transaction. If the script continued, SQLite and MySQL would commit half of its work, and
 * PostgreSQL would commit nothing, without an error.
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
 * Runs statements that do not need each other's results, in order. If the driver can pipeline, PostgreSQL gets all statements in one write.
 * Then one round trip is enough.
 *
 * @param isEnd whether these statements are the last of the transaction. Then the COMMIT is sent together with these statements
 */
export function* together(
  statements: readonly Sql[],
  { isEnd }: { isEnd: boolean },
): Script<readonly StatementResult[]> {
  const { all = [] } = yield new Together(statements, isEnd);
  return all;
}

/**
 * Runs a script over a connection, statement by statement.
 *
 * @param step the first statement, if it is already rendered
 */
export async function runScript<T>(
  script: Script<T>,
  send: (statement: Sql) => Promise<StatementResult>,
  step: IteratorResult<Sql | Together, T> = script.next(),
): Promise<T> {
  while (!step.done) {
    const { value } = step;
    if (value instanceof Together) {
      const all: StatementResult[] = [];
      for (const statement of value.statements) all.push(await send(statement));
      step = script.next({ rows: [], affected: 0, all });
    } else step = script.next(await send(value));
  }
  return step.value;
}
