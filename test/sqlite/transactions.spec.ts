import type { DataSource, EntitySubscriberInterface, InsertEvent, QueryRunner } from 'typeorm';
import { beforeEach, describe, expect, it } from 'vitest';

import { isolateSqlite } from '../../libs/webhooks/src/sqlite/isolate-sqlite.js';
import {
  closeAfterEach,
  ItemSchema,
  isPending,
  isolated,
  names,
  plainConnection,
  settle,
  signal,
  stock,
  type Item,
} from './support.js';

closeAfterEach();

/** Works like a hook of an application: it awaits, and rejects some rows. */
const refusesSome: EntitySubscriberInterface<Item> = {
  async afterInsert({ entity }: InsertEvent<Item>) {
    await new Promise((resolve) => setImmediate(resolve));
    if (entity.name.startsWith('bad')) throw new Error('refused');
  },
};

/** 300 saves at once; every third one is rejected. Returns the names whose save() resolved and the names that have a row. */
async function saveConcurrently(dataSource: DataSource): Promise<{ resolved: string[]; stored: string[] }> {
  dataSource.subscribers.push(refusesSome);
  const wanted = Array.from({ length: 300 }, (_, i) => (i % 3 === 0 ? `bad ${i}` : `good ${i}`));
  return outcomeOf(dataSource, wanted, saveAll(dataSource, wanted));
}

/** 300 saves at once beside a transaction that finally rolls back. */
async function saveBesideARollback(dataSource: DataSource): Promise<{ resolved: string[]; stored: string[] }> {
  const wanted = Array.from({ length: 300 }, (_, i) => `good ${i}`);
  let saves!: ReturnType<typeof saveAll>;
  const fails = dataSource.transaction(async (manager) => {
    await manager.save(ItemSchema, { name: 'of the transaction' });
    saves = saveAll(dataSource, wanted);
    await settle();
    throw new Error('rolls back');
  });
  await expect(fails).rejects.toThrow('rolls back');
  return outcomeOf(dataSource, wanted, saves);
}

function saveAll(dataSource: DataSource, wanted: string[]) {
  return Promise.allSettled(wanted.map((name) => dataSource.getRepository(ItemSchema).save({ name })));
}

async function outcomeOf(dataSource: DataSource, wanted: string[], saves: ReturnType<typeof saveAll>) {
  const settled = await saves;
  const resolved = wanted.filter((_, i) => settled[i]?.status === 'fulfilled').toSorted();
  const rows = plainConnection(dataSource).prepare('SELECT name FROM item ORDER BY name').all();
  return { resolved, stored: rows.map((row) => (row as Item).name) };
}

describe('300 concurrent saves beside a transaction that rolls back', () => {
  it("all resolve and have no row, with TypeORM's own driver", async () => {
    const { resolved, stored } = await saveBesideARollback(await stock().initialize());
    expect(resolved).toHaveLength(300);
    expect(stored).toEqual([]);
  });

  it('all have a row when isolated', async () => {
    const { resolved, stored } = await saveBesideARollback(await isolated());
    expect(resolved).toHaveLength(300);
    expect(stored).toEqual(resolved);
  });
});

describe('300 concurrent saves of which a hook refuses a third', () => {
  it("leave rows of saves that were rejected, with TypeORM's own driver", async () => {
    const { resolved, stored } = await saveConcurrently(await stock().initialize());
    expect(stored.filter((name) => !resolved.includes(name)).length).toBeGreaterThan(0);
  });

  it('leave exactly the rows of the saves that resolved when isolated', async () => {
    const { resolved, stored } = await saveConcurrently(await isolated());
    expect(resolved).toHaveLength(200);
    expect(stored).toEqual(resolved);
  });

  it('need a few connections, because waiting saves hold none', async () => {
    let opened = 0;
    const dataSource = await isolated({ prepareDatabase: () => void opened++ });
    await saveConcurrently(dataSource);
    expect(opened).toBeLessThanOrEqual(6);
  });
});

