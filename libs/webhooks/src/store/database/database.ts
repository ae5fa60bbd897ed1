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
 * Where the webhook tables stand, and how a {@link Script} runs there. One per module instance.
 *
 * Never the application's pool: on server databases this is a small pool of its own, so that the dispatcher neither
 * waits for the application's connections nor takes them away.
 */
export abstract class Database {
  abstract readonly dialect: DialectName;
  abstract readonly tables: TablesSql;

  /**
   * Runs a script in one transaction, on the primary, at READ COMMITTED or stricter. Deadlocks, serialisation failures,
   * lock timeouts and busy files run it again from the start.
   *
   * @param limit `page`, unless it is said
   * @throws DatabaseTimeoutError when the server does not answer; whether the transaction was committed is not known then
   */
  abstract transaction<T>(script: () => Script<T>, limit?: StatementLimit): Promise<T>;

  /** Runs a script that only reads, or is one statement: without a transaction around it. Retried like one. */
  abstract single<T>(script: () => Script<T>, limit?: StatementLimit): Promise<T>;

  /** Closes the connections that are the module's own. */
  abstract close(): Promise<void>;

  /** At the end of a select: locks its rows, and waits for whoever has them. SQLite has one writer and no row locks. */
  get forUpdate(): Sql {
    return this.dialect === 'sqlite' ? sql`` : sql` for update`;
  }

  /** Row locks for a claim: other workers skip what this one has. */
  get skipLocked(): Sql {
    return this.dialect === 'sqlite' ? sql`` : sql` for update skip locked`;
  }

  /** A statement as the application's own query runner wants it. */
  statement(sql: Sql): { text: string; values: unknown[] } {
    return { text: this.dialect === 'postgres' ? sql.text : sql.sql, values: sql.values };
  }
}

/**
 * The tables that are not there, or lack a column: the check made when the application starts.
 *
 * @throws what the database says instead, such as that it cannot be reached
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

/** A server that does not even take the connection is asked again. Drivers wait for ever (`pg`), or longer (`mysql2`). */
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
 * What fails is reported by the module; polls would fill the application's query log, and secrets of listeners are parameters. TypeORM
 * hands every statement to a logger object, whatever `logging` says; `verbose` and `debug` are what the drivers of SQLite and MySQL log
 * by themselves.
 */
const NO_LOGS: object = {
  logging: false,
  logger: SILENT_LOGGER,
  maxQueryExecutionTime: undefined,
  verbose: undefined,
  debug: false,
};

/** The options of the module's own data source: the application's, to the primary, with nothing of the application. */
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
    // Drivers let `extra` overrule `poolSize`.
    ...(extra && 'max' in extra ? { max: poolSize } : {}),
    ...(extra && 'debug' in extra ? { debug: false } : {}),
    // Passed over by versions of `pg` that cannot; see `ServerDatabase`.
    ...(dialectOf(application.options.type) === 'postgres' ? { pipeline: true } : {}),
  };
  return {
    // By the name of the one driver and of the other.
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
