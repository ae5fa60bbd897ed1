import { DataSource, EntitySchema, type MigrationInterface, type QueryRunner } from 'typeorm';
import { describe, expect, it } from 'vitest';

import { isFileSqlite, isolateSqlite, sqliteWriterLock } from '../../libs/webhooks/src/sqlite/isolate-sqlite.js';
import {
  closeAfterEach,
  isolated,
  isPending,
  ItemSchema,
  names,
  newFile,
  plainConnection,
  settle,
  signal,
  stock,
  type PlainConnection,
} from './support.js';

closeAfterEach();

/** Runs one query on four connections that are in use at the same time, and in a write transaction. */
async function onEveryConnection(dataSource: DataSource, sql: string): Promise<unknown[]> {
  const runners = Array.from({ length: 4 }, () => dataSource.createQueryRunner());
  await Promise.all(runners.map((runner) => runner.query('BEGIN DEFERRED')));
  const results = await Promise.all(runners.map((runner) => runner.query(sql) as Promise<unknown>));
  await Promise.all(runners.map((runner) => runner.release()));
  return [...results, await dataSource.transaction((manager) => manager.query(sql))];
}

const fiveTimes = (result: unknown) => Array.from({ length: 5 }, () => result);

describe('every connection', () => {
  it('is prepared by prepareDatabase, with its functions and PRAGMAs, and checks foreign keys', async () => {
    let prepared = 0;
    const dataSource = await isolated({
      prepareDatabase: async (database: PlainConnection) => {
        await Promise.resolve();
        prepared++;
        database.function('twice', (n: number) => n * 2);
        database.pragma('synchronous = NORMAL');
        database.pragma('cache_size = 777');
      },
    });
    const settings = await onEveryConnection(
      dataSource,
      `SELECT twice(21) AS answer, (SELECT synchronous FROM pragma_synchronous) AS synchronous,
        (SELECT cache_size FROM pragma_cache_size) AS cache_size, (SELECT timeout FROM pragma_busy_timeout) AS timeout,
        (SELECT foreign_keys FROM pragma_foreign_keys) AS foreign_keys,
        (SELECT journal_mode FROM pragma_journal_mode) AS journal_mode`,
    );
    const expected = { answer: 42, synchronous: 1, cache_size: 777, timeout: 0, foreign_keys: 1, journal_mode: 'wal' };
    expect(settings).toEqual(fiveTimes([expected]));
    expect(prepared).toBeGreaterThanOrEqual(5);
  });

  it("keeps SQLite's default for `synchronous` if it is not set", async () => {
    const dataSource = await isolated();
    const plain = plainConnection(dataSource).pragma('synchronous', { simple: true });
    expect(await onEveryConnection(dataSource, 'PRAGMA synchronous')).toEqual(fiveTimes([{ synchronous: plain }]));
  });

  it('has the databases of the entities attached, and they are isolated too', async () => {
    const Note = new EntitySchema<{ id: number; text: string }>({
      name: 'Note',
      database: 'notes.sqlite',
      columns: { id: { type: 'integer', primary: true, generated: true }, text: { type: 'varchar' } },
    });
    const dataSource = await isolated({ entities: [ItemSchema, Note] });
    const attached = await onEveryConnection(dataSource, "SELECT name FROM pragma_database_list WHERE name <> 'temp'");
    expect(attached).toEqual(fiveTimes([{ name: 'main' }, { name: expect.any(String) as string }]));

    await dataSource.transaction(async (manager) => {
      await manager.save(Note, { text: 'saved' });
      expect(await dataSource.getRepository(Note).count()).toBe(0);
    });
    expect(await dataSource.getRepository(Note).count()).toBe(1);
    await dataSource.destroy();
    // The schema builder of TypeORM 0.3 finds no tables in an attached database, and would create them again.
    dataSource.setOptions({ synchronize: false });
    await dataSource.initialize();
    expect(await dataSource.getRepository(Note).count()).toBe(1);
  });

  it('prepares a statement again after another connection changed the schema', async () => {
    const dataSource = await isolated({ statementCacheSize: 2 });
    expect(await onEveryConnection(dataSource, 'SELECT * FROM item')).toEqual(fiveTimes([]));
    await dataSource.query("ALTER TABLE item ADD COLUMN note text DEFAULT 'x'");
    await dataSource.query("INSERT INTO item (name) VALUES ('a')");
    const rows = await onEveryConnection(dataSource, 'SELECT * FROM item');
    expect(rows).toEqual(fiveTimes([{ id: 1, name: 'a', note: 'x' }]));
  });
});

