import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Column, Entity, PrimaryColumn } from 'typeorm';
import {
  EVERY_OWNER,
  EventService,
  Webhook,
  type CreateListenerInput,
  type SkippedListener,
} from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

@Webhook({ owner: 'customer' })
@Entity('sl_order')
class Order {
  @PrimaryColumn({ type: 'int' })
  id: number;
  @Column({ type: 'varchar' })
  customer: string;
  @Column({ type: 'varchar' })
  status: string;
}
@Webhook({ owner: EVERY_OWNER })
@Entity('sl_product')
class Product {
  @PrimaryColumn({ type: 'int' })
  id: number;
}

describeDatabases('the listeners that did not get an event', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let events: EventService;
  const ids: Record<string, string> = {};
  let updated: string;
  let product: string;

  const listen = async (name: string, input: Partial<CreateListenerInput>) => {
    const given = { events: ['order.*'], url: app.receiver.url, name, ...input };
    ids[name] = (await app.listeners.create(given)).id;
  };
  const newest = async (type: string) => (await events.list({ type })).items[0]?.id as string;
  const nameOf = ({ listenerId }: SkippedListener) => Object.entries(ids).find(([, id]) => id === listenerId)?.[0];
  const reasons = (items: readonly SkippedListener[]) =>
    Object.fromEntries(items.map((item) => [nameOf(item), [item.reason, ...item.failedOn].join(' ')]));

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({ database: fresh.options, entities: [Order, Product] });
    events = app.app.get(EventService);
    await listen('receives', { owner: 'acme' });
    await listen('other type', { owner: 'acme', events: ['product.*'] });
    await listen('other filter', { owner: 'acme', where: { status: { changedTo: 'sent' }, customer: 'acme' } });
    await listen('other owner', { owner: 'globex' });
    await listen('application', { where: { status: 'lost' } });
    await listen('disabled', { owner: 'acme' });
    await listen('changed', { owner: 'acme', where: { status: 'lost' } });
    await app.listeners.disable(ids['disabled'] as string, 'a test');
    const orders = app.dataSource.getRepository(Order);
    await orders.save({ id: 1, customer: 'acme', status: 'new' });
    await orders.save({ id: 1, customer: 'acme', status: 'paid' });
    await app.dataSource.getRepository(Product).save({ id: 1 });
    await app.dispatcher.drain();
    app.clock.advance(1_000);
    await listen('later', { owner: 'acme' });
    await app.listeners.update(ids['changed'] as string, { where: {} });
    updated = await newest('order.updated');
    product = await newest('product.created');
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  it('are named with the reason: the type, the condition that failed, the time of creation, or a later change', async () => {
    const { items, next } = await events.skippedListeners(updated);
    expect(reasons(items)).toEqual({
      'other type': 'TYPE_NOT_SUBSCRIBED',
      'other filter': 'FILTER_NOT_MATCHED status.changedTo',
      application: 'FILTER_NOT_MATCHED status',
      changed: 'MATCHES_NOW',
      later: 'CREATED_LATER',
    });
    expect(next).toBeNull();
  });

  it('include those of every owner if the event is for every owner', async () => {
    const { items } = await events.skippedListeners(product);
    expect(reasons(items)).toEqual(
      Object.fromEntries(
        Object.keys(ids)
          .filter((name) => name !== 'other type')
          .map((name) => [name, 'TYPE_NOT_SUBSCRIBED']),
      ),
    );
  });

  it('are asked for one by one, also if the owner is another', async () => {
    const of = async (name: string) =>
      reasons((await events.skippedListeners(updated, { listenerId: ids[name] as string })).items);
    expect(await of('other owner')).toEqual({ 'other owner': 'OTHER_OWNER' });
    expect(await of('receives')).toEqual({});
    expect(await of('disabled')).toEqual({});
    expect((await events.skippedListeners(updated, { listenerId: 'lst_none' })).items).toEqual([]);
  });

  it('are only those of the owner in a service that is bound to an owner', async () => {
    const acme = events.forOwner('acme');
    const names = (await acme.skippedListeners(updated)).items.map(nameOf);
    expect(names).toEqual(['later', 'changed', 'other filter', 'other type']);
    expect((await acme.skippedListeners(updated, { listenerId: ids['application'] as string })).items).toEqual([]);
    const hidden = events.forOwner('globex').skippedListeners(updated);
    await expect(hidden).rejects.toMatchObject({ code: 'EVENT_NOT_FOUND' });
    expect((await events.forOwner('globex').skippedListeners(product)).items.map(nameOf)).toEqual(['other owner']);
  });

  it('are read page by page, and no listener is missing or comes twice', async () => {
    const names: (string | undefined)[] = [];
    for (let cursor: string | null = null, pages = 0; pages === 0 || cursor !== null; pages++) {
      const page = await events.skippedListeners(updated, { limit: 1, ...(cursor !== null && { cursor }) });
      names.push(...page.items.map(nameOf));
      cursor = page.next;
    }
    expect(names).toEqual(['later', 'changed', 'application', 'other filter', 'other type']);
  });

  describe('and whose filter nobody can try any more', () => {
    it('get the reason that the content is erased', async () => {
      const created = await newest('order.created');
      await events.erase(created);
      const { items } = await events.skippedListeners(created);
      expect(reasons(items)).toMatchObject({ 'other type': 'TYPE_NOT_SUBSCRIBED', later: 'CONTENT_ERASED' });
    });
  });

  it('wait for the dispatcher while the event is not routed', async () => {
    await app.dataSource.getRepository(Order).save({ id: 2, customer: 'acme', status: 'new' });
    const pending = await newest('order.created');
    const before = reasons((await events.skippedListeners(pending)).items);
    expect(before).toMatchObject({
      receives: 'NOT_ROUTED',
      later: 'NOT_ROUTED',
      application: 'FILTER_NOT_MATCHED status',
    });
    await app.dispatcher.drain();
    expect(reasons((await events.skippedListeners(pending)).items)).not.toHaveProperty('receives');
  });

  it('of a test event are all that it was not for', async () => {
    await app.listeners.sendTest(ids['receives'] as string, { type: 'order.created' });
    await app.dispatcher.drain();
    const [test] = (await events.list()).items.filter((one) => one.test);
    const { items } = await events.skippedListeners(test?.id as string, { listenerId: ids['later'] as string });
    expect(reasons(items)).toEqual({ later: 'TEST_EVENT' });
  });
});
