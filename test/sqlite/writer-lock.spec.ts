import { describe, expect, it } from 'vitest';

import { SqliteWriterLock } from '../../libs/webhooks/src/sqlite/isolate-sqlite.js';
import { statementShape } from '../../libs/webhooks/src/sqlite/statement-shape.js';
import { isPending } from './support.js';

const HOUR = 3_600_000;

describe('the writer lock', () => {
  it('is granted in the order of the calls', async () => {
    const lock = new SqliteWriterLock('a.sqlite', HOUR);
    const order: number[] = [];
    const first = await lock.acquire();
    const rest = [1, 2, 3].map(async (n) => {
      const release = await lock.acquire();
      order.push(n);
      release();
    });
    first();
    await Promise.all(rest);
    expect(order).toEqual([1, 2, 3]);
  });

  it('stays with its next holder after a second release', async () => {
    const lock = new SqliteWriterLock('a.sqlite', HOUR);
    const first = await lock.acquire();
    first();
    const second = await lock.acquire();
    first();
    const third = lock.acquire();
    expect(await isPending(third)).toBe(true);
    second();
    (await third)();
  });

  it('names its holder in the error of a writer that waited too long, and removes that writer from the queue', async () => {
    const lock = new SqliteWriterLock('a.sqlite', 20);
    const release = await lock.acquire(() => 'the nightly import');
    await expect(lock.acquire()).rejects.toMatchObject({
      name: 'SqliteLockTimeoutError',
      code: 'SQLITE_LOCK_TIMEOUT',
      message: expect.stringContaining('the nightly import is still active') as string,
      details: { database: 'a.sqlite', lockTimeoutMs: 20, heldBy: 'the nightly import' },
    });
    release();
    (await lock.acquire())();
  });

  it('is free after it was abandoned, and waiting writers are rejected with the reason', async () => {
    const lock = new SqliteWriterLock('a.sqlite', HOUR);
    const stale = await lock.acquire();
    const waiting = lock.acquire();
    lock.abandon(new Error('closed'));
    await expect(waiting).rejects.toThrow('closed');
    const fresh = await lock.acquire();
    stale();
    const next = lock.acquire();
    expect(await isPending(next)).toBe(true);
    fresh();
    (await next)();
  });
});

const shape = (sql: string) => statementShape(sql, false);

describe('the shape of a statement', () => {
  it.each([
    ['BEGIN', 'BEGIN IMMEDIATE'],
    ['begin transaction;', 'BEGIN IMMEDIATE transaction;'],
    ['-- note\n BEGIN', 'BEGIN IMMEDIATE'],
    ['BEGIN /* trace */', 'BEGIN IMMEDIATE /* trace */'],
    ['BEGIN IMMEDIATE', 'BEGIN IMMEDIATE'],
    ['BEGIN EXCLUSIVE TRANSACTION', 'BEGIN EXCLUSIVE TRANSACTION'],
    ['BEGIN DEFERRED', 'BEGIN DEFERRED'],
    ['BEGIN; DELETE FROM item', 'BEGIN IMMEDIATE; DELETE FROM item'],
  ])('%j runs as %j', (sql, runs) => expect(shape(sql).sql).toBe(runs));

  it.each(['BEGIN', 'SAVEPOINT a'])('%s only reads on a read-only file', (sql) => {
    expect(statementShape(sql, true)).toMatchObject({ sql, opensTransaction: false, writes: 'no' });
  });

  it.each([
    ['ROLLBACK', 'transaction'],
    ['rollback transaction', 'transaction'],
    ['ROLLBACK TO s', 'savepoint'],
    ['ROLLBACK TRANSACTION TO SAVEPOINT s', 'savepoint'],
    ['COMMIT', null],
  ])('%s rolls back: %s', (sql, what) => expect(shape(sql).rollsBack).toBe(what));

  it.each([
    ['PRAGMA foreign_keys = OFF', true],
    ['PRAGMA foreign_keys(0)', true],
    ['PRAGMA main.cache_size=10', true],
    ['ATTACH ? AS b', true],
    ['CREATE TEMPORARY TABLE t (a)', true],
    ['PRAGMA foreign_keys', false],
    ['PRAGMA "main".table_xinfo("item")', false],
    ['PRAGMA index_list(item)', false],
    ['PRAGMA read_uncommitted = true', false], // has no effect without a shared cache
    ['CREATE TABLE t (a)', false],
    ['SELECT 1', false],
  ])('%s leaves a mark on the connection: %s', (sql, marks) => expect(shape(sql).changesSession).toBe(marks));

  it.each([
    ['PRAGMA journal_mode', 'no'],
    ['PRAGMA wal_checkpoint(TRUNCATE)', 'yes'],
    ['PRAGMA optimize', 'yes'],
    ['INSERT INTO t VALUES (1)', 'ask SQLite'],
    ['', 'ask SQLite'],
  ])('%j writes: %s', (sql, writes) => expect(shape(sql).writes).toBe(writes));
});
