import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chown, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { inject } from 'vitest';
import { freePort } from './child-process.js';
import { createPostgres, type FreshDatabase } from './fresh-database.js';
import { unprivilegedAccount } from './embedded-postgres.js';

/** A new database behind a pooler. */
export interface PooledDatabase extends FreshDatabase {
  /** A direct connection, without the pooler. */
  directUrl: string;
}

export interface RunningPgBouncer {
  create(): Promise<PooledDatabase>;
  stop(): Promise<void>;
}

/** Few on purpose: code that leaves state in a session soon gets the same session again. */
const SERVER_CONNECTIONS = 2;
const READY_WITHIN_MS = 10_000;

/**
 * PgBouncer in transaction mode, on a free port, in front of this run's PostgreSQL. There are 2 server connections per database, and after
 * a transaction a client may get the other one.
 */
export async function startPgBouncer(): Promise<RunningPgBouncer> {
  const { postgres, pgbouncer } = inject('servers');
  if (!postgres) throw new Error('PgBouncer needs the PostgreSQL of this run: DATABASES must name postgres');
  if (!pgbouncer) throw new Error('PgBouncer is not installed: apt-get install pgbouncer');
  const { hostname, port, username, password } = new URL(postgres.url);
  const folder = await mkdtemp(join(tmpdir(), 'webhooks-pgbouncer-'));
  const listenPort = await freePort();
  const quoted = (text: string) => `"${decodeURIComponent(text).replaceAll('"', '""')}"`;
  await writeFile(join(folder, 'users.txt'), `${quoted(username)} ${quoted(password)}\n`);
  await writeFile(
    join(folder, 'pgbouncer.ini'),
    `[databases]
* = host=${hostname} port=${port || 5432}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${listenPort}
unix_socket_dir =
auth_type = trust
auth_file = ${join(folder, 'users.txt')}
pool_mode = transaction
default_pool_size = ${SERVER_CONNECTIONS}
max_client_conn = 200
`,
  );
  const account = process.getuid?.() === 0 ? unprivilegedAccount() : undefined;
  if (account)
    for (const path of ['.', 'users.txt', 'pgbouncer.ini']) await chown(join(folder, path), account.uid, account.gid);
  const server = spawn(pgbouncer.command, [join(folder, 'pgbouncer.ini')], {
    ...account,
    cwd: folder,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const exited = once(server, 'exit');
  let log = '';
  server.stderr.setEncoding('utf8').on('data', (text: string) => (log = (log + text).slice(-4_096)));
  const pooled = (direct: string) => {
    const url = new URL(direct);
    url.host = `127.0.0.1:${listenPort}`;
    return url.href;
  };
  const stop = async () => {
    server.kill('SIGINT');
    const timer = setTimeout(() => server.kill('SIGKILL'), 5_000);
    await exited;
    clearTimeout(timer);
    await rm(folder, { recursive: true, force: true });
  };
  const deadline = Date.now() + READY_WITHIN_MS;
  while (!(await answers(pooled(postgres.url)))) {
    if (server.exitCode !== null || Date.now() > deadline) {
      await stop();
      throw new Error(`PgBouncer does not answer:\n${log}`);
    }
    await pause(50);
  }
  return {
    async create() {
      // Not a reused one: the pooler may still have connections of the last test, which are ended.
      const { options, drop } = await createPostgres(postgres.url);
      const { url: directUrl } = options as { url: string };
      return { options: { ...options, url: pooled(directUrl) } as FreshDatabase['options'], drop, directUrl };
    },
    stop,
  };
}

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('select 1');
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}
