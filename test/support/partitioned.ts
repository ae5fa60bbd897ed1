import { DataSource, type DataSourceOptions } from 'typeorm';
import { webhookMigrations, type WebhookTablesOptions } from 'nestjs-entity-webhooks/migrations';

/** `PARTITIONS=day vitest run …`: on PostgreSQL, the webhook tables of the suites have partitions. */
export const arePartitioned = process.env['PARTITIONS'] === 'day';

const DAY = 86_400_000;

/**
 * Creates the webhook tables with partitions, in a database of PostgreSQL. `synchronize` then leaves them as they are.
 *
 * @param times also makes the partitions of the days around these times, in ms since 1970
 */
export async function createPartitioned(
  options: DataSourceOptions,
  tables: WebhookTablesOptions = {},
  times: readonly number[] = [],
): Promise<void> {
  const source = await new DataSource({
    ...options,
    ...{ synchronize: false, migrationsRun: false, entities: [], subscribers: [] },
    migrations: webhookMigrations({ ...tables, partitions: 'day' }),
  } as DataSourceOptions).initialize();
  try {
    await source.runMigrations();
    for (const time of times) for (const day of [-1, 0, 1]) await makeDay(source, Math.floor(time / DAY) + day);
  } finally {
    await source.destroy();
  }
}

/** Makes the partitions of one day. @param day in days since 1970 */
export async function makeDay(source: DataSource, day: number): Promise<void> {
  const text = new Date(day * DAY).toISOString().slice(0, 10).replaceAll('-', '');
  for (const table of ['events', 'deliveries', 'attempts'].map((name) => `webhook_${name}`)) {
    await source.query(
      `create table if not exists ${table}_p${text} partition of ${table} for values from (${day * DAY}) to (${(day + 1) * DAY})`,
    );
  }
}
