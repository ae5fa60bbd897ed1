import {
  Column,
  DataSource,
  DeleteDateColumn,
  Entity,
  PrimaryGeneratedColumn,
  VersionColumn,
  type EntityManager,
  type EntitySubscriberInterface,
  type Logger,
} from 'typeorm';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { Webhook } from 'nestjs-entity-webhooks';

import { databases, describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

abstract class Product {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50 })
  name: string;

  @Column({ type: 'int', default: 7 })
  stock: number;

  @Column({ type: 'varchar', length: 50, nullable: true, unique: true })
  code: string | null;

  @VersionColumn()
  version: number;

  @DeleteDateColumn()
  deletedAt: Date | null;
}

@Webhook()
@Entity('bulk_captured')
class Captured extends Product {}

/** The same table under another name, not captured. */
@Entity('bulk_plain')
class Plain extends Product {}

type Twin = typeof Captured | typeof Plain;

/** What a caller can see of a write: its result, and the given objects afterwards. */
const WRITES: Record<string, (manager: EntityManager, entity: Twin) => Promise<unknown>> = {
  'insert()': async (manager, entity) => {
    const given = [{ name: 'x' }, { name: 'y', code: 'y' }];
    return [await manager.insert(entity, given), given];
  },
  'insert() without updateEntity': (manager, entity) =>
    manager
      .createQueryBuilder()
      .insert()
      .into(entity)
      .values([{ name: 'x' }])
      .updateEntity(false)
      .execute(),
  'insert() of nothing': (manager, entity) => manager.insert(entity, []),
  'upsert()': async (manager, entity) => {
    const given = [
      { name: 'x', code: 'a' },
      { name: 'z', code: 'z' },
    ];
    return [await manager.upsert(entity, given, ['code']), given];
  },
  'orIgnore()': (manager, entity) =>
    manager
      .createQueryBuilder()
      .insert()
      .into(entity)
      .values({ name: 'x', code: 'a' })
      .orIgnore()
      .updateEntity(false)
      .execute(),
  'update()': (manager, entity) => manager.update(entity, { code: 'a' }, { name: 'x' }),
  'update() of no row': (manager, entity) => manager.update(entity, { code: 'nobody' }, { name: 'x' }),
  'update() with whereEntity': async (manager, entity) => {
    const given = await manager.findOneByOrFail<Product>(entity, { code: 'a' });
    const result = await manager
      .createQueryBuilder()
      .update(entity)
      .set({ name: 'x' })
      .whereEntity(given as never)
      .execute();
    return [result, given];
  },
  'increment()': (manager, entity) => manager.increment(entity, { code: 'a' }, 'stock', 2),
  'delete()': (manager, entity) => manager.delete(entity, { code: 'a' }),
  'delete() of no row': (manager, entity) => manager.delete(entity, { code: 'nobody' }),
  'softDelete()': (manager, entity) => manager.softDelete(entity, { code: 'a' }),
  'restore()': (manager, entity) => manager.restore(entity, { code: 'a' }),
};

const RETURNING: typeof WRITES = {
  'insert() that returns': (manager, entity) =>
    manager.createQueryBuilder().insert().into(entity).values({ name: 'x' }).returning('*').execute(),
  'update() that returns': (manager, entity) =>
    manager
      .createQueryBuilder()
      .update(entity)
      .set({ name: 'x' })
      .where({ code: 'a' })
      .returning(['id', 'name'])
      .execute(),
  'update() that returns everything': (manager, entity) =>
    manager.createQueryBuilder().update(entity).set({ name: 'x' }).where({ code: 'a' }).returning('*').execute(),
  'delete() that returns': (manager, entity) =>
    manager.createQueryBuilder().delete().from(entity).where({ code: 'a' }).returning('name').execute(),
};

/** TypeORM derives the keys of an upsert from the last row that SQLite has inserted. */
const ON_SQLITE: typeof WRITES = {
  'upsert() whose last row exists': async (manager, entity) => {
    const given = [
      { name: 'z', code: 'z' },
      { name: 'x', code: 'a' },
    ];
    return [await manager.upsert(entity, given, ['code']), given];
  },
};

