import { AsyncLocalStorage } from 'node:async_hooks';
import { Column, DataSource, Entity, PrimaryColumn, type DataSourceOptions, type EntityManager } from 'typeorm';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Webhook } from 'nestjs-entity-webhooks';
import { installTriggers, webhookMigrations } from 'nestjs-entity-webhooks/migrations';
import { describeOn, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const tenant = new AsyncLocalStorage<string>();

@Webhook({ name: 'item', owner: () => tenant.getStore() })
@Entity('tenant_item')
class Item {
  @PrimaryColumn({ type: 'integer' })
  id: number;

  @Column({ type: 'varchar' })
  text: string;
}

@Webhook({ name: 'raw', capture: 'trigger' })
@Entity('tenant_raw')
class Raw {
  @PrimaryColumn({ type: 'integer' })
  id: number;

  @Column({ type: 'varchar' })
  text: string;
}

const TENANTS = ['tenant_a', 'tenant_b'];

describeOn('postgres', 'a schema for each tenant, and the webhook tables in another', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeEach(async () => {
    fresh = await database.create();
    const source = await new DataSource({
      ...fresh.options,
      migrations: webhookMigrations({ tableSchema: 'hooks' }),
    } as DataSourceOptions).initialize();
    await source.runMigrations();
    for (const schema of TENANTS) {
      await source.query(`CREATE SCHEMA ${schema}`);
      for (const table of ['item', 'raw']) {
        await source.query(`CREATE TABLE ${schema}.tenant_${table} (id integer PRIMARY KEY, text varchar NOT NULL)`);
      }
    }
    await source.destroy();
  });
  afterEach(async () => {
    await app.close();
    await fresh.drop();
  });

  const start = async (extra: object = {}, dispatcher: object = {}) =>
    (app = await startApp({
      database: { ...fresh.options, poolSize: 2, synchronize: false, ...extra } as DataSourceOptions,
      entities: [Item],
      webhooks: { tableSchema: 'hooks', publishedTypes: ['note.sent'], dispatcher },
    }));
  /** Works like a request interceptor: takes a connection of the pool, and sets its `search_path` to the tenant's schema only. */
  const as = async (schema: string, work: (manager: EntityManager) => Promise<unknown>) => {
    const runner = app.dataSource.createQueryRunner();
    try {
      await runner.query(`SET search_path = ${schema}`);
      await tenant.run(schema, () => work(runner.manager));
    } finally {
      await runner.query('RESET search_path');
      await runner.release();
    }
  };
  const sent = async () => {
    await app.dispatcher.drain();
    return app.receiver.requests
      .map(({ url, json }) => {
        const { type, data, previous } = json as { type: string; data: { text?: string }; previous?: object };
        return `${url.slice(1)} ${type} ${data.text ?? ''} ${previous ? JSON.stringify(previous) : ''}`.trim();
      })
      .toSorted();
  };
  const listen = async () => {
    for (const schema of TENANTS) {
      await app.listeners.forOwner(schema).create({ events: ['*'], url: new URL(`/${schema}`, app.receiver.url).href });
    }
  };

  it('is in the schema of the option, and in no other', async () => {
    await start();
    const rows: { at: string }[] = await app.dataSource.query(
      `SELECT DISTINCT table_schema AS at FROM information_schema.tables WHERE table_name LIKE 'webhook%'`,
    );
    expect(rows).toEqual([{ at: 'hooks' }]);
  });

  it('captures every kind of write in the schema of its connection', async () => {
    await start();
    await listen();
    // The same key in both schemas, on two connections that swap their schemas.
    const round = (schema: string) =>
      as(schema, async (manager) => {
        const is = (text: string) => `${text} of ${schema}`;
        await manager.save(Item, { id: 1, text: is('saved') });
        await manager.save(Item, { id: 1, text: is('changed') });
        await manager.update(Item, { id: 1 }, { text: is('updated') });
        await manager.upsert(Item, [{ id: 1, text: is('upserted') }], ['id']);
        await manager.insert(Item, { id: 2, text: is('inserted') });
        await manager.remove(await manager.findOneByOrFail(Item, { id: 2 }));
        await manager.delete(Item, { id: 1 });
        await manager.transaction((inner) =>
          app.webhooks.publish('note.sent', { text: is('note') }, { manager: inner, owner: schema }),
        );
      });
    await Promise.all(TENANTS.map(round));
    await Promise.all(TENANTS.toReversed().map(round));
    const expected = TENANTS.flatMap((schema) => {
      const is = (text: string) => `${text} of ${schema}`;
      const was = (text: string) => JSON.stringify({ text: is(text) });
      return [
        `${schema} item.created ${is('saved')}`,
        `${schema} item.updated ${is('changed')} ${was('saved')}`,
        `${schema} item.updated ${is('updated')} ${was('changed')}`,
        `${schema} item.updated ${is('upserted')} ${was('updated')}`,
        `${schema} item.created ${is('inserted')}`,
        `${schema} item.deleted ${is('inserted')}`,
        `${schema} item.deleted ${is('upserted')}`,
        `${schema} note.sent ${is('note')}`,
      ];
    });
    expect(await sent()).toEqual([...expected, ...expected].toSorted());
  });

  it('captures the writes of each part of a transaction in which the search_path changes', async () => {
    await start();
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    await app.dataSource.transaction(async (manager) => {
      for (const schema of TENANTS) {
        await manager.query(`SET LOCAL search_path = ${schema}`);
        await manager.query(`INSERT INTO tenant_item VALUES (7, 'old in ${schema}')`);
        await manager.save(Item, { id: 7, text: `new in ${schema}` });
      }
      await manager.query(`SELECT set_config('search_path', 'pg_catalog', true)`);
    });
    expect(await sent()).toEqual(
      TENANTS.map((schema) => `hooks item.updated new in ${schema} {"text":"old in ${schema}"}`),
    );
  });

  it('joins a transaction whose search_path contains only the schema of the tenant', async () => {
    await start();
    await as('tenant_a', (manager) =>
      manager.transaction((inner) => app.listeners.withManager(inner).create({ events: ['*'], url: app.receiver.url })),
    );
    expect((await app.listeners.list()).items).toHaveLength(1);
  });

  it('wakes a process with another search_path', async () => {
    const at = (schema: string) => ({ extra: { options: `-c search_path=${schema}` } });
    const writer = await start(at('tenant_a'));
    const sender = await start(at('tenant_b'), { autoStart: true, pollIntervalMs: 3_600_000 });
    try {
      await sender.listeners.create({ events: ['*'], url: sender.receiver.url });
      await writer.dataSource.manager.save(Item, { id: 1, text: 'a' });
      const request = await sender.receiver.waitForRequest(() => true, { timeoutMs: 20_000 });
      expect(request.json).toMatchObject({ type: 'item.created', data: { text: 'a' } });
    } finally {
      await writer.close();
    }
  });

  it('has triggers of every tenant’s table write to it', async () => {
    const install = await new DataSource({ ...fresh.options, entities: [Raw] } as DataSourceOptions).initialize();
    const runner = install.createQueryRunner();
    for (const schema of TENANTS) {
      await runner.query(`SET search_path = ${schema}`);
      expect(await installTriggers(runner, { tableSchema: 'hooks' })).not.toEqual([]);
    }
    await runner.release();
    await install.destroy();
    app = await startApp({
      database: {
        ...fresh.options,
        synchronize: false,
        extra: { options: '-c search_path=tenant_a' },
      } as DataSourceOptions,
      entities: [Raw],
      webhooks: { tableSchema: 'hooks' },
    });
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    for (const schema of TENANTS) {
      await app.dataSource.query(`INSERT INTO ${schema}.tenant_raw VALUES (1, 'raw in ${schema}')`);
    }
    expect(await sent()).toEqual(TENANTS.map((schema) => `hooks raw.created raw in ${schema}`));
  });
});
