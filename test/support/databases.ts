import type { DataSourceOptions } from 'typeorm';
import { describe, inject, it } from 'vitest';

import { chosenDatabases, type DatabaseName } from './chosen-databases.js';
import { contentsOf } from './database-contents.js';
import { createMysql, createPostgres, createSqlite, type FreshDatabase } from './fresh-database.js';
import { ReusedDatabases } from './reused-databases.js';

import type {} from './global-setup.js';

export type { FreshDatabase } from './fresh-database.js';

/** Small on purpose: code that needs one connection per caller should fail here. A test may ask for more. */
const POOL_SIZE = 5;

export interface TestDatabase {
  name: DatabaseName;
  /** An empty database for one test or test file; the caller gives it back with `drop()`. */
  create(): Promise<FreshDatabase>;
  /**
   * A database without rows, for an application of {@link startApp}. If the test before had the same application, its tables are still there,
   * and `startApp()` does not create them: much faster than {@link create}. Any other user may find tables.
   */
  reuse(): Promise<FreshDatabase>;
}

const { postgres, mysql } = inject('servers');
const { prefix, folder } = inject('run');

const available: TestDatabase[] = [
  { name: 'sqlite', create: () => createSqlite(), reuse: reusing(() => createSqlite(folder)) },
  ...(postgres ? [postgresAt(postgres.url)] : []),
  // TypeORM's type `mariadb` uses `INSERT … RETURNING`, which MySQL does not have.
  ...(mysql?.product === 'MariaDB' ? [mysqlAt(mysql.url, 'mariadb', 'mariadb')] : []),
  ...(mysql ? [mysqlAt(mysql.url, 'mysql2', 'mysql')] : []),
];

/** To create and to drop a database takes PostgreSQL longer than most tests run, so that empty ones are reused, too. */
function postgresAt(url: string): TestDatabase {
  const reused = new ReusedDatabases(async () => {
    const fresh = await small(createPostgres(url, prefix));
    await contentsOf(fresh.options).dropAll(fresh.options);
    return fresh;
  });
  return {
    name: 'postgres',
    create: () => reused.take({ isEmpty: true }),
    reuse: () => reused.take({ isEmpty: false }),
  };
}

function mysqlAt(url: string, name: DatabaseName, type: 'mariadb' | 'mysql'): TestDatabase {
  return {
    name,
    create: () => small(createMysql(url, type)),
    reuse: reusing(() => small(createMysql(url, type, prefix))),
  };
}

function reusing(create: () => Promise<FreshDatabase>): () => Promise<FreshDatabase> {
  const reused = new ReusedDatabases(create);
  return () => reused.take({ isEmpty: false });
}

/** The databases of this run: SQLite and PostgreSQL, and the others if `MYSQL_URL` is set. `DATABASES` limits them. */
export const databases: TestDatabase[] = available.filter(({ name }) => chosenDatabases().includes(name));

type Body = (db: TestDatabase) => void;

/** `describe` for each database of this run, as `title (name)`. The options are those of vitest, such as `timeout`. */
export function describeDatabases(
  title: string,
  ...rest: [body: Body] | [options: { timeout?: number }, body: Body]
): void {
  const [options, body] = rest.length === 1 ? [{}, rest[0]] : rest;
  for (const database of databases) {
    describe(`${title} (${database.name})`, options, () => body(database));
  }
}

/** `describe` for a feature of one database; skipped if the database is not in this run. */
export function describeOn(name: DatabaseName, title: string, body: (db: TestDatabase) => void): void {
  const database = databases.find((one) => one.name === name);
  describe.runIf(database)(`${title} (${name})`, () => body(database as TestDatabase));
}

/** `describe` for each database server; skipped if this run has none. */
export function describeServers(title: string, body: (db: TestDatabase) => void): void {
  const servers = databases.filter(({ name }) => name !== 'sqlite');
  for (const server of servers) {
    describe(`${title} (${server.name})`, () => body(server));
  }
  // vitest fails a file without tests.
  if (servers.length === 0) describe.skip(`${title} (no server)`, () => it('needs PostgreSQL, MariaDB or MySQL'));
}

async function small(fresh: Promise<FreshDatabase>): Promise<FreshDatabase> {
  const { options, drop } = await fresh;
  return { options: { ...options, poolSize: POOL_SIZE } as DataSourceOptions, drop };
}
