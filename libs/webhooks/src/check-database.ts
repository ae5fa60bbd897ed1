import type { LoggerService } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import { dialectOf } from './dialect.js';
import { ConfigurationError } from './errors.js';
import type { ResolvedWebhooksOptions } from './options/resolve-options.js';
import { missingTables, type Database } from './store/database/database.js';
import { FEWEST_LOCKS, readPartitionHealth } from './store/queue/partitions.js';
import { missingIndexes } from './store/database/missing-indexes.js';
import { findOtherTables, hasListeners } from './store/database/other-prefixes.js';
import { tooOld } from './store/database/old-shape.js';
import { OLDEST_VERSION, readSchemaVersion, SCHEMA_VERSION } from './store/database/schema-version.js';
import { writtenTablesOptions } from './store/database/table-names.js';

/** The input of {@link checkDatabase}. */
export interface CheckedDatabase {
  /** Name of the data source. */
  readonly name: string;
  readonly dataSource: DataSource;
  readonly database: Database;
  readonly options: ResolvedWebhooksOptions;
  readonly logger: LoggerService;
}

/**
 * Checks that this process can work with the webhook tables and with the settings of the server. Logs a warning about webhook tables with
 * another prefix.
 *
 * @throws ConfigurationError `TABLES_MISSING`, `TABLES_TOO_OLD`, `TABLES_TOO_NEW`, `UNSUPPORTED_SQL_MODE`
 */
export async function checkDatabase(checked: CheckedDatabase): Promise<void> {
  await assertTables(checked);
  await assertIndexes(checked.database);
  await assertVersion(checked.database);
  await assertEscapes(checked.dataSource);
  await warnOfOtherTables(checked);
  await warnOfFewLocks(checked);
}

async function assertTables({ name, database, options }: CheckedDatabase): Promise<void> {
  const missing = await missingTables(database);
  if (missing.length) {
    throw new ConfigurationError(
      'TABLES_MISSING',
      `The webhook tables are missing or out of date: ${missing.join(', ')}. Add ...webhookMigrations(${writtenTablesOptions(options)}) from 'nestjs-entity-webhooks/migrations' to the migrations of the data source '${name}' and run them (npx typeorm migration:run -d <your data-source file>). For a first try, synchronize: true creates the tables.`,
      { details: { missing } },
    );
  }
}

async function assertIndexes(database: Database): Promise<void> {
  const creating = await database.single(() => missingIndexes(database));
  if (creating.length) {
    throw new ConfigurationError(
      'TABLES_MISSING',
      `The webhook tables lack ${creating.length === 1 ? 'an index' : 'indexes'}, perhaps because a migration was interrupted. Run: ${creating.join('; ')}.`,
      { details: { missing: creating } },
    );
  }
}

async function assertVersion(database: Database): Promise<void> {
  const { version, oldestProcess } = await database.transaction(() => readSchemaVersion(database));
  if (version < OLDEST_VERSION) throw tooOld(String(version));
  if (oldestProcess > SCHEMA_VERSION) {
    throw new ConfigurationError(
      'TABLES_TOO_NEW',
      `The webhook tables have version ${version}, and processes must support version ${oldestProcess} or later. This process supports version ${SCHEMA_VERSION}. Update nestjs-entity-webhooks: see docs/upgrades.md.`,
      { details: { version, oldestProcess, known: SCHEMA_VERSION } },
    );
  }
}

/**
 * The driver escapes values with backslashes. With NO_BACKSLASH_ESCAPES, the server treats these backslashes as part of the value.
 * Then texts would be damaged or cut.
 */
async function assertEscapes(dataSource: DataSource): Promise<void> {
  if (dialectOf(dataSource.options.type) !== 'mysql') return;
  const [row] = (await dataSource.query('SELECT @@SESSION.sql_mode AS mode')) as { mode: string }[];
  if (!row?.mode.split(',').includes('NO_BACKSLASH_ESCAPES')) return;
  throw new ConfigurationError(
    'UNSUPPORTED_SQL_MODE',
    'The sql_mode of the server has NO_BACKSLASH_ESCAPES, so mysql2 cannot escape values. Remove NO_BACKSLASH_ESCAPES from the sql_mode of the server or of the sessions of this user.',
  );
}

/** If `tablePrefix` was changed, no process sends the deliveries of the tables with the old prefix. */
async function warnOfOtherTables({ database, options, logger }: CheckedDatabase): Promise<void> {
  const others = await database.single(() => findOtherTables(database));
  if (!others.length) return;
  const isNew = !(await database.single(() => hasListeners(database)));
  for (const { prefix, isPending, hasListeners: isUsed } of others) {
    if (!isPending && !(isNew && isUsed)) continue;
    logger.warn(
      `Besides the webhook tables with the prefix '${options.tablePrefix}' there are tables with the prefix '${prefix}', which contain ${isPending ? 'unsent events or deliveries' : 'listeners'}. This instance does not use them. Keep an instance with tablePrefix: '${prefix}' running until nothing is pending there.`,
    );
  }
}

/** Statements over all partitions could fill the lock table of the server. */
async function warnOfFewLocks({ database, logger }: CheckedDatabase): Promise<void> {
  if (!database.isPartitioned) return;
  const { locks } = await database.single(() => readPartitionHealth(database, Date.now()));
  if (locks >= FEWEST_LOCKS) return;
  logger.warn(
    `The webhook tables are partitioned, and max_locks_per_transaction of PostgreSQL is ${locks}. With many processes the server can run out of locks, and statements of every client fail. Set it to ${FEWEST_LOCKS} or more, and restart the server: see docs/partitions.md.`,
  );
}
