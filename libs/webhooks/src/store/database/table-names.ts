import type { DataSource } from 'typeorm';
import { DEFAULT_TABLE_PREFIX, dialectOf, type DialectName } from '../../dialect.js';
import { ConfigurationError } from '../../errors.js';

/** Which rows stand in a partial index, in the words of its table's columns. */
export type IndexCondition = (columnOf: (property: string) => string) => string;

/**
 * An index: its columns; or with `where` only some rows, which keeps what is finished out of it. MySQL and MariaDB have no
 * such indexes, and get all rows by other columns, or with `null` another index serves there.
 *
 * A statement that wants a partial index says its condition in words: no parameter proves it to SQLite.
 */
export type IndexShape =
  | readonly string[]
  | { readonly of: readonly string[]; readonly where: IndexCondition; readonly mysql: readonly string[] | null };

/** Indexes as a dialect has them. */
export function indexesOf(
  shapes: readonly IndexShape[],
  dialect: DialectName,
  columnOf: (property: string) => string,
): { columns: string[]; where?: string }[] {
  return shapes.flatMap((shape) => {
    if (!('of' in shape)) return [{ columns: [...shape] }];
    if (dialect !== 'mysql') return [{ columns: [...shape.of], where: shape.where(columnOf) }];
    return shape.mysql === null ? [] : [{ columns: [...shape.mysql] }];
  });
}

/** `routePaths` -> `route_paths`: our names in the database, before a prefix or a naming strategy. */
export function databaseName(property: string): string {
  return property.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** Where a table of ours stands, by the data source's schema, prefix and naming strategy, as TypeORM's metadata has it. */
export function tablePathOf(
  dataSource: DataSource,
  { tablePrefix = DEFAULT_TABLE_PREFIX, tableSchema }: WebhookTablesOptions,
  table: string,
): string {
  const { driver, namingStrategy, options } = dataSource;
  const given = tablePrefix + databaseName(table);
  const named = namingStrategy.tableName(given, given);
  const prefixed = options.entityPrefix ? namingStrategy.prefixTableName(options.entityPrefix, named) : named;
  const { schema } = options as { schema?: string };
  return driver.buildTableName(prefixed, tableSchema ?? schema);
}

export interface WebhookTablesOptions {
  /** Put before each table's name. @defaultValue `'webhook_'` */
  tablePrefix?: string;
  /** PostgreSQL only: the schema of the tables. @defaultValue the data source's `schema`; without one, the first of the `search_path` */
  tableSchema?: string | undefined;
}

/** The options as an application writes them: nothing where they are the defaults. */
export function writtenTablesOptions({
  tablePrefix = DEFAULT_TABLE_PREFIX,
  tableSchema,
}: WebhookTablesOptions): string {
  const written = [
    ...(tablePrefix === DEFAULT_TABLE_PREFIX ? [] : [`tablePrefix: '${tablePrefix}'`]),
    ...(tableSchema === undefined ? [] : [`tableSchema: '${tableSchema}'`]),
  ];
  return written.length ? `{ ${written.join(', ')} }` : '';
}

/** @throws ConfigurationError `INVALID_OPTION` where the database has no schemas */
export function assertSchemas({ options: { type } }: DataSource, tableSchema: string): void {
  if (type === 'postgres') return;
  const what = {
    sqlite: 'SQLite has no schemas',
    mysql: 'MySQL and MariaDB have no schemas inside of a database',
    postgres: '',
  }[dialectOf(type)];
  throw new ConfigurationError(
    'INVALID_OPTION',
    `tableSchema is '${tableSchema}', and the data source is of type ${type}: ${what}. Leave it out. tablePrefix tells the tables apart.`,
  );
}
