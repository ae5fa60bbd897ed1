import type { DataSource, Logger, QueryRunner } from 'typeorm';
import sql, { type Sql } from 'sql-template-tag';
import { dialectOf, type DialectName } from '../../dialect.js';
import { isMissingTable } from './database-errors.js';
import { together, type Script, type StatementResult } from './script.js';
import type { TablesSql } from './tables.js';

/**
 * How long a statement waits for a server that does not answer. The dispatcher uses the limit `work`. Every other caller uses `page`.
 * SQLite has no server.
 */
export type StatementLimit = 'work' | 'page';

/**
 * The database of the webhook tables. Runs each {@link Script}. Each module instance has one database object.
 *
 * The object never uses the application's pool. On server databases the object has its own small pool. So the dispatcher does not wait for
 * the application's connections, and does not use them.
 */
export abstract class Database {
  abstract readonly dialect: DialectName;
  abstract readonly tables: TablesSql;
  /** Whether events, deliveries and attempts are partitioned by day. Only on PostgreSQL, and only if the migrations made it so. */
  abstract readonly isPartitioned: boolean;

  /**
   * Runs a script in one transaction, on the primary, at READ COMMITTED or stricter. After a deadlock, a serialization failure,
   * a lock timeout or a busy file, the script runs again from the start.
   *
   * @param limit the default is `page`
   * @throws DatabaseTimeoutError if the server does not answer. The client then cannot know whether the transaction was committed.
   */
  abstract transaction<T>(script: () => Script<T>, limit?: StatementLimit): Promise<T>;

  /**
   * Runs a script without a transaction. The script must only read, or have only one statement. The script is retried as in {@link
   * transaction}.
   */
  abstract single<T>(script: () => Script<T>, limit?: StatementLimit): Promise<T>;

  /** Closes the module's own connections. */
  abstract close(): Promise<void>;

  /**
   * The end of a select that locks its rows. The select waits for other transactions that hold these rows. SQLite has one writer and no row
   * locks.
   */
  get forUpdate(): Sql {
    return this.dialect === 'sqlite' ? sql`` : sql` for update`;
  }

  /** Whether an insert can return the sequences of its rows. MySQL cannot; MariaDB and SQLite can. */
  abstract readonly returnsInserted: boolean;

  /** The end of a select that claims rows. Other workers skip the locked rows. */
  get skipLocked(): Sql {
    return this.dialect === 'sqlite' ? sql`` : sql` for update skip locked`;
  }

  /** Sends a statement through a query runner of the application. */
  async sendBy(runner: QueryRunner, sql: Sql): Promise<StatementResult> {
    const { text, values } = this.statement(sql);
    return { rows: (await runner.query(text, values)) as StatementResult['rows'], affected: 0 };
  }

  /** Returns a statement in the form that the application's query runner takes. */
  statement(sql: Sql): { text: string; values: unknown[] } {
    return { text: this.dialect === 'postgres' ? sql.text : sql.sql, values: sql.values };
  }
}

/**
 * Returns the tables that are missing or lack a column. Called when the application starts. One transaction reads all tables. Only if it
 * fails, each table is read on its own, to find out which are missing.
 *
 * @throws any other error of the database, for example if the database cannot be reached
 */
export async function missingTables(database: Database): Promise<string[]> {
  const tables = Object.values(database.tables) as AnyTable[];
  if (await canRead(database, tables)) return [];
  const missing: string[] = [];
  for (const table of tables) if (!(await canRead(database, [table]))) missing.push(table.metadata.tablePath);
  return missing;
}

/** Whether the tables exist and have all their columns. */
async function canRead(database: Database, tables: readonly AnyTable[]): Promise<boolean> {
  const statements = tables.map(({ select, sql: path, metadata }) => {
    const columns = select('t', ...metadata.columns.map(({ propertyName }) => propertyName));
    return sql`select ${columns} from ${path} t where 1 = 0`;
  });
  try {
    await database.transaction(() => together(statements, { isEnd: true }));
    return true;
  } catch (error) {
    if (isMissingTable(error)) return false;
    throw error;
  }
}

/** A webhook table whose columns the compiler does not know. */
interface AnyTable {
  readonly select: (alias: string, ...columns: string[]) => Sql;
  readonly sql: Sql;
  readonly metadata: { readonly columns: readonly { readonly propertyName: string }[]; readonly tablePath: string };
}

/**
 * The limit for opening a connection. If the server does not accept a connection within this time, the module tries again. By default `pg`
 * waits without limit, and `mysql2` waits longer.
 */
const CONNECT_TIMEOUT_MS = 5_000;

const SILENT_LOGGER: Logger = {
  logQuery: () => undefined,
  logQueryError: () => undefined,
  logQuerySlow: () => undefined,
  logSchemaBuild: () => undefined,
  logMigration: () => undefined,
  log: () => undefined,
};

/**
 * Turns off all query logs, because the module reports its failures itself. The polls of the module would fill the application's query log,
 * and the parameters of its statements include the secrets of listeners. TypeORM passes every statement to a logger object even if
 * `logging` is off. `verbose` and `debug` are the logs of the SQLite and MySQL drivers.
 */
const NO_LOGS: object = {
  logging: false,
  logger: SILENT_LOGGER,
  maxQueryExecutionTime: undefined,
  verbose: undefined,
  debug: false,
};

/** How `mysql2` reads rows. An application may change these options for its own reads. The module's statements rely on the defaults. */
const DEFAULT_READS: Readonly<Record<string, unknown>> = { typeCast: true, rowsAsArray: false, nestTables: false };

/**
 * The options of the module's own data source. This data source connects to the application's primary, without the application's entities,
 * hooks and logs.
 */
export function ownDataSourceOptions(
  application: DataSource,
  entities: DataSource['options']['entities'],
  poolSize: number,
): DataSource['options'] {
  const { replication, extra, ...rest } = application.options as DataSource['options'] & {
    replication?: { master: object };
    extra?: object;
  };
  const ownExtra = {
    ...extra,
    // In the drivers `extra` takes precedence over `poolSize`.
    ...(extra && 'max' in extra ? { max: poolSize } : {}),
    ...(extra && 'debug' in extra ? { debug: false } : {}),
    ...Object.fromEntries(Object.entries(DEFAULT_READS).filter(([key]) => extra && key in extra)),
    // Versions of `pg` without pipelining ignore this option. See `ServerDatabase`.
    ...(dialectOf(application.options.type) === 'postgres' ? { pipeline: true } : {}),
  };
  return {
    // This is the same limit under the names that the two drivers use.
    connectTimeout: CONNECT_TIMEOUT_MS,
    connectTimeoutMS: CONNECT_TIMEOUT_MS,
    ...rest,
    ...replication?.master,
    extra: extra && 'connectionLimit' in extra ? { ...ownExtra, connectionLimit: poolSize } : ownExtra,
    ...NO_LOGS,
    entities,
    subscribers: [],
    migrations: [],
    synchronize: false,
    migrationsRun: false,
    dropSchema: false,
    cache: false,
    poolSize,
  } as object as DataSource['options'];
}
