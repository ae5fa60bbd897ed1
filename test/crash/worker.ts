/**
 * An application that writes and sends until it is killed. It sends `ready` on its IPC channel. After the message `quiet` it finishes its
 * last transaction, stops writing, and answers `quiet`.
 */
import 'reflect-metadata';
import { setTimeout as pause } from 'node:timers/promises';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventEmitterModule } from '@nestjs/event-emitter';
import { TypeOrmModule, type TypeOrmModuleOptions } from '@nestjs/typeorm';
import { DataSource, type EntityManager } from 'typeorm';
import { RetrySchedule, WebhooksModule } from 'nestjs-entity-webhooks';
import { Audit, COLOURS, Parcel, seededRandom, SHARED_COLOUR, type WorkerOptions } from './parcels.js';

const options = JSON.parse(process.env.CRASH_WORKER ?? '{}') as WorkerOptions;
const random = seededRandom(options.seed);

/** Retries come soon: the end of the run waits for the last retry. */
class Soon extends RetrySchedule {
  override delayMs(): number {
    return 100 + Math.round(200 * Math.random());
  }
}

@Module({
  imports: [
    TypeOrmModule.forRoot({ ...options.database, entities: [Parcel, Audit], retryAttempts: 0 } as TypeOrmModuleOptions),
    EventEmitterModule.forRoot(),
    WebhooksModule.forRoot({
      security: options.security ?? { allowedAddresses: ['127.0.0.0/8'], allowHttp: true },
      parts: { retrySchedule: Soon },
      dispatcher: { ...options.dispatcher, autoStart: options.autoStart },
    }),
    WebhooksModule.forFeature([Parcel]),
  ],
})
class WorkerModule {}

/** Thrown to roll back. */
class Undone extends Error {}

/**
 * Committed rows that only one writer changes, and only in later transactions: the event of remove() has the row as TypeORM loaded it, and
 * on InnoDB that is the row at the start of the transaction.
 */
type Own = { id: number; change: string; colour: string }[];
let changes = 0;
const state = { isQuiet: false };

async function write(manager: EntityManager, own: Own): Promise<Own> {
  const change = `${options.name}-${++changes}`;
  const colour = COLOURS[Math.floor(random() * COLOURS.length)] as string;
  const kind = random();
  const log = (type: string, of: { change: string; colour: string }) =>
    manager.insert(Audit, { type, change: of.change, colour: of.colour });
  if (kind < 0.2) {
    // Not the colour: TypeORM writes only the differences from a row that it read without a lock, so another writer's colour could stay.
    const id = 1 + Math.floor(random() * options.sharedRows);
    await manager.save(Parcel, { id, change });
    await log('parcel.updated', { change, colour: SHARED_COLOUR });
    return [];
  }
  const row = kind < 0.6 ? own.pop() : undefined;
  if (!row) {
    const { id } = await manager.save(Parcel, { change, colour });
    await log('parcel.created', { change, colour });
    return [{ id, change, colour }];
  }
  if (kind < 0.45) {
    await manager.save(Parcel, { id: row.id, change, colour });
    await log('parcel.updated', { change, colour });
    return [{ id: row.id, change, colour }];
  }
  await manager.remove(Object.assign(new Parcel(), row));
  await log('parcel.deleted', row);
  return [];
}

/** Some changes, sometimes a savepoint, and then a commit or a rollback. */
async function transaction(dataSource: DataSource, own: Own): Promise<void> {
  const rows = await dataSource.transaction(async (manager) => {
    const written = await write(manager, own);
    if (random() < 0.4) {
      try {
        written.push(
          ...(await manager.transaction(async (inner) => {
            const more = await write(inner, own);
            if (random() < 0.5) throw new Undone();
            return more;
          })),
        );
      } catch (error) {
        if (!(error instanceof Undone)) throw error;
      }
    }
    if (random() < 0.5) written.push(...(await write(manager, own)));
    if (random() < 0.3) throw new Undone();
    return written;
  });
  own.push(...rows);
}

async function writeUntilQuiet(dataSource: DataSource): Promise<void> {
  const own: Own = [];
  while (!state.isQuiet) {
    // Deadlocks, and restarts of the database. The audit table shows whether the transaction was committed.
    await transaction(dataSource, own).catch((error: unknown) => (error instanceof Undone ? undefined : pause(50)));
    await pause(random() * 15);
  }
}

process.on('message', () => (state.isQuiet = true));
const app = await NestFactory.createApplicationContext(WorkerModule, { logger: ['error', 'warn'] });
app.enableShutdownHooks();
process.send?.('ready');
await Promise.all([writeUntilQuiet(app.get(DataSource)), writeUntilQuiet(app.get(DataSource))]);
process.send?.('quiet');
