import { EntitySchema, type DataSource } from 'typeorm';
import type { FrozenTable } from '../../store/database/create-table.js';
import { columnOptions, type ColumnKind } from '../../store/database/column-kinds.js';
import { type SupportedDriver, DEFAULT_TABLE_PREFIX, escapedPath } from '../../dialect.js';
import { databaseName, tablePathOf, type WebhookTablesOptions } from '../../store/database/table-names.js';

/**
 * The table with the ids of processed webhooks. Each id is written in the transaction that processes the webhook. The primary key alone
 * ensures that a webhook is processed once. If two transactions insert the same id, the database makes the second insert wait for the
 * transaction of the first insert.
 */
export const INBOX = {
  name: 'inbox',
  columns: { source: 'id', id: 'name', receivedAt: 'milliseconds' },
  primary: ['source', 'id'],
  unique: [],
  indexes: [['receivedAt']],
} as const satisfies FrozenTable;

/** Longer ids, and ids with characters other than printable ASCII, are stored as a hash. */
export const MAX_STORED_ID_LENGTH = 128;

/**
 * The entity schema of the inbox table. Add it to the `entities` of your data source if you generate migrations from that data source.
 * The module itself does not need the entity schema there. For the tables of a sender, use `webhookEntities()`.
 *
 * @example
 * new DataSource({ type: 'postgres', entities: [Account, ...webhookInboxEntities({ type: 'postgres' })] });
 */
export function webhookInboxEntities(options: WebhookTablesOptions & { type: SupportedDriver }): EntitySchema[] {
  const prefix = options.tablePrefix ?? DEFAULT_TABLE_PREFIX;
  const columns = Object.entries<ColumnKind>(INBOX.columns).map(([property, kind]) => [
    property,
    {
      ...columnOptions(kind, options.type),
      name: databaseName(property),
      ...(INBOX.primary.includes(property as 'id') ? { primary: true } : {}),
    },
  ]);
  return [
    new EntitySchema({
      name: `webhooks:${prefix}inbox`,
      tableName: `${prefix}inbox`,
      ...(options.tableSchema === undefined ? {} : { schema: options.tableSchema }),
      columns: Object.fromEntries(columns) as Record<string, ReturnType<typeof columnOptions>>,
      indices: INBOX.indexes.map((columns) => ({ columns: [...columns] })),
    }),
  ];
}

/** Escaped names for SQL. */
export interface InboxNames {
  readonly path: string;
  readonly table: string;
  readonly source: string;
  readonly id: string;
  readonly receivedAt: string;
}

/**
 * Returns the names with the schema, the prefix and the naming strategy of the data source. Migrations and entities use
 * the same names.
 */
export function inboxNames(dataSource: DataSource, at: WebhookTablesOptions): InboxNames {
  const { driver, namingStrategy } = dataSource;
  const path = tablePathOf(dataSource, at, INBOX.name);
  const escape = (name: string) => driver.escape(name);
  const column = (property: string) => escape(namingStrategy.columnName(property, databaseName(property), []));
  return {
    path,
    table: escapedPath(path, driver),
    source: column('source'),
    id: column('id'),
    receivedAt: column('receivedAt'),
  };
}

/** {@link IncomingWebhookInboxOptions} with every default in place. */
export interface ResolvedInboxOptions {
  readonly tablePrefix: string;
  readonly tableSchema: string | undefined;
  readonly retentionMs: number;
}
