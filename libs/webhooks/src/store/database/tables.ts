import {
  EntitySchema,
  type DataSource,
  type EntityMetadata,
  type EntitySchemaColumnOptions,
  type NamingStrategyInterface,
} from 'typeorm';
import sql, { raw, type Sql } from 'sql-template-tag';
import { columnOptions, type ColumnKind } from './column-kinds.js';
import { dialectOf, type SupportedDriver, DEFAULT_TABLE_PREFIX, escapedPath } from '../../dialect.js';
import {
  type WebhookTablesOptions,
  databaseName,
  indexesOf,
  type IndexCondition,
  type IndexShape,
} from './table-names.js';
export const inState =
  (state: string): IndexCondition =>
  (columnOf) =>
    `"${columnOf('state')}" = '${state}'`;
export const isSet =
  (property: string): IndexCondition =>
  (columnOf) =>
    `"${columnOf(property)}" is not null`;

export const isUnfinishedAndOrdered: IndexCondition = (columnOf) =>
  `"${columnOf('orderKey')}" is not null and "${columnOf('state')}" in ('due', 'leased')`;

/**
 * The current tables; `docs/decisions/0001-tables.md` gives the reason for each column.
 * A trailing `?` means nullable. Migrations keep a frozen copy.
 */
const TABLES = {
  events: {
    columns: {
      seq: 'sequence',
      id: 'id',
      type: 'name',
      superTypes: 'text?',
      state: 'state',
      audience: 'state',
      owner: 'owner?',
      ownerKey: 'hash?',
      orderKey: 'hash?',
      ordered: 'flag',
      dedupeKey: 'hash?',
      payload: 'text',
      thinPayload: 'text?',
      droppedFields: 'text?',
      routedThrough: 'id?',
      context: 'text?',
      createdAt: 'milliseconds',
    },
    unique: [['id'], { of: ['dedupeKey'], where: isSet('dedupeKey'), mysql: ['dedupeKey'] }],
    indexes: [
      { of: ['seq'], where: inState('pending'), mysql: ['state', 'seq'] },
      { of: ['seq'], where: inState('routing'), mysql: null },
      ['createdAt'],
      {
        of: ['ownerKey', 'createdAt', 'seq'],
        where: isSet('ownerKey'),
        mysql: ['ownerKey', 'createdAt', 'seq'],
      },
    ],
  },
  listeners: {
    columns: {
      seq: 'sequence',
      id: 'id',
      owner: 'owner?',
      ownerKey: 'hash?',
      url: 'text',
      patterns: 'text',
      filter: 'text',
      definition: 'text',
      name: 'text?',
      externalId: 'text?',
      externalKey: 'hash?',
      metadata: 'text?',
      description: 'text?',
      headers: 'text',
      secrets: 'text',
      schemes: 'text',
      auth: 'text?',
      tls: 'text?',
      format: 'name',
      ordering: 'state',
      sequence: 'flag',
      rateLimit: 'text?',
      handshake: 'state',
      handshakeError: 'name?',
      allowedRate: 'integer?',
      state: 'state',
      disabledReason: 'text?',
      afterSeq: 'reference',
      createdAt: 'milliseconds',
      updatedAt: 'milliseconds',
      deletedAt: 'milliseconds?',
    },
    unique: [['id'], { of: ['externalKey'], where: isSet('externalKey'), mysql: ['externalKey'] }],
    indexes: [
      ['ownerKey', 'createdAt', 'seq'],
      ['createdAt', 'seq'],
      { of: ['createdAt', 'seq'], where: inState('disabled'), mysql: ['state', 'createdAt', 'seq'] },
      { of: ['deletedAt'], where: isSet('deletedAt'), mysql: ['deletedAt'] },
    ],
  },
  routes: {
    columns: { seq: 'sequence', key: 'hash', listenerId: 'id' },
    unique: [['key', 'listenerId']],
    indexes: [['listenerId']],
  },
  routePaths: {
    columns: { seq: 'sequence', pattern: 'name', path: 'name' },
    unique: [['pattern', 'path']],
    indexes: [],
  },
  deliveries: {
    columns: {
      seq: 'sequence',
      id: 'id',
      eventSeq: 'reference',
      listenerId: 'id',
      type: 'name',
      owner: 'owner?',
      ownerKey: 'hash?',
      orderKey: 'hash?',
      state: 'state',
      body: 'text?',
      format: 'name?',
      attempts: 'integer',
      retries: 'integer',
      nextAt: 'milliseconds',
      leaseToken: 'id?',
      leaseUntil: 'milliseconds?',
      lastStatus: 'integer?',
      lastErrorCode: 'name?',
      createdAt: 'milliseconds',
      finishedAt: 'milliseconds?',
      deletedAt: 'milliseconds?',
    },
    unique: [['id'], ['eventSeq', 'listenerId']],
    indexes: [
      {
        of: ['listenerId', 'nextAt', 'seq'],
        where: inState('due'),
        mysql: ['listenerId', 'state', 'nextAt', 'seq'],
      },
      { of: ['leaseUntil'], where: inState('leased'), mysql: ['state', 'leaseUntil'] },
      {
        of: ['listenerId', 'orderKey', 'eventSeq'],
        where: isUnfinishedAndOrdered,
        mysql: ['listenerId', 'orderKey', 'state', 'eventSeq'],
      },
      ['listenerId', 'createdAt', 'seq'],
      { of: ['createdAt', 'seq'], where: inState('exhausted'), mysql: null },
      {
        of: ['ownerKey', 'createdAt', 'seq'],
        where: isSet('ownerKey'),
        mysql: ['ownerKey', 'createdAt', 'seq'],
      },
      ['createdAt', 'seq'],
    ],
  },
  attempts: {
    columns: {
      seq: 'sequence',
      deliverySeq: 'reference',
      number: 'integer',
      outcome: 'state',
      status: 'integer?',
      errorCode: 'name?',
      errorDetail: 'text?',
      durationMs: 'integer',
      response: 'text?',
      superseded: 'flag',
      startedAt: 'milliseconds',
    },
    unique: [],
    indexes: [['deliverySeq', 'seq']],
  },
  listenerState: {
    columns: {
      seq: 'sequence',
      listenerId: 'id',
      readyAt: 'milliseconds?',
      failuresInARow: 'integer',
      failingSince: 'milliseconds?',
      failuresCountFrom: 'milliseconds?',
      pausedUntil: 'milliseconds?',
      rateTaken: 'text?',
      handshakeAt: 'milliseconds?',
      handshakeFrom: 'milliseconds?',
      handshakeTries: 'integer',
    },
    unique: [['listenerId']],
    indexes: [['readyAt', 'seq']],
  },
  chores: {
    columns: {
      seq: 'sequence',
      name: 'name',
      leaseToken: 'id?',
      leaseUntil: 'milliseconds',
      dueAt: 'milliseconds',
      position: 'reference',
    },
    unique: [['name']],
    indexes: [],
  },
  images: {
    columns: {
      seq: 'sequence',
      tablePath: 'name',
      op: 'state',
      oldRow: 'text?',
      newRow: 'text?',
      context: 'text?',
      mergeKey: 'name?',
      createdAt: 'milliseconds',
      reason: 'text?',
    },
    unique: [],
    indexes: [{ of: ['mergeKey', 'seq'], where: isSet('mergeKey'), mysql: ['mergeKey', 'seq'] }],
  },
  schemaVersion: {
    columns: { seq: 'sequence', version: 'integer', oldestProcess: 'integer' },
    unique: [],
    indexes: [],
  },
} as const satisfies Record<string, TableShape>;