describe('a change of the session by a query runner', () => {
  it('lasts until release(), and no other query runner sees it', async () => {
    const dataSource = await isolated();
    const runner = dataSource.createQueryRunner();
    await runner.query('PRAGMA foreign_keys = OFF');
    await runner.query('CREATE TEMP TABLE scratch (n integer)');
    await runner.query('INSERT INTO scratch VALUES (1)');
    await dataSource.getRepository(ItemSchema).save({ name: 'beside' });
    expect(await runner.query('SELECT foreign_keys, n FROM pragma_foreign_keys, scratch')).toEqual([
      { foreign_keys: 0, n: 1 },
    ]);
    await runner.release();
    expect(await onEveryConnection(dataSource, 'PRAGMA foreign_keys')).toEqual(fiveTimes([{ foreign_keys: 1 }]));
    await expect(dataSource.query('SELECT * FROM scratch')).rejects.toThrow('no such table');
  });

  it('through the bare connection is undone as well', async () => {
    const dataSource = await isolated();
    const runner = dataSource.createQueryRunner();
    const bare = (await runner.connect()) as PlainConnection;
    bare.pragma('foreign_keys = OFF');
    bare.exec("BEGIN; INSERT INTO item (name) VALUES ('left behind')");
    await runner.release();
    expect(await onEveryConnection(dataSource, 'PRAGMA foreign_keys')).toEqual(fiveTimes([{ foreign_keys: 1 }]));
    expect(await names(dataSource)).toEqual([]);
  });
});

class AddColumn1700000000000 implements MigrationInterface {
  name = 'AddColumn1700000000000';
  async up(queryRunner: QueryRunner) {
    await queryRunner.query("ALTER TABLE item ADD COLUMN color text DEFAULT 'red'");
    await queryRunner.query("INSERT INTO item (name) VALUES ('migrated')");
  }
  async down(queryRunner: QueryRunner) {
    await queryRunner.query('DELETE FROM item');
    await queryRunner.dropColumn('item', 'color');
  }
}

class Fails1700000000001 implements MigrationInterface {
  name = 'Fails1700000000001';
  async up(queryRunner: QueryRunner) {
    await queryRunner.query("INSERT INTO item (name) VALUES ('half')");
    throw new Error('this migration fails');
  }
  async down() {}
}

describe('the schema', () => {
  it.each(['all', 'each', 'none'] as const)('migrates up and down, transaction: %s', async (transaction) => {
    const dataSource = await isolated({ migrations: [AddColumn1700000000000] });
    await dataSource.runMigrations({ transaction });
    expect(await dataSource.query('SELECT * FROM item')).toEqual([{ id: 1, name: 'migrated', color: 'red' }]);
    await dataSource.undoLastMigration({ transaction });
    expect(await dataSource.query('PRAGMA table_info(item)')).toHaveLength(2);
    expect(await onEveryConnection(dataSource, 'PRAGMA foreign_keys')).toEqual(fiveTimes([{ foreign_keys: 1 }]));
  });

  it('is rolled back after a failed migration, and foreign keys stay checked', async () => {
    const dataSource = await isolated({ migrations: [AddColumn1700000000000, Fails1700000000001] });
    await expect(dataSource.runMigrations()).rejects.toThrow('this migration fails');
    expect(await dataSource.query('SELECT * FROM item')).toEqual([]);
    expect(await onEveryConnection(dataSource, 'PRAGMA foreign_keys')).toEqual(fiveTimes([{ foreign_keys: 1 }]));
    await dataSource.getRepository(ItemSchema).save({ name: 'next' });
  });

  it('migrates during initialize()', async () => {
    const database = newFile();
    await (await isolated({ database })).destroy();
    const dataSource = await isolated({
      database,
      synchronize: false,
      migrations: [AddColumn1700000000000],
      migrationsRun: true,
    });
    expect(await dataSource.query('SELECT * FROM item')).toEqual([{ id: 1, name: 'migrated', color: 'red' }]);
  });

  it('is synchronized again, with data in it, and dropped', async () => {
    const database = newFile();
    const first = await isolated({ database });
    await first.getRepository(ItemSchema).save({ name: 'kept' });
    await first.destroy();

    const Wider = new EntitySchema({
      name: 'Item',
      tableName: 'item',
      columns: {
        id: { type: 'integer', primary: true, generated: 'increment' },
        name: { type: 'varchar', unique: true },
        size: { type: 'integer', default: 7 },
      },
    });
    const second = await isolated({ database, entities: [Wider] });
    expect(await second.query('SELECT * FROM item')).toEqual([{ id: 1, name: 'kept', size: 7 }]);
    await second.synchronize(true);
    expect(await second.query('SELECT * FROM item')).toEqual([]);
    await second.destroy();

    const third = await isolated({ database, dropSchema: true });
    expect(await third.query('PRAGMA table_info(item)')).toHaveLength(2);
  });
});

