import type { DataSourceOptions } from 'typeorm';
import { describe, inject } from 'vitest';

import { createMysql, createPostgres, createSqlite, type FreshDatabase } from './fresh-database.js';

import type {} from './global-setup.js';

export type { FreshDatabase } from './fresh-database.js';

/** Small on purpose: what only works with a connection for everybody should show here. A test may ask for more. */
const POOL_SIZE = 5;

export interface TestDatabase {
  /** `mysql2` is TypeORM's type `mysql` (no `RETURNING`), whichever product answers at `MYSQL_URL`. */
  name: 'sqlite' | 'postgres' | 'mariadb' | 'mysql2';
  /** A fresh, empty database of its own for one test or test file; the caller ends with `drop()`. */
  create(): Promise<FreshDatabase>;
}

const { postgres, mysql } = inject('servers');

/** The databases of this run: SQLite and PostgreSQL always, the others with `MYSQL_URL`. */
export const databases: TestDatabase[] = [
  { name: 'sqlite', create: createSqlite },
  { name: 'postgres', create: () => small(createPostgres(postgres.url)) },
  // TypeORM's type `mariadb` says `INSERT … RETURNING`, which MySQL does not have.
  ...(mysql?.product === 'MariaDB'
    ? [{ name: 'mariadb' as const, create: () => small(createMysql(mysql.url, 'mariadb')) }]
    : []),
  ...(mysql ? [{ name: 'mysql2' as const, create: () => small(createMysql(mysql.url, 'mysql')) }] : []),
];

/** `describe` once for each database of this run, as `title (name)`. */
export function describeDatabases(title: string, body: (db: TestDatabase) => void): void {
  for (const database of databases) {
    describe(`${title} (${database.name})`, () => body(database));
  }
}

async function small(fresh: Promise<FreshDatabase>): Promise<FreshDatabase> {
  const { options, drop } = await fresh;
  return { options: { ...options, poolSize: POOL_SIZE } as DataSourceOptions, drop };
}
