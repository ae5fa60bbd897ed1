import type { DataSourceOptions } from 'typeorm';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { Audit, Line, Order } from '../capture/shop.js';

describeDatabases("dispatch: 'inline'", (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  const start = async (timeoutMs = 15_000) => {
    app = await startApp({
      database: { ...fresh.options, poolSize: 2 } as DataSourceOptions,
      entities: [Order, Line],
      others: [Audit],
      webhooks: { dispatch: 'inline', publishedTypes: ['till.closed'], dispatcher: { timeoutMs } },
    });
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
  };

  beforeEach(async () => {
    fresh = await database.reuse();
  });
  afterEach(async () => {
    await app.close();
    await fresh.drop();
  });

  const orders = () => app.dataSource.getRepository(Order);

  it('has made the first attempt when the write returns', async () => {
    await start();
    await orders().save({ status: 'a' });
    expect(app.receiver.requests).toHaveLength(1);
    await app.dataSource.transaction(async (manager) => {
      await manager.save(Order, { status: 'b' });
      expect(app.receiver.requests).toHaveLength(1);
    });
    expect(app.receiver.requests).toHaveLength(2);
    await app.webhooks.publish('till.closed', { till: 1 });
    expect(app.receiver.requests).toHaveLength(3);
    expect(await app.deliveries.counts()).toMatchObject({ succeeded: 3 });
  });

  it('resolves 20 concurrent writes to a slow receiver over an application pool of 2', async () => {
    await start();
    let release = () => undefined as void;
    const slow = new Promise<void>((resolve) => (release = resolve));
    app.receiver.respond({ status: 204, delayUntil: slow });
    const writes = Array.from({ length: 20 }, (_, index) => orders().save({ status: `s${index}` }));
    // As many deliveries are in flight as the pool allows commits. No write has returned.
    await app.receiver.waitFor(1);
    release();
    await Promise.all(writes);
    expect(app.receiver.requests).toHaveLength(20);
    expect(await app.deliveries.counts()).toMatchObject({ succeeded: 20 });
  });

  it('never rejects a write because of a receiver, and continues as a queued delivery', async () => {
    await start();
    app.receiver.failTimes(1);
    await expect(orders().save({ status: 'a' })).resolves.toMatchObject({ status: 'a' });
    expect(await app.deliveries.counts()).toMatchObject({ due: 1 });
    app.clock.advance(7_000);
    await app.dispatcher.drain();
    expect(await app.deliveries.counts()).toMatchObject({ succeeded: 1 });
  });

  it('lets the write return after timeoutMs', async () => {
    await start(200);
    let release = () => undefined as void;
    app.receiver.respond({ status: 204, delayUntil: new Promise<void>((resolve) => (release = resolve)) });
    // The receiver never answers, and the write returns anyway. The attempt ends at its own time limit.
    await orders().save({ status: 'a' });
    await app.dispatcher.drain();
    release();
    const [delivery] = (await app.deliveries.list()).items;
    expect(delivery).toMatchObject({ state: 'due', lastErrorCode: 'TIMEOUT' });
  });
});
