import type { Sql } from 'sql-template-tag';
import { dialectOf, type DialectName, type SupportedDriver } from '../../dialect.js';
import { isAlreadyCreated, isRetryable } from './database-errors.js';
import { assertNewShape, withRunner } from './old-shape.js';
import { Database, ownDataSourceOptions, type StatementLimit } from './database.js';
import { pause } from '../../time.js';
import { runScript, type Script, type StatementResult, Together } from './script.js';
import {
  SILENCE_MS,
  SUSPENDED_MS,
  ServerConnections,
  sendsAhead,
  type AheadConnection,
  type Connection,
  type Statement,
} from './server-connections.js';
import { within } from './silence.js';
import { withoutValues } from './statement-error.js';
import { tablesSql, webhookEntities, type TablesSql } from './tables.js';
import type { WebhookTablesOptions } from './table-names.js';
import { DataSource } from '../../typeorm-compat.js';

const MAX_TRIES = 10;

/**
 * Begins a transaction, with settings for the planner. The tables of a queue change faster than the server's statistics. Example: 30,000
 * events were just stored. The planner estimates that 89 events are pending, and sorts all 30,000 for each claim of 250. This sort takes 19
 * ms. With an index the claim takes 0.3 ms. For every statement of the store, an index returns the rows in order. The settings make the
 * planner use that index. The settings take one round trip, and end with the transaction.
 *
 * If this process is suspended, the server ends the transaction. Otherwise other processes could never work on the locked rows.
 */
const BEGIN_POSTGRES = `START TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off; SET LOCAL idle_in_transaction_session_timeout = ${SUSPENDED_MS}`;

/** The database class for PostgreSQL, MySQL and MariaDB. Its connections come from the module's own pool. */
export class ServerDatabase extends Database {
  readonly returnsInserted: boolean;
  readonly dialect: DialectName;
  readonly tables: TablesSql;
  readonly isPartitioned: boolean;
  private readonly connections: ServerConnections;

  private constructor(
    readonly dataSource: DataSource,
    {
      dialect,
      tables,
      poolSize,
      isPartitioned,
    }: { dialect: DialectName; tables: TablesSql; poolSize: number; isPartitioned: boolean },
  ) {
    super();
    this.dialect = dialect;
    this.tables = tables;
    this.isPartitioned = isPartitioned;
    this.connections = new ServerConnections(dataSource, dialect, poolSize);
    this.returnsInserted = dataSource.driver.isReturningSqlSupported('insert');
  }

  /** Opens the pool. If the application has `synchronize`, this method also creates the tables. */
  static async open(application: DataSource, at: WebhookTablesOptions, poolSize: number): Promise<ServerDatabase> {
    const type = application.options.type as SupportedDriver;
    const open = (partitions?: 'day') => {
      const { namingStrategy } = application;
      const entities = webhookEntities({ ...at, type, namingStrategy, partitions });
      return initialized(new DataSource(ownDataSourceOptions(application, entities, poolSize)));
    };
    let dataSource = await open();
    try {
      await withRunner(dataSource, (runner) => assertNewShape(dataSource, runner, at));
      const isPartitioned = await hasPartitions(dataSource, at);
      if (isPartitioned) {
        // The keys of partitioned tables have more columns, and TypeORM reads entities only when a data source is opened.
        await dataSource.destroy();
        dataSource = await open('day');
      }
      if (application.options.synchronize) await synchronize(application, dataSource, at);
      return new ServerDatabase(dataSource, {
        ...{ dialect: dialectOf(type), tables: tablesSql(dataSource, at) },
        ...{ poolSize, isPartitioned },
      });
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
        // Without a working connection, a ROLLBACK is not possible. Report the first error.
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
   * Begins a transaction. The isolation level is always READ COMMITTED, and not the server's default. At InnoDB's REPEATABLE READ, a `SKIP
   * LOCKED` claim takes gap locks that block inserts of the application.
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
   * As {@link runStepByStep}, but the BEGIN is sent together with the first statements. If the script marks its last statements, the COMMIT
   * is sent together with these statements. After a failed statement the server refuses the remaining statements, and turns the COMMIT into
   * a rollback. So no partial work is committed.
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

  private runScript<T>({ send }: Connection, script: Script<T>): Promise<T> {
    return runScript(script, (one: Sql) => {
      const { text, values } = this.statement(one);
      return send(text, values);
    });
  }
}

/** Whether the migrations made the tables with `partitions`. */
async function hasPartitions(dataSource: DataSource, at: WebhookTablesOptions): Promise<boolean> {
  if (dialectOf(dataSource.options.type) !== 'postgres') return false;
  const { path } = tablesSql(dataSource, at).events;
  return withRunner(dataSource, async (runner) => {
    const found = (await runner.query(`select 1 from pg_class where oid = to_regclass($1) and relkind = 'p'`, [
      path,
    ])) as unknown[];
    return found.length > 0;
  });
}

/** Options of different drivers that have the same meaning. */
interface ConnectLimits {
  readonly connectTimeout?: number;
  readonly connectTimeoutMS?: number;
}

/**
 * Opens the pool. Initializes the data source with a time limit, because TypeORM waits without a limit for the version of the server.
 * @throws DatabaseTimeoutError
 */
function initialized(dataSource: DataSource): Promise<DataSource> {
  const { connectTimeout = 0, connectTimeoutMS = 0 } = dataSource.options as ConnectLimits;
  const limitMs = Math.max(connectTimeout, connectTimeoutMS) + SILENCE_MS.work;
  return within(limitMs, 'let this process open its connections', dataSource.initialize(), () => dataSource.destroy());
}

/** How long a process waits, in seconds, while another process creates the tables. */
const CREATED_WITHIN_S = 60;
/** In MySQL the names of locks are shared by all databases of the server, so the name contains the database. */
const LOCK = "concat('webhooks-synchronize-', left(md5(database()), 16))";

/**
 * Creates the tables. Several processes may start at the same time.
 *
 * On PostgreSQL the schema builder works in a transaction: the process that comes second fails, and finds every table when it retries. MySQL
 * and MariaDB commit each statement, and the schema builder replaces some indexes. So one process after the other creates the tables there.
 *
 * @param application gives the connection for the lock, because the module's pool may have only one connection
 */
async function synchronize(application: DataSource, dataSource: DataSource, at: WebhookTablesOptions): Promise<void> {
  if (dialectOf(application.options.type) === 'mysql') {
    await withRunner(application, async (runner) => {
      await runner.query(`select get_lock(${LOCK}, ${CREATED_WITHIN_S})`);
      try {
        await createMissing(dataSource, at);
      } finally {
        await runner.query(`select release_lock(${LOCK})`);
      }
    });
    return;
  }
  for (let attempt = 1; ; attempt++) {
    try {
      return await createMissing(dataSource, at);
    } catch (error) {
      if (attempt >= MAX_TRIES || !isAlreadyCreated(error)) throw error;
    }
  }
}

/** Creates the schema, and then the tables. TypeORM's schema builder creates tables, but not their schema. */
async function createMissing(dataSource: DataSource, { tableSchema }: WebhookTablesOptions): Promise<void> {
  if (tableSchema !== undefined) {
    await withRunner(dataSource, async (runner) => {
      if (!(await runner.hasSchema(tableSchema))) await runner.createSchema(tableSchema, true);
    });
  }
  await dataSource.synchronize();
}