describeDatabases('a query-builder write', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({ database: fresh.options, entities: [Captured], others: [Plain] });
  });

  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  beforeEach(async () => {
    const { manager } = app.dataSource;
    for (const entity of [Captured, Plain]) {
      await manager.query(`DELETE FROM ${app.dataSource.getMetadata(entity).tableName}`);
      await manager.insert(entity, [
        { name: 'a', code: 'a' },
        { name: 'b', code: 'b' },
      ]);
    }
    await app.dataSource.query('DELETE FROM webhook_events');
  });

  const more: Partial<Record<string, typeof WRITES>> = { sqlite: ON_SQLITE, postgres: RETURNING };
  const writes: typeof WRITES = { ...WRITES, ...more[database.name] };
  for (const [name, write] of Object.entries(writes)) {
    it(`gives its caller what TypeORM gives: ${name}`, async () => {
      const { manager } = app.dataSource;
      const captured = await write(manager, Captured);
      const plain = await write(manager, Plain);
      const start = await Promise.all([Captured, Plain].map((entity) => lowestId(manager, entity)));
      expect(comparable(captured, start[0] as number)).toEqual(comparable(plain, start[1] as number));
    });
  }

  it('of an entity that is not captured sends the same statements as without the module', async () => {
    const bare = new DataSource({ ...fresh.options, entities: [Captured, Plain] });
    await bare.initialize();
    const sent: string[][] = [];
    for (const dataSource of [app.dataSource, bare]) {
      const { manager } = dataSource;
      const statements: string[] = [];
      const logger = {
        logQuery: (text: string) => statements.push(text.replaceAll(/(= |IN \()\d+/g, '$1n')),
        logQueryError() {},
        logQuerySlow() {},
      };
      const before = dataSource.logger;
      dataSource.logger = logger as unknown as Logger;
      for (const write of Object.values(WRITES)) await write(manager, Plain);
      await manager.query('DELETE FROM bulk_plain');
      dataSource.logger = before;
      await manager.insert(Plain, [
        { name: 'a', code: 'a' },
        { name: 'b', code: 'b' },
      ]);
      sent.push(statements);
    }
    await bare.destroy();
    expect(sent[0]).toEqual(sent[1]);
    expect(sent[0]?.filter((text) => /begin|start transaction|for update/i.test(text))).toEqual([]);
    expect(await storedEvents(app)).toEqual([]);
  });

  it('through another data source makes no event', async () => {
    const bare = new DataSource({ ...fresh.options, entities: [Captured] });
    await bare.initialize();
    await bare.manager.update(Captured, { code: 'a' }, { name: 'elsewhere' });
    await bare.destroy();
    expect(await storedEvents(app)).toEqual([]);
  });

  it('captures values that a listener has added before it', async () => {
    const adding: EntitySubscriberInterface<Captured> = {
      listenTo: () => Captured,
      beforeUpdate: ({ entity }) => void Object.assign(entity as object, { stock: 99 }),
    };
    app.dataSource.subscribers.push(adding);
    await app.dataSource.manager.update(Captured, { code: 'a' }, { name: 'x' });
    app.dataSource.subscribers.splice(app.dataSource.subscribers.indexOf(adding), 1);
    expect(await storedEvents(app)).toMatchObject([
      { type: 'captured.updated', data: { name: 'x', stock: 99 }, previous: { name: 'a', stock: 7 } },
    ]);
  });

  it('may run several times concurrently with one builder', async () => {
    const builder = app.dataSource
      .createQueryBuilder()
      .update(Captured)
      .set({ stock: () => 'stock + 1' })
      .where({ code: 'a' });
    await Promise.all([builder.execute(), builder.execute(), builder.execute()]);
    const events = await storedEvents(app);
    expect(events.map(({ data, previous }) => [previous?.stock, data.stock])).toEqual([
      [7, 8],
      [8, 9],
      [9, 10],
    ]);
  });

  it('captures the written rows, even if its criteria match different rows each time', async () => {
    const { manager } = app.dataSource;
    await manager.insert(
      Captured,
      Array.from({ length: 40 }, (_, n) => ({ name: `n${n}` })),
    );
    await app.dataSource.query('DELETE FROM webhook_events');
    const random =
      { sqlite: 'abs(random()) % 2 = 0', postgres: 'random() < 0.5' }[database.name as 'sqlite'] ?? 'RAND() < 0.5';
    await manager.createQueryBuilder().update(Captured).set({ name: 'lucky' }).where(random).execute();
    const lucky = await manager.find(Captured, { where: { name: 'lucky' } });
    const capturedIds = (await storedEvents(app)).map(({ data }) => data.id as number);
    expect(capturedIds.toSorted((a, b) => a - b)).toEqual(lucky.map(({ id }) => id).toSorted((a, b) => a - b));
  });
});

