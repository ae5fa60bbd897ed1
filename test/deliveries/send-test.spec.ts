import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { Webhook, type CreateListenerInput } from 'nestjs-entity-webhooks';
import type { ReceivedRequest } from 'nestjs-entity-webhooks/testing';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { HOUR, Order, ShortFormat, ThreeAttempts } from '../support/logged-orders.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

/** Declares its example. */
@Webhook({ name: 'parcel', examples: [{ id: 7, weight: '2.50' }] })
@Entity('log_parcel')
class Parcel {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 20, default: '' })
  label: string;

  @Column({ type: 'decimal', precision: 8, scale: 2, default: 0 })
  weight: string;
}

/** Declares no example. */
@Webhook({ name: 'crate' })
@Entity('log_crate')
class Crate {
  @PrimaryGeneratedColumn('uuid')
  id: string;

  @Column({ type: 'decimal', precision: 8, scale: 3, default: 0 })
  weight: string;

  @Column({ type: 'boolean', default: false })
  isLate: boolean;

  @Column({ type: 'bigint', default: 0 })
  grams: string;

  @Column({ type: 'simple-json', nullable: true })
  notes: object | null;

  @Column({ type: 'simple-array', nullable: true })
  stops: string[] | null;
}

describeDatabases('sendTest', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({
      database: fresh.options,
      entities: [Order, Parcel, Crate],
      webhooks: {
        publishedTypes: [
          'invoice.overdue',
          { type: 'invoice.paid', fields: ['id', 'payer.name'] },
          { type: 'invoice.sent', examples: [{ id: 1 }] },
        ],
        parts: { retrySchedule: ThreeAttempts, payloadFormats: [ShortFormat] },
      },
    });
  });
  afterEach(async () => {
    ShortFormat.isBroken = false;
    app.clock.set(Date.now());
    app.receiver.respond({ status: 204 }).clear();
    for (const table of ['events', 'listeners', 'routes', 'route_paths', 'deliveries', 'attempts', 'listener_state']) {
      await app.dataSource.query(`DELETE FROM webhook_${table}`);
    }
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  const listen = (input: Partial<CreateListenerInput> = {}) =>
    app.listeners.create({ events: ['*'], url: app.receiver.url, ...input });
  const save = (customerId = 'acme') => app.dataSource.manager.save(Order, { customerId });
  const requests = () => {
    const { requests } = app.receiver;
    const all = [...requests];
    app.receiver.clear();
    return all;
  };

  it('reaches only the given listener, marked as a test, whatever its types and filter', async () => {
    const target = await listen({
      owner: 'acme',
      events: ['order.deleted'],
      where: { status: 'nothing' },
      url: `${app.receiver.url}/target`,
    });
    await listen({ url: `${app.receiver.url}/everything` });
    await listen({ owner: 'acme', url: `${app.receiver.url}/same-owner` });
    const { deliveryId } = await app.listeners.sendTest(target.id);
    await app.dispatcher.drain();
    const [request, ...others] = requests();
    expect(others).toEqual([]);
    expect(request?.url).toBe('/hooks/target');
    expect(request?.json).toMatchObject({ type: 'webhook.test', data: { test: true, listenerId: target.id } });
    app.receiver.verify(request as ReceivedRequest, target.secret);
    expect(await app.deliveries.forOwner('acme').get(deliveryId)).toMatchObject({
      ...{ state: 'succeeded', type: 'webhook.test', owner: 'acme', listenerId: target.id },
      eventId: request?.headers['webhook-id'],
    });
  });

  it('makes a new event each time, which is retried like any other', async () => {
    const { id } = await listen();
    app.receiver.respond([{ status: 503 }]);
    const first = await app.listeners.sendTest(id);
    const second = await app.listeners.sendTest(id);
    expect(first.deliveryId).not.toBe(second.deliveryId);
    await app.dispatcher.drain();
    app.clock.advance(HOUR);
    await app.dispatcher.drain();
    const ids = requests().map((request) => request.headers['webhook-id']);
    expect(ids).toHaveLength(3);
    expect(new Set(ids).size).toBe(2);
    expect(await app.deliveries.counts({ type: 'webhook.test' })).toMatchObject({ succeeded: 2 });
  });

  it('sends an example of the given type, marked as a test, to the given listener only', async () => {
    const target = await listen({ owner: 'acme', events: ['order.deleted'], where: { status: 'nothing' } });
    await listen({ url: `${app.receiver.url}/everything` });
    const { deliveryId } = await app.listeners.forOwner('acme').sendTest(target.id, { type: 'order.updated' });
    await app.dispatcher.drain();
    const [request, ...others] = requests();
    expect(others).toEqual([]);
    expect(request?.headers['webhook-test']).toBe('true');
    const { payload } = app.receiver.verify(request as ReceivedRequest, target.secret);
    await save();
    const real = await app.listeners.create({ events: ['order.*'], url: `${app.receiver.url}/real` });
    await save();
    await app.dispatcher.drain();
    const event = requests().find(({ url }) => url === '/hooks/real')?.json as { data: object };
    expect(payload).toMatchObject({ type: 'order.updated', test: true });
    expect(Object.keys(payload.data as object)).toEqual(Object.keys(event.data));
    expect(Object.keys(payload.previous as object)).toHaveLength(1);
    expect(event).not.toHaveProperty('test');
    expect(await app.deliveries.get(deliveryId)).toMatchObject({ state: 'succeeded', type: 'order.updated' });
    // replay() sends past events, but no examples.
    const since = new Date(0);
    await app.listeners.remove(target.id);
    expect(await app.deliveries.replay({ listenerId: real.id, since })).toBe(1);
  });

  const CRATE = {
    ...{ id: '00000000-0000-4000-8000-000000000001', weight: '1.000', isLate: true, grams: '1' },
    ...{ notes: {}, stops: ['stops 1'] },
  };

  it.each([
    ['order.created', { id: 1, status: 'status 1', customerId: 'customerId 1' }, undefined],
    ['crate.created', CRATE, undefined],
    ['crate.updated', CRATE, { weight: '2.000' }],
    ['crate.deleted', CRATE, undefined],
    ['parcel.created', { id: 7, weight: '2.50' }, undefined],
    ['parcel.updated', { id: 7, weight: '2.50' }, { weight: '2.00' }],
    ['invoice.paid', { id: 'example', payer: { name: 'example' } }, undefined],
    ['invoice.sent', { id: 1 }, undefined],
    ['invoice.overdue', {}, undefined],
  ])('of %s sends the declared example, or a made-up one', async (type, data, previous) => {
    const { id } = await listen();
    await app.listeners.sendTest(id, { type });
    await app.dispatcher.drain();
    const { timestamp: _, ...payload } = requests()[0]?.json as Record<string, unknown>;
    expect(payload).toEqual({ type, test: true, data, ...(previous ? { previous } : {}) });
  });

  it('rejects a type that is unknown, or that the listener can never receive', async () => {
    const { id } = await listen({ owner: 'acme' });
    for (const type of ['order.*', 'order.paid', 7 as never]) {
      await expect(app.listeners.sendTest(id, { type })).rejects.toMatchObject({ httpStatus: 400 });
    }
  });

  it('uses the listener’s format, and shows FORMAT_FAILED if the format throws', async () => {
    const { id } = await listen({ format: 'short' });
    await app.listeners.sendTest(id);
    await app.dispatcher.drain();
    const [request] = requests();
    expect(request?.rawBody.toString()).toBe('it happened: webhook.test');
    expect(request?.headers['content-type']).toBe('text/plain');
    ShortFormat.isBroken = true;
    const { deliveryId } = await app.listeners.sendTest(id);
    await app.dispatcher.drain();
    expect(requests()).toEqual([]);
    expect(await app.deliveries.get(deliveryId)).toMatchObject({ state: 'discarded', lastErrorCode: 'FORMAT_FAILED' });
  });
});
