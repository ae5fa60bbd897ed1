import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { webhookEntities } from 'nestjs-entity-webhooks';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { Order } from './orders/order.entity.js';
import { User } from './users/user.entity.js';

/** The database of a tour, without rows at the start. */
export interface DemoDatabase {
  readonly options: DataSourceOptions;
  /** A name to print, without the password. */
  readonly label: string;
  /** Removes the temporary file, if there is a temporary file. Call `discard()` after the application is closed. */
  discard(): Promise<void>;
}

/**
 * `synchronize` creates the tables of the shop and of the library. In production, use migrations instead. With the prefix, the demo
 * does not change other tables.
 */
const TABLES = { synchronize: true, entityPrefix: 'webhooks_demo_' };

const TYPES: ReadonlyMap<string, 'postgres' | 'mysql' | 'mariadb'> = new Map([
  ['postgres:', 'postgres'],
  ['postgresql:', 'postgres'],
  ['mysql:', 'mysql'],
  ['mariadb:', 'mariadb'],
]);

/**
 * @param url a URL that begins with `postgres://`, `mysql://` or `mariadb://`. The tables `webhooks_demo_*` in this database are
 * dropped and created again. Without a URL, the demo uses SQLite in a temporary file
 */
export async function freshDatabase(url: string | undefined): Promise<DemoDatabase> {
  return url ? onServer(url) : inTemporaryFile();
}

async function inTemporaryFile(): Promise<DemoDatabase> {
  const folder = await mkdtemp(join(tmpdir(), 'webhooks-demo-'));
  const database = join(folder, 'demo.sqlite');
  return {
    options: { type: 'better-sqlite3', database, ...TABLES },
    label: `SQLite, ${database}`,
    discard: () => rm(folder, { recursive: true, force: true }),
  };
}

async function onServer(url: string): Promise<DemoDatabase> {
  const address = URL.canParse(url) ? new URL(url) : null;
  const type = TYPES.get(address?.protocol ?? '');
  if (!address || !type) {
    throw new Error(
      'DATABASE_URL must begin with postgres://, mysql:// or mariadb://. Remove DATABASE_URL to run the demo on SQLite.',
    );
  }
  const options: DataSourceOptions = { type, url, ...TABLES };
  await dropTables(options, type);
  return { options, label: `${type} at ${address.host}${address.pathname}`, discard: async () => undefined };
}

/**
 * Drops the tables of the last tour before the application starts. Otherwise the dispatcher would send the pending
 * deliveries of that tour.
 */
async function dropTables(options: DataSourceOptions, type: 'postgres' | 'mysql' | 'mariadb'): Promise<void> {
  const entities = [User, Order, ...webhookEntities({ type })];
  const dataSource = await connected(new DataSource({ ...options, entities, synchronize: false }));
  try {
    const runner = dataSource.createQueryRunner();
    for (const { tablePath } of dataSource.entityMetadatas) await runner.dropTable(tablePath, true);
    await runner.release();
  } finally {
    await dataSource.destroy();
  }
}

async function connected(dataSource: DataSource): Promise<DataSource> {
  try {
    return await dataSource.initialize();
  } catch (cause) {
    // The error for a host with several addresses is an AggregateError without a message.
    const { message, code } = cause as { message: string; code?: string };
    throw new Error(
      `cannot connect to the database of DATABASE_URL: ${message || code}. Start the server and create the database, or remove DATABASE_URL to run on SQLite.`,
      { cause },
    );
  }
}