describe('two transactions', () => {
  let dataSource: DataSource;
  beforeEach(async () => (dataSource = await isolated()));

  it('are isolated: one rolls back while the other commits', async () => {
    const aHasWritten = signal();
    const aMayFail = signal();
    const a = dataSource.transaction(async (manager) => {
      await manager.save(ItemSchema, { name: 'A' });
      aHasWritten.fire();
      await aMayFail.promise;
      throw new Error('A fails');
    });
    await aHasWritten.promise;
    const b = dataSource.transaction((manager) => manager.save(ItemSchema, { name: 'B' }));
    expect(await isPending(b)).toBe(true);
    aMayFail.fire();
    await expect(a).rejects.toThrow('A fails');
    await b;
    expect(await names(dataSource)).toEqual(['B']);
  });

  it('read and write again without SQLITE_BUSY_SNAPSHOT', async () => {
    await dataSource.getRepository(ItemSchema).save({ name: '0' });
    await Promise.all(
      Array.from({ length: 50 }, () =>
        dataSource.transaction(async (manager) => {
          const item = await manager.findOneByOrFail(ItemSchema, { id: 1 });
          await manager.update(ItemSchema, 1, { name: String(Number(item.name) + 1) });
        }),
      ),
    );
    expect(await names(dataSource)).toEqual(['50']);
  });

  it('roll back their savepoints separately', async () => {
    await dataSource.transaction(async (manager) => {
      await manager.save(ItemSchema, { name: 'outer' });
      await manager
        .transaction(async (inner) => {
          await inner.save(ItemSchema, { name: 'inner' });
          throw new Error('inner fails');
        })
        .catch(() => undefined);
      await manager.transaction((inner) => inner.save(ItemSchema, { name: 'second inner' }));
    });
    expect(await names(dataSource)).toEqual(['outer', 'second inner']);
  });
});

describe('beside an open transaction', () => {
  let dataSource: DataSource;
  let writer: QueryRunner;
  beforeEach(async () => {
    dataSource = await isolated();
    writer = dataSource.createQueryRunner();
    await writer.startTransaction();
    await writer.manager.save(ItemSchema, { name: 'not yet committed' });
  });

  it('readers do not wait, and do not see its changes', async () => {
    expect(await names(dataSource)).toEqual([]);
    expect(await dataSource.query('PRAGMA journal_mode')).toEqual([{ journal_mode: 'wal' }]);
    expect(await dataSource.query('PRAGMA table_info(item)')).toHaveLength(2);
    expect(await dataSource.query('WITH i AS (SELECT name FROM item) SELECT count(*) AS n FROM i')).toEqual([{ n: 0 }]);
    await writer.commitTransaction();
    expect(await names(dataSource)).toEqual(['not yet committed']);
    await writer.release();
  });

  it.each([
    "INSERT INTO item (name) VALUES ('outside')",
    "INSERT INTO item (name) VALUES ('outside') RETURNING id",
    "WITH v AS (SELECT 'outside' AS name) INSERT INTO item (name) SELECT name FROM v",
    "/* a note */ -- and another\n INSERT INTO item (name) VALUES ('outside')",
  ])('a write outside waits and is not swallowed: %s', async (sql) => {
    const outside = dataSource.query(sql);
    expect(await isPending(outside)).toBe(true);
    await writer.rollbackTransaction();
    await outside;
    expect(await names(dataSource)).toEqual(['outside']);
    await writer.release();
  });

  it('a query runner for a replica reads too', async () => {
    const replica = dataSource.createQueryRunner('slave');
    expect(await replica.query('SELECT * FROM item')).toEqual([]);
    await replica.release();
    await writer.release();
  });
});

describe('release()', () => {
  it('rolls an open transaction back, calls subscribers and releases the lock', async () => {
    const dataSource = await isolated();
    const called: string[] = [];
    dataSource.subscribers.push({
      beforeTransactionRollback: () => void called.push('before'),
      afterTransactionRollback: () => void called.push('after'),
    });
    const runner = dataSource.createQueryRunner();
    await runner.startTransaction();
    await runner.startTransaction();
    await runner.manager.save(ItemSchema, { name: 'left behind' });
    const next = dataSource.getRepository(ItemSchema).save({ name: 'next' });
    expect(await isPending(next)).toBe(true);
    await runner.release();
    await next;
    expect(await names(dataSource)).toEqual(['next']);
    expect(called).toEqual(['before', 'after']);
    expect(runner.isTransactionActive).toBe(false);
    await expect(runner.query('SELECT 1')).rejects.toThrow('already released');
    await runner.release();
  });

  it('rolls back a transaction in raw SQL, and a transaction whose hook fails', async () => {
    const dataSource = await isolated();
    const raw = dataSource.createQueryRunner();
    await raw.query('BEGIN');
    await raw.query("INSERT INTO item (name) VALUES ('raw')");
    await raw.release();

    dataSource.subscribers.push({ beforeTransactionRollback: () => Promise.reject(new Error('a bad hook')) });
    const runner = dataSource.createQueryRunner();
    await runner.startTransaction();
    await runner.manager.save(ItemSchema, { name: 'typeorm' });
    await runner.release();

    await dataSource.getRepository(ItemSchema).save({ name: 'next' });
    expect(await names(dataSource)).toEqual(['next']);
  });
});

