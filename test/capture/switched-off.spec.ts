import { AsyncResource } from 'node:async_hooks';
import { EventEmitter2 } from '@nestjs/event-emitter';
import { afterAll, beforeAll, beforeEach, expect, it, vi } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { Line, Order, stories } from './shop.js';

describeDatabases('a write without capture', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({
      database: fresh.options,
      entities: [Order, Line],
      webhooks: { publishedTypes: ['shop.seeded'] },
    });
  });
  beforeEach(async () => {
    await app.dataSource.query('DELETE FROM webhook_events');
    await app.dataSource.query('DELETE FROM shop_line');
    await app.dataSource.query('DELETE FROM shop_order');
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  const orders = () => app.dataSource.getRepository(Order);

  it('makes no event, whether it saves with cascades, changes, deletes, restores or removes', async () => {
    const result = await app.webhooks.withoutCapture(async () => {
      const order = await orders().save({ status: 'a', lines: [{ article: 'pen' } as Line] });
      await orders().save({ id: order.id, status: 'b' });
      await orders().softRemove(order);
      await orders().recover(order);
      await orders().remove(order);
      await orders().save({ status: 'stays' });
      return 'done';
    });
    expect(result).toBe('done');
    expect(await orders().count()).toBe(1);
    expect(await stories(app)).toEqual([]);
  });

  it('is every write inside withoutCapture(), at any depth, and none after it, even if it throws', async () => {
    const importer = { run: () => app.dataSource.transaction((manager) => manager.save(Order, { status: 'deep' })) };
    const failing = app.webhooks.withoutCapture(async () => {
      await app.webhooks.withoutCapture(() => importer.run());
      await importer.run();
      throw new Error('no');
    });
    await expect(failing).rejects.toThrow('no');
    await orders().save({ status: 'after' });
    expect(await stories(app)).toEqual(['order.created after']);
  });

  it('does not affect concurrent writes', async () => {
    const both = Array.from({ length: 10 }, (_, n) => [
      app.webhooks.withoutCapture(() => orders().save({ status: `silent ${n}` })),
      orders().save({ status: `captured ${n}` }),
    ]);
    await Promise.all(both.flat());
    expect(await orders().count()).toBe(20);
    const expected = Array.from({ length: 10 }, (_, n) => `order.created captured ${n}`);
    expect((await stories(app)).toSorted()).toEqual(expected.toSorted());
  });

  it('depends on where it is called, and not on where its transaction began', async () => {
    await app.dataSource.transaction(async (manager) => {
      await manager.save(Order, { status: 'before' });
      await app.webhooks.withoutCapture(() => manager.save(Order, { status: 'silent' }));
      await manager.save(Order, { status: 'after' });
    });
    const outside = new AsyncResource('outside');
    await app.webhooks.withoutCapture(() =>
      app.dataSource.transaction(async (manager) => {
        await manager.save(Order, { status: 'silent too' });
        await outside.runInAsyncScope(() => manager.save(Order, { status: 'outside' }));
      }),
    );
    expect(await stories(app)).toEqual(['order.created before', 'order.created after', 'order.created outside']);
  });

  it('does not change the event of an earlier change of the same row', async () => {
    await app.dataSource.transaction(async (manager) => {
      const order = await manager.save(Order, { status: 'captured' });
      await app.webhooks.withoutCapture(async () => {
        await manager.save(Order, { id: order.id, status: 'silent' });
        await manager.remove(Order, order);
      });
    });
    expect(await stories(app)).toEqual(['order.created captured']);
  });

  it('does not stop publish()', async () => {
    await app.webhooks.withoutCapture(() => app.webhooks.publish('shop.seeded', { id: 1 }));
    expect(await stories(app)).toEqual(['shop.seeded 1']);
  });

  it('does not include the writes of a handler of an event that was published inside', async () => {
    const emitter = app.app.get(EventEmitter2);
    emitter.once('webhooks.event.shop.seeded', () => void orders().save({ status: 'by a handler' }));
    await app.webhooks.withoutCapture(() => app.webhooks.publish('shop.seeded', { id: 2 }));
    await vi.waitFor(async () => {
      expect(await stories(app)).toEqual(['shop.seeded 2', 'order.created by a handler']);
    });
  });

  it('is one call with { data: { webhooks: false } }, even with other properties in data', async () => {
    await orders().save({ status: 'a' }, { data: { webhooks: false, tenant: 7 } });
    await orders().save({ status: 'b' }, { data: { tenant: 7 } });
    const c = await orders().save({ status: 'c' }, { data: { webhooks: true } });
    await orders().softRemove(c, { data: { webhooks: false } });
    await orders().remove(c, { data: { webhooks: false } });
    await app.dataSource.transaction(async (manager) => {
      const d = { status: 'd', lines: [{ article: 'pen' } as Line] };
      await manager.save(Order, d, { data: { webhooks: false } });
      await manager.save(Order, { status: 'e' });
    });
    expect(await stories(app)).toEqual(['order.created b', 'order.created c', 'order.created e']);
  });
});
