import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  Column,
  DataSource,
  DeleteDateColumn,
  Entity,
  JoinColumn,
  ManyToOne,
  PrimaryColumn,
  type DataSourceOptions,
  type Relation,
} from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { dropTriggers, installTriggers } from 'nestjs-entity-webhooks/migrations';
import { databases, type FreshDatabase } from '../support/databases.js';
import { listenToLog } from '../support/said.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents, stories } from './shop.js';

function entitiesIn(place: { schema?: string; database?: string }, hasEnum: boolean) {
  @Webhook()
  @Entity({ name: 'order', ...place })
  class Order {
    @PrimaryColumn({ type: 'int' })
    id: number;

    @Column({ type: 'varchar', length: 50, default: 'new' })
    status: string;

    @Column(
      hasEnum
        ? { type: 'enum', enum: ['low', 'high'], default: 'low' }
        : { type: 'varchar', length: 10, default: 'low' },
    )
    level: string;

    @DeleteDateColumn()
    deletedAt: Date | null;
  }

  /** Has the same table name, in the default schema or database of the connection. */
  @Webhook()
  @Entity('order')
  class PlainOrder {
    @PrimaryColumn({ type: 'int' })
    id: number;

    @Column({ type: 'varchar', length: 50, default: 'plain' })
    status: string;
  }

  @Webhook({ coalesce: true })
  @Entity({ name: 'order_line', ...place })
  class Line {
    @PrimaryColumn({ type: 'int' })
    id: number;

    @Column({ type: 'varchar', length: 50 })
    status: string;

    @ManyToOne(() => Order, { onDelete: 'CASCADE' })
    @JoinColumn()
    order: Relation<Order> | null;
  }
  return { Order, PlainOrder, Line };
}

const servers = databases.filter(({ name }) => name !== 'sqlite');
const matrix = servers.flatMap((database) =>
  (['orm', 'trigger'] as const).map((capture) => ({ database, name: database.name, capture })),
);

