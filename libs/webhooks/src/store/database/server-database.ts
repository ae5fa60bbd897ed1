import type { Sql } from 'sql-template-tag';
import { dialectOf, type DialectName, type SupportedDriver } from '../../dialect.js';
import { isRetryable } from './database-errors.js';
import { Database, ownDataSourceOptions, type StatementLimit } from './database.js';
import { pause } from '../../time.js';
import { type Script, type StatementResult, Together } from './script.js';
import {
  ServerConnections,
  sendsAhead,
  type AheadConnection,
  type Connection,
  type Statement,
} from './server-connections.js';
import { withoutValues } from './statement-error.js';
import { tablesSql, webhookEntities, type TablesSql } from './tables.js';
import type { WebhookTablesOptions } from './table-names.js';
import { DataSource } from '../../typeorm-compat.js';

const MAX_TRIES = 10;

/**
 * The tables of a queue change faster than the server's statistics. Of 30,000 events that were just stored, the planner estimates that 89
 * are pending, and sorts all 30,000 for each claim of 250 (19 ms instead of 0.3). For every statement of the store an index returns the
 * rows in order; these settings make the planner use it. They take one round trip, and end with the transaction.
 */
const BEGIN_POSTGRES =
  'START TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off';

/** PostgreSQL, MySQL and MariaDB, over a pool of the module's own. */
export class ServerDatabase extends Database {
  private readonly connections: ServerConnections;

  private constructor(
    readonly dataSource: DataSource,
    readonly dialect: DialectName,
    readonly tables: TablesSql,
  ) {
    super();
    this.connections = new ServerConnections(dataSource, dialect);
  }

  /** Opens the pool. If the application has `synchronize`, it also creates the tables. */
  static async open(application: DataSource, at: WebhookTablesOptions, poolSize: number): Promise<ServerDatabase> {
    const type = application.options.type as SupportedDriver;
    const options = ownDataSourceOptions(
      application,
      webhookEntities({ ...at, type, namingStrategy: application.namingStrategy }),
      poolSize,
    );
    const dataSource = await new DataSource(options).initialize();
    try {
      if (application.options.synchronize) await synchronize(dataSource, at);
      return new ServerDatabase(dataSource, dialectOf(type), tablesSql(dataSource, at));
    } catch (error) {
      await dataSource.destroy();
      throw error;
    }
  }

  transaction<T>(script: () => Script<T>, limit: StatementLimit = 'page'): Promise<T> {
    return this.retried(limit, async (connection) => {
      try {
        return await (sendsAhead(connection)
          ? this.runPipelined(connection, script())
          : this.runStepByStep(connection, script()));
      } catch (error) {
        // Without a working connection there is nothing to roll back. Report the first error.
        if (!connection.isBroken) await connection.send('ROLLBACK').catch(() => undefined);
        throw error;
      }
    });
  }

  single<T>(script: () => Script<T>, limit: StatementLimit = 'page'): Promise<T> {
    return this.retried(limit, (connection) => this.runScript(connection, script()));
  }

  private async retried<T>(limit: StatementLimit, work: (connection: Connection) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.connections.use(limit, work);
      } catch (error) {
        if (attempt >= MAX_TRIES || !isRetryable(error)) throw withoutValues(error);
      }
      await pause(attempt * Math.random() * 10);
    }
  }

  close(): Promise<void> {
    return this.connections.close();
  }

  /**
   * READ COMMITTED, whatever the server's default is: at InnoDB's REPEATABLE READ, a `SKIP LOCKED` claim takes gap locks that block inserts
   * of the application.
   */
  private async begin({ send }: Connection): Promise<void> {
    if (this.dialect === 'postgres') {
      await send(BEGIN_POSTGRES);
      return;
    }
    await send('SET TRANSACTION ISOLATION LEVEL READ COMMITTED');
    await send('START TRANSACTION');
  }

  private async runStepByStep<T>(connection: Connection, script: Script<T>): Promise<T> {
    await this.begin(connection);
    const result = await this.runScript(connection, script);
    await connection.send('COMMIT');
    return result;
  }

  /**
   * Like {@link runStepByStep}, but sends the BEGIN together with the first statements, and the COMMIT with the last if the script marks
   * them. After a failed statement the server refuses the rest, and turns the COMMIT into a rollback: no partial work is committed.
   */
  private async runPipelined<T>({ sendAhead }: AheadConnection, script: Script<T>): Promise<T> {
    let ahead: Statement[] = [{ text: BEGIN_POSTGRES }];
    let isOver = false;
    let step = script.next();
    while (!step.done) {
      const { value } = step;
      const statements = (value instanceof Together ? value.statements : [value]).map((one) => this.statement(one));
      isOver = value instanceof Together && value.isEnd;
      const results = await sendAhead([...ahead, ...statements, ...(isOver ? [{ text: 'COMMIT' }] : [])]);
      const all = results.slice(ahead.length, ahead.length + statements.length);
      ahead = [];
      step = script.next(value instanceof Together ? { rows: [], affected: 0, all } : (all[0] as StatementResult));
    }
    if (!isOver && !ahead.length) await sendAhead([{ text: 'COMMIT' }]);
    return step.value;
  }

  private async runScript<T>({ send }: Connection, script: Script<T>): Promise<T> {
    const run = (one: Sql) => {
      const { text, values } = this.statement(one);
      return send(text, values);
    };
    let step = script.next();
    while (!step.done) {
      const { value } = step;
      if (value instanceof Together) {
        const all: StatementResult[] = [];
        for (const statement of value.statements) all.push(await run(statement));
        step = script.next({ rows: [], affected: 0, all });
      } else step = script.next(await run(value));
    }
    return step.value;
  }
}

/** The schema builder creates tables, but not their schema. */
async function synchronize(dataSource: DataSource, { tableSchema }: WebhookTablesOptions): Promise<void> {
  if (tableSchema !== undefined) {
    const runner = dataSource.createQueryRunner('master');
    try {
      if (!(await runner.hasSchema(tableSchema))) await runner.createSchema(tableSchema, true);
    } finally {
      await runner.release();
    }
  }
  await dataSource.synchronize();
}
