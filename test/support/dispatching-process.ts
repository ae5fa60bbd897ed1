import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Column, Entity, PrimaryGeneratedColumn, type DataSourceOptions } from 'typeorm';
import { Webhook, type WebhooksOptions } from 'nestjs-entity-webhooks';
import type { BullmqEngineOptions } from 'nestjs-entity-webhooks/bullmq';
import { sharedProject } from './scratch-project.js';
import { LOOPBACK } from './webhooks-app.js';

/** The entity of such a process. */
@Webhook()
@Entity('parcel')
export class Parcel {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50 })
  name: string;
}

const MAIN = `
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventEmitterModule } from '@nestjs/event-emitter';
import { TypeOrmModule } from '@nestjs/typeorm';
import { Column, DataSource, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { Webhook, WebhooksModule } from 'nestjs-entity-webhooks';

@Webhook()
@Entity('parcel')
class Parcel {
  @PrimaryGeneratedColumn() id: number;
  @Column({ type: 'varchar', length: 50 }) name: string;
}

const { database, webhooks, saves, uncommitted } = JSON.parse(process.env.PROCESS ?? '{}');

@Module({
  imports: [
    TypeOrmModule.forRoot({ ...database, entities: [Parcel], retryAttempts: 0 }),
    EventEmitterModule.forRoot(),
    WebhooksModule.forRoot(webhooks),
    WebhooksModule.forFeature([Parcel]),
  ],
})
class AppModule {}

const app = await NestFactory.createApplicationContext(AppModule, { logger: ['error', 'warn'] });
app.enableShutdownHooks();
const dataSource = app.get(DataSource);
await dataSource.getRepository(Parcel).save(saves.map((name: string) => ({ name })));
if (uncommitted) {
  const runner = dataSource.createQueryRunner();
  await runner.startTransaction();
  await runner.manager.save(Parcel, { name: uncommitted });
}
console.log('ready');
`;

/** A worker: it has neither the entity nor EventEmitterModule. */
const WORKER = `
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import { RetrySchedule, SignatureScheme, WebhooksWorkerModule } from 'nestjs-entity-webhooks';

const { database, webhooks, redis, retryMs = 5_000, schemes = [], engine } = JSON.parse(process.env.PROCESS ?? '{}');
// Few of these processes need these packages.
const { Redis } = redis ? await import('ioredis') : {};
const { bullmqEngine } = engine ? await import('nestjs-entity-webhooks/bullmq') : {};
if (engine) webhooks.dispatcher = { ...webhooks.dispatcher, engine: bullmqEngine(engine) };

class Steady extends RetrySchedule {
  override delayMs(): number {
    return retryMs;
  }
}

/** Signs with its name. */
const signatureSchemes = schemes.map(
  (name: string) =>
    class extends SignatureScheme {
      readonly name = name;
      override sign() {
        return { ['x-' + name]: 'signed' };
      }
      override verify() {
        return false;
      }
    },
);

@Module({
  imports: [
    TypeOrmModule.forRoot({ ...database, entities: [], synchronize: false, retryAttempts: 0 }),
    WebhooksWorkerModule.forRoot({
      ...webhooks,
      ...(redis && { wakeUp: { redis: () => new Redis(redis) } }),
      parts: { retrySchedule: Steady, signatureSchemes },
    }),
  ],
})
class WorkerModule {}

const worker = await NestFactory.createApplicationContext(WorkerModule, { logger: ['error', 'warn'] });
worker.enableShutdownHooks();
console.log('ready');
`;

/** Loaded first: it changes the time for the whole process. */
const SHIFT = `
const { clockShiftMs } = JSON.parse(process.env.PROCESS ?? '{}');
const HostDate = Date;
const now = () => HostDate.now() + clockShiftMs;
globalThis.Date = new Proxy(HostDate, {
  construct: (date, args, as) => Reflect.construct(date, args.length ? args : [now()], as),
  get: (date, key, as) => (key === 'now' ? now : Reflect.get(date, key, as)),
});
export {};
`;

export interface DispatchingProcessOptions {
  database: DataSourceOptions;
  webhooks?: WebhooksOptions;
  /** How far its host's clock is ahead, in ms. */
  clockShiftMs?: number;
  /** Names of the parcels that it saves when it starts, in one transaction. */
  saves?: readonly string[];
  /** Name of a parcel that it saves in a transaction which it leaves open. */
  uncommitted?: string;
}

export interface WorkerProcessOptions {
  database: DataSourceOptions;
  webhooks?: WebhooksOptions;
  /** Options of `bullmqEngine()`, if BullMQ says what is due. */
  engine?: BullmqEngineOptions;
  /** The time from a failed attempt to the next one. */
  retryMs?: number;
  /** Names of its own signature schemes: such a scheme sets the header `x-<name>`. */
  schemes?: readonly string[];
  /** URL of the Redis that passes wake-ups on. */
  redis?: string;
  /** A command that runs the program, such as `ip netns exec NAME`. */
  within?: readonly string[];
}

/** A process that runs. */
export interface DispatchingProcess {
  kill(signal: NodeJS.Signals): void;
  /** Resolves with its exit code and the signal that ended it. */
  readonly ended: Promise<unknown[]>;
  /** Kills it, and waits for its end. */
  stop(): Promise<void>;
}

/** Another process on the same database, with the library as users install it. */
export interface DispatchingProcesses {
  /** Resolves when it runs and has saved its parcels. It dispatches unless its options prevent it. */
  start(options: DispatchingProcessOptions): Promise<DispatchingProcess>;
  /** Like `start()`, for a worker: it only sends. */
  startWorker(options: WorkerProcessOptions): Promise<DispatchingProcess>;
}

/** Builds the programs, once in a run. */
export async function prepareProcesses(): Promise<DispatchingProcesses> {
  const folder = await sharedProject('processes', async (project) => {
    await project.write('src/main.ts', MAIN);
    await project.write('src/worker.ts', WORKER);
    await project.write('src/shift.ts', SHIFT);
    await project.transpile();
    await project.bundle('main.js', 'worker.js');
  });
  const dist = (file: string) => join(folder, 'dist', file);
  async function run(
    program: string,
    { within = [], ...options }: DispatchingProcessOptions & Pick<WorkerProcessOptions, 'within'>,
  ): Promise<DispatchingProcess> {
    const webhooks = { security: LOOPBACK, ...options.webhooks };
    const settings = { clockShiftMs: 0, saves: [], ...options, webhooks };
    const [command, ...args] = [...within, process.execPath, '--import', dist('shift.js'), dist(program)];
    const child = spawn(command, args, {
      env: { ...process.env, PROCESS: JSON.stringify(settings) },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(child, 'exit');
    const lines = createInterface(child.stdout);
    const isReady = (async () => {
      for await (const line of lines) if (line === 'ready') return;
      throw new Error('the process ended before it was ready');
    })();
    await isReady;
    child.stdout.resume();
    return {
      kill: (signal) => void child.kill(signal),
      ended,
      async stop() {
        child.kill('SIGKILL');
        await ended;
      },
    };
  }
  return {
    start: (options) => run('main.js', options),
    startWorker: (options) => run('worker.js', options),
  };
}
