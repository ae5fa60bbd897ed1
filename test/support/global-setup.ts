import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { createConnection } from 'mysql2/promise';
import pg from 'pg';
import type { TestProject } from 'vitest/node';

import { chosenDatabases, networkSuitesLeftOut } from './chosen-databases.js';
import { memoryFolder } from './memory-folder.js';
import { startEmbeddedPostgres } from './embedded-postgres.js';
import { installedPromtool } from './promtool.js';
import { installedPgBouncer, type InstalledPgBouncer } from './installed-pgbouncer.js';
import { networkNamespaces } from './network-namespaces.js';

/** The servers of this run, for the workers and the reporter. */
export interface TestServers {
  /** Missing if `DATABASES` does not name it. */
  postgres?: { url: string; version: string; embedded: boolean };
  /** Missing without `MYSQL_URL`, and if `DATABASES` names neither type. The products differ: only MariaDB has `RETURNING`. */
  mysql?: { url: string; version: string; product: 'MariaDB' | 'MySQL' };
  /** Missing without `REDIS_URL`. */
  redis?: { url: string };
  /** Missing if it is not installed. */
  pgbouncer?: InstalledPgBouncer;
  /** Version of Prometheus' promtool. Missing if it is not installed. */
  promtool?: string;
  /** Whether this run can make network namespaces, or the reason why not. Missing if it runs no suite that needs them. */
  namespaces?: true | string;
}

/** What the end of the run removes. */
export interface TestRun {
  /** Of databases on the servers. */
  prefix: string;
  /** For files that several suites use. */
  folder: string;
}

declare module 'vitest' {
  interface ProvidedContext {
    servers: TestServers;
    run: TestRun;
  }
}

/** Runs once, before the first test file: finds or starts the database servers. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const { POSTGRES_URL, MYSQL_URL, REDIS_URL, REQUIRE_ALL_DATABASES, DATABASES } = process.env;
  const chosen = chosenDatabases(DATABASES);
  const missing = Object.entries({ MYSQL_URL, REDIS_URL }).flatMap(([name, url]) => (url ? [] : [name]));
  if (REQUIRE_ALL_DATABASES === '1' && missing.length > 0) {
    throw new Error(`REQUIRE_ALL_DATABASES=1, but ${missing.join(' and ')} is not set`);
  }
  if (REQUIRE_ALL_DATABASES === '1' && DATABASES) {
    throw new Error(`REQUIRE_ALL_DATABASES=1 and DATABASES='${DATABASES}' contradict each other: unset one of them`);
  }
  const wantsMysql = chosen.includes('mariadb') || chosen.includes('mysql2');
  if (DATABASES && wantsMysql && !MYSQL_URL) {
    throw new Error(`DATABASES='${DATABASES}' needs a server: set MYSQL_URL`);
  }
  const mysql = MYSQL_URL && wantsMysql ? await mysqlServer(MYSQL_URL) : undefined;
  const embedded = chosen.includes('postgres') && !POSTGRES_URL ? await startEmbeddedPostgres() : undefined;
  const folder = await mkdtemp(join(memoryFolder(), 'webhooks-test-'));
  const prefix = `webhooks_test_${randomBytes(4).toString('hex')}_`;
  const stop = async () => {
    await rm(folder, { recursive: true, force: true });
    await embedded?.stop();
  };
  try {
    const postgres = chosen.includes('postgres') && (await postgresServer(embedded?.url ?? POSTGRES_URL!, !!embedded));
    const pgbouncer = postgres && installedPgBouncer();
    const promtool = installedPromtool();
    project.provide('servers', {
      ...(postgres && { postgres }),
      ...(mysql && { mysql }),
      ...(REDIS_URL && { redis: { url: REDIS_URL } }),
      ...(pgbouncer && { pgbouncer }),
      ...(promtool !== undefined && { promtool }),
      ...(networkSuitesLeftOut().length === 0 && { namespaces: networkNamespaces() }),
    });
    project.provide('run', { prefix, folder });
    return async () => {
      try {
        if (postgres && !embedded) await dropOnPostgres(postgres.url, prefix);
        if (mysql) await dropOnMysql(mysql.url, prefix);
      } finally {
        await stop();
      }
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function postgresServer(url: string, embedded: boolean): Promise<NonNullable<TestServers['postgres']>> {
  return { url, version: await postgresVersion(url), embedded };
}

/** `_` stands for any character in `like`. */
const matching = (prefix: string) => `${prefix.replaceAll('_', String.raw`\_`)}%`;

async function dropOnPostgres(url: string, prefix: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query<{ name: string }>(
      'select datname as name from pg_database where datname like $1',
      [matching(prefix)],
    );
    for (const { name } of rows) await client.query(`drop database if exists ${name} with (force)`);
  } finally {
    await client.end();
  }
}

async function dropOnMysql(url: string, prefix: string): Promise<void> {
  const connection = await createConnection(url);
  try {
    const [rows] = await connection.query(
      'select schema_name as name from information_schema.schemata where schema_name like ?',
      [matching(prefix)],
    );
    for (const { name } of rows as { name: string }[]) await connection.query(`drop database if exists ${name}`);
  } finally {
    await connection.end();
  }
}

async function postgresVersion(url: string): Promise<string> {
  const client = new pg.Client({ connectionString: url });
  try {
    await client.connect();
    const { rows } = await client.query<{ server_version: string }>('show server_version');
    return rows[0]!.server_version.split(' ')[0]!;
  } catch (error) {
    throw new Error('No PostgreSQL server answers at POSTGRES_URL', { cause: error });
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function mysqlServer(url: string): Promise<TestServers['mysql']> {
  try {
    const connection = await createConnection(url);
    const [rows] = await connection.query('select version() as version');
    await connection.end();
    const { version } = (rows as { version: string }[])[0]!;
    return { url, version: version.split('-')[0]!, product: /mariadb/i.test(version) ? 'MariaDB' : 'MySQL' };
  } catch (error) {
    throw new Error('No MariaDB or MySQL server answers at MYSQL_URL', { cause: error });
  }
}
