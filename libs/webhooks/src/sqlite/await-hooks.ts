import type { DataSource } from 'typeorm';
import { queryWithHooks, runStatement } from './query-with-hooks.js';
import { internalsChanged, type SqliteStatement, type StockDriver, type StockQueryRunner } from './typeorm-driver.js';

/** The query runner of TypeORM 0.3, with what its types keep to themselves. */
type CachingQueryRunner = StockQueryRunner & { getStmt(query: string): Promise<SqliteStatement> };

/** On a query runner whose `query` is ours. A symbol of the process: two copies of this library find the same one. */
const WAITS = Symbol.for('nestjs-entity-webhooks:waits-for-hooks');

/**
 * Makes the query runner of a better-sqlite3 data source wait for `beforeQuery`, and call `afterQuery` for a statement that failed.
 * That of TypeORM 0.3 does neither: events, which are written in the hook of a COMMIT, would come after it. For data sources that
 * `isolateSqlite` does not take over; it has a query runner of its own.
 *
 * @throws ConfigurationError `TYPEORM_INTERNALS_CHANGED`
 */
export function awaitHooks(dataSource: DataSource): void {
  const driver = dataSource.driver as unknown as StockDriver;
  const create = driver.createQueryRunner.bind(driver);
  // The driver makes one and gives it to everybody, until it disconnects.
  driver.createQueryRunner = (mode) => waiting(create(mode) as CachingQueryRunner);
  waiting(create('master') as CachingQueryRunner);
}

function waiting(runner: CachingQueryRunner): CachingQueryRunner {
  if (WAITS in runner) return runner;
  if (typeof runner.getStmt !== 'function') throw internalsChanged('queryRunner.getStmt()');
  Object.defineProperty(runner, WAITS, { value: true });
  runner.query = async (query: string, values: unknown[] = [], useStructuredResult = false): Promise<never> => {
    const execute = async () => runStatement(await runner.getStmt(query), values);
    const result = await queryWithHooks(runner, query, values, execute);
    // TypeORM declares `any`, as for its own.
    return (useStructuredResult ? result : result.raw) as never;
  };
  return runner;
}
