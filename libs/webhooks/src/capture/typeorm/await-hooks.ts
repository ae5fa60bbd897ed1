import { QueryResult, type DataSource, type QueryRunner } from 'typeorm';
import { queryWithHooks, runStatement } from '../../sqlite/query-with-hooks.js';
import { internalsChanged, type SqliteStatement } from '../../sqlite/typeorm-driver.js';
import { dataSourceOf } from '../../typeorm-compat.js';

/** A query runner of TypeORM 0.3, with a parameter that its types do not declare. */
interface Runner extends QueryRunner {
  query(query: string, values?: unknown[], useStructuredResult?: boolean): Promise<never>;
}

/** The query runner for better-sqlite3. */
interface SqliteRunner extends Runner {
  getStmt?(query: string): Promise<SqliteStatement>;
}

/** A connection of mysql2; its methods take callbacks. */
interface MysqlConnection {
  query(
    query: string | { sql: string; timeout: number },
    values: unknown[] | undefined,
    done: (error: Error | null, raw: unknown) => void,
  ): unknown;
}

type Execute<R extends Runner> = (runner: R, query: string, values: unknown[] | undefined) => Promise<QueryResult>;

/**
 * Set on data sources whose statements wait, and on the replaced method. The key is a global symbol, so that two copies of this library
 * share the key.
 */
const WAITS = Symbol.for('nestjs-entity-webhooks:waits-for-hooks');
type Waiting = DataSource & { [WAITS]?: true };

/**
 * Makes the statements of a data source wait for their hooks, as TypeORM 1.1 does. TypeORM 0.3 does not wait for all hooks:
 *
 * | database | difference in 0.3 |
 * |---|---|
 * | better-sqlite3 | TypeORM waits neither for `beforeQuery` nor for `afterQuery`, and does not call `afterQuery` for a statement that failed |
 * | MySQL, MariaDB | TypeORM does not wait for `afterQuery` |
 *
 * Events are written in the `beforeQuery` of a COMMIT. Without the wait, events would be written after the COMMIT. `query()` is replaced on
 * the prototype of the query runners, once per process. For all other data sources the new method calls the original method.
 *
 * A better-sqlite3 data source with `isolateSqlite` does not need this function, because its query runners are a class of this library.
 *
 * @throws ConfigurationError `TYPEORM_INTERNALS_CHANGED`: the query runner lacks a method that the new `query()` needs
 */
export function awaitHooks(dataSource: DataSource): void {
  const runner = dataSource.createQueryRunner('master') as SqliteRunner;
  if (dataSource.options.type === 'better-sqlite3') {
    if (typeof runner.getStmt !== 'function') throw internalsChanged('queryRunner.getStmt()');
    replaceQuery(runner, executeSqlite);
  } else {
    replaceQuery(runner, executeMysql);
  }
  (dataSource as Waiting)[WAITS] = true;
}

function replaceQuery<R extends Runner>(runner: R, execute: Execute<R>): void {
  const prototype = prototypeWith('query', runner) as { query: Runner['query'] & { [WAITS]?: true } };
  const original = prototype.query;
  if (original[WAITS]) return;
  async function query(this: R, text: string, values?: unknown[], useStructuredResult = false): Promise<never> {
    if (!(dataSourceOf(this) as Waiting)[WAITS]) return original.call(this, text, values, useStructuredResult);
    const result = await queryWithHooks(this, text, values, () => execute(this, text, values));
    // TypeORM declares `any`, because the caller knows the type of the result: rows, a row id or a QueryResult.
    return (useStructuredResult ? result : result.raw) as never;
  }
  prototype.query = Object.assign(query, { [WAITS]: true as const });
}

/**
 * Finds the prototype that has a method. The runner itself may have a method of capture, if a module was closed and another module uses the
 * data source.
 */
function prototypeWith(name: string, runner: object): object {
  let prototype = Object.getPrototypeOf(runner) as object;
  while (!Object.hasOwn(prototype, name)) prototype = Object.getPrototypeOf(prototype) as object;
  return prototype;
}

async function executeSqlite(runner: SqliteRunner, query: string, values: unknown[] = []): Promise<QueryResult> {
  return runStatement(await (runner as Required<SqliteRunner>).getStmt(query), values);
}

async function executeMysql(runner: Runner, query: string, values: unknown[] | undefined): Promise<QueryResult> {
  const connection = (await runner.connect()) as MysqlConnection;
  const { enableQueryTimeout, maxQueryExecutionTime } = dataSourceOf(runner).options as {
    enableQueryTimeout?: boolean;
    maxQueryExecutionTime?: number;
  };
  const timed =
    enableQueryTimeout && maxQueryExecutionTime ? { sql: query, timeout: maxQueryExecutionTime } : undefined;
  const raw = await new Promise<unknown>((resolve, reject) => {
    connection.query(timed ?? query, values, (error, rows) => (error ? reject(error) : resolve(rows)));
  });
  const result = new QueryResult();
  result.raw = raw;
  if (Array.isArray(raw)) result.records = raw as unknown[];
  const { affectedRows } = raw as { affectedRows?: number };
  if (affectedRows !== undefined) result.affected = affectedRows;
  return result;
}