describe('subscribers', () => {
  let dataSource: DataSource;
  beforeEach(async () => (dataSource = await isolated()));

  it.each(['afterQuery', 'afterTransactionCommit'] as const)(
    'may wait in %s of a COMMIT for a write through another runner',
    async (hook) => {
      let written = false;
      const write = async () => {
        if (written) return;
        written = true;
        await dataSource.getRepository(ItemSchema).save({ name: 'from the hook' });
      };
      dataSource.subscribers.push(
        hook === 'afterQuery'
          ? { afterQuery: async ({ query }) => (query === 'COMMIT' ? write() : undefined) }
          : { afterTransactionCommit: write },
      );
      await dataSource.getRepository(ItemSchema).save({ name: 'from the application' });
      expect(await names(dataSource)).toEqual(['from the application', 'from the hook']);
    },
  );

  it('may wait for other writers in afterQuery of a ROLLBACK, and of a write outside a transaction', async () => {
    const seen = new Set<string>();
    dataSource.subscribers.push({
      afterQuery: async ({ query }) => {
        const kind = query.split(' ')[0] ?? '';
        if (seen.has(kind) || !['ROLLBACK', 'UPDATE'].includes(kind)) return;
        seen.add(kind);
        await dataSource.getRepository(ItemSchema).save({ name: `after ${kind}` });
      },
    });
    await dataSource.transaction(() => Promise.reject(new Error('no'))).catch(() => undefined);
    await dataSource.getRepository(ItemSchema).update({ id: 1 }, { name: 'updated' });
    expect(await names(dataSource)).toEqual(['updated', 'after UPDATE']);
  });

  it('may query the same runner before any statement: BEGIN, a write in it, COMMIT, a write outside', async () => {
    const before: string[] = [];
    dataSource.subscribers.push({
      beforeQuery: async ({ query, queryRunner }) => {
        if (query.includes('from the hook')) return;
        const [word = ''] = query.split(' ');
        before.push(word);
        await queryRunner.query("INSERT INTO item (name) VALUES ('from the hook')");
      },
    });
    await dataSource.transaction((manager) => manager.insert(ItemSchema, { name: 'inside' }));
    await dataSource.getRepository(ItemSchema).insert({ name: 'outside' });
    expect(before).toEqual(['BEGIN', 'INSERT', 'COMMIT', 'INSERT']);
    dataSource.subscribers.length = 0;
    expect((await names(dataSource)).filter((name) => name === 'from the hook')).toHaveLength(4);
  });

  it('see each statement once, as TypeORM wrote it, and each failure', async () => {
    const seen: [string, boolean][] = [];
    dataSource.subscribers.push({ afterQuery: ({ query, success }) => void seen.push([query, success]) });
    await dataSource.transaction((manager) => manager.query('SELECT 1'));
    await dataSource.query('SELECT nothing').catch(() => undefined);
    expect(seen).toEqual([
      ['BEGIN TRANSACTION', true],
      ['SELECT 1', true],
      ['COMMIT', true],
      ['SELECT nothing', false],
    ]);
  });

  it.each(['BEGIN TRANSACTION', 'COMMIT'])('that fail after %s leave no transaction behind', async (statement) => {
    const bad: EntitySubscriberInterface = {
      afterQuery: ({ query }) => (query === statement ? Promise.reject(new Error('a bad hook')) : undefined),
    };
    dataSource.subscribers.push(bad);
    const runner = dataSource.createQueryRunner();
    const work = async () => {
      await runner.startTransaction();
      await runner.commitTransaction();
    };
    await expect(work()).rejects.toThrow('a bad hook');
    expect(runner.isTransactionActive).toBe(false);
    dataSource.subscribers.length = 0;
    await dataSource.getRepository(ItemSchema).save({ name: 'next' });
    await runner.startTransaction();
    await runner.manager.save(ItemSchema, { name: 'same runner' });
    await runner.commitTransaction();
    await runner.release();
    expect(await names(dataSource)).toEqual(['next', 'same runner']);
  });
});

