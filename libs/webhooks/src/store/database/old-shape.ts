import type { DataSource, QueryRunner } from 'typeorm';
import { ConfigurationError } from '../../errors.js';
import { databaseName, tablePathOf, type WebhookTablesOptions } from './table-names.js';

/**
 * Refuses tables from before version 3. In version 1, each event has a column for its state, and pending events are not in the outbox, so they
 * would be lost. In version 2, each outbox row has a lease, and there is no table of leases.
 *
 * @throws ConfigurationError `TABLES_TOO_OLD`
 */
export async function assertNewShape(
  dataSource: DataSource,
  runner: QueryRunner,
  at: WebhookTablesOptions,
): Promise<void> {
  const has = (table: string, property: string) =>
    runner.hasColumn(
      tablePathOf(dataSource, at, table),
      dataSource.namingStrategy.columnName(property, databaseName(property), []),
    );
  if (await has('events', 'state')) throw tooOld('1');
  if (await has('outbox', 'leaseUntil')) throw tooOld('2');
}

/** Runs a query about the schema on a connection. */
export async function withRunner<T>(dataSource: DataSource, work: (runner: QueryRunner) => Promise<T>): Promise<T> {
  const runner = dataSource.createQueryRunner('master');
  try {
    return await work(runner);
  } finally {
    await runner.release();
  }
}

/** @param version of the tables */
export function tooOld(version: string): ConfigurationError {
  return new ConfigurationError(
    'TABLES_TOO_OLD',
    `The webhook tables have version ${version}, which this release cannot use or convert. Let a process with the release that created them deliver what is pending. Then revert its migration, or drop the webhook tables, and run the migrations of this release: see docs/upgrades.md.`,
    { details: { version } },
  );
}