interface TableShape {
  columns: Record<string, ColumnKind | `${ColumnKind}?`>;
  unique: readonly IndexShape[];
  indexes: readonly IndexShape[];
}

/** The name of a webhook table in code. */
export type TableName = keyof typeof TABLES;
type ColumnName<T extends TableName> = keyof (typeof TABLES)[T]['columns'] & string;

/**
 * The entity schemas of the webhook tables, for a plain `data-source.ts`.
 *
 * The module does not need them, because it defines its tables itself. List them if your data source should also know the tables, for
 * example to generate migrations. `type` is the type of your data source: the column type of a long text differs between databases. Pass
 * `namingStrategy` if your naming strategy changes column names that are set explicitly.
 *
 * @example
 * new DataSource({ type: 'postgres', entities: [Order, ...webhookEntities({ type: 'postgres' })] });
 */
export function webhookEntities(
  options: WebhookTablesOptions & { type: SupportedDriver; namingStrategy?: NamingStrategyInterface },
): EntitySchema[] {
  const prefix = options.tablePrefix ?? DEFAULT_TABLE_PREFIX;
  const { namingStrategy, tableSchema } = options;
  const columnOf = (property: string) =>
    namingStrategy?.columnName(property, databaseName(property), []) ?? databaseName(property);
  return Object.entries<TableShape>(TABLES).map(([table, shape]) => {
    const columns: Record<string, EntitySchemaColumnOptions> = {};
    for (const [property, kind] of Object.entries(shape.columns)) {
      const nullable = kind.endsWith('?');
      columns[property] = {
        ...columnOptions((nullable ? kind.slice(0, -1) : kind) as ColumnKind, options.type),
        name: databaseName(property),
        ...(nullable ? { nullable } : {}),
      };
    }
    return new EntitySchema({
      name: entityName(prefix, table),
      tableName: prefix + databaseName(table),
      ...(tableSchema === undefined ? {} : { schema: tableSchema }),
      columns,
      indices: [
        ...indexesOf(shape.unique, dialectOf(options.type), columnOf).map((index) => ({ ...index, unique: true })),
        ...indexesOf(shape.indexes, dialectOf(options.type), columnOf),
      ],
    });
  });
}