describe('transactions in raw SQL', () => {
  let dataSource: DataSource;
  let runner: QueryRunner;
  beforeEach(async () => {
    dataSource = await isolated();
    runner = dataSource.createQueryRunner();
  });
  const insert = (name: string) => runner.query('INSERT INTO item (name) VALUES (?)', [name]);
  const other = () => dataSource.getRepository(ItemSchema).save({ name: 'other' });

  it.each([
    ['BEGIN', 'COMMIT'],
    ['begin transaction', 'end transaction'],
    [' /* now */ BEGIN EXCLUSIVE', 'COMMIT;'],
    ['SAVEPOINT mine', 'RELEASE mine'],
  ])('%s holds the lock until %s', async (begin, end) => {
    await runner.query(begin);
    await insert('mine');
    const waiting = other();
    expect(await isPending(waiting)).toBe(true);
    await runner.query(end);
    await waiting;
    await runner.release();
    expect(await names(dataSource)).toEqual(['mine', 'other']);
  });

  it('ROLLBACK releases the lock, ROLLBACK TO does not', async () => {
    await runner.query('BEGIN');
    await runner.query('SAVEPOINT s');
    await insert('mine');
    await runner.query('ROLLBACK TO s');
    const waiting = other();
    expect(await isPending(waiting)).toBe(true);
    await runner.query('ROLLBACK');
    await waiting;
    await runner.release();
    expect(await names(dataSource)).toEqual(['other']);
  });

  it('a COMMIT in raw SQL, of which TypeORM does not know, releases the lock', async () => {
    await runner.startTransaction();
    await insert('mine');
    const waiting = other();
    expect(await isPending(waiting)).toBe(true);
    await runner.query('COMMIT');
    await waiting;
    await expect(runner.commitTransaction()).rejects.toThrow('no transaction is active');
    expect(runner.isTransactionActive).toBe(false);
    await runner.release();
    expect(await names(dataSource)).toEqual(['mine', 'other']);
  });

  it('BEGIN DEFERRED reads one snapshot beside writers, and waits for the lock when it writes', async () => {
    await runner.query('BEGIN DEFERRED');
    expect(await runner.query('SELECT * FROM item')).toEqual([]);
    await other();
    expect(await runner.query('SELECT * FROM item')).toEqual([]);
    await expect(insert('on what has changed since')).rejects.toMatchObject({ code: 'SQLITE_BUSY_SNAPSHOT' });
    await runner.query('ROLLBACK');

    await runner.query('BEGIN DEFERRED');
    await insert('mine');
    const waiting = other();
    expect(await isPending(waiting)).toBe(true);
    await runner.query('COMMIT');
    await waiting;
    await runner.release();
    expect(await names(dataSource)).toEqual(['other', 'mine', 'other']);
  });

  it('last_insert_rowid() and changes() belong to the runner, whatever others write', async () => {
    await insert('mine');
    await dataSource.getRepository(ItemSchema).save([{ name: 'x' }, { name: 'y' }]);
    expect(await runner.query('SELECT last_insert_rowid() AS id')).toEqual([{ id: 1 }]);
    await runner.release();
  });

  it('statements that run at the same time on one runner do not deadlock', async () => {
    await Promise.all(Array.from({ length: 20 }, (_, i) => insert(`at once ${i}`)));
    await runner.startTransaction();
    await Promise.all(Array.from({ length: 20 }, (_, i) => insert(`in a transaction ${i}`)));
    await runner.commitTransaction();
    await runner.release();
    expect(await names(dataSource)).toHaveLength(40);
  });
});

describe('a transaction that SQLite itself has rolled back', () => {
  it('takes no more statements until ROLLBACK, which succeeds', async () => {
    const dataSource = await isolated();
    const runner = dataSource.createQueryRunner();
    await runner.startTransaction();
    await runner.query("INSERT INTO item VALUES (1, 'first')");
    await expect(runner.query("INSERT OR ROLLBACK INTO item VALUES (1, 'again')")).rejects.toThrow('UNIQUE');

    const lost = { code: 'SQLITE_TRANSACTION_LOST' };
    await expect(runner.query("INSERT INTO item VALUES (2, 'would be committed alone')")).rejects.toMatchObject(lost);
    await expect(runner.commitTransaction()).rejects.toMatchObject(lost);
    await dataSource.getRepository(ItemSchema).save({ name: 'another writer' });
    await runner.rollbackTransaction();
    expect(runner.isTransactionActive).toBe(false);

    await runner.query("INSERT INTO item VALUES (3, 'afterwards')");
    await runner.release();
    expect(await names(dataSource)).toEqual(['another writer', 'afterwards']);
  });

  it('fails as a whole through dataSource.transaction()', async () => {
    const dataSource = await isolated();
    const work = dataSource.transaction(async (manager) => {
      await manager.query("INSERT INTO item VALUES (1, 'first')");
      await manager.query("INSERT OR ROLLBACK INTO item VALUES (1, 'again')").catch(() => undefined);
      await manager.query("INSERT INTO item VALUES (2, 'second')");
    });
    await expect(work).rejects.toMatchObject({ code: 'SQLITE_TRANSACTION_LOST' });
    expect(await names(dataSource)).toEqual([]);
  });

  it('a COMMIT that a deferred constraint refuses can be rolled back', async () => {
    const dataSource = await isolated();
    await dataSource.query('CREATE TABLE part (item integer REFERENCES item (id) DEFERRABLE INITIALLY DEFERRED)');
    const work = dataSource.transaction((manager) => manager.query('INSERT INTO part VALUES (99)'));
    await expect(work).rejects.toThrow('FOREIGN KEY');
    await dataSource.getRepository(ItemSchema).save({ name: 'next' });
    expect(await names(dataSource)).toEqual(['next']);
  });
});

