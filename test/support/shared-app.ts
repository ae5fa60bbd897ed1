import type { DataSource, QueryRunner } from 'typeorm';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import { webhookEntities, type SupportedDriver } from 'nestjs-entity-webhooks';
import type { FreshDatabase, TestDatabase } from './databases.js';
import { startApp, type TestApp, type TestAppOptions } from './webhooks-app.js';

/**
 * One application for all tests of a `describe`. To start an application takes longer than most tests run.
 *
 * Each test finds no rows, no listeners, no requests, a receiver that answers 204, and a clock that is not behind. Generated ids continue.
 * A test that changes more of the application needs its own `startApp()`: a test that starts the dispatcher, adds subscribers or handlers
 * of events, or changes tables.
 *
 * @returns an object that has the members of the application while a hook or a test runs
 */
export function sharedApp(database: TestDatabase, options: Omit<TestAppOptions, 'database'>): TestApp {
  const shared = {} as TestApp;
  let fresh: FreshDatabase;
  let tables: readonly string[];
  beforeAll(async () => {
    fresh = await database.reuse();
    Object.assign(shared, await startApp({ ...options, database: fresh.options }));
    tables = await emptyTables(shared.dataSource, options);
  });
  beforeEach(async () => {
    await removeListeners(shared);
    await deleteRows(shared.dataSource, tables);
    shared.receiver.respond({ status: 204 }).clear();
    shared.clock.set(Math.max(shared.clock.now(), Date.now()));
  });
  afterAll(async () => {
    await shared.close?.();
    await fresh?.drop();
  });
  return shared;
}

/** The start writes rows that the application needs, such as the version of its tables. Their tables stay as they are. */
async function emptyTables(dataSource: DataSource, { webhooks }: Pick<TestAppOptions, 'webhooks'>): Promise<string[]> {
  const empty: string[] = [];
  for (const path of tablePaths(dataSource, webhooks)) {
    const rows: unknown[] = await dataSource.query(`select 1 from ${quoted(dataSource, path)} limit 1`);
    if (!rows.length) empty.push(path);
  }
  return empty;
}

function tablePaths({ entityMetadatas, options }: DataSource, webhooks: TestAppOptions['webhooks']): string[] {
  const entities = webhookEntities({ type: options.type as SupportedDriver, ...namesOf(webhooks) });
  const own = entities.map(({ options: { schema, tableName } }) => [schema, tableName].filter(Boolean).join('.'));
  return [...entityMetadatas.map(({ tablePath }) => tablePath), ...own];
}

function namesOf({ tablePrefix, tableSchema }: NonNullable<TestAppOptions['webhooks']> = {}) {
  return { ...(tablePrefix !== undefined && { tablePrefix }), ...(tableSchema !== undefined && { tableSchema }) };
}

/** The application knows its listeners, so that it has to hear of their end. */
async function removeListeners({ listeners }: TestApp): Promise<void> {
  for (let page = await listeners.list(); page.items.length; page = await listeners.list()) {
    for (const { id } of page.items) await listeners.remove(id);
  }
}

const WITHOUT_FOREIGN_KEYS: Record<string, string> = {
  'better-sqlite3': 'pragma defer_foreign_keys = on',
  postgres: 'set local session_replication_role = replica',
  mysql: 'set foreign_key_checks = 0',
  mariadb: 'set foreign_key_checks = 0',
};

async function deleteRows(dataSource: DataSource, tables: readonly string[]): Promise<void> {
  const runner: QueryRunner = dataSource.createQueryRunner();
  try {
    await runner.startTransaction();
    await runner.query(WITHOUT_FOREIGN_KEYS[dataSource.options.type] ?? '');
    // The second time for the rows that triggers wrote the first time.
    for (const table of [...tables, ...tables]) await runner.query(`delete from ${quoted(dataSource, table)}`);
    await runner.commitTransaction();
    if (dataSource.options.type.startsWith('m')) await runner.query('set foreign_key_checks = 1');
  } finally {
    await runner.release();
  }
}

function quoted({ driver }: DataSource, tablePath: string): string {
  return tablePath
    .split('.')
    .map((part) => driver.escape(part))
    .join('.');
}
