import { Redis } from 'ioredis';
import { createConnection } from 'mysql2/promise';
import pg from 'pg';
import { startEmbeddedPostgres } from '../support/embedded-postgres.js';
import { createMysql, createPostgres, createSqlite, type FreshDatabase } from '../support/fresh-database.js';

export const DATABASES = ['sqlite', 'postgres', 'mariadb'] as const;
export type DatabaseName = (typeof DATABASES)[number];

/** The servers that this run can use. */
export interface Servers {
  /** Creates a fresh database, for each available kind. */
  readonly databases: ReadonlyMap<DatabaseName, () => Promise<FreshDatabase>>;
  readonly postgresUrl: string | null;
  readonly redisUrl: string | null;
  /** Available servers, with versions. */
  readonly found: readonly string[];
  /** Missing servers, and how to provide them. */
  readonly missing: readonly string[];
  stop(): Promise<void>;
}

/**
 * Finds the servers at `POSTGRES_URL`, `MYSQL_URL` and `REDIS_URL`. Starts an embedded PostgreSQL if `POSTGRES_URL`
 * is not set.
 */
export async function findServers(wanted: ReadonlySet<DatabaseName>): Promise<Servers> {
  const { POSTGRES_URL, MYSQL_URL, REDIS_URL } = process.env;
  const databases = new Map<DatabaseName, () => Promise<FreshDatabase>>();
  const found: string[] = [];
  const missing: string[] = [];
  if (wanted.has('sqlite')) {
    databases.set('sqlite', createSqlite);
    found.push('SQLite');
  }
  const embedded = wanted.has('postgres') && !POSTGRES_URL ? await startEmbeddedPostgres() : undefined;
  const postgresUrl = POSTGRES_URL ?? embedded?.url ?? null;
  if (wanted.has('postgres') && postgresUrl !== null) {
    databases.set('postgres', () => createPostgres(postgresUrl));
    const how = embedded ? ', embedded and without durable writes: set POSTGRES_URL to a server for real numbers' : '';
    found.push(`PostgreSQL (${await postgresSettings(postgresUrl)}${how})`);
  }
  if (wanted.has('mariadb') && MYSQL_URL) {
    const { type, settings } = await mysqlSettings(MYSQL_URL);
    databases.set('mariadb', () => createMysql(MYSQL_URL, type));
    found.push(settings);
  } else if (wanted.has('mariadb')) missing.push('MariaDB (set MYSQL_URL)');
  if (REDIS_URL) {
    const redis = new Redis(REDIS_URL);
    const version = /redis_version:(\S+)/.exec(await redis.info('server'))?.[1];
    redis.disconnect();
    found.push(`Redis ${version}`);
  } else missing.push('Redis (set REDIS_URL)');
  return {
    databases,
    postgresUrl,
    redisUrl: REDIS_URL ?? null,
    found,
    missing,
    stop: async () => embedded?.stop(),
  };
}

async function postgresSettings(url: string): Promise<string> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const { rows } = await client.query<{ setting: string }>(
    "select setting from pg_settings where name in ('server_version', 'fsync', 'synchronous_commit') order by name",
  );
  await client.end();
  const [fsync, version, synchronousCommit] = rows.map(({ setting }) => setting);
  return `${version?.split(' ')[0]}, fsync ${fsync}, synchronous_commit ${synchronousCommit}`;
}

async function mysqlSettings(url: string): Promise<{ type: 'mariadb' | 'mysql'; settings: string }> {
  const connection = await createConnection(url);
  const [rows] = await connection.query(
    'select version() as version, @@innodb_flush_log_at_trx_commit as durability, @@sync_binlog as binlog',
  );
  await connection.end();
  const { version, durability, binlog } = (rows as { version: string; durability: number; binlog: number }[])[0]!;
  const isMariadb = /mariadb/i.test(version);
  return {
    type: isMariadb ? 'mariadb' : 'mysql',
    settings: `${isMariadb ? 'MariaDB' : 'MySQL'} (${version.split('-')[0]}, innodb_flush_log_at_trx_commit ${durability}, sync_binlog ${binlog})`,
  };
}