describe.each(matrix)('entities of another schema or database, captured by $capture on $name', (scene) => {
  const { database, capture } = scene;
  const isPostgres = database.name === 'postgres';
  let fresh: FreshDatabase;
  let elsewhere: FreshDatabase;
  let app: TestApp | undefined;
  afterEach(async () => {
    await app?.close();
    app = undefined;
    await fresh.drop();
    await elsewhere.drop();
    vi.restoreAllMocks();
  });

  async function start() {
    fresh = await database.create();
    elsewhere = await database.create();
    const place = isPostgres ? { schema: 'sales dept' } : { database: String(elsewhere.options.database) };
    if (isPostgres) {
      const source = await new DataSource({ ...fresh.options, entities: [] } as DataSourceOptions).initialize();
      await source.query('CREATE SCHEMA "sales dept"');
      await source.destroy();
    }
    const entities = entitiesIn(place, isPostgres);
    app = await startApp({
      database: fresh.options,
      entities: [entities.Order, entities.PlainOrder, entities.Line],
      webhooks: { capture },
    });
    return { ...entities, app, manager: app.dataSource.manager };
  }

  it('make the events of all writes, separate from those of a table of the same name', async () => {
    const { Order, PlainOrder, Line, app: running, manager } = await start();
    const { id } = await manager.save(Order, { id: 1, status: 'a' });
    await manager.save(PlainOrder, { id, status: 'mine' });
    await manager.save(Order, { id, status: 'b' });
    await manager.update(Order, { id }, { level: 'high' });
    await manager.upsert(Order, { id, status: 'c' }, ['id']);
    await manager.transaction(async (inner) => {
      await inner.insert(Line, { id: 1, status: 'x', order: { id } });
      await inner.update(Line, 1, { status: 'y' });
    });
    await manager.softDelete(Order, id);
    await manager.restore(Order, id);
    await manager.delete(Line, 1);
    await manager.remove(await manager.findOneByOrFail(Order, { id }));
    await manager.delete(PlainOrder, id);
    await running.dispatcher.drain();
    expect(await stories(running)).toEqual([
      ...['order.created a', 'plain_order.created mine', 'order.updated b', 'order.updated b', 'order.updated c'],
      ...['line.created y', 'order.deleted c', 'order.restored c', 'line.deleted y'],
      ...['order.deleted c', 'plain_order.deleted mine'],
    ]);
    const events = await storedEvents(running);
    expect(events[3]).toMatchObject({ data: { level: 'high' }, previous: { level: 'low' } });
    expect(events[5]).toMatchObject({ data: { order: id } });
  });

  it('make no events inside withoutCapture() or after a rollback', async () => {
    const { Order, app: running, manager } = await start();
    await running.webhooks.withoutCapture(() => manager.insert(Order, { id: 1, status: 'quiet' }));
    const failing = manager.transaction(async (inner) => {
      await inner.insert(Order, { id: 2, status: 'gone' });
      throw new Error('no');
    });
    await expect(failing).rejects.toThrow('no');
    await manager.insert(Order, { id: 3, status: 'loud' });
    await running.dispatcher.drain();
    expect(await stories(running)).toEqual(['order.created loud']);
  });

  it.runIf(capture === 'trigger')(
    'have triggers that are checked, replaced and dropped, and a warning names cascades',
    async () => {
      const log = listenToLog();
      const { Order, PlainOrder, Line, app: running } = await start();
      if (!isPostgres)
        expect(log.warnings.join('\n')).toMatch(/The foreign key \S+ of order_line has ON DELETE CASCADE/);
      await running.close();
      app = undefined;
      const again = await startApp({
        database: { ...fresh.options, synchronize: false } as DataSourceOptions,
        entities: [Order, PlainOrder, Line],
        webhooks: { capture },
      });
      await again.close();
      const source = await new DataSource({
        ...fresh.options,
        entities: [Order, PlainOrder, Line],
      } as DataSourceOptions).initialize();
      const runner = source.createQueryRunner();
      const webhooks = {
        entities: [
          { entity: Order, capture },
          { entity: PlainOrder, capture },
          { entity: Line, capture, coalesce: true },
        ],
      };
      expect(await installTriggers(runner, webhooks)).toEqual([]);
      expect((await dropTriggers(runner)).length).toBeGreaterThanOrEqual(9);
      expect(await dropTriggers(runner)).toEqual([]);
      expect((await installTriggers(runner, webhooks)).length).toBeGreaterThanOrEqual(9);
      await runner.release();
      await source.destroy();
    },
  );
});

const sqlite = databases.find(({ name }) => name === 'sqlite');
describe.skipIf(!sqlite)('an entity in an attached database of SQLite', () => {
  it("is captured with capture: 'orm', and refused by name with capture: 'trigger'", async () => {
    // One file for each start: the schema builder of TypeORM 0.3 does not find tables of an attached database, and would create them again.
    const [refused, fresh] = await Promise.all([sqlite!.create(), sqlite!.create()]);
    const { Order } = entitiesIn({ database: 'attached.sqlite' }, false);
    const startWith = (capture: 'orm' | 'trigger') =>
      startApp({
        database: (capture === 'orm' ? fresh : refused).options,
        entities: [Order],
        webhooks: { capture },
      });
    try {
      await expect(startWith('trigger')).rejects.toMatchObject({
        code: 'DATABASE_NOT_CAPTURED',
        message: expect.stringContaining("capture: 'orm'") as string,
      });
      const app = await startWith('orm');
      const { manager } = app.dataSource;
      const { id } = await manager.save(Order, { id: 1, status: 'a' });
      await manager.update(Order, { id }, { status: 'b' });
      await manager.delete(Order, id);
      expect(await stories(app)).toEqual(['order.created a', 'order.updated b', 'order.deleted b']);
      await app.close();
    } finally {
      await refused.drop();
      await fresh.drop();
    }
  });
});
