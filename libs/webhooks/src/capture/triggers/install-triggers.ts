import type { DataSource, QueryRunner } from 'typeorm';
import { ConfigurationError } from '../../errors.js';
import { dialectOf, escapedPath } from '../../dialect.js';
import { databaseName, tablePathOf, type WebhookTablesOptions } from '../../store/database/table-names.js';
import { mysqlTriggers } from './mysql-triggers.js';
import { postgresTriggers } from './postgres-triggers.js';
import { sqliteTriggers } from './sqlite-triggers.js';
import type { ImagesTable, InstalledObject, TriggerDialect, TriggerObject } from './trigger-sql.js';
import type { TriggerTable } from './trigger-table.js';
import { dataSourceOf } from '../../typeorm-compat.js';

/** The differences between the installed triggers and the needed triggers. */
export interface TriggerReport {
  /** Needed objects that are not installed. */
  readonly missing: readonly TriggerObject[];
  /** Installed objects that have another definition, or are disabled. */
  readonly outdated: readonly TriggerObject[];
  /** Objects that this library has installed, on a table that no longer needs triggers. */
  readonly left: readonly InstalledObject[];
}

/**
 * Which unneeded triggers to drop. Another application may share the webhook tables, so the triggers of other applications are kept by
 * default.
 */
export type Leftovers = 'drop all' | 'drop those on tables of this data source';

/** The statements that {@link syncTriggers} would run, in order; an empty list if the triggers are up to date. */
export async function triggerStatements(
  runner: QueryRunner,
  at: WebhookTablesOptions,
  tables: readonly TriggerTable[],
  leftovers: Leftovers = 'drop those on tables of this data source',
): Promise<string[]> {
  const { missing, outdated, left } = await compareTriggers(runner, at, tables);
  const ours = new Set<string | null>();
  for (const { tablePath } of dataSourceOf(runner).entityMetadatas) ours.add(await realPath(runner, tablePath));
  const isOurs = ({ table }: InstalledObject) => leftovers === 'drop all' || (table !== null && ours.has(table));
  return [
    ...left.filter(isOurs).map(({ drop }) => drop),
    ...[...outdated, ...missing].flatMap((object) => [
      // Replace a function and do not drop the function. The triggers that call the function then stay valid.
      ...(object.table === null ? [] : [object.drop]),
      ...object.create,
    ]),
  ];
}

/**
 * Installs, replaces and drops triggers, so that exactly the needed triggers are installed. On databases with transactional DDL, the
 * statements run in the transaction of the runner.
 *
 * @returns the statements that were run
 */
export async function syncTriggers(
  runner: QueryRunner,
  at: WebhookTablesOptions,
  tables: readonly TriggerTable[],
  leftovers?: Leftovers,
): Promise<string[]> {
  const statements = await triggerStatements(runner, at, tables, leftovers);
  for (const statement of statements) await runner.query(statement);
  return statements;
}

/** Compares the installed triggers with the triggers that the tables need. */
export async function compareTriggers(
  runner: QueryRunner,
  at: WebhookTablesOptions,
  tables: readonly TriggerTable[],
): Promise<TriggerReport> {
  const images = await imagesTable(runner, at);
  const dialect = triggerDialect(dataSourceOf(runner));
  const wanted = tables.length ? dialect.objects(tables, images) : [];
  const { text, objectOf } = dialect.installed(images);
  const installed = ((await runner.query(text)) as never[]).map(objectOf);
  const pathOf = new Map<string | null, string | null>([[null, null]]);
  for (const { path } of tables) pathOf.set(path, await realPath(runner, path));
  const idOf = (name: string, table: string | null) => JSON.stringify([name, table]);
  const found = new Map(installed.map((object) => [idOf(object.name, object.table), object]));
  const missing: TriggerObject[] = [];
  const outdated: TriggerObject[] = [];
  for (const object of wanted) {
    const id = idOf(object.name, pathOf.get(object.table) ?? null);
    const there = found.get(id);
    found.delete(id);
    if (!there) missing.push(object);
    else if (there.hash !== object.hash || !there.isEnabled) outdated.push(object);
  }
  // Drop the triggers first, and then the function that these triggers call.
  const left = [...found.values()].toSorted((a, b) => Number(a.table === null) - Number(b.table === null));
  return { missing, outdated, left };
}

function triggerDialect(dataSource: DataSource): TriggerDialect {
  switch (dialectOf(dataSource.options.type)) {
    case 'postgres':
      return postgresTriggers;
    case 'mysql':
      return mysqlTriggers(dataSource);
    case 'sqlite':
      return sqliteTriggers;
  }
}

/** @throws ConfigurationError `TABLES_MISSING` if PostgreSQL does not find the table */
async function imagesTable(runner: QueryRunner, at: WebhookTablesOptions): Promise<ImagesTable> {
  const dataSource = dataSourceOf(runner);
  const { driver, namingStrategy } = dataSource;
  const path = tablePathOf(dataSource, at, 'images');
  const column = (property: string) => driver.escape(namingStrategy.columnName(property, databaseName(property), []));
  const name = path.split('.').at(-1) as string;
  if (dialectOf(dataSource.options.type) !== 'postgres') {
    const escaped = escapedPath(path, driver);
    const schema = dialectOf(dataSource.options.type) === 'mysql' ? (driver.database ?? null) : null;
    return { path: escaped, name, schema, column };
  }
  const real = await realPath(runner, path);
  if (real === null) {
    throw new ConfigurationError(
      'TABLES_MISSING',
      `The webhook tables are missing or out of date: ${path}. The triggers write to this table. Run the migrations of webhookMigrations() first.`,
      { details: { missing: [path] } },
    );
  }
  const schema = real.slice(0, -name.length - 1);
  return { path: `${driver.escape(schema)}.${driver.escape(name)}`, name, schema, column };
}

/**
 * A table path in the form that the list of installed triggers uses. On PostgreSQL the path contains the schema of the table. On MySQL and
 * MariaDB the path contains the database, except for the database of the connection.
 */
async function realPath(runner: QueryRunner, path: string): Promise<string | null> {
  const { driver, options } = dataSourceOf(runner);
  const dialect = dialectOf(options.type);
  if (dialect === 'sqlite') return path;
  if (dialect === 'mysql') {
    const own = `${driver.database}.`;
    return path.startsWith(own) ? path.slice(own.length) : path;
  }
  const escaped = escapedPath(path, driver);
  const [row] = (await runner.query(
    `SELECT n.nspname || '.' || c.relname AS path FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)`,
    [escaped],
  )) as { path: string }[];
  return row?.path ?? null;
}
