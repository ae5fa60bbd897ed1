import { awaitHooks } from './capture/typeorm/await-hooks.js';
import { dialectOf } from './dialect.js';
import { ConfigurationError } from './errors.js';
import type { ResolvedWebhooksOptions } from './options/resolve-options.js';
import { isFileSqlite, isolateSqlite, sqliteWriterLock } from './sqlite/isolate-sqlite.js';
import type { Database } from './store/database/database.js';
import { ServerDatabase } from './store/database/server-database.js';
import { SqliteDatabase } from './store/database/sqlite-database.js';
import { assertSchemas } from './store/database/table-names.js';
import { awaitsHooks, DataSource } from './typeorm-compat.js';
import { WebhooksLogger } from './webhooks-logger.js';

/**
 * Prepares the data source of the application, and opens the connections of the module to the same database.
 *
 * @throws ConfigurationError `UNSUPPORTED_DATABASE`, or `INVALID_OPTION` for a `tableSchema` that the database does not have
 */
export async function openDatabase(dataSource: DataSource, options: ResolvedWebhooksOptions): Promise<Database> {
  const dialect = dialectOf(dataSource.options.type);
  if (options.tableSchema !== undefined) assertSchemas(dataSource, options.tableSchema);
  if (dialect === 'sqlite') prepareSqlite(dataSource, options, new WebhooksLogger('Webhooks'));
  if (needsAwaitedHooks(dataSource)) awaitHooks(dataSource);
  return dialect === 'sqlite'
    ? SqliteDatabase.open(dataSource, options)
    : ServerDatabase.open(dataSource, options, options.dispatcher.poolSize);
}

/**
 * Capture patches the classes of the TypeORM copy that this library imports. Writes through another copy of TypeORM would be captured
 * partly or twice.
 */
export function assertOneTypeorm(dataSource: unknown): void {
  if (dataSource instanceof DataSource) return;
  throw new ConfigurationError(
    'TYPEORM_TWICE',
    'The data source and nestjs-entity-webhooks use two copies of TypeORM, so writes would be captured twice or not at all. Usually the library is a symbolic link (npm link, a `file:` folder, a workspace) with its own node_modules/typeorm. Remove that copy, or install the library from its tarball (npm pack). `npm ls typeorm` shows the copies.',
  );
}

/** The query runners of PostgreSQL and of isolated SQLite already await hooks. */
function needsAwaitedHooks(dataSource: DataSource): boolean {
  return !awaitsHooks() && dialectOf(dataSource.options.type) !== 'postgres' && !sqliteWriterLock(dataSource);
}

function prepareSqlite(dataSource: DataSource, options: ResolvedWebhooksOptions, logger: WebhooksLogger): void {
  if (!isFileSqlite(dataSource)) {
    logger.warn(
      'The data source is an in-memory SQLite database. All transactions share one connection, so concurrent transactions mix, and rows and events can be lost. Use a file, or never write concurrently: see docs/sqlite.md.',
    );
    return;
  }
  if (options.sqlite.isolate) {
    isolateSqlite(dataSource, { lockTimeoutMs: options.sqlite.lockTimeoutMs });
    return;
  }
  logger.warn(
    'sqlite.isolate is false. All transactions share one connection, so concurrent transactions mix, and rows and events can be lost. Remove the option: see docs/sqlite.md.',
  );
}
