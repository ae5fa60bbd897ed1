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
import { TABLES, type TableShape } from './table-shapes.js';
import {
  type WebhookMigrationsOptions,
  type WebhookTablesOptions,
  databaseName,
  indexesOf,
  withPartitionColumn,
} from './table-names.js';

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
