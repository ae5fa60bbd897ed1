import type { DataSource, QueryRunner } from 'typeorm';
import { dialectOf } from '../../dialect.js';
import { ConfigurationError } from '../../errors.js';
import { messageOf } from '../../foreign-text.js';
import { resolveOptions, type ResolvedWebhooksOptions } from '../../options/resolve-options.js';
import type { Database } from '../../store/database/database.js';
import { ServerDatabase } from '../../store/database/server-database.js';
import { SqliteDatabase } from '../../store/database/sqlite-database.js';
import { assertSupportedTypeorm } from '../../typeorm-version.js';
import { loadDataSource, type DataSourceFile } from './load-data-source.js';

/** A data source, and the options of the module with their defaults. */
export interface LoadedDataSource extends DataSourceFile {
  readonly resolved: ResolvedWebhooksOptions;
}

/** Loads the data source file of a command, without a connection. @throws the errors of {@link loadDataSource}, `INVALID_OPTION` */
export async function load(file: string | undefined): Promise<LoadedDataSource> {
  const loaded = await loadDataSource(file);
  assertSupportedTypeorm();
  const { entities: _entities, dataSource: _name, parts: _parts, ...options } = loaded.options;
  return { ...loaded, resolved: resolveOptions(options) };
}

/**
 * Runs `work` with a connected data source, and closes it. A command must not change the schema, run migrations or run subscribers of the
 * application.
 */
export async function withDataSource<T>(
  file: string | undefined,
  work: (loaded: LoadedDataSource) => Promise<T>,
): Promise<T> {
  const loaded = await load(file);
  await connect(loaded.dataSource);
  try {
    return await work(loaded);
  } finally {
    await loaded.dataSource.destroy();
  }
}

const UNCHANGING = { synchronize: false, migrationsRun: false, dropSchema: false, subscribers: [] };

/** The query log of the application would be printed between the lines of the result. */
const SILENT = { logging: false, logger: 'simple-console' } as const;

/** @throws ConfigurationError `DATABASE_UNREACHABLE` */
export async function connect(dataSource: DataSource): Promise<void> {
  dataSource.setOptions({ ...UNCHANGING, ...SILENT });
  if (dataSource.isInitialized) return;
  try {
    await dataSource.initialize();
  } catch (cause) {
    const { code } = cause as { code?: unknown };
    // For example an error in the metadata of an entity, or a missing driver: TypeORM explains these.
    if (typeof code !== 'string') throw cause;
    throw new ConfigurationError(
      'DATABASE_UNREACHABLE',
      `The database of the data source cannot be used (${code}): ${messageOf(cause)}. Check that it runs, and check host, port, user, password and database.`,
      { cause },
    );
  }
}

/** Runs `work` with a query runner of the primary. */
export async function withRunner<T>(dataSource: DataSource, work: (runner: QueryRunner) => Promise<T>): Promise<T> {
  const runner = dataSource.createQueryRunner('master');
  try {
    return await work(runner);
  } finally {
    await runner.release();
  }
}

/** Runs `work` with the webhook tables of a connected data source. The tables need not exist, so a command can report missing tables. */
export async function withTables<T>(
  { dataSource, resolved }: LoadedDataSource,
  work: (database: Database) => Promise<T>,
): Promise<T> {
  const database =
    dialectOf(dataSource.options.type) === 'sqlite'
      ? await SqliteDatabase.open(dataSource, resolved)
      : await ServerDatabase.open(dataSource, resolved, 1);
  try {
    return await work(database);
  } finally {
    await database.close();
  }
}
