import type { MigrationInterface, QueryRunner } from 'typeorm';
import { ConfigurationError } from '../../errors.js';
import { webhookMigrations } from '../../migrations/index.js';
import { OLDEST_VERSION } from '../../store/database/schema-version.js';
import type { WebhookMigrationsOptions } from '../../store/database/table-names.js';
import { DataSource } from '../../typeorm-compat.js';

type Migration = new () => MigrationInterface;

/** Our migrations up to a version of the tables. @throws ConfigurationError `INVALID_ARGUMENT` if there is no such version */
export function migrationsTo(at: WebhookMigrationsOptions, version: number | undefined): Migration[] {
  const all = webhookMigrations(at);
  // The first migration creates the oldest version of the tables that this release can use.
  const last = OLDEST_VERSION + all.length - 1;
  const to = version ?? last;
  if (to >= OLDEST_VERSION && to <= last) return all.slice(0, to - OLDEST_VERSION + 1);
  throw new ConfigurationError(
    'INVALID_ARGUMENT',
    `Invalid value ${to} for --to. Allowed: a version of the tables from ${OLDEST_VERSION} to ${last}.`,
  );
}

/**
 * A data source with the application's connection options, and with only the migrations of this library. They are recorded in the
 * application's table of migrations, so that TypeORM's own command does not run them again.
 */
export function migrationDataSource(application: DataSource, migrations: readonly Migration[]): DataSource {
  return new DataSource({
    ...application.options,
    entities: [],
    subscribers: [],
    migrations: [...migrations],
    synchronize: false,
    migrationsRun: false,
    dropSchema: false,
  } as DataSource['options']);
}

/** The names of the migrations that have not run on a connected {@link migrationDataSource}. */
export async function pendingMigrations(dataSource: DataSource): Promise<MigrationInterface[]> {
  const { migrationsTableName = 'migrations' } = dataSource.options;
  const runner = dataSource.createQueryRunner('master');
  try {
    const { schema } = dataSource.options as { schema?: string };
    const path = dataSource.driver.buildTableName(migrationsTableName, schema);
    const rows = (await runner.hasTable(path))
      ? await dataSource
          .createQueryBuilder(runner)
          .select('m.name', 'name')
          .from(path, 'm')
          .getRawMany<{ name: string }>()
      : [];
    const done = new Set(rows.map(({ name }) => name));
    return dataSource.migrations.filter((migration) => !done.has(nameOf(migration)));
  } finally {
    await runner.release();
  }
}

export function nameOf(migration: MigrationInterface): string {
  return migration.name ?? migration.constructor.name;
}

/**
 * The SQL statements of the migrations for a database that has none of the tables. This needs no connection.
 *
 * @param dataSource need not be connected; its driver must be installed
 */
export async function statementsOf(
  dataSource: DataSource,
  migrations: readonly MigrationInterface[],
): Promise<string[]> {
  const runner = dataSource.createQueryRunner('master') as QueryRunner;
  runner.enableSqlMemory();
  // The migrations check whether a table exists. A script is for a database that has none of the tables.
  runner.getTable = () => Promise.resolve(undefined);
  runner.hasSchema = () => Promise.resolve(false);
  runner.hasColumn = () => Promise.resolve(false);
  for (const migration of migrations) await migration.up(runner);
  return runner.getMemorySql().upQueries.map(({ query }) => query);
}