function entityName(prefix: string, table: string): string {
  return `webhooks:${prefix}${table}`;
}

/** A table in SQL: `sql` is its escaped path, `$` its escaped columns by property. */
export interface TableSql<T extends TableName> {
  readonly metadata: EntityMetadata;
  readonly path: string;
  /** Escaped, for templates: `sql\`select ${events.$.id} from ${events.sql}\``. */
  readonly sql: Sql;
  readonly $: Readonly<Record<ColumnName<T>, Sql>>;
  /**
   * Goes after the alias. MySQL and MariaDB then read only through the index of these columns; for other databases it is empty. Their
   * statistics lag behind the rows: after a burst of inserts they estimate that a table is empty, and read all of it.
   */
  through(...columns: ColumnName<T>[]): Sql;
  /**
   * Goes after the path or its alias in statements that search by `seq`. The database then finds the rows by the primary key, whatever the
   * other conditions are. Through an index of states, MySQL would also lock rows of other workers, and SQLite would read all of a partial
   * index.
   */
  readonly byKey: Sql;
  /** An alias for an expression that is selected beside the columns. */
  as(name: string): Sql;
  /** `alias.column as "property"` for each column. Rows have property names under every naming strategy. */
  select(alias: string, ...columns: ColumnName<T>[]): Sql;
}

/** Every table, with names from TypeORM's metadata: they respect `schema`, `entityPrefix` and naming strategies. */
export type TablesSql = { readonly [T in TableName]: TableSql<T> };

/** Reads table paths and column names from a data source that was made with {@link webhookEntities}. */
export function tablesSql(
  dataSource: DataSource,
  { tablePrefix = DEFAULT_TABLE_PREFIX }: WebhookTablesOptions,
): TablesSql {
  const { driver } = dataSource;
  const entries = Object.keys(TABLES).map((table) => {
    const metadata = dataSource.getMetadata(entityName(tablePrefix, table));
    const path = escapedPath(metadata.tablePath, driver);
    const escaped = new Map(metadata.columns.map((c) => [c.propertyName, driver.escape(c.databaseName)]));
    const $ = Object.fromEntries([...escaped].map(([property, name]) => [property, raw(name)]));
    const select = (alias: string, ...columns: string[]) =>
      raw(columns.map((property) => `${alias}.${escaped.get(property)} as ${driver.escape(property)}`).join(', '));
    const as = (name: string) => raw(`as ${driver.escape(name)}`);
    const dialect = dialectOf(dataSource.options.type);
    const byKey = raw({ mysql: ' force index (primary)', sqlite: ' not indexed', postgres: '' }[dialect]);
    const indexes = new Map(metadata.indices.map((i) => [i.columns.map((c) => c.propertyName).join(), i.name]));
    const through = (...columns: string[]) =>
      dialect === 'mysql' ? raw(` force index (${driver.escape(indexes.get(columns.join()) as string)})`) : sql``;
    return [table, { metadata, path, sql: raw(path), $, select, through, byKey, as }];
  });
  return Object.fromEntries(entries) as TablesSql;
}
