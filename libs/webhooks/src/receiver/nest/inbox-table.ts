import { EntitySchema, type DataSource } from 'typeorm';
import type { FrozenTable } from '../../store/database/create-table.js';
import { columnOptions, type ColumnKind } from '../../store/database/column-kinds.js';
import { type SupportedDriver, DEFAULT_TABLE_PREFIX, escapedPath } from '../../dialect.js';
import { databaseName, tablePathOf, type WebhookTablesOptions } from '../../store/database/table-names.js';

/**
 * The ids of webhooks that were processed, kept in the transaction that processed them. The primary key is all that makes
 * them once only: the database has the second of two inserts wait for the transaction of the first.
 */
export const INBOX = {
  name: 'inbox',
  columns: { source: 'id', id: 'name', receivedAt: 'milliseconds' },
  primary: ['source', 'id'],
  unique: [],
  indexes: [['receivedAt']],
} as const satisfies FrozenTable;

/** Ids that are longer, or not of printable ASCII, are kept as a hash: see `inboxId`. */
export const MAX_STORED_ID_LENGTH = 128;

/**
 * The entity schema of the inbox, for a plain `data-source.ts` of a receiver. The module does not need it there; list it when
 * migrations are generated from your data source. As `webhookEntities()` of a sender.
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
      indices: INBOX.indexes.map((of) => ({ columns: [...of] })),
    }),
  ];
}

/** Names in SQL, escaped. */
export interface InboxNames {
  readonly path: string;
  readonly table: string;
  readonly source: string;
  readonly id: string;
  readonly receivedAt: string;
}

/** By the data source's schema, prefix and naming strategy, as migrations and entities have them. */
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

/** {@link WebhookInboxOptions} with every default in place. */
export interface ResolvedInboxOptions {
  readonly tablePrefix: string;
  readonly tableSchema: string | undefined;
  readonly retentionMs: number;
}
