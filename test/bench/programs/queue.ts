import 'reflect-metadata';
import { randomUUID } from 'node:crypto';
import { Agent as HttpAgent } from 'node:http';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventEmitterModule } from '@nestjs/event-emitter';
import { TypeOrmModule } from '@nestjs/typeorm';
import axios from 'axios';
import { Queue, Worker, type ConnectionOptions } from 'bullmq';
import { WebhookTransport, WebhooksModule } from 'nestjs-entity-webhooks';
import {
  Column,
  CreateDateColumn,
  DataSource,
  Entity,
  PrimaryGeneratedColumn,
  type DataSourceOptions,
  type Repository,
} from 'typeorm';
import { LOOPBACK } from '../loopback.js';
import { measure, type Measurement } from '../measure.js';
import { BODY, SECRET, signed } from '../signed.js';

// The usual alternative to an outbox: a BullMQ worker that posts the content of its jobs.

export interface QueueOptions {
  readonly redis: string;
  readonly url: string;
  readonly count: number;
  readonly concurrency: number;
  /** `axios`: with its defaults and a keep-alive agent; `library`: the transport of the library. */
  readonly client: 'axios' | 'library';
  /**
   * Database in which each attempt is saved as a row, with a TypeORM repository. @defaultValue attempts are not saved
   */
  readonly log?: DataSourceOptions;
}

interface Job {
  readonly id: string;
  readonly url: string;
  readonly body: string;
}

/** One row per attempt, as an application would write it. */
@Entity('delivery_log')
class DeliveryLog {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 64 })
  eventId: string;

  @Column({ type: 'varchar', length: 2000 })
  url: string;

  @Column({ type: 'int' })
  status: number;

  @Column({ type: 'int' })
  durationMs: number;

  @Column({ type: 'text' })
  response: string;

  @CreateDateColumn()
  createdAt: Date;
}

/** The response to one attempt. */
interface Answer {
  readonly status: number;
  readonly response: string;
}
type Send = (job: Job) => Promise<Answer>;

/**
 * Adds jobs in bulk, then works them off; only the second part is timed. @returns the measurement and the number of
 * rows in the log
 */
export async function workOff(options: QueueOptions): Promise<Measurement & { logged: number }> {
  const { count, concurrency } = options;
  const { hostname, port, username, password } = new URL(options.redis);
  const connection: ConnectionOptions = {
    host: hostname,
    port: Number(port || 6379),
    username: decodeURIComponent(username),
    password: decodeURIComponent(password),
    maxRetriesPerRequest: null,
  };
  const send = options.client === 'axios' ? axiosClient(concurrency) : await libraryTransport();
  const dataSource = options.log
    ? await new DataSource({ ...options.log, entities: [DeliveryLog], synchronize: true }).initialize()
    : null;
  const log = dataSource?.getRepository(DeliveryLog) ?? null;
  const queue = new Queue<Job>(`bench-${randomUUID()}`, { connection });
  try {
    await addJobs(queue, options.url, count);
    const measurement = await measure(
      count,
      () =>
        new Promise<void>((resolve, reject) => {
          let left = count;
          const worker = new Worker<Job>(queue.name, ({ data }) => deliver(data, send, log), {
            connection,
            concurrency,
          });
          worker.on('completed', () => {
            if (--left === 0) resolve();
          });
          worker.on('failed', (_, error) => reject(error));
          worker.on('error', reject);
        }),
    );
    return { ...measurement, logged: (await log?.count()) ?? 0 };
  } finally {
    await queue.obliterate({ force: true });
    await dataSource?.destroy();
  }
}

async function addJobs(queue: Queue<Job>, url: string, count: number): Promise<void> {
  const options = { attempts: 10, backoff: { type: 'exponential', delay: 1_000 }, removeOnComplete: true };
  for (let from = 0; from < count; from += 500) {
    const jobs = Array.from({ length: Math.min(500, count - from) }, (_, i) => ({
      name: 'deliver',
      data: { id: `evt_${process.pid}_${queue.name}_${from + i}`, url, body: BODY },
      opts: options,
    }));
    await queue.addBulk(jobs);
  }
}

async function deliver(job: Job, send: Send, log: Repository<DeliveryLog> | null): Promise<void> {
  const startedAt = performance.now();
  const { status, response } = await send(job);
  const durationMs = Math.round(performance.now() - startedAt);
  if (log) await log.save({ eventId: job.id, url: job.url, status, durationMs, response });
  if (status !== 204) throw new Error(`the receiver answered ${status}`);
}

function axiosClient(concurrency: number): Send {
  const client = axios.create({
    httpAgent: new HttpAgent({ keepAlive: true, maxSockets: concurrency }),
    maxRedirects: 0,
    validateStatus: () => true,
  });
  return async ({ id, url, body }) => {
    const { status, data } = await client.post<string>(url, body, { headers: signed(id, body, SECRET) });
    return { status, response: data };
  };
}

/** The transport as the module wires it, taken from a separate application that does nothing else. */
async function libraryTransport(): Promise<Send> {
  @Module({
    imports: [
      TypeOrmModule.forRoot({ type: 'better-sqlite3', database: ':memory:', synchronize: true }),
      EventEmitterModule.forRoot(),
      WebhooksModule.forRoot({ security: LOOPBACK, dispatcher: { autoStart: false } }),
    ],
  })
  class TransportModule {}
  const app = await NestFactory.createApplicationContext(TransportModule, { logger: ['error'] });
  const transport = app.get(WebhookTransport, { strict: false });
  return async ({ id, url, body }) => {
    const headers = signed(id, body, SECRET);
    const { status, response } = await transport.send({ url, headers, body: Buffer.from(body), timeoutMs: 15_000 });
    return { status: status ?? 0, response: response ?? '' };
  };
}
