import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import type { DataSource } from 'typeorm';
import { afterEach, describe, expect, it } from 'vitest';

import { isolateSqlite } from '../../libs/webhooks/src/sqlite/isolate-sqlite.js';
import {
  closeAfterEach,
  isolated,
  ItemSchema,
  names,
  newFile,
  plainConnection,
  signal,
  stock,
  type PlainConnection,
} from './support.js';

closeAfterEach();

const INCREMENTS = 100;

/** Reads, then writes: an update is lost if another writer comes between. */
async function increment(dataSource: DataSource): Promise<void> {
  await dataSource.transaction(async (manager) => {
    const { name } = await manager.findOneByOrFail(ItemSchema, { id: 1 });
    await manager.update(ItemSchema, 1, { name: String(Number(name) + 1) });
  });
}

/** Resolves when a BEGIN has met a locked file, so that it will be retried. */
function seesRetry() {
  const retried = signal();
  let begins = 0;
  const verbose = (sql?: unknown) => {
    if (!String(sql).startsWith('BEGIN IMMEDIATE')) return;
    if (++begins === 2) retried.fire();
  };
  return { retried: retried.promise, verbose, reset: () => (begins = 0) };
}

describe('two data sources of one process on one file', () => {
  it('wait for each other without blocking the event loop', async () => {
    const database = newFile();
    const { retried, verbose, reset } = seesRetry();
    const a = await isolated({ database });
    const b = await isolated({ database, verbose });
    reset();
    await a.transaction(async (manager) => {
      await manager.save(ItemSchema, { name: 'a' });
      const save = b.getRepository(ItemSchema).save({ name: 'b' });
      // Only a running event loop reaches this line, and only the end of this transaction lets the save of b continue.
      await retried;
      expect(await names(b)).toEqual([]);
      void save;
    });
    await b.getRepository(ItemSchema).save({ name: 'b again' });
    expect(await names(a)).toEqual(['a', 'b', 'b again']);
  });

  it('lose no update', async () => {
    const database = newFile();
    const sources = [await isolated({ database }), await isolated({ database, synchronize: false })];
    await sources[0]!.getRepository(ItemSchema).save({ name: '0' });
    await Promise.all(sources.flatMap((dataSource) => Array.from({ length: INCREMENTS }, () => increment(dataSource))));
    expect(await names(sources[0]!)).toEqual([String(2 * INCREMENTS)]);
  });

  it('fail after lockTimeoutMs, and the error names another data source as the cause', async () => {
    const database = newFile();
    const dataSource = await isolated({ database }, { lockTimeoutMs: 40 });
    const other = plainConnection(dataSource);
    other.exec('BEGIN IMMEDIATE');
    const repository = dataSource.getRepository(ItemSchema);
    const busy = { code: 'SQLITE_LOCK_TIMEOUT', message: expect.stringContaining('Another process') as string };
    await expect(repository.save({ name: 'in a transaction' })).rejects.toMatchObject(busy);
    await expect(repository.insert({ name: 'without one' })).rejects.toMatchObject(busy);
    other.exec('ROLLBACK');
    await repository.save({ name: 'free again' });
    expect(await names(dataSource)).toEqual(['free again']);
  });
});

describe('initialize() while another connection has locked the whole file', () => {
  it('waits asynchronously for the file, and switches it to WAL', async () => {
    const dataSource = stock({ synchronize: false });
    const other = plainConnection(dataSource);
    other.exec("CREATE TABLE item (id integer PRIMARY KEY, name); BEGIN EXCLUSIVE; INSERT INTO item VALUES (1, 'a')");
    const busyTimeouts: unknown[] = [];
    const triedAgain = signal();
    dataSource.setOptions({
      prepareDatabase: (database: PlainConnection) => {
        busyTimeouts.push(database.pragma('busy_timeout', { simple: true }));
        if (busyTimeouts.length === 2) triedAgain.fire();
      },
    });
    const initialized = isolateSqlite(dataSource).initialize();
    await triedAgain.promise;
    other.exec('COMMIT');
    await initialized;
    expect(new Set(busyTimeouts)).toEqual(new Set([0]));
    expect(await names(dataSource)).toEqual(['a']);
    expect(plainConnection(dataSource).pragma('journal_mode', { simple: true })).toBe('wal');
  });
});

async function send(process: ChildProcess, ...order: [string, number?]): Promise<void> {
  const answer = once(process, 'message');
  process.send(order);
  await answer;
}

describe('two processes on one file', () => {
  let child: ChildProcess | undefined;
  afterEach(async () => {
    if (!child?.connected) return;
    const exit = once(child, 'exit');
    child.disconnect();
    const [code] = (await exit) as [number | null];
    if (code !== 0) throw new Error(`The other process ended with ${code}.`);
  });

  async function start(database: string): Promise<ChildProcess> {
    child = fork(fileURLToPath(new URL('other-process.mjs', import.meta.url)), [database], { execArgv: [] });
    await once(child, 'message');
    return child;
  }

  it('a save waits for the other process while the event loop runs', async () => {
    const database = newFile();
    const { retried, verbose, reset } = seesRetry();
    const dataSource = await isolated({ database, verbose });
    const other = await start(database);
    await send(other, 'begin');
    reset();
    const save = dataSource.getRepository(ItemSchema).save({ name: 'of this process' });
    await retried;
    expect(await names(dataSource)).toEqual([]);
    // The other process commits after a message, which a blocked event loop could not send.
    await send(other, 'commit');
    await save;
    expect(await names(dataSource)).toEqual(['of the other process', 'of this process']);
  });

  it('a write outside a transaction waits too', async () => {
    const database = newFile();
    const dataSource = await isolated({ database });
    const other = await start(database);
    await send(other, 'begin');
    const insert = dataSource.getRepository(ItemSchema).insert({ name: 'of this process' });
    await send(other, 'commit');
    await insert;
    expect(await names(dataSource)).toEqual(['of the other process', 'of this process']);
  });

  it('lose no update', async () => {
    const database = newFile();
    const dataSource = await isolated({ database });
    await dataSource.getRepository(ItemSchema).save({ name: '0' });
    const other = await start(database);
    await Promise.all([
      send(other, 'increment', INCREMENTS),
      ...Array.from({ length: INCREMENTS }, () => increment(dataSource)),
    ]);
    expect(await names(dataSource)).toEqual([String(2 * INCREMENTS)]);
  });
});
