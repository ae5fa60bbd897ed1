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
  type WebhookMigrationsOptions,
  type WebhookTablesOptions,
  databaseName,
  indexesOf,
  type IndexCondition,
  type IndexShape,
  withPartitionColumn,
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
 * The current tables. `docs/decisions/0001-tables.md` gives the reason for each column. A trailing `?` means nullable. Migrations keep a
 * frozen copy of these tables.
 */
const TABLES = {
  events: {
    columns: {
      seq: 'sequence',
      id: 'id',
      type: 'name',
      superTypes: 'text?',
      audience: 'state',
      owner: 'owner?',
      ownerKey: 'hash?',
      orderKey: 'hash?',
      ordered: 'flag',
      dedupeKey: 'hash?',
      payload: 'text?',
      thinPayload: 'text?',
      droppedFields: 'text?',
      context: 'text?',
      createdAt: 'milliseconds',
      erasedAt: 'milliseconds?',
      restoredAt: 'milliseconds?',
    },
    partitionBy: 'createdAt',
    unique: [['id']],
    indexes: [
      ['createdAt'],
      {
        of: ['ownerKey', 'createdAt', 'seq'],
        where: isSet('ownerKey'),
        mysql: ['ownerKey', 'createdAt', 'seq'],
      },
    ],
  },
  outbox: {
    columns: {
      seq: 'reference',
      eventAt: 'milliseconds',
      leaseUntil: 'milliseconds',
      claims: 'integer',
      orderKey: 'hash?',
      leaseToken: 'id?',
      routedThrough: 'id?',
    },
    primary: ['seq'],
    unique: [],
    indexes: [{ of: ['seq'], where: isSet('routedThrough'), mysql: ['routedThrough', 'seq'] }],
  },
  damaged: {
    columns: { seq: 'reference', eventAt: 'milliseconds', reason: 'text', createdAt: 'milliseconds' },
    primary: ['seq'],
    unique: [],
    indexes: [],
  },
  idempotencyKeys: {
    columns: { key: 'hash', eventId: 'id' },
    primary: ['key'],
    unique: [],
    indexes: [],
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
      versions: 'text?',
      ordering: 'state',
      sequence: 'flag',
      rateLimit: 'text?',
      handshake: 'state',
      handshakeError: 'name?',
      allowedRate: 'integer?',
      state: 'state',
      disabledReason: 'text?',
      revision: 'integer',
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
      ['updatedAt', 'seq'],
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
      eventAt: 'milliseconds',
      listenerId: 'id',
      type: 'name',
      owner: 'owner?',
      ownerKey: 'hash?',
      orderKey: 'hash?',
      state: 'state',
      body: 'text?',
      format: 'name?',
      version: 'integer?',
      attempts: 'integer',
      retries: 'integer',
      nextAt: 'milliseconds',
      leaseToken: 'id?',
      leaseUntil: 'milliseconds?',
      trigger: 'state?',
      triggeredBy: 'owner?',
      lastStatus: 'integer?',
      lastErrorCode: 'name?',
      outcome: 'state?',
      status: 'integer?',
      errorCode: 'name?',
      errorDetail: 'text?',
      durationMs: 'integer?',
      response: 'text?',
      startedAt: 'milliseconds?',
      createdAt: 'milliseconds',
      finishedAt: 'milliseconds?',
    },
    partitionBy: 'eventAt',
    unique: [['eventAt', 'eventSeq', 'listenerId']],
    indexes: [
      ['id'],
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
      deliveryId: 'id',
      eventAt: 'milliseconds',
      number: 'integer',
      outcome: 'state',
      status: 'integer?',
      errorCode: 'name?',
      errorDetail: 'text?',
      durationMs: 'integer',
      response: 'text?',
      superseded: 'flag',
      startedAt: 'milliseconds',
      trigger: 'state?',
      triggeredBy: 'owner?',
      details: 'text?',
    },
    partitionBy: 'eventAt',
    unique: [],
    indexes: [['deliveryId', 'seq']],
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
    indexes: [['readyAt', 'seq'], { of: ['failingSince'], where: isSet('failingSince'), mysql: ['failingSince'] }],
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
  tasks: {
    columns: {
      seq: 'sequence',
      id: 'id',
      kind: 'state',
      owner: 'owner?',
      ownerKey: 'hash?',
      listenerId: 'id?',
      filter: 'text',
      ratePerSecond: 'integer?',
      state: 'state',
      position: 'text?',
      done: 'integer',
      estimate: 'integer?',
      actor: 'text?',
      error: 'text?',
      leaseToken: 'id?',
      leaseUntil: 'milliseconds',
      createdAt: 'milliseconds',
      startedAt: 'milliseconds?',
      endedAt: 'milliseconds?',
      updatedAt: 'milliseconds',
    },
    unique: [['id']],
    indexes: [['state', 'seq'], { of: ['ownerKey', 'seq'], where: isSet('ownerKey'), mysql: ['ownerKey', 'seq'] }],
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
  idempotency: {
    columns: {
      seq: 'sequence',
      key: 'hash',
      bodyHash: 'hash',
      ownerKey: 'hash?',
      token: 'id',
      status: 'integer?',
      answer: 'text?',
      createdAt: 'milliseconds',
    },
    unique: [['key']],
    indexes: [['createdAt'], { of: ['ownerKey'], where: isSet('ownerKey'), mysql: ['ownerKey'] }],
  },
  revokedSessions: {
    columns: { seq: 'sequence', key: 'hash', revokedAt: 'milliseconds', expiresAt: 'milliseconds' },
    unique: [['key']],
    indexes: [['expiresAt']],
  },
  processes: {
    columns: {
      seq: 'sequence',
      id: 'id',
      host: 'name',
      version: 'name',
      startedAt: 'milliseconds',
      seenAt: 'milliseconds',
      sending: 'integer',
      concurrency: 'integer',
    },
    unique: [['id']],
    indexes: [],
  },
  settings: {
    columns: { seq: 'sequence', name: 'name', value: 'text', updatedAt: 'milliseconds' },
    unique: [['name']],
    indexes: [],
  },
  stats: {
    columns: {
      seq: 'sequence',
      listenerId: 'id',
      spanMs: 'integer',
      startsAt: 'milliseconds',
      accepted: 'integer',
      rejected: 'integer',
      unreachable: 'integer',
      blocked: 'integer',
      exhausted: 'integer',
      durationMs: 'milliseconds',
      lastAcceptedAt: 'milliseconds?',
      parts: 'text?',
      upTo10: 'integer',
      upTo25: 'integer',
      upTo50: 'integer',
      upTo100: 'integer',
      upTo250: 'integer',
      upTo500: 'integer',
      upTo1000: 'integer',
      upTo2500: 'integer',
      upTo5000: 'integer',
      upTo10000: 'integer',
      upTo30000: 'integer',
      longer: 'integer',
    },
    unique: [['listenerId', 'startsAt', 'spanMs']],
    indexes: [['startsAt']],
  },
  audit: {
    columns: {
      seq: 'sequence',
      actor: 'owner?',
      action: 'name',
      target: 'owner?',
      details: 'text?',
      createdAt: 'milliseconds',
    },
    unique: [],
    indexes: [['createdAt', 'seq']],
  },
  schemaVersion: {
    columns: { seq: 'sequence', version: 'integer', oldestProcess: 'integer' },
    unique: [],
    indexes: [],
  },
} as const satisfies Record<string, TableShape>;

interface TableShape {
  columns: Record<string, ColumnKind | `${ColumnKind}?`>;
  /** The primary key, if no column has the kind `sequence`. */
  primary?: readonly string[];
  /** The column that decides on the partition, if the tables are partitioned: the time of the event. */
  partitionBy?: string;
  unique: readonly IndexShape[];
  indexes: readonly IndexShape[];
}

/** The name of a webhook table in code. */
export type TableName = keyof typeof TABLES;
type ColumnName<T extends TableName> = keyof (typeof TABLES)[T]['columns'] & string;

/**
 * The entity schemas of the webhook tables, for a plain `data-source.ts`.
 *
 * The module does not need these entity schemas, because the module defines its tables itself. List the entity schemas if your data source
 * should also know the tables, for example to generate migrations. `type` is the type of your data source, because the column type of a
 * long text differs between databases. Pass `namingStrategy` if your naming strategy changes column names that are set explicitly. Pass
 * `partitions` if your migrations do.
 *
 * @example
 * new DataSource({ type: 'postgres', entities: [Order, ...webhookEntities({ type: 'postgres' })] });
 */
export function webhookEntities(
  options: WebhookMigrationsOptions & { type: SupportedDriver; namingStrategy?: NamingStrategyInterface },
): EntitySchema[] {
  const prefix = options.tablePrefix ?? DEFAULT_TABLE_PREFIX;
  const { namingStrategy, tableSchema } = options;
  const columnOf = (property: string) =>
    namingStrategy?.columnName(property, databaseName(property), []) ?? databaseName(property);
  return Object.entries<TableShape>(TABLES).map(([table, shape]) => {
    const columns: Record<string, EntitySchemaColumnOptions> = {};
    const by = options.partitions === undefined ? undefined : shape.partitionBy;
    const unique = shape.unique.map((key) => withPartitionColumn(key, by));
    for (const [property, kind] of Object.entries(shape.columns)) {
      const nullable = kind.endsWith('?');
      columns[property] = {
        ...columnOptions((nullable ? kind.slice(0, -1) : kind) as ColumnKind, options.type),
        name: databaseName(property),
        ...(nullable ? { nullable } : {}),
        ...(shape.primary?.includes(property) || property === by ? { primary: true } : {}),
      };
    }
    return new EntitySchema({
      name: entityName(prefix, table),
      tableName: prefix + databaseName(table),
      ...(tableSchema === undefined ? {} : { schema: tableSchema }),
      columns,
      indices: [
        ...indexesOf(unique, dialectOf(options.type), columnOf).map((index) => ({ ...index, unique: true })),
        ...indexesOf(shape.indexes, dialectOf(options.type), columnOf),
      ],
    });
  });
}

/** The partitioned tables and the column that decides on the partition, if the tables are partitioned. */
export const PARTITION_COLUMNS = {
  events: TABLES.events.partitionBy,
  deliveries: TABLES.deliveries.partitionBy,
  attempts: TABLES.attempts.partitionBy,
} as const;

/** The name of a table that can have partitions. */
export type PartitionedTable = keyof typeof PARTITION_COLUMNS;

function entityName(prefix: string, table: string): string {
  return `webhooks:${prefix}${table}`;
}

/** A table in SQL. `sql` is the escaped path of the table. `$` contains the escaped columns by property. */
export interface TableSql<T extends TableName> {
  readonly metadata: EntityMetadata;
  readonly path: string;
  /** The escaped path, for templates: `sql\`select ${events.$.id} from ${events.sql}\``. */
  readonly sql: Sql;
  readonly $: Readonly<Record<ColumnName<T>, Sql>>;
  /**
   * SQL for the place after the alias. This SQL makes MySQL and MariaDB read only through the index of these columns. For other databases
   * the SQL is empty. The statistics of MySQL and MariaDB lag behind the rows. After many inserts the planner may estimate that a table is
   * empty, and read all rows of the table.
   */
  through(...columns: ColumnName<T>[]): Sql;
  /**
   * SQL for the place after the path or its alias, in statements that search by `seq`. This SQL makes the database find the rows by the
   * primary key, even if there are other conditions. Otherwise MySQL would use an index of states and also lock rows of other workers.
   * SQLite would read all entries of a partial index.
   */
  readonly byKey: Sql;
  /** Returns an alias for an expression that is selected together with the columns. */
  as(name: string): Sql;
  /** Returns `alias.column as "property"` for each column. So rows have property names under every naming strategy. */
  select(alias: string, ...columns: ColumnName<T>[]): Sql;
}

/** Every table, with names from TypeORM's metadata. These names respect `schema`, `entityPrefix` and naming strategies. */
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
