import type { MigrationInterface } from 'typeorm';
import type { WebhookMigrationsOptions, WebhookTablesOptions } from '../store/database/table-names.js';
import { createTablesMigration } from './0001-create-webhook-tables.js';
import { createInboxMigration } from './inbox-0001-create-table.js';

export { webhookEntities } from '../store/database/tables.js';
export type { WebhookMigrationsOptions, WebhookTablesOptions } from '../store/database/table-names.js';
export { webhookInboxEntities } from '../receiver/nest/inbox-table.js';
export { dropTriggers, installTriggers, type TriggerOptions } from './triggers.js';
export type { SupportedDriver } from '../dialect.js';

/**
 * The migrations that create the webhook tables, for the `migrations` of a data source. Each version of the library appends its new
 * migrations. TypeORM runs the migrations that have not run yet.
 * @example
 * new DataSource({ type: 'postgres', migrations: ['dist/migrations/*.js', ...webhookMigrations()] });
 */
export function webhookMigrations(options: WebhookMigrationsOptions = {}): (new () => MigrationInterface)[] {
  return [createTablesMigration(options)];
}

/**
 * The migrations that create the inbox of `IncomingWebhooksModule`, in the database of an application that receives webhooks. These
 * migrations are separate from the migrations of a sender, because few applications both send and receive.
 *
 * @example
 * new DataSource({ type: 'postgres', migrations: ['dist/migrations/*.js', ...webhookInboxMigrations()] });
 */
export function webhookInboxMigrations(options: WebhookTablesOptions = {}): (new () => MigrationInterface)[] {
  return [createInboxMigration(options)];
}
