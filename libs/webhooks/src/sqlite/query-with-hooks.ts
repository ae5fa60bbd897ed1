import { QueryFailedError, QueryResult, QueryRunnerAlreadyReleasedError, type QueryRunner } from 'typeorm';
import { BroadcasterResult } from 'typeorm/subscriber/BroadcasterResult.js';
import { dataSourceOf } from '../typeorm-compat.js';
import type { SqliteStatement } from './typeorm-driver.js';

/**
 * Runs a statement between the hooks `beforeQuery` and `afterQuery`, and awaits both hooks, like the query runner of TypeORM 1.1.
 *
 * @throws QueryFailedError after the hooks of the failed statement
 */
export async function queryWithHooks(
  runner: QueryRunner,
  query: string,
  values: unknown[] | undefined,
  execute: () => Promise<QueryResult>,
): Promise<QueryResult> {
  if (runner.isReleased) throw new QueryRunnerAlreadyReleasedError();
  const { broadcaster } = runner;
  const { logger, options } = dataSourceOf(runner);
  logger.logQuery(query, values, runner);
  await broadcaster.broadcast('BeforeQuery', query, values);
  const start = Date.now();
  let result: QueryResult;
  try {
    result = await execute();
  } catch (error) {
    const failure = error instanceof Error ? error : new Error(String(error));
    logger.logQueryError(failure, query, values, runner);
    await afterQuery(runner, query, values, [false, undefined, undefined, failure]);
    throw new QueryFailedError(query, values, failure);
  }
  const tookMs = Date.now() - start;
  const slowMs = options.maxQueryExecutionTime;
  if (slowMs && tookMs > slowMs) logger.logQuerySlow(tookMs, query, values, runner);
  await afterQuery(runner, query, values, [true, tookMs, result.raw, undefined]);
  return result;
}

type Outcome = [success: boolean, tookMs: number | undefined, raw: unknown, error: Error | undefined];

/** Calls the hooks `afterQuery`. Waits for their promises, even if one of the hooks throws. */
async function afterQuery(
  { broadcaster }: QueryRunner,
  query: string,
  values: unknown[] | undefined,
  outcome: Outcome,
): Promise<void> {
  const hooks = new BroadcasterResult();
  try {
    broadcaster.broadcastAfterQueryEvent(hooks, query, values, ...outcome);
  } finally {
    await hooks.wait();
  }
}

export function runStatement(statement: SqliteStatement, values: readonly unknown[]): QueryResult {
  const result = new QueryResult();
  if (statement.reader) {
    result.raw = result.records = statement.all(...values);
  } else {
    const { changes, lastInsertRowid } = statement.run(...values);
    result.affected = changes;
    result.raw = lastInsertRowid;
  }
  return result;
}
