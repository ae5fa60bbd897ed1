import type { DataSourceOptions } from 'typeorm';
import { describe, inject, it } from 'vitest';

import { chosenDatabases, type DatabaseName } from './chosen-databases.js';
import { createMysql, createPostgres, createSqlite, type FreshDatabase } from './fresh-database.js';

import type {} from './global-setup.js';

export type { FreshDatabase } from './fresh-database.js';

/** Small on purpose: code that needs one connection per caller should fail here. A test may ask for more. */
const POOL_SIZE = 5;

export interface TestDatabase {
  name: DatabaseName;
  /** A new, empty database for one test or test file; the caller drops it with `drop()`. */
  create(): Promise<FreshDatabase>;
}

const { postgres, mysql } = inject('servers');

const available: TestDatabase[] = [
  { name: 'sqlite', create: createSqlite },
  ...(postgres ? [{ name: 'postgres' as const, create: () => small(createPostgres(postgres.url)) }] : []),
  // TypeORM's type `mariadb` uses `INSERT … RETURNING`, which MySQL does not have.
  ...(mysql?.product === 'MariaDB'
    ? [{ name: 'mariadb' as const, create: () => small(createMysql(mysql.url, 'mariadb')) }]
    : []),
  ...(mysql ? [{ name: 'mysql2' as const, create: () => small(createMysql(mysql.url, 'mysql')) }] : []),
];

/** The databases of this run: SQLite and PostgreSQL, and the others if `MYSQL_URL` is set. `DATABASES` limits them. */
export const databases: TestDatabase[] = available.filter(({ name }) => chosenDatabases().includes(name));

/** `describe` for each database of this run, as `title (name)`. */
export function describeDatabases(title: string, body: (db: TestDatabase) => void): void {
  for (const database of databases) {
    describe(`${title} (${database.name})`, () => body(database));
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
