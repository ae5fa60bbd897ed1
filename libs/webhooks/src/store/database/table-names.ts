import type { DataSource } from 'typeorm';
import { DEFAULT_TABLE_PREFIX, dialectOf, type DialectName } from '../../dialect.js';
import { ConfigurationError } from '../../errors.js';

/** Returns the condition of a partial index in SQL, with the column names of its table. */
export type IndexCondition = (columnOf: (property: string) => string) => string;

/**
 * An index is given by its columns. With `where`, the index is a partial index, for example without finished rows. MySQL and MariaDB have
 * no partial indexes. On these databases, `mysql` names the columns of a full index, or is `null` if another index serves the same
 * statements.
 *
 * A statement that needs a partial index writes the condition of the index as literal text, because SQLite does not match a parameter with
 * the condition.
 */
export type IndexShape =
  | readonly string[]
  | { readonly of: readonly string[]; readonly where: IndexCondition; readonly mysql: readonly string[] | null };

/** Returns the indexes in the form that the dialect supports. */
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

/** `routePaths` -> `route_paths`. Returns the name of a table or column in the database, without prefix and naming strategy. */
export function databaseName(property: string): string {
  return property.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/**
 * The path of a webhook table, from the schema, prefix and naming strategy of the data source. TypeORM's metadata contains the same path.
 */
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
  /** The prefix of each table's name. @defaultValue `'webhook_'` */
  tablePrefix?: string;
  /**
   * PostgreSQL only: the schema of the tables. @defaultValue the data source's `schema`; without this option, the first schema of the
   * `search_path`
   */
  tableSchema?: string | undefined;
}

/** Options of the tables that only migrations and entity schemas need. A running module reads the shape of its tables from the database. */
export interface WebhookMigrationsOptions extends WebhookTablesOptions {
  /**
   * PostgreSQL only. `'day'` divides the tables of events, deliveries and attempts into a partition for each day (UTC), so that retention
   * drops a day instead of deleting its rows. The tables get this shape when they are created: the option changes no existing tables. See
   * docs/partitions.md.
   * @defaultValue no partitions
   */
  partitions?: 'day' | undefined;
}

/**
 * The columns of a unique key. On PostgreSQL, each unique key of a partitioned table must contain the column that decides on the partition.
 *
 * @param by the column that decides on the partition; `undefined`: the table is not partitioned
 */
export function withPartitionColumn(shape: IndexShape, by: string | undefined): IndexShape {
  if (by === undefined || 'of' in shape || shape.includes(by)) return shape;
  return [...shape, by];
}

/** @throws ConfigurationError `INVALID_OPTION` for an unknown value, or if the database has no partitions that the library can use */
export function assertPartitions({ options: { type } }: DataSource, partitions: unknown): void {
  if (partitions === undefined || (partitions === 'day' && type === 'postgres')) return;
  throw new ConfigurationError(
    'INVALID_OPTION',
    `Invalid value ${JSON.stringify(partitions)} for \`partitions\`: ${partitions === 'day' ? `the data source has the type '${type}', and only PostgreSQL's tables can have partitions. Leave \`partitions\` out.` : "allowed: 'day', or no value."}`,
  );
}

/** The options as source text for a message. Options with default values are left out, so the text may be empty. */
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

/** @throws ConfigurationError `INVALID_OPTION` if the database has no schemas */
export function assertSchemas({ options: { type } }: DataSource, tableSchema: string): void {
  if (type === 'postgres') return;
  const what = {
    sqlite: 'SQLite has no schemas',
    mysql: 'MySQL and MariaDB have no schemas inside a database',
    postgres: '',
  }[dialectOf(type)];
  throw new ConfigurationError(
    'INVALID_OPTION',
    `Invalid value '${tableSchema}' for \`tableSchema\`: the data source has the type '${type}', and ${what}. Leave \`tableSchema\` out, and use \`tablePrefix\` to separate the tables.`,
  );
}
