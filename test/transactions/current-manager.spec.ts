import { AsyncLocalStorage } from 'node:async_hooks';
import { DataSource, type EntityManager } from 'typeorm';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { databases, describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { describeAmbient, Note } from './ambient.js';

const current = new AsyncLocalStorage<EntityManager | undefined>();

describeAmbient('inside a transaction that the application keeps itself', {
  options: { webhooks: { publishedTypes: ['note.sent'], currentManager: () => current.getStore() } },
  inTransaction: (app, work) => app.dataSource.transaction((manager) => current.run(manager, work)),
  inSavepoint: (app, work) =>
    (current.getStore() ?? app.dataSource.manager).transaction((manager) => current.run(manager, work)),
  outside: (_, work) => current.run(undefined, work),
  notes: (app) => (current.getStore() ?? app.dataSource.manager).getRepository(Note),
});

describeDatabases('a manager that is given', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeEach(async () => {
    fresh = await database.reuse();
    app = await startApp({ database: fresh.options, entities: [Note], webhooks: { publishedTypes: ['note.sent'] } });
  });
  afterEach(async () => {
    await app.close();
    await fresh.drop();
  });

  it('carries the services of listeners and deliveries, also those of one owner', async () => {
    const { dataSource, listeners, deliveries } = app;
    await dataSource.transaction(async (manager) => {
      const { id } = await listeners
        .forOwner('acme')
        .withManager(manager)
        .create({ events: ['*'], url: app.receiver.url });
      expect(await listeners.withManager(manager).forOwner('acme').get(id)).toMatchObject({ owner: 'acme' });
      expect((await deliveries.withManager(manager).list()).items).toEqual([]);
      await manager.query('DELETE FROM ambient_note');
    });
    expect((await listeners.list()).items).toHaveLength(1);
  });

  it('without a transaction changes nothing', async () => {
    const { dataSource, listeners } = app;
    const runner = dataSource.createQueryRunner();
    try {
      await listeners.withManager(runner.manager).create({ events: ['*'], url: app.receiver.url });
      await listeners.withManager(dataSource.manager).create({ events: ['*'], url: app.receiver.url });
    } finally {
      await runner.release();
    }
    expect((await listeners.list()).items).toHaveLength(2);
  });

  it('of a transaction that has ended commits nothing', async () => {
    const { dataSource, listeners } = app;
    const { id } = await listeners.create({ events: ['*'], url: app.receiver.url });
    const late = await dataSource.transaction(async (manager) => listeners.withManager(manager));
    await expect(late.update(id, { description: 'late' })).rejects.toMatchObject({ code: 'TRANSACTION_OVER' });
    expect(await listeners.get(id)).toMatchObject({ description: null });
  });

  it('of another data source is refused', async () => {
    const other = await new DataSource({ ...fresh.options, entities: [Note] }).initialize();
    try {
      for (const service of [app.listeners, app.deliveries]) {
        expect(() => service.withManager(other.manager)).toThrow(
          expect.objectContaining({ name: 'TransactionError', code: 'WRONG_DATA_SOURCE' }),
        );
      }
    } finally {
      await other.destroy();
    }
  });

  it('gives the listener no event that others committed since the transaction began', async () => {
    const { dataSource, listeners, webhooks } = app;
    if (database.name === 'sqlite') return; // one writer at a time: no other transaction commits meanwhile
    await dataSource.transaction('REPEATABLE READ', async (manager) => {
      await manager.find(Note);
      await manager.query('SELECT * FROM webhook_events');
      await webhooks.publish('note.sent', { n: 1 });
      await listeners.withManager(manager).create({ events: ['*'], url: app.receiver.url });
    });
    await app.dispatcher.drain();
    expect(app.receiver.requests).toEqual([]);
  });
});

it('`currentManager` of another data source is an error with a code', async () => {
  const [sqlite] = databases;
  const fresh = await sqlite?.create();
  const other = new DataSource({ type: 'better-sqlite3', database: ':memory:' });
  const app = await startApp({
    database: fresh?.options as never,
    entities: [Note],
    webhooks: { publishedTypes: ['note.sent'], currentManager: () => other.manager },
  });
  try {
    await expect(app.webhooks.publish('note.sent', {})).rejects.toMatchObject({ code: 'WRONG_DATA_SOURCE' });
  } finally {
    await app.close();
    await fresh?.drop();
  }
});
