import { Table, TableIndex, type QueryRunner, type TableColumnOptions } from 'typeorm';
import { columnOptions, type ColumnKind } from './column-kinds.js';
import { dialectOf, type SupportedDriver, DEFAULT_TABLE_PREFIX } from '../../dialect.js';
import {
  assertSchemas,
  databaseName,
  indexesOf,
  tablePathOf,
  type IndexShape,
  type WebhookMigrationsOptions,
  type WebhookTablesOptions,
  withPartitionColumn,
} from './table-names.js';
import { escapedPath } from '../../dialect.js';
import { DAY } from '../../time.js';
import { dataSourceOf } from '../../typeorm-compat.js';
import { dayOf, DEFAULT_PARTITION, partitionName } from './partition-names.js';

/** The form in which a migration creates a table. This form never changes. The current tables are in `store/database/tables.ts`. */
export interface FrozenTable {
  readonly name: string;
  /** The kind of each column, by property. A trailing `?` means nullable. */
  readonly columns: Readonly<Record<string, ColumnKind | `${ColumnKind}?`>>;
  /** The primary key, if no column has the kind `sequence`. */
  readonly primary?: readonly string[];
  /** The column that decides on the partition, if the migration makes partitions. */
  readonly partitionBy?: string;
  readonly unique: readonly IndexShape[];
  readonly indexes: readonly IndexShape[];
}

/** The name of a migration. The name contains the prefix and the schema, so that the tables of two instances do not clash. */
export function migrationName(
  name: string,
  { tablePrefix = DEFAULT_TABLE_PREFIX, tableSchema }: WebhookTablesOptions,
  createdAt: string,
): string {
  return `${name}_${tableSchema === undefined ? '' : `${tableSchema}_`}${tablePrefix}${createdAt}`;
}

/**
 * Creates `tableSchema` if the schema does not exist. `IF NOT EXISTS` is not used, because `IF NOT EXISTS` needs the right to create a
 * schema even if the schema exists.
 */
export async function createSchema(runner: QueryRunner, { tableSchema }: WebhookTablesOptions): Promise<void> {
  if (tableSchema === undefined) return;
  assertSchemas(dataSourceOf(runner), tableSchema);
  if (!(await runner.hasSchema(tableSchema))) await runner.createSchema(tableSchema, true);
}

/**
 * Creates a table with the names and types that TypeORM's schema builder would choose. If the table exists, this function creates only the
 * missing indexes: a migration without a transaction may have been interrupted after it created the table.
 */
export async function createTable(
  runner: QueryRunner,
  at: WebhookMigrationsOptions,
  table: FrozenTable,
): Promise<void> {
  const { namingStrategy, options, driver } = dataSourceOf(runner);
  const type = options.type as SupportedDriver;
  const by = at.partitions === undefined ? undefined : table.partitionBy;
  const unique = table.unique.map((key) => withPartitionColumn(key, by));
  const columnName = (property: string) => namingStrategy.columnName(property, databaseName(property), []);
  const columns = Object.entries(table.columns).map(([property, kind]): TableColumnOptions => {
    const isNullable = kind.endsWith('?');
    const column = columnOptions((isNullable ? kind.slice(0, -1) : kind) as ColumnKind, type);
    return {
      name: columnName(property),
      type: driver.normalizeType(column as Parameters<typeof driver.normalizeType>[0]),
      ...(column.length === undefined ? {} : { length: String(column.length) }),
      ...(column.charset === undefined ? {} : { charset: column.charset }),
      ...(column.collation === undefined ? {} : { collation: column.collation }),
      isNullable,
      isPrimary: column.primary === true || table.primary?.includes(property) === true || property === by,
      isGenerated: column.generated === 'increment',
      ...(column.generated === 'increment' ? { generationStrategy: 'increment' as const } : {}),
    };
  });
  const path = tablePathOf(dataSourceOf(runner), at, table.name);
  const plainName = path.split('.').at(-1) as string;
  const index = ({ columns: properties, where }: { columns: readonly string[]; where?: string }, isUnique: boolean) => {
    const columnNames = properties.map(columnName);
    const name = namingStrategy.indexName(plainName, columnNames, where);
    return new TableIndex({ name, columnNames, isUnique, ...(where === undefined ? {} : { where }) });
  };
  const indices = [
    ...indexesOf(unique, dialectOf(type), columnName).map((shape) => index(shape, true)),
    ...indexesOf(table.indexes, dialectOf(type), columnName).map((shape) => index(shape, false)),
  ];
  const existing = await runner.getTable(path);
  if (!existing) {
    const created = new Table({ name: path, columns, indices });
    if (by === undefined) await runner.createTable(created);
    else await createPartitioned(runner, created, columnName(by));
    return;
  }
  const names = new Set(existing.indices.map(({ name }) => name));
  for (const one of indices) if (!names.has(one.name)) await runner.createIndex(existing, one);
}

/** How many days after today get a partition when the tables are created. The upkeep of the first dispatcher makes the other days. */
const FIRST_DAYS = 3;

/**
 * Creates a table with partitions: the default one, and the first days. TypeORM has no option for a partitioned table, so another query
 * runner writes the statements of a plain table, and the first statement gets the rest of its text here.
 */
async function createPartitioned(runner: QueryRunner, table: Table, by: string): Promise<void> {
  const dataSource = dataSourceOf(runner);
  const writer = dataSource.createQueryRunner('master');
  writer.enableSqlMemory();
  await writer.createTable(table);
  const [create = '', ...indexes] = writer.getMemorySql().upQueries.map(({ query }) => query);
  await writer.release();
  const { driver } = dataSource;
  const path = escapedPath(table.name, driver);
  const plainName = table.name.split('.').at(-1) as string;
  const sibling = (name: string) => escapedPath([...table.name.split('.').slice(0, -1), name].join('.'), driver);
  const today = dayOf(Date.now());
  const days = Array.from({ length: FIRST_DAYS + 2 }, (_, n) => today - 1 + n);
  const statements = [
    `${create} PARTITION BY RANGE (${driver.escape(by)})`,
    ...indexes,
    `CREATE TABLE ${sibling(partitionName(plainName, DEFAULT_PARTITION))} PARTITION OF ${path} DEFAULT`,
    ...days.map(
      (day) =>
        `CREATE TABLE ${sibling(partitionName(plainName, day))} PARTITION OF ${path} FOR VALUES FROM (${day * DAY}) TO (${(day + 1) * DAY})`,
    ),
  ];
  for (const statement of statements) await runOrRecord(runner, statement);
}

/** A runner with a memory for SQL only records statements: the command line prints these. */
async function runOrRecord(runner: QueryRunner, query: string): Promise<void> {
  const { sqlMemoryMode } = runner as unknown as { sqlMemoryMode: boolean };
  if (!sqlMemoryMode) return void (await runner.query(query));
  const { upQueries } = runner.getMemorySql();
  upQueries.push({ query, parameters: [] } as unknown as (typeof upQueries)[number]);
}
