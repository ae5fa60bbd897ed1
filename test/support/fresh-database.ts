import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { createConnection, type Connection } from 'mysql2/promise';
import pg from 'pg';
import type { DataSourceOptions } from 'typeorm';

import { memoryFolder } from './memory-folder.js';

export interface FreshDatabase {
  /** The options of a `DataSource` or `TypeOrmModule.forRoot`; spread them and add the entities. */
  options: DataSourceOptions;
  /** Removes the database, also while connections to it are open. */
  drop(): Promise<void>;
}

/** @param prefix with which the run finds its databases at the end */
function uniqueName(prefix = 'webhooks_test_'): string {
  return `${prefix}${randomBytes(8).toString('hex')}`;
}

/** A file in a new folder. */
export async function createSqlite(parent = memoryFolder()): Promise<FreshDatabase> {
  const folder = await mkdtemp(join(parent, 'webhooks-sqlite-'));
  return {
    options: { type: 'better-sqlite3', database: join(folder, 'test.sqlite') },
    drop: () => rm(folder, { recursive: true, force: true }),
  };
}

/** A new database on the server at `server`. */
export async function createPostgres(server: string, prefix?: string): Promise<FreshDatabase> {
  const database = uniqueName(prefix);
  await onPostgres(server, (client) => client.query(`create database ${database}`));
  const url = new URL(server);
  url.pathname = database;
  return {
    options: { type: 'postgres', url: url.href },
    drop: () => onPostgres(server, (client) => client.query(`drop database if exists ${database} with (force)`)),
  };
}

async function onPostgres(server: string, run: (client: pg.Client) => Promise<unknown>): Promise<void> {
  const client = new pg.Client({ connectionString: server });
  await client.connect();
  try {
    await run(client);
  } finally {
    await client.end();
  }
}

/** A new database on the server at `server`, for this TypeORM type. */
export async function createMysql(server: string, type: 'mariadb' | 'mysql', prefix?: string): Promise<FreshDatabase> {
  const database = uniqueName(prefix);
  await onMysql(server, (connection) => connection.query(`create database ${database} character set utf8mb4`));
  const url = new URL(server);
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
    },
    drop: () => onMysql(server, (connection) => dropMysql(connection, database)),
  };
}

/** A killed session may still create a table: its file appears while the server removes the folder. */
const ER_DB_DROP_RMDIR = 1010;

async function dropMysql(connection: Connection, database: string, triesLeft = 5): Promise<void> {
  // An open transaction holds metadata locks, which `drop database` would wait for.
  const [open] = await connection.query('select id from information_schema.processlist where db = ?', [database]);
  for (const { id } of open as { id: number }[]) {
    await connection.query('kill ?', [id]).catch(() => undefined); // it may have ended already
  }
  try {
    await connection.query(`drop database if exists ${database}`);
  } catch (error) {
    if ((error as { errno?: number }).errno !== ER_DB_DROP_RMDIR || triesLeft === 0) throw error;
    await dropMysql(connection, database, triesLeft - 1);
  }
}

async function onMysql(server: string, run: (connection: Connection) => Promise<unknown>): Promise<void> {
  const connection = await createConnection(server);
  try {
    await run(connection);
  } finally {
    await connection.end();
  }
}
