import { DataSource, type QueryRunner } from 'typeorm';
import type { Sql } from 'sql-template-tag';
import { dialectOf, type DialectName, type SupportedDriver } from './column-kinds.js';
import { Database, isRetryable, ownDataSourceOptions, pause } from './database.js';
import { type Script, type StatementResult, Together } from './script.js';
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
        return await (this.dialect === 'postgres' && (await isPipelined(runner))
          ? this.playAhead(runner, script())
          : this.playInTurns(runner, script()));
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

  private async playInTurns<T>(runner: QueryRunner, script: Script<T>): Promise<T> {
    await this.begin(runner);
    const result = await this.play(runner, script);
    await runner.query('COMMIT');
    return result;
  }

  /**
   * As {@link playInTurns}, without waiting for the BEGIN, nor before the COMMIT where the script says that it ends. What follows a
   * statement that failed is refused by the server, and a COMMIT then rolls back: nothing half done can stay.
   */
  private async playAhead<T>(runner: QueryRunner, script: Script<T>): Promise<T> {
    let step = script.next();
    let ahead = [this.begin(runner)];
    let isOver = false;
    while (!step.done) {
      const { value } = step;
      const statements = value instanceof Together ? value.statements : [value];
      const running = statements.map((statement) => this.run(runner, statement));
      isOver = value instanceof Together && value.isEnd;
      const committed = isOver ? [runner.query('COMMIT')] : [];
      const all = await everyOne([...ahead, ...running, ...committed], ahead.length, running.length);
      ahead = [];
      step = script.next(value instanceof Together ? { rows: [], affected: 0, all } : (all[0] as StatementResult));
    }
    await Promise.all(ahead);
    if (!isOver) await runner.query('COMMIT');
    return step.value;
  }

  private async play<T>(runner: QueryRunner, script: Script<T>): Promise<T> {
    let step = script.next();
    while (!step.done) {
      const { value } = step;
      if (value instanceof Together) {
        const all: StatementResult[] = [];
        for (const statement of value.statements) all.push(await this.run(runner, statement));
        step = script.next({ rows: [], affected: 0, all });
      } else step = script.next(await this.run(runner, value));
    }
    return step.value;
  }

  private async run(runner: QueryRunner, sql: Sql): Promise<StatementResult> {
    const { text, values } = this.statement(sql);
    const { records, affected } = await runner.query(text, values, true);
    return { rows: (records ?? []) as StatementResult['rows'], affected: affected ?? 0 };
  }
}

/** Whether the driver sends a statement before the last one is answered: `pg` from 8.23 does, when asked to. */
async function isPipelined(runner: QueryRunner): Promise<boolean> {
  const client = (await runner.connect()) as { pipeline?: unknown };
  return client.pipeline === true;
}

/** Waits for all of them, whatever becomes of one: the connection is not free before. @throws what the first that failed does */
async function everyOne(work: readonly Promise<unknown>[], start: number, count: number): Promise<StatementResult[]> {
  const settled = await Promise.allSettled(work);
  for (const one of settled) if (one.status === 'rejected') throw one.reason;
  return settled.slice(start, start + count).map((one) => (one as PromiseFulfilledResult<StatementResult>).value);
}
