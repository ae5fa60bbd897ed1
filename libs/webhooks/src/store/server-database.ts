import { DataSource, type QueryRunner } from 'typeorm';
import type { Sql } from 'sql-template-tag';
import { dialectOf, type DialectName, type SupportedDriver } from './column-kinds.js';
import { Database, isRetryable, ownDataSourceOptions, pause } from './database.js';
import type { Script, StatementResult } from './script.js';
import { tablesSql, webhookEntities, type TablesSql } from './tables.js';

const MAX_TRIES = 10;

/**
 * The tables of a queue change faster than a server's statistics of them: of 30,000 events stored a moment ago the planner
 * believes that 89 are pending, and sorts them all for each claim of 250 (19 ms instead of 0.3). Every statement of the store
 * has an index that gives its rows in their order; this makes the planner take it. One round trip, and gone at the commit.
 */
const BEGIN_POSTGRES =
  'START TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off';

/** PostgreSQL, MySQL and MariaDB, over a pool of the module's own. */
export class ServerDatabase extends Database {
  private constructor(
    readonly dataSource: DataSource,
    readonly dialect: DialectName,
    readonly tables: TablesSql,
  ) {
    super();
  }

  /** Opens the pool. `synchronize` is taken over from the application: then the tables are made here. */
  static async open(application: DataSource, tablePrefix: string, poolSize: number): Promise<ServerDatabase> {
    const type = application.options.type as SupportedDriver;
    const options = ownDataSourceOptions(
      application,
      webhookEntities({ type, tablePrefix, namingStrategy: application.namingStrategy }),
      poolSize,
    );
    const dataSource = await new DataSource(options).initialize();
    try {
      if (application.options.synchronize) await dataSource.synchronize();
      return new ServerDatabase(dataSource, dialectOf(type), tablesSql(dataSource, tablePrefix));
    } catch (error) {
      await dataSource.destroy();
      throw error;
    }
  }

  transaction<T>(script: () => Script<T>): Promise<T> {
    return this.retried(async (runner) => {
      try {
        await this.begin(runner);
        const result = await this.play(runner, script());
        await runner.query('COMMIT');
        return result;
      } catch (error) {
        // A connection that cannot roll back is broken, and the error that broke it is the one to report.
        await runner.query('ROLLBACK').catch(() => undefined);
        throw error;
      }
    });
  }

  single<T>(script: () => Script<T>): Promise<T> {
    return this.retried((runner) => this.play(runner, script()));
  }

  private async retried<T>(work: (runner: QueryRunner) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      const runner = this.dataSource.createQueryRunner('master');
      try {
        return await work(runner);
      } catch (error) {
        if (attempt >= MAX_TRIES || !isRetryable(error)) throw error;
      } finally {
        await runner.release();
      }
      await pause(attempt * Math.random() * 10);
    }
  }

  close(): Promise<void> {
    return this.dataSource.destroy();
  }

  /**
   * READ COMMITTED whatever the server's default: at InnoDB's REPEATABLE READ a `SKIP LOCKED` claim takes gap locks
   * that make users' inserts wait.
   */
  private async begin(runner: QueryRunner): Promise<void> {
    if (this.dialect === 'postgres') {
      await runner.query(BEGIN_POSTGRES);
      return;
    }
    await runner.query('SET TRANSACTION ISOLATION LEVEL READ COMMITTED');
    await runner.query('START TRANSACTION');
  }

  private async play<T>(runner: QueryRunner, script: Script<T>): Promise<T> {
    let step = script.next();
    while (!step.done) step = script.next(await this.run(runner, step.value));
    return step.value;
  }

  private async run(runner: QueryRunner, sql: Sql): Promise<StatementResult> {
    const { text, values } = this.statement(sql);
    const { records, affected } = await runner.query(text, values, true);
    return { rows: (records ?? []) as StatementResult['rows'], affected: affected ?? 0 };
  }
}