async function lowestId(manager: EntityManager, entity: Twin): Promise<number> {
  const [row] = await manager.find<Product>(entity, { order: { id: 'ASC' }, take: 1, withDeleted: true });
  return row?.id ?? 0;
}

/** Makes results comparable: keys count from the first row of their table, and of a time only its presence is kept. */
function comparable(value: unknown, start: number): unknown {
  if (typeof value === 'bigint') return Number(value) - start;
  if (value instanceof Date) return 'a time';
  if (Array.isArray(value)) return value.map((one) => comparable(one, start));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, one]) => {
      // Depends on the connection: whether it is in a transaction.
      if (key === 'serverStatus') return [key, null];
      const isKey = (key === 'id' || key === 'insertId') && typeof one === 'number' && one !== 0;
      return [
        key,
        isKey ? one - start : key === 'raw' && typeof one === 'number' ? one - start : comparable(one, start),
      ];
    }),
  );
}

const postgres = databases.find(({ name }) => name === 'postgres');
const sqlite = databases.find(({ name }) => name === 'sqlite');

describe.each([postgres, sqlite].filter((one) => one !== undefined))(
  'one statement of very many rows ($name)',
  (db) => {
    const ROWS = db.name === 'postgres' ? 100_000 : 5_000;
    let fresh: FreshDatabase;
    let app: TestApp;
    let mostRows = 0;
    let mostHeap = 0;

    beforeAll(async () => {
      fresh = await db.create();
      app = await startApp({ database: fresh.options, entities: [Captured] });
      const series =
        db.name === 'postgres'
          ? `SELECT 'row ' || n, n, 1 FROM generate_series(1, ${ROWS}) n`
          : `WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < ${ROWS}) SELECT 'row ' || n, n, 1 FROM s`;
      await app.dataSource.query(`INSERT INTO bulk_captured (name, stock, version) ${series}`);
      const counting: EntitySubscriberInterface = {
        afterQuery: ({ rawResults }) => {
          const rows: unknown = Array.isArray(rawResults)
            ? rawResults
            : (rawResults as { rows?: unknown } | undefined)?.rows;
          mostHeap = Math.max(mostHeap, process.memoryUsage().heapUsed);
          if (Array.isArray(rows)) mostRows = Math.max(mostRows, rows.length);
        },
      };
      app.dataSource.subscribers.push(counting);
    });

    afterAll(async () => {
      await app.close();
      await fresh.drop();
    });

    const count = async (type: string) => {
      const [row] = (await app.dataSource.query(
        `SELECT count(*) AS n, count(DISTINCT payload) AS d FROM webhook_events WHERE type = '${type}'`,
      )) as { n: unknown; d: unknown }[];
      return [Number(row?.n), Number(row?.d)];
    };

    it('is captured row by row, with at most a thousand images at the same time', async () => {
      const start = (mostHeap = process.memoryUsage().heapUsed);
      await app.dataSource.manager.updateAll(Captured, { stock: () => 'stock + 1' });
      // Bytes for each row, including garbage.
      expect((mostHeap - start) / ROWS).toBeLessThan(6_000);
      expect(await count('captured.updated')).toEqual([ROWS, ROWS]);
      const [last] = (await app.dataSource.query('SELECT payload FROM webhook_events ORDER BY seq DESC LIMIT 1')) as {
        payload: string;
      }[];
      expect(JSON.parse(last?.payload ?? '')).toMatchObject({
        data: { stock: ROWS + 1, version: 2 },
        previous: { stock: ROWS, version: 1 },
      });
      // The largest statement takes seconds.
      if (db.name !== 'postgres') {
        await app.dataSource.manager.softDelete(Captured, { version: 2 });
        await app.dataSource.manager.restore(Captured, { version: 3 });
      }
      await app.dataSource.query('DELETE FROM webhook_events');
      await app.dataSource.manager.deleteAll(Captured);
      expect(await count('captured.deleted')).toEqual([ROWS, ROWS]);
      expect(mostRows).toBeLessThanOrEqual(1_001);
    }, 120_000);

    it('that fails leaves none of its events in a transaction that continues', async () => {
      await app.dataSource.query('DELETE FROM webhook_events');
      await app.dataSource.query('CREATE TABLE keeps (captured integer REFERENCES bulk_captured(id))');
      const many = Array.from({ length: 1_500 }, (_, n) => ({ name: `n${n}` }));
      for (let start = 0; start < many.length; start += 500) {
        await app.dataSource.manager.insert(Captured, many.slice(start, start + 500));
      }
      await app.dataSource.query('INSERT INTO keeps SELECT max(id) FROM bulk_captured');
      await app.dataSource.query('DELETE FROM webhook_events');
      await app.dataSource.transaction(async (manager) => {
        await manager.update(Captured, { name: 'n1' }, { stock: 1 });
        await expect(manager.deleteAll(Captured)).rejects.toThrow(/foreign key/i);
        await manager.update(Captured, { name: 'n2' }, { stock: 1 });
      });
      expect((await storedEvents(app)).map(({ type, data }) => [type, data.name])).toEqual([
        ['captured.updated', 'n1'],
        ['captured.updated', 'n2'],
      ]);
    });
  },
);

