import { createConnection } from 'mysql2/promise';
import pg from 'pg';
import type { TestProject } from 'vitest/node';

import { chosenDatabases } from './chosen-databases.js';
import { startEmbeddedPostgres } from './embedded-postgres.js';
import { installedPgBouncer, type InstalledPgBouncer } from './installed-pgbouncer.js';

/** The servers of this run, for the workers and the reporter. */
export interface TestServers {
  /** Missing if `DATABASES` does not name it. */
  postgres?: { url: string; version: string; embedded: boolean };
  /** Missing without `MYSQL_URL`, and if `DATABASES` names neither type. The products differ: only MariaDB has `RETURNING`. */
  mysql?: { url: string; version: string; product: 'MariaDB' | 'MySQL' };
  /** Missing if it is not installed. */
  pgbouncer?: InstalledPgBouncer;
}

declare module 'vitest' {
  interface ProvidedContext {
    servers: TestServers;
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

  if (!chosen.includes('postgres')) {
    project.provide('servers', { ...(mysql && { mysql }) });
    return async () => undefined;
  }
  const embedded = POSTGRES_URL ? undefined : await startEmbeddedPostgres();
  try {
    const url = embedded?.url ?? POSTGRES_URL!;
    const postgres = { url, version: await postgresVersion(url), embedded: embedded !== undefined };
    const pgbouncer = installedPgBouncer();
    project.provide('servers', { postgres, ...(mysql && { mysql }), ...(pgbouncer && { pgbouncer }) });
  } catch (error) {
    await embedded?.stop();
    throw error;
  }
  return async () => {
    await embedded?.stop();
  };
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
