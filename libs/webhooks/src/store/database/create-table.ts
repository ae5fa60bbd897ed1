import { Table, TableIndex, type QueryRunner, type TableColumnOptions } from 'typeorm';
import { columnOptions, type ColumnKind } from './column-kinds.js';
import { dialectOf, type SupportedDriver, DEFAULT_TABLE_PREFIX } from '../../dialect.js';
import {
  assertSchemas,
  databaseName,
  indexesOf,
  tablePathOf,
  type IndexShape,
  type WebhookTablesOptions,
} from './table-names.js';
import { dataSourceOf } from '../../typeorm-compat.js';

/** The form in which a migration creates a table. This form never changes. The current tables are in `store/database/tables.ts`. */
export interface FrozenTable {
  readonly name: string;
  /** The kind of each column, by property. A trailing `?` means nullable. */
  readonly columns: Readonly<Record<string, ColumnKind | `${ColumnKind}?`>>;
  /** The primary key, if no column has the kind `sequence`. */
  readonly primary?: readonly string[];
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
export async function createTable(runner: QueryRunner, at: WebhookTablesOptions, table: FrozenTable): Promise<void> {
  const { namingStrategy, options, driver } = dataSourceOf(runner);
  const type = options.type as SupportedDriver;
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
      isPrimary: column.primary === true || table.primary?.includes(property) === true,
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
    ...indexesOf(table.unique, dialectOf(type), columnName).map((shape) => index(shape, true)),
    ...indexesOf(table.indexes, dialectOf(type), columnName).map((shape) => index(shape, false)),
  ];
  const existing = await runner.getTable(path);
  if (!existing) {
    await runner.createTable(new Table({ name: path, columns, indices }));
    return;
  }
  const names = new Set(existing.indices.map(({ name }) => name));
  for (const one of indices) if (!names.has(one.name)) await runner.createIndex(existing, one);
}