describe.runIf(postgres)('a row that another writer inserts after an upsert has looked for it', () => {
  it('is captured as updated, and never as created twice', async () => {
    if (!postgres) throw new Error('this suite is skipped without PostgreSQL');
    const fresh = await postgres.create();
    const app = await startApp({ database: fresh.options, entities: [Captured] });
    const other = app.dataSource.createQueryRunner();
    let hasInserted = false;
    const racing: EntitySubscriberInterface = {
      async beforeQuery({ query, queryRunner }: { query: string; queryRunner: unknown }) {
        if (hasInserted || queryRunner === other || !query.startsWith('INSERT INTO "bulk_captured"')) return;
        hasInserted = true;
        await other.manager.insert(Captured, { name: 'first', code: 'raced' });
      },
    };
    app.dataSource.subscribers.push(racing);
    await app.dataSource.manager.upsert(Captured, { name: 'second', code: 'raced' }, ['code']);
    await other.release();
    const events = await storedEvents(app);
    expect(events).toMatchObject([
      { type: 'captured.created', data: { name: 'first' } },
      { type: 'captured.updated', data: { name: 'second' } },
    ]);
    await app.close();
    await fresh.drop();
  });
});

describe('an unknown version of TypeORM', () => {
  it('stops the bootstrap', async () => {
    const fresh = await databases[0]!.create();
    const probe = new DataSource({ ...fresh.options, entities: [] });
    const prototype = Object.getPrototypeOf(probe.createQueryBuilder().delete()) as { createDeleteExpression: unknown };
    const { createDeleteExpression } = prototype;
    prototype.createDeleteExpression = undefined;
    vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    try {
      await expect(startApp({ database: fresh.options, entities: [Captured] })).rejects.toMatchObject({
        code: 'UNKNOWN_TYPEORM',
        message: expect.stringMatching(
          /its delete builder has no createDeleteExpression.*typeorm@1\.1.* or typeorm@0\.3/,
        ) as string,
      });
    } finally {
      prototype.createDeleteExpression = createDeleteExpression;
      vi.restoreAllMocks();
      await fresh.drop();
    }
  });
});
