import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

import { DataSource, EntitySchema, type DataSourceOptions } from 'typeorm';
import { afterEach } from 'vitest';

import { isolateSqlite, type IsolateSqliteOptions } from '../../libs/webhooks/src/sqlite/isolate-sqlite.js';
import { memoryFolder } from '../support/memory-folder.js';

export interface Item {
  id: number;
  name: string;
}

export const ItemSchema = new EntitySchema<Item>({
  name: 'Item',
  tableName: 'item',
  columns: {
    id: { type: 'integer', primary: true, generated: 'increment' },
    name: { type: 'varchar' },
  },
});

/** A plain better-sqlite3 connection, to look at the file from outside. */
export interface PlainConnection {
  readonly open: boolean;
  readonly inTransaction: boolean;
  prepare(sql: string): { all(...values: unknown[]): unknown[]; run(...values: unknown[]): unknown };
  pragma(sql: string, options?: { simple: boolean }): unknown;
  exec(sql: string): void;
  close(): void;
  function(name: string, body: (...values: never[]) => unknown): void;
}

const Database = createRequire(import.meta.url)('better-sqlite3') as new (
  file: string,
  options?: { timeout: number },
) => PlainConnection;

type Options = Partial<Extract<DataSourceOptions, { type: 'better-sqlite3' }>>;

const opened: DataSource[] = [];
const plain: PlainConnection[] = [];
const directories: string[] = [];

/**
 * Closes what a test opened, also after a failure. Each suite calls this: a hook at the top of this file would exist in the first suite of a
 * process only.
 */
export function closeAfterEach(): void {
  afterEach(async () => {
    for (const connection of plain.splice(0)) connection.close();
    for (const dataSource of opened.splice(0)) if (dataSource.isInitialized) await dataSource.destroy();
    for (const directory of directories.splice(0)) rmSync(directory, { recursive: true });
  });
}

export function newFile(name = 'test.sqlite'): string {
  const directory = mkdtempSync(join(memoryFolder(), 'isolate-sqlite-'));
  directories.push(directory);
  return join(directory, name);
}

/** A data source on a file, not isolated and not initialized. */
export function stock(options: Options = {}): DataSource {
  const dataSource = new DataSource({
    type: 'better-sqlite3',
    database: options.database ?? newFile(),
    entities: [ItemSchema],
    synchronize: true,
    ...options,
  });
  opened.push(dataSource);
  return dataSource;
}

export async function isolated(options: Options = {}, isolation?: IsolateSqliteOptions): Promise<DataSource> {
  return isolateSqlite(stock(options), isolation).initialize();
}

export function plainConnection(dataSource: DataSource): PlainConnection {
  const connection = new Database(String(dataSource.options.database), { timeout: 0 });
  plain.push(connection);
  return connection;
}

export async function names(dataSource: DataSource): Promise<string[]> {
  const rows = await dataSource.getRepository(ItemSchema).find({ order: { id: 'ASC' } });
  return rows.map(({ name }) => name);
}

/** A promise and the function that resolves it. Tests wait on it instead of sleeping. */
export function signal<T = void>(): { promise: Promise<T>; fire: (value: T) => void } {
  let fire!: (value: T) => void;
  const promise = new Promise<T>((resolve) => (fire = resolve));
  return { promise, fire };
}

/** Lets all ready work run: several turns of the event loop, with timers of 0 ms and microtasks. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** Whether a promise is still pending after all ready work has run. */
export async function isPending(promise: Promise<unknown>): Promise<boolean> {
  let decided = false;
  promise.then(
    () => (decided = true),
    () => (decided = true),
  );
  await settle();
  return !decided;
}
