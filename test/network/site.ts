import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Server } from 'node:http';
import { Redis } from 'ioredis';
import type { DispatcherOptions } from 'nestjs-entity-webhooks';
import type { DataSourceOptions } from 'typeorm';
import type { FreshDatabase, TestDatabase } from '../support/databases.js';
import { Parcel, type DispatchingProcess, type DispatchingProcesses } from '../support/dispatching-process.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import type { Gateway, GatewayTarget } from './gateway.js';
import { ALLOWED, Network, type Host } from './network.js';

/** Another process starts in this time, and a cut host works again, on a busy machine, too. */
export const PATIENT = { timeout: 90_000, timeoutMs: 90_000 };

/** What a worker on a host gets. */
export interface SiteWorker {
  dispatcher?: DispatcherOptions;
  /** The time from a failed attempt to the next one. */
  retryMs?: number;
  /** Whether Redis passes wake-ups on to it. */
  usesRedis?: boolean;
}

/**
 * Workers on hosts of their own, which reach the database, the receiver and Redis through links that a test can break. The application that
 * writes, and the receiver, are outside: their own connections always work.
 */
export class Site {
  private readonly running: DispatchingProcess[] = [];

  private constructor(
    private readonly processes: DispatchingProcesses,
    private readonly fresh: FreshDatabase,
    readonly app: TestApp,
    readonly network: Network,
  ) {}

  /** @param redis URL of the server */
  static async open(processes: DispatchingProcesses, database: TestDatabase, redis?: string): Promise<Site> {
    const fresh = await database.reuse();
    const app = await startApp({
      database: fresh.options,
      entities: [Parcel],
      webhooks: { security: ALLOWED, ...(redis && { wakeUp: { redis: () => new Redis(redis) } }) },
    });
    subscribe(REQUESTS, keepConnections);
    const targets = [serverOf(fresh.options), app.receiver.url, ...(redis ? [redis] : [])].map(targetOf);
    return new Site(processes, fresh, app, await Network.create(targets));
  }

  get database(): Gateway {
    return this.network.gateway(0);
  }

  get receiver(): Gateway {
    return this.network.gateway(1);
  }

  get redis(): Gateway {
    return this.network.gateway(2);
  }

  /** The URL for listeners, which only the hosts reach. */
  get receiverUrl(): string {
    return `http://${this.receiver.address}:${this.receiver.port}/`;
  }

  async startWorker(host: Host, { dispatcher, retryMs, usesRedis }: SiteWorker = {}): Promise<DispatchingProcess> {
    const worker = await this.processes.startWorker({
      database: through(this.database, this.fresh.options),
      webhooks: {
        security: ALLOWED,
        dispatcher: { pollIntervalMs: 100, timeoutMs: 5_000, leaseMs: 8_000, ...dispatcher },
      },
      within: host.command,
      ...(retryMs !== undefined && { retryMs }),
      ...(usesRedis && { redis: `redis://${this.redis.address}:${this.redis.port}` }),
    });
    this.running.push(worker);
    return worker;
  }

  /** Saves a new row, or a change of one. */
  save(name: string, id?: number): Promise<Parcel> {
    return this.app.dataSource.getRepository(Parcel).save({ name, ...(id !== undefined && { id }) });
  }

  /** The names of the parcels in all requests so far, in the order in which they arrived. */
  names(): string[] {
    return this.app.receiver.requests.map(({ json }) => (json as { data: { name: string } }).data.name);
  }

  async close(): Promise<void> {
    await Promise.all(this.running.map((worker) => worker.stop()));
    await this.network.remove();
    unsubscribe(REQUESTS, keepConnections);
    await this.app.close();
    await this.fresh.drop();
  }
}

const REQUESTS = 'http.server.request.start';

/** Other servers keep an idle connection for a minute and more, Node's for 5 s: too short for a test that waits for the database. */
function keepConnections(message: unknown): void {
  (message as { server: Server }).server.keepAliveTimeout = 10 * 60_000;
}

/** The address of a database server. */
export function serverOf(options: DataSourceOptions): string {
  const { url, host, port } = options as { url?: string; host?: string; port?: number };
  return url ?? `tcp://${host}:${port}`;
}

/** A server for a gateway, by its URL. */
export function targetOf(url: string): GatewayTarget {
  const { hostname, port } = new URL(url);
  return { host: hostname, port: Number(port || 5432) };
}

/** The options of a database that is reached through a gateway. */
export function through({ address, port }: Gateway, options: DataSourceOptions): DataSourceOptions {
  const { url } = options as { url?: string };
  if (url === undefined) return { ...options, host: address, port } as DataSourceOptions;
  const changed = new URL(url);
  changed.host = `${address}:${port}`;
  return { ...options, url: changed.href } as DataSourceOptions;
}
