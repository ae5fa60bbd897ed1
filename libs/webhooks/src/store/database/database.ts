import type { DataSource, Logger } from 'typeorm';
import sql, { type Sql } from 'sql-template-tag';
import { dialectOf, type DialectName } from '../../dialect.js';
import { isMissingTable } from './database-errors.js';
import type { Script } from './script.js';
import type { TablesSql } from './tables.js';

/**
 * How long a statement waits for a server that does not answer: `work` for the dispatcher, `page` for everything else. SQLite has no
 * server.
 */
export type StatementLimit = 'work' | 'page';

/**
 * The database of the webhook tables; runs each {@link Script}. One per module instance.
 *
 * It never uses the application's pool. On server databases it has its own small pool: the dispatcher neither waits for the
 * application's connections nor occupies them.
 */
export abstract class Database {
  abstract readonly dialect: DialectName;
  abstract readonly tables: TablesSql;

  /**
   * Runs a script in one transaction, on the primary, at READ COMMITTED or stricter. After a deadlock, a serialization failure,
   * a lock timeout or a busy file, the script runs again from the start.
   *
   * @param limit default: `page`
   * @throws DatabaseTimeoutError if the server does not answer. It is then unknown whether the transaction was committed.
   */
  abstract transaction<T>(script: () => Script<T>, limit?: StatementLimit): Promise<T>;

  /** Runs a script that only reads, or is one statement, without a transaction. Retries like {@link transaction}. */
  abstract single<T>(script: () => Script<T>, limit?: StatementLimit): Promise<T>;

  /** Closes the module's own connections. */
  abstract close(): Promise<void>;

  /** At the end of a select: locks its rows, and waits for other transactions that hold them. SQLite has one writer and no row locks. */
  get forUpdate(): Sql {
    return this.dialect === 'sqlite' ? sql`` : sql` for update`;
  }

  /** Row locks for a claim: other workers skip the locked rows. */
  get skipLocked(): Sql {
    return this.dialect === 'sqlite' ? sql`` : sql` for update skip locked`;
  }

  /** A statement in the form that the application's query runner takes. */
  statement(sql: Sql): { text: string; values: unknown[] } {
    return { text: this.dialect === 'postgres' ? sql.text : sql.sql, values: sql.values };
  }
}

/**
 * Returns the tables that are missing or lack a column. Runs when the application starts.
 *
 * @throws any other error of the database, for example that it cannot be reached
 */
export async function missingTables(database: Database, sqlOf: (table: keyof TablesSql) => Sql): Promise<string[]> {
  const missing: string[] = [];
  for (const table of Object.keys(database.tables) as (keyof TablesSql)[]) {
    try {
      await database.transaction(function* () {
        yield sqlOf(table);
      });
    } catch (error) {
      if (!isMissingTable(error)) throw error;
      missing.push(database.tables[table].metadata.tablePath);
    }
  }
  return missing;
}

/** After this time a server that does not accept the connection is tried again. `pg` waits without limit, `mysql2` waits longer. */
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
 * The module reports its failures itself. Its polls would fill the application's query log, and its parameters include the secrets of
 * listeners. TypeORM passes every statement to a logger object even if `logging` is off; `verbose` and `debug` are the logs of the SQLite
 * and MySQL drivers.
 */
const NO_LOGS: object = {
  logging: false,
  logger: SILENT_LOGGER,
  maxQueryExecutionTime: undefined,
  verbose: undefined,
  debug: false,
};

/**
 * Options of the module's own data source: the application's connection to the primary, without the application's entities, hooks and logs.
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
    // Versions of `pg` without pipelining ignore it; see `ServerDatabase`.
    ...(dialectOf(application.options.type) === 'postgres' ? { pipeline: true } : {}),
  };
  return {
    // The same limit under the names that the two drivers use.
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
