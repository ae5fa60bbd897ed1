import type { MigrationInterface, QueryRunner } from 'typeorm';
import { tablePathOf, type WebhookTablesOptions } from '../store/database/table-names.js';
import { createSchema, createTable, migrationName, type FrozenTable } from '../store/database/create-table.js';
import { dataSourceOf } from '../typeorm-compat.js';

/**
 * The table of a receiver. The migrations of receivers and senders are separate lists, because a receiver need not be a sender. `(source,
 * id)` is the primary key, because a second insert of the same pair must wait for the transaction of the first insert. The index is for the
 * deletion by age.
 */
const INBOX: FrozenTable = {
  name: 'inbox',
  columns: { source: 'id', id: 'name', receivedAt: 'milliseconds' },
  primary: ['source', 'id'],
  unique: [],
  indexes: [['receivedAt']],
};

/** TypeORM reads a migration's time from the last 13 digits of its name. */
const CREATED = '1795564800000';

/** Creates the migration class for one table prefix. The name of the class contains the prefix, so that two instances do not clash. */
export function createInboxMigration(at: WebhookTablesOptions): new () => MigrationInterface {
  return class CreateWebhookInbox implements MigrationInterface {
    readonly name = migrationName('CreateWebhookInbox', at, CREATED);

    async up(runner: QueryRunner): Promise<void> {
      await createSchema(runner, at);
      await createTable(runner, at, INBOX);
    }

    async down(runner: QueryRunner): Promise<void> {
      await runner.dropTable(tablePathOf(dataSourceOf(runner), at, INBOX.name), true);
    }
  };
}
