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

/** What is installed, against what should be. */
export interface TriggerReport {
  /** Nothing of that name is there. */
  readonly missing: readonly TriggerObject[];
  /** It is there, and says something else, or is switched off. */
  readonly outdated: readonly TriggerObject[];
  /** Of ours, on a table that has no need of it. */
  readonly left: readonly InstalledObject[];
}

/** What becomes of triggers that none of these tables needs: another application may share the tables of webhooks, and need them. */
export type Leftovers = 'drop all' | 'drop those on tables of this data source';

/** What {@link syncTriggers} would run, in this order; nothing where all is as it should be. */
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
      // A function that is replaced keeps the triggers that call it.
      ...(object.table === null ? [] : [object.drop]),
      ...object.create,
    ]),
  ];
}

/** Makes what is installed what should be. In the transaction of the runner, where the database's schema has such. */
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

/** Compares what is installed with what should be. */
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
  // Triggers before the function that they call.
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

/** @throws ConfigurationError `TABLES_MISSING` where PostgreSQL does not find it */
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
      `The table ${path} is not there, which the triggers write to. Run the migrations of webhookMigrations() first.`,
      { details: { missing: [path] } },
    );
  }
  const schema = real.slice(0, -name.length - 1);
  return { path: `${driver.escape(schema)}.${driver.escape(name)}`, name, schema, column };
}

/**
 * A path as the lists of installed triggers say it: on PostgreSQL with the schema in which it is found, on MySQL and MariaDB with its
 * database where that is another one than the connection's.
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