describe('destroy()', () => {
  it('closes every connection, rolls back open transactions, and rejects waiting calls', async () => {
    const connections: PlainConnection[] = [];
    const dataSource = await isolated({
      prepareDatabase: (database: PlainConnection) => void connections.push(database),
    });
    await onEveryConnection(dataSource, 'SELECT 1');
    const runner = dataSource.createQueryRunner();
    await runner.startTransaction();
    await runner.manager.save(ItemSchema, { name: 'open' });
    const waiting = dataSource.getRepository(ItemSchema).save({ name: 'waiting' });
    waiting.catch(() => undefined);
    await settle();
    expect(connections.length).toBeGreaterThan(4);

    await dataSource.destroy();
    expect(connections.filter(({ open }) => open)).toEqual([]);
    await expect(waiting).rejects.toThrow('connection is not yet established');
    await expect(dataSource.query('SELECT 1')).rejects.toThrow('connection is not yet established');
    await runner.release();

    await dataSource.initialize();
    await dataSource.getRepository(ItemSchema).save({ name: 'after' });
    expect(await names(dataSource)).toEqual(['after']);
  });

  it('closes the connection that is just being opened', async () => {
    const connections: PlainConnection[] = [];
    const isOpening = signal();
    const mayOpen = signal();
    const dataSource = await isolated({
      prepareDatabase: async (database: PlainConnection) => {
        // The first is TypeORM's own connection, the second belongs to the transaction below.
        if (connections.push(database) < 3) return;
        isOpening.fire();
        await mayOpen.promise;
      },
      synchronize: false,
    });
    const first = dataSource.createQueryRunner();
    await first.query('BEGIN DEFERRED');
    const second = dataSource.query('SELECT 1');
    await isOpening.promise;
    second.catch(() => undefined);
    await dataSource.destroy();
    mayOpen.fire();
    await expect(second).rejects.toThrow('not yet established');
    await settle();
    expect(connections.map(({ open }) => open)).toEqual([false, false, false]);
  });
});

describe('a read-only data source', () => {
  it('reads, in transactions too, without a lock', async () => {
    const database = newFile();
    const writing = await isolated({ database });
    await writing.getRepository(ItemSchema).save({ name: 'stored' });
    const reading = await isolated({ database, readonly: true, synchronize: false });
    const holder = writing.createQueryRunner();
    await holder.startTransaction();
    const counts = await Promise.all(
      [1, 2].map(() => reading.transaction((manager) => manager.transaction((inner) => inner.count(ItemSchema)))),
    );
    expect(counts).toEqual([1, 1]);
    await holder.release();
    await expect(reading.getRepository(ItemSchema).insert({ name: 'no' })).rejects.toThrow('readonly');
  });
});

describe('isolateSqlite()', () => {
  it('changes nothing the second time', async () => {
    const dataSource = await isolated();
    const lock = sqliteWriterLock(dataSource);
    expect(isolateSqlite(dataSource, { lockTimeoutMs: 1 })).toBe(dataSource);
    expect(sqliteWriterLock(dataSource)).toBe(lock);
    expect(sqliteWriterLock(stock())).toBeUndefined();
  });

  it.each([':memory:', '', ' :memory: ', 'file::memory:?cache=shared', 'file:x?mode=memory'])(
    'refuses database %j, which no second connection could see',
    (database) => {
      const dataSource = new DataSource({ type: 'better-sqlite3', database });
      expect(isFileSqlite(dataSource)).toBe(false);
      expect(() => isolateSqlite(dataSource)).toThrow(
        expect.objectContaining({ name: 'ConfigurationError', code: 'SQLITE_NOT_A_FILE' }) as Error,
      );
    },
  );

  it('refuses other databases', () => {
    const dataSource = new DataSource({ type: 'postgres' });
    expect(isFileSqlite(dataSource)).toBe(false);
    expect(() => isolateSqlite(dataSource)).toThrow('This DataSource has the type postgres');
  });

  it.each([0, -1, 1.5, Number.NaN, 2 ** 31])('refuses lockTimeoutMs %d', (lockTimeoutMs) => {
    expect(() => isolateSqlite(stock(), { lockTimeoutMs })).toThrow(
      `Invalid value ${lockTimeoutMs} for \`lockTimeoutMs\``,
    );
  });

  it.each(['createDatabaseConnection', 'attachDatabases', 'attachedDatabases'])(
    'refuses a TypeORM whose driver has no %s',
    (member) => {
      const dataSource = stock();
      Object.defineProperty(dataSource.driver, member, { value: undefined });
      expect(() => isolateSqlite(dataSource)).toThrow(
        expect.objectContaining({ code: 'TYPEORM_INTERNALS_CHANGED' }) as Error,
      );
    },
  );

  it('refuses a driver that does not report which statements only read', async () => {
    class Blind {
      readonly inTransaction = undefined;
      prepare = () => ({});
      pragma = () => 'wal';
      close = () => undefined;
    }
    const dataSource = isolateSqlite(stock({ driver: Blind }));
    await expect(dataSource.initialize()).rejects.toMatchObject({ code: 'UNKNOWN_SQLITE_DRIVER' });
  });

  it('provides one lock, and the data source waits for its holder', async () => {
    const dataSource = await isolated();
    const release = await sqliteWriterLock(dataSource)!.acquire('the test');
    const write = dataSource.getRepository(ItemSchema).save({ name: 'waits' });
    expect(await isPending(write)).toBe(true);
    release();
    await write;
  });
});
