import type { DataSource } from 'typeorm';
import type { Sql } from 'sql-template-tag';
import { dialectOf, type DialectName } from './column-kinds.js';
import type { Script } from './script.js';
import type { TablesSql } from './tables.js';

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
   */
  abstract transaction<T>(script: () => Script<T>): Promise<T>;

  /** Runs a script that only reads, or is one statement: without a transaction around it. Retried like one. */
  abstract single<T>(script: () => Script<T>): Promise<T>;

  /** Closes the connections that are the module's own. */
  abstract close(): Promise<void>;

  /** Row locks for a claim: other workers skip what this one has. SQLite has one writer and no row locks. */
  get skipLocked(): string {
    return this.dialect === 'sqlite' ? '' : ' for update skip locked';
  }

  /** A statement as the application's own query runner wants it. */
  statement(sql: Sql): { text: string; values: unknown[] } {
    return { text: this.dialect === 'postgres' ? sql.text : sql.sql, values: sql.values };
  }
}

/** Errors after which the same transaction may succeed when it runs again. */
const RETRYABLE_CODES = new Set<unknown>([
  '40001', // serialization_failure
  '40P01', // deadlock_detected
  '55P03', // lock_not_available: only where the application sets a `lock_timeout`
  1213, // ER_LOCK_DEADLOCK
  1205, // ER_LOCK_WAIT_TIMEOUT
]);

const UNIQUE_VIOLATIONS = new Set<unknown>(['23505', 1062, 'SQLITE_CONSTRAINT_UNIQUE']);

/** Whether a statement would have broken a unique index. */
export function isUniqueViolation(error: unknown): boolean {
  const { code, errno } = driverErrorOf(error);
  return UNIQUE_VIOLATIONS.has(code) || UNIQUE_VIOLATIONS.has(errno);
}

function driverErrorOf(error: unknown): { code?: unknown; errno?: unknown } {
  return ((error as { driverError?: object }).driverError ?? error ?? {}) as { code?: unknown; errno?: unknown };
}

/** Whether a transaction that failed so may simply run again. */
export function isRetryable(error: unknown): boolean {
  const { code, errno } = driverErrorOf(error);
  return (
    RETRYABLE_CODES.has(code) ||
    RETRYABLE_CODES.has(errno) ||
    (typeof code === 'string' && code.startsWith('SQLITE_BUSY'))
  );
}

/** Whether the tables can be read: the check made when the application starts. */
export async function missingTables(database: Database, sqlOf: (table: keyof TablesSql) => Sql): Promise<string[]> {
  const missing: string[] = [];
  for (const table of Object.keys(database.tables) as (keyof TablesSql)[]) {
    try {
      await database.transaction(function* () {
        yield sqlOf(table);
      });
    } catch {
      missing.push(database.tables[table].metadata.tablePath);
    }
  }
  return missing;
}

/** Waits without holding the event loop. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

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
    // Passed over by versions of `pg` that cannot; see `ServerDatabase`.
    ...(dialectOf(application.options.type) === 'postgres' ? { pipeline: true } : {}),
  };
  return {
    ...rest,
    ...replication?.master,
    extra: extra && 'connectionLimit' in extra ? { ...ownExtra, connectionLimit: poolSize } : ownExtra,
    // What fails is reported by the module; polls would fill the application's query log.
    logging: false,
    entities,
    subscribers: [],
    migrations: [],
    synchronize: false,
    migrationsRun: false,
    dropSchema: false,
    cache: false,
    poolSize,
  } as DataSource['options'];
}
