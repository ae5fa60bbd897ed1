import { QueryResult, type DataSource, type QueryRunner } from 'typeorm';
import { queryWithHooks, runStatement } from '../../sqlite/query-with-hooks.js';
import { internalsChanged, type SqliteStatement } from '../../sqlite/typeorm-driver.js';
import { dataSourceOf } from '../../typeorm-compat.js';

/** A query runner of TypeORM 0.3, with what its types keep to themselves. */
interface Runner extends QueryRunner {
  query(query: string, values?: unknown[], useStructuredResult?: boolean): Promise<never>;
}

/** The one for better-sqlite3. */
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

/** On data sources whose statements wait, and on the method that looks for it. Symbols of the process: two copies of this library find both. */
const WAITS = Symbol.for('nestjs-entity-webhooks:waits-for-hooks');
type Waiting = DataSource & { [WAITS]?: true };

/**
 * Makes the statements of a data source wait for the hooks around them, as they do with TypeORM 1.1. With 0.3 they do not:
 *
 * | database | what 0.3 leaves out |
 * |---|---|
 * | better-sqlite3 | waits neither for `beforeQuery` nor for `afterQuery`, and calls no `afterQuery` for a statement that failed |
 * | MySQL, MariaDB | does not wait for `afterQuery` |
 *
 * Events are written in the `beforeQuery` of a COMMIT, and would come after it. `query()` is replaced on the prototype of the query
 * runners, once per process, by a method that does what it did for all other data sources.
 *
 * A better-sqlite3 data source that `isolateSqlite` has taken over needs none of this: its query runner is a class of ours.
 *
 * @throws ConfigurationError `TYPEORM_INTERNALS_CHANGED`
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
    // TypeORM declares `any`: rows, a row id or a QueryResult, as the caller knows.
    return (useStructuredResult ? result : result.raw) as never;
  }
  prototype.query = Object.assign(query, { [WAITS]: true as const });
}

/** Not of the runner itself, which may have an own method of capture by now: a data source may be served by one module after the other. */
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