describe('a write inside a transaction through another manager', () => {
  it('fails with the place where the transaction began, and the transaction can continue', async () => {
    const dataSource = await isolated({}, { lockTimeoutMs: 50 });
    const error: unknown = await dataSource.transaction(async function placeOrder(manager) {
      await manager.save(ItemSchema, { name: 'through the manager' });
      return dataSource
        .getRepository(ItemSchema)
        .save({ name: 'through a repository' })
        .catch((e: unknown) => e);
    });
    expect(error).toMatchObject({
      name: 'QueryFailedError',
      code: 'SQLITE_LOCK_TIMEOUT',
      query: 'BEGIN TRANSACTION',
      driverError: { name: 'SqliteLockTimeoutError' },
    });
    const { message } = error as Error;
    expect(message).toContain('waited 50 ms');
    expect(message).toMatch(/the transaction that began at .*transactions\.spec\.ts:\d+:\d+\)? is still active/);
    expect(message).toContain('use the manager of the transaction');
    expect(await names(dataSource)).toEqual(['through the manager']);
  });

  it('names the place of a save() that opened the transaction', async () => {
    const dataSource = await isolated({}, { lockTimeoutMs: 50 });
    let error: unknown;
    dataSource.subscribers.push({
      beforeInsert: async () => {
        if (error) return;
        error = true;
        error = await dataSource.query("INSERT INTO item (name) VALUES ('x')").catch((e: unknown) => e);
      },
    });
    const save = async () => {
      await dataSource.getRepository(ItemSchema).save({ name: 'saved' });
    };
    await save();
    expect((error as Error).message).toMatch(/transactions\.spec\.ts:\d+:\d+/);
  });

  it('names a transaction that raw SQL began, and a runner whose BEGIN failed can begin again', async () => {
    const dataSource = await isolated({}, { lockTimeoutMs: 50 });
    const holder = dataSource.createQueryRunner();
    await holder.query('BEGIN');
    const runner = dataSource.createQueryRunner();
    await expect(runner.startTransaction()).rejects.toThrow(/began at .*transactions\.spec\.ts/);
    expect(runner.isTransactionActive).toBe(false);
    await holder.query('COMMIT');
    await runner.startTransaction();
    await runner.commitTransaction();
    await Promise.all([holder.release(), runner.release()]);
  });
});

describe('a runner that is released while its statement waits', () => {
  it('does not run it, and takes no lock', async () => {
    const dataSource = await isolated();
    const holder = dataSource.createQueryRunner();
    await holder.startTransaction();
    const runner = dataSource.createQueryRunner();
    const late = runner.query("INSERT INTO item (name) VALUES ('late')");
    await settle();
    await runner.release();
    await holder.rollbackTransaction();
    await holder.release();
    await expect(late).rejects.toThrow('already released');
    await dataSource.getRepository(ItemSchema).save({ name: 'next' });
    expect(await names(dataSource)).toEqual(['next']);
  });
});

describe('isolateSqlite() after initialize()', () => {
  it('isolates from then on', async () => {
    const dataSource = await stock().initialize();
    await dataSource.getRepository(ItemSchema).save({ name: 'before' });
    isolateSqlite(dataSource);
    const { resolved, stored } = await saveConcurrently(dataSource);
    expect(stored).toEqual(['before', ...resolved].toSorted());
  });

  it('refuses inside a transaction', async () => {
    const dataSource = await stock().initialize();
    const runner = dataSource.createQueryRunner();
    await runner.startTransaction();
    expect(() => isolateSqlite(dataSource)).toThrow('while a transaction is open');
    await runner.rollbackTransaction();
  });
});
