import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { existsSync } from 'node:fs';

/** The program that Debian installs. */
const PROGRAM = '/usr/bin/redis-server';

/** Whether this machine can start a Redis of its own. */
export const hasRedisServer = existsSync(PROGRAM);

/** A Redis server that a test may kill, flush and fill. It keeps nothing on the disk. */
export class OwnRedis {
  private server: ChildProcess | null = null;

  private constructor(
    readonly port: number,
    private readonly folder: string,
  ) {}

  static async start(): Promise<OwnRedis> {
    const redis = new OwnRedis(await freePort(), await mkdtemp(join(tmpdir(), 'webhooks-redis-')));
    await redis.begin();
    return redis;
  }

  /** What `bullmqEngine()` takes as `connection`. */
  get connection() {
    return { host: '127.0.0.1', port: this.port };
  }

  /** Starts the server, after {@link kill} without any data. */
  async begin(): Promise<void> {
    const args = ['--port', String(this.port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'];
    this.server = spawn(PROGRAM, [...args, '--dir', this.folder], { stdio: 'ignore' });
    await this.send((client) => client.ping());
  }

  /** Ends the server at once, with its data. */
  async kill(): Promise<void> {
    const { server } = this;
    if (!server) return;
    this.server = null;
    const ended = once(server, 'exit');
    server.kill('SIGKILL');
    await ended;
  }

  /** Sends commands over a connection of their own. */
  async send<T>(commands: (client: Redis) => Promise<T>): Promise<T> {
    const client = new Redis({ ...this.connection, retryStrategy: () => 50, maxRetriesPerRequest: null });
    client.on('error', () => undefined);
    try {
      return await commands(client);
    } finally {
      client.disconnect();
    }
  }

  async stop(): Promise<void> {
    await this.kill();
    await rm(this.folder, { recursive: true, force: true });
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
