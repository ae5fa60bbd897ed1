import { DataSource, Entity, PrimaryColumn } from 'typeorm';
import { beforeEach, expect, it } from 'vitest';
import { Webhook, type JsonObject } from 'nestjs-entity-webhooks';
import { describeDatabases } from '../support/databases.js';
import { sharedApp } from '../support/shared-app.js';

@Webhook({ name: 'doc' })
@Entity('publish_document')
class Doc {
  @PrimaryColumn({ type: 'varchar', length: 36 })
  id: string;
}

describeDatabases('publish', (database) => {
  const app = sharedApp(database, { entities: [Doc], webhooks: { publishedTypes: ['a.b', 'c.d'] } });
  beforeEach(async () => {
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
  });

  const sent = async () => {
    await app.dispatcher.drain();
    const received = app.receiver.requests.map(({ json, headers }) => {
      const { type, data } = json as { type: string; data: JsonObject };
      return { id: headers['webhook-id'], story: `${type} ${String(data.n ?? data.id)}` };
    });
    app.receiver.clear();
    return received;
  };
  const stored = async () => {
    const rows: { payload: string }[] = await app.dataSource.query('SELECT payload FROM webhook_events ORDER BY seq');
    return rows.map(({ payload }) => {
      const { type, data } = JSON.parse(payload) as { type: string; data: JsonObject };
      return `${type} ${String(data.n ?? data.id)}`;
    });
  };

  it.each(['webhooks.delivery.failed', 'webhooks.x'])('refuses %s, a type of lifecycle events', async (type) => {
    await expect(app.webhooks.publish(type, { n: 1 })).rejects.toMatchObject({
      name: 'PublishError',
      code: 'RESERVED_EVENT_TYPE',
      message: expect.stringContaining(type) as string,
    });
    expect(await stored()).toEqual([]);
  });

  it('returns the event as it is sent', async () => {
    const event = await app.webhooks.publish('a.b', { n: 1, at: new Date(0), big: 2n ** 60n, gone: undefined });
    expect(event).toMatchObject({
      type: 'a.b',
      owner: null,
      data: { n: 1, at: '1970-01-01T00:00:00.000Z', big: '1152921504606846976' },
    });
    await app.dispatcher.drain();
    const [request] = app.receiver.requests;
    expect(request?.json).toEqual({ type: 'a.b', timestamp: event.timestamp, data: event.data });
    expect(request?.headers['webhook-id']).toBe(event.id);
  });

  it('returns the first event of an idempotency key, and sends one', async () => {
    const first = await app.webhooks.publish('a.b', { n: 1 }, { idempotencyKey: 'k', owner: 'acme' });
    expect(await app.webhooks.publish('a.b', { n: 2 }, { idempotencyKey: 'k', owner: 'acme' })).toEqual(first);
    expect(await sent()).toEqual([{ id: first.id, story: 'a.b 1' }]);
    // Even after the event was sent.
    expect(await app.webhooks.publish('a.b', { n: 3 }, { idempotencyKey: 'k', owner: 'acme' })).toEqual(first);
    expect(await sent()).toEqual([]);
  });

  it('distinguishes idempotency keys by owner, type and exact text', async () => {
    const publish = (n: number, type: string, idempotencyKey: string, owner?: string) =>
      app.webhooks.publish(type, { n }, { idempotencyKey, ...(owner === undefined ? {} : { owner }) });
    await publish(1, 'a.b', 'k');
    await publish(2, 'c.d', 'k');
    await publish(3, 'a.b', 'k', 'acme');
    await publish(4, 'a.b', 'k', 'ACME');
    await publish(5, 'a.b', 'K');
    await publish(6, 'a.b', 'k ');
    await publish(7, 'a.b', 'ḱ');
    await publish(8, 'a.b', 'x'.repeat(255));
    expect(new Set((await sent()).map(({ id }) => id)).size).toBe(8);
  });

  it('makes one event from many racing calls with one key', async () => {
    const events = await Promise.all(
      Array.from({ length: 12 }, (_, n) => app.webhooks.publish('a.b', { n }, { idempotencyKey: 'race' })),
    );
    expect(new Set(events.map((event) => event.id)).size).toBe(1);
    expect(new Set(events.map((event) => event.data.n)).size).toBe(1);
    expect((await sent()).map(({ id }) => id)).toEqual([events[0]?.id]);
  });

  it('makes one event from many racing transactions with one key', async () => {
    const events = await Promise.all(
      Array.from({ length: 6 }, (_, n) =>
        app.dataSource.transaction((manager) =>
          app.webhooks.publish('a.b', { n }, { idempotencyKey: 'race', manager }),
        ),
      ),
    );
    expect(new Set(events.map((event) => event.id)).size).toBe(1);
    expect((await sent()).map(({ id }) => id)).toEqual([events[0]?.id]);
  });

  it('returns the first event of a key inside a caller’s transaction, and forgets the key when the transaction rolls back', async () => {
    const options = { idempotencyKey: 'k', owner: 'acme' };
    const failing = app.dataSource.transaction(async (manager) => {
      const first = await app.webhooks.publish('a.b', { n: 1 }, { ...options, manager });
      expect(await app.webhooks.publish('a.b', { n: 2 }, { ...options, manager })).toEqual(first);
      throw new Error('no');
    });
    await expect(failing).rejects.toThrow('no');
    expect(await stored()).toEqual([]);
    const standing = await app.dataSource.transaction((manager) =>
      app.webhooks.publish('a.b', { n: 3 }, { ...options, manager }),
    );
    expect(standing.data).toEqual({ n: 3 });
    expect(await app.webhooks.publish('a.b', { n: 4 }, options)).toEqual(standing);
    expect(await sent()).toEqual([{ id: standing.id, story: 'a.b 3' }]);
  });

  it('joins the transaction of a manager, in program order with the changes of entities', async () => {
    const { dataSource, webhooks } = app;
    await dataSource.transaction(async (manager) => {
      await webhooks.publish('a.b', { n: 1 }, { manager });
      await manager.save(Doc, { id: '2' });
      await webhooks.publish('a.b', { n: 3 }, { manager, idempotencyKey: 'k' });
      await manager.save(Doc, { id: '4' });
      await webhooks.publish('c.d', { n: 5 }, { manager });
    });
    expect(await stored()).toEqual(['a.b 1', 'doc.created 2', 'a.b 3', 'doc.created 4', 'c.d 5']);
    expect((await sent()).map(({ story }) => story).toSorted()).toEqual((await stored()).toSorted());
  });

  it('follows the savepoints of a manager', async () => {
    const { dataSource, webhooks } = app;
    await dataSource.transaction(async (manager) => {
      await webhooks.publish('a.b', { n: 'before' }, { manager });
      const inner = manager.transaction(async (nested) => {
        await webhooks.publish('a.b', { n: 'inside' }, { manager: nested });
        await webhooks.publish('a.b', { n: 'inside, keyed' }, { manager: nested, idempotencyKey: 'k' });
        throw new Error('inner');
      });
      await expect(inner).rejects.toThrow('inner');
      await manager.transaction((nested) => webhooks.publish('a.b', { n: 'kept' }, { manager: nested }));
      await webhooks.publish('a.b', { n: 'keyed again' }, { manager, idempotencyKey: 'k' });
    });
    expect(await stored()).toEqual(['a.b before', 'a.b kept', 'a.b keyed again']);
  });

  it('opens a separate transaction for the data source’s own manager', async () => {
    await app.webhooks.publish('a.b', { n: 1 }, { manager: app.dataSource.manager });
    expect((await sent()).map(({ story }) => story)).toEqual(['a.b 1']);
  });

  it('rejects the manager of another data source, even on the same database', async () => {
    const other = await new DataSource({ ...app.dataSource.options, synchronize: false }).initialize();
    try {
      const publishing = other.transaction((manager) => app.webhooks.publish('a.b', { n: 1 }, { manager }));
      await expect(publishing).rejects.toMatchObject({ name: 'PublishError', code: 'WRONG_DATA_SOURCE' });
      await expect(app.webhooks.publish('a.b', {}, { manager: other.manager })).rejects.toMatchObject({
        code: 'WRONG_DATA_SOURCE',
      });
    } finally {
      await other.destroy();
    }
    expect(await stored()).toEqual([]);
  });
});
