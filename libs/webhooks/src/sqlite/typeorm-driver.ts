import type { DataSource, QueryRunner } from 'typeorm';

import { ConfigurationError } from '../errors.js';
import type { OfDataSource } from '../typeorm-compat.js';

/** The part of a better-sqlite3 statement that this library uses. The library never imports better-sqlite3 itself. */
export interface SqliteStatement {
  readonly reader: boolean;
  readonly readonly: boolean;
  all(...values: unknown[]): unknown[];
  run(...values: unknown[]): { changes: number; lastInsertRowid: number | bigint };
}

/** The part of a better-sqlite3 connection that this library uses. */
export interface SqliteDatabase {
  readonly open: boolean;
  readonly inTransaction: boolean;
  prepare(sql: string): SqliteStatement;
  pragma(sql: string, options?: { simple: boolean }): unknown;
  exec(sql: string): unknown;
  close(): unknown;
}

/** TypeORM's query runner for better-sqlite3, with members that its types hide. */
export interface StockQueryRunner extends QueryRunner {
  isReleased: boolean;
  isTransactionActive: boolean;
  transactionDepth: number;
}

export type StockQueryRunnerClass = new (driver: StockDriver) => StockQueryRunner;

/** TypeORM's driver for better-sqlite3, with members that its types hide. */
export type StockDriver = OfDataSource & StockDriverParts;

interface StockDriverParts {
  readonly options: SqliteOptions;
  databaseConnection?: SqliteDatabase;
  attachedDatabases: Record<string, { attachFilepathAbsolute: string; attachHandle: string }>;
  createQueryRunner(mode?: string): StockQueryRunner;
  createDatabaseConnection: () => Promise<SqliteDatabase>;
  createDatabaseDirectory(directory: string): Promise<void>;
  attachDatabases(): Promise<void>;
  disconnect(): Promise<void>;
  queryRunner?: unknown;
}

interface SqliteOptions {
  readonly database: string;
  readonly readonly?: boolean;
  readonly statementCacheSize?: number;
  readonly prepareDatabase?: (database: SqliteDatabase) => void | Promise<void>;
}

/**
 * Returns the driver of a better-sqlite3 data source and the class of its query runners.
 *
 * @throws ConfigurationError `TYPEORM_INTERNALS_CHANGED` if this version of TypeORM lacks a needed member. Without this error, transactions
 * would be only partly isolated.
 */
export function stockDriver(dataSource: DataSource): { driver: StockDriver; QueryRunnerClass: StockQueryRunnerClass } {
  const driver = dataSource.driver as unknown as StockDriver;
  const methods = [
    'createQueryRunner',
    'createDatabaseConnection',
    'createDatabaseDirectory',
    'attachDatabases',
    'disconnect',
  ] as const;
  for (const method of methods) {
    if (typeof driver[method] !== 'function') throw internalsChanged(`driver.${method}()`);
  }
  if (typeof driver.attachedDatabases !== 'object') throw internalsChanged('driver.attachedDatabases');

  const had = driver.queryRunner;
  const runner = driver.createQueryRunner();
  driver.queryRunner = had;
  for (const method of ['query', 'connect', 'startTransaction', 'commitTransaction', 'rollbackTransaction'] as const) {
    if (typeof runner[method] !== 'function') throw internalsChanged(`queryRunner.${method}()`);
  }
  if (typeof runner.transactionDepth !== 'number') throw internalsChanged('queryRunner.transactionDepth');
  if (typeof runner.broadcaster?.broadcast !== 'function')
    throw internalsChanged('queryRunner.broadcaster.broadcast()');
  return { driver, QueryRunnerClass: runner.constructor as StockQueryRunnerClass };
}

/** @param missing a member of TypeORM's better-sqlite3 driver */
export function internalsChanged(missing: string): ConfigurationError {
  return new ConfigurationError(
    'TYPEORM_INTERNALS_CHANGED',
    `This version of TypeORM has no ${missing} in its better-sqlite3 driver, so the library cannot isolate transactions or await hooks. ` +
      'Use a TypeORM version in the range of the peer dependency. With TypeORM 1.x you can instead set sqlite: { isolate: false } and allow only one writer at a time.',
  );
}
