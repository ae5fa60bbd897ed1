import type { DataSource } from 'typeorm';

import { ConfigurationError } from '../errors.js';
import { milliseconds, resolveTable, type OptionTable } from '../option-table.js';
import { SECOND } from '../time.js';
import { notConnected } from '../typeorm-compat.js';
import { isolatedQueryRunner } from './isolated-query-runner.js';
import { SqliteConnections } from './sqlite-connections.js';
import { SqliteWriterLock } from './sqlite-writer-lock.js';
import { stockDriver, type StockDriver } from './typeorm-driver.js';

export { SqliteWriterLock } from './sqlite-writer-lock.js';

/** Options of `isolateSqlite`. */
export interface IsolateSqliteOptions {
  /**
   * How long a write waits for the current writer, in this process or another, in milliseconds. If the time is too short, writes fail when
   * many arrive at once. A write that uses the wrong manager inside a transaction waits for that transaction, and fails only after all of
   * this time.
   *
   * @defaultValue 10_000
   */
  lockTimeoutMs?: number;
}

/** The driver has its lock under this key. The lock is on the driver, so that two copies of this library find the same lock. */
const ISOLATION = Symbol.for('nestjs-entity-webhooks:sqlite-writer-lock');

/** The maximum delay of `setTimeout`. */
const MAX_TIMER_MS = 2 ** 31 - 1;

const OPTIONS = {
  lockTimeoutMs: milliseconds(10 * SECOND, [1, MAX_TIMER_MS]),
} satisfies OptionTable<IsolateSqliteOptions>;

/**
 * Gives each query runner of a better-sqlite3 data source its own connection, lets one writer work at a time, and switches the file to WAL,
 * so that readers do not wait. Without `isolateSqlite()`, TypeORM shares one connection among all query runners. Then concurrent
 * transactions commit and roll back each other's rows: see `docs/sqlite.md`.
 *
 * Call this function before `dataSource.initialize()`, or afterwards while no query runner is in use. A second call changes nothing.
 *
 * @returns the same data source
 * @throws ConfigurationError `SQLITE_NOT_A_FILE` for a data source without a file
 * @throws ConfigurationError `SQLITE_IN_TRANSACTION` inside a transaction
 * @throws ConfigurationError `INVALID_OPTION` for a `lockTimeoutMs` out of range
 * @throws ConfigurationError `TYPEORM_INTERNALS_CHANGED` if the internals of TypeORM have changed
 *
 * @example
 * ```ts
 * const dataSource = isolateSqlite(new DataSource({ type: 'better-sqlite3', database: 'shop.sqlite', entities }));
 * await dataSource.initialize();
 * ```
 */
export function isolateSqlite(dataSource: DataSource, options: IsolateSqliteOptions = {}): DataSource {
  if (sqliteWriterLock(dataSource)) return dataSource;
  const { lockTimeoutMs } = resolveTable(OPTIONS, options, { name: 'isolateSqlite()' });
  assertFile(dataSource);
  const { driver, QueryRunnerClass } = stockDriver(dataSource);
  if (driver.databaseConnection?.open) takeOver(driver);

  const { database, readonly: isReadonly = false } = driver.options;
  const limits = { database, lockTimeoutMs };
  const connections = new SqliteConnections(driver, limits);
  const lock = new SqliteWriterLock(database, lockTimeoutMs);
  const IsolatedQueryRunner = isolatedQueryRunner(QueryRunnerClass, { connections, lock, limits, isReadonly });
  const disconnect = driver.disconnect.bind(driver);

  driver.createQueryRunner = () => new IsolatedQueryRunner(driver);
  driver.createDatabaseConnection = () => connections.open();
  driver.attachDatabases = async () => {
    if (driver.databaseConnection) await connections.attachTo(driver.databaseConnection);
  };
  driver.disconnect = async () => {
    const reason = notConnected(dataSource);
    connections.closeAll(reason);
    lock.abandon(reason);
    await disconnect();
  };
  Object.defineProperty(driver, ISOLATION, { value: lock });
  return dataSource;
}

/** The writer lock of an isolated data source; `undefined` if the data source is not isolated. */
export function sqliteWriterLock(dataSource: DataSource): SqliteWriterLock | undefined {
  return (dataSource.driver as { [ISOLATION]?: SqliteWriterLock })[ISOLATION];
}

/** Whether a data source is better-sqlite3 with a file. `:memory:`, `''` (a temporary database) and memory URIs are not files. */
export function isFileSqlite(dataSource: DataSource): boolean {
  const { type, database } = dataSource.options;
  if (type !== 'better-sqlite3' || typeof database !== 'string') return false;
  const name = database.trim();
  return name !== '' && !name.startsWith(':memory:') && !/^file:(?::memory:|.*[?&]mode=memory\b)/i.test(name);
}

function assertFile(dataSource: DataSource): void {
  if (isFileSqlite(dataSource)) return;
  const { type, database } = dataSource.options;
  throw new ConfigurationError(
    'SQLITE_NOT_A_FILE',
    `isolateSqlite() needs a better-sqlite3 DataSource with a file. This DataSource has the type ${type} and the database ` +
      `${JSON.stringify(database) ?? 'undefined'}: a second connection would not see its data. In tests, use a file in a ` +
      'temporary directory.',
  );
}

/**
 * Prepares TypeORM's single connection. This connection stays open, although no query runner uses it. The connection must not wait
 * synchronously or hold a transaction.
 */
function takeOver({ databaseConnection }: StockDriver): void {
  if (databaseConnection?.inTransaction) {
    throw new ConfigurationError(
      'SQLITE_IN_TRANSACTION',
      'isolateSqlite() was called while a transaction is open on the DataSource. Call it before the first transaction begins.',
    );
  }
  databaseConnection?.pragma('busy_timeout = 0');
}
