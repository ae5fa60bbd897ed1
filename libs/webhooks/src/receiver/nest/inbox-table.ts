import { EntitySchema, type DataSource } from 'typeorm';
import type { FrozenTable } from '../../store/database/create-table.js';
import { columnOptions, type ColumnKind } from '../../store/database/column-kinds.js';
import { type SupportedDriver, DEFAULT_TABLE_PREFIX, escapedPath } from '../../dialect.js';
import { databaseName, tablePathOf, type WebhookTablesOptions } from '../../store/database/table-names.js';

/**
 * The ids of processed webhooks, each written in the transaction that processed the webhook. The primary key alone ensures that a webhook
 * is processed once: the database lets the second of two inserts wait for the transaction of the first.
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
 * The module itself does not need it there. For a sender's tables there is `webhookEntities()`.
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

/** The names under the schema, prefix and naming strategy of the data source: the same as in migrations and entities. */
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
