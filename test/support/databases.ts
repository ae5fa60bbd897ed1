import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { createConnection, type Connection } from 'mysql2/promise';
import pg from 'pg';
import type { DataSourceOptions } from 'typeorm';
import { describe, inject } from 'vitest';

import type {} from './global-setup.js';

/** Small on purpose: what only works with a connection for everybody should show here. A test may ask for more. */
const POOL_SIZE = 5;

export interface FreshDatabase {
  /** What a `DataSource` or `TypeOrmModule.forRoot` takes; spread it and add the entities. */
  options: DataSourceOptions;
  /** Removes the database, also while connections to it are open. */
  drop(): Promise<void>;
}

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
  { name: 'postgres', create: createPostgres },
  // TypeORM's type `mariadb` says `INSERT … RETURNING`, which MySQL does not have.
  ...(mysql?.product === 'MariaDB' ? [{ name: 'mariadb' as const, create: () => createMysql('mariadb') }] : []),
  ...(mysql ? [{ name: 'mysql2' as const, create: () => createMysql('mysql') }] : []),
];

/** `describe` once for each database of this run, as `title (name)`. */
export function describeDatabases(title: string, body: (db: TestDatabase) => void): void {
  for (const database of databases) {
    describe(`${title} (${database.name})`, () => body(database));
  }
}

function uniqueName(): string {
  return `webhooks_test_${randomBytes(8).toString('hex')}`;
}

async function createSqlite(): Promise<FreshDatabase> {
  const folder = await mkdtemp(join(tmpdir(), 'webhooks-sqlite-'));
  return {
    options: { type: 'better-sqlite3', database: join(folder, 'test.sqlite') },
    drop: () => rm(folder, { recursive: true, force: true }),
  };
}

async function createPostgres(): Promise<FreshDatabase> {
  const database = uniqueName();
  await onPostgres((client) => client.query(`create database ${database}`));
  const url = new URL(postgres.url);
  url.pathname = database;
  return {
    options: { type: 'postgres', url: url.href, poolSize: POOL_SIZE },
    drop: () => onPostgres((client) => client.query(`drop database if exists ${database} with (force)`)),
  };
}

async function onPostgres(run: (client: pg.Client) => Promise<unknown>): Promise<void> {
  const client = new pg.Client({ connectionString: postgres.url });
  await client.connect();
  try {
    await run(client);
  } finally {
    await client.end();
  }
}

async function createMysql(type: 'mariadb' | 'mysql'): Promise<FreshDatabase> {
  const database = uniqueName();
  await onMysql((connection) => connection.query(`create database ${database} character set utf8mb4`));
  const url = new URL(mysql!.url);
  return {
    options: {
      type,
      host: url.hostname,
      port: Number(url.port || 3306),
      username: decodeURIComponent(url.username),
      password: decodeURIComponent(url.password),
      database,
      charset: 'utf8mb4',
      timezone: 'Z',
      poolSize: POOL_SIZE,
    },
    drop: () =>
      onMysql(async (connection) => {
        // An open transaction holds metadata locks that `drop database` would wait for.
        const [open] = await connection.query('select id from information_schema.processlist where db = ?', [database]);
        for (const { id } of open as { id: number }[]) {
          await connection.query('kill ?', [id]).catch(() => undefined); // it may have ended by itself
        }
        await connection.query(`drop database if exists ${database}`);
      }),
  };
}

async function onMysql(run: (connection: Connection) => Promise<unknown>): Promise<void> {
  const connection = await createConnection(mysql!.url);
  try {
    await run(connection);
  } finally {
    await connection.end();
  }
}
