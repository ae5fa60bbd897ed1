import axios from 'axios';
import { EventEmitter2 } from '@nestjs/event-emitter';
import { Webhook as StandardWebhook } from 'standardwebhooks';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { RetrySchedule, type DeliveryLifecycleEvent } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { Audit, Line, Order } from '../capture/shop.js';

/** Three attempts, a minute apart; the test moves the clock by hand. */
class EveryMinute extends RetrySchedule {
  override delayMs(failures: number): number | null {
    return failures < 3 ? 60_000 : null;
  }
}

describeDatabases('a delivery', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  const start = (webhooks = {}) =>
    startApp({
      database: fresh.options,
      entities: [Order, Line],
      others: [Audit],
      webhooks: { publishedTypes: ['article.written'], parts: { retrySchedule: EveryMinute }, ...webhooks },
    });

  beforeEach(async () => {
    fresh = await database.reuse();
    app = await start();
  });
  afterEach(async () => {
    axios.interceptors.request.clear();
    await app.close();
    await fresh.drop();
  });

  const orders = () => app.dataSource.getRepository(Order);
  const bodies = () =>
    app.receiver.requests.map((request) => request.json as { type: string; data: { status: string } });

  it('has the row as it was at the change, not as it is when sent', async () => {
    await app.listeners.create({ events: ['order.*'], url: app.receiver.url });
    const order = await orders().save({ status: 'then' });
    await orders().save({ id: order.id, status: 'now' });
    await app.dispatcher.drain();
    expect(bodies().map(({ type, data }) => [type, data.status])).toEqual([
      ['order.created', 'then'],
      ['order.updated', 'now'],
    ]);
  });

  it('is not made to a listener that was created after the change, even if the event was not routed yet', async () => {
    await orders().save({ status: 'before' });
    await app.listeners.create({ events: ['order.*'], url: app.receiver.url });
    await orders().save({ status: 'after' });
    await app.dispatcher.drain();
    expect(bodies().map(({ data }) => data.status)).toEqual(['after']);
  });

  it('reports a delete, with the row as it was', async () => {
    await app.listeners.create({ events: ['order.deleted'], url: app.receiver.url });
    const order = await orders().save({ status: 'gone' });
    await orders().remove(order);
    await app.dispatcher.drain();
    expect(bodies()).toMatchObject([{ type: 'order.deleted', data: { id: 1, status: 'gone' } }]);
  });

  it('is JSON by its content type, signed as Standard Webhooks signs it', async () => {
    const { secret } = await app.listeners.create({ events: ['order.*'], url: app.receiver.url });
    await orders().save({ status: 'a' });
    await app.dispatcher.drain();
    const [request] = app.receiver.requests;
    expect(request?.method).toBe('POST');
    expect(request?.headers['content-type']).toBe('application/json');
    const verified = new StandardWebhook(secret).verify(
      request?.rawBody.toString() ?? '',
      request?.headers as Record<string, string>,
    );
    expect(verified).toMatchObject({ type: 'order.created', data: { status: 'a' } });
  });

  it('is retried after a 500, under the same id with a new signature', async () => {
    await app.listeners.create({ events: ['order.*'], url: app.receiver.url });
    app.receiver.failTimes(2);
    await orders().save({ status: 'a' });
    await app.dispatcher.drain();
    expect(await app.deliveries.counts()).toMatchObject({ due: 1, succeeded: 0 });
    await app.dispatcher.drain();
    expect(app.receiver.requests).toHaveLength(1);
    for (const minutes of [1, 2]) {
      app.clock.advance(60_000);
      await app.dispatcher.drain();
      expect(app.receiver.requests).toHaveLength(1 + minutes);
    }
    expect(await app.deliveries.counts()).toMatchObject({ due: 0, succeeded: 1 });
    const ids = app.receiver.requests.map((request) => request.headers['webhook-id']);
    const times = app.receiver.requests.map((request) => request.headers['webhook-timestamp']);
    expect(new Set(ids).size).toBe(1);
    expect(new Set(times).size).toBe(3);
    const [delivery] = (await app.deliveries.list()).items;
    const { attempts } = await app.deliveries.get(delivery?.id ?? '');
    expect(attempts.map(({ number, outcome, status }) => [number, outcome, status])).toEqual([
      [1, 'rejected', 500],
      [2, 'rejected', 500],
      [3, 'accepted', 204],
    ]);
  });

  it('is exhausted when the schedule ends, and lifecycle events are emitted', async () => {
    await app.listeners.create({ events: ['order.*'], url: app.receiver.url });
    app.receiver.failTimes(99);
    const emitted: string[] = [];
    app.app.get(EventEmitter2).onAny((name, lifecycleEvent) => {
      if (String(name).startsWith('webhooks.delivery.'))
        emitted.push(`${String(name)} ${(lifecycleEvent as DeliveryLifecycleEvent).attempt}`);
    });
    await orders().save({ status: 'a' });
    await app.dispatcher.drain();
    app.clock.advance(60_000);
    await app.dispatcher.drain();
    app.clock.advance(60_000);
    await app.dispatcher.drain();
    expect(await app.deliveries.counts()).toMatchObject({ exhausted: 1, due: 0 });
    expect(emitted).toEqual([
      'webhooks.delivery.failed 1',
      'webhooks.delivery.failed 2',
      'webhooks.delivery.failed 3',
      'webhooks.delivery.exhausted 3',
    ]);
  });

  it('waits at least as long as the receiver asks', async () => {
    await app.listeners.create({ events: ['order.*'], url: app.receiver.url });
    app.receiver.respond([{ status: 503, headers: { 'retry-after': '600' } }]);
    await orders().save({ status: 'a' });
    await app.dispatcher.drain();
    app.clock.advance(599_000);
    await app.dispatcher.drain();
    expect(app.receiver.requests).toHaveLength(1);
    app.clock.advance(1_000);
    await app.dispatcher.drain();
    expect(app.receiver.requests).toHaveLength(2);
  });

  it('disables its listener on 410 Gone, and pending deliveries are held', async () => {
    const listener = await app.listeners.create({ events: ['order.*'], url: app.receiver.url });
    app.receiver.respond([{ status: 500 }, { status: 410 }]);
    const disabled = vi.fn();
    app.app.get(EventEmitter2).on('webhooks.listener.disabled', disabled);
    await orders().save({ status: 'waits' });
    await app.dispatcher.drain();
    await orders().save({ status: 'gone' });
    await app.dispatcher.drain();
    expect(await app.listeners.get(listener.id)).toMatchObject({
      state: 'disabled',
      disabledReason: expect.stringContaining('410') as string,
    });
    expect(disabled).toHaveBeenCalledOnce();
    expect(await app.deliveries.counts()).toMatchObject({ held: 1, exhausted: 1 });
    await app.listeners.enable(listener.id);
    app.clock.advance(60_000);
    await app.dispatcher.drain();
    expect(bodies().map(({ data }) => data.status)).toEqual(['waits', 'gone', 'waits']);
  });

  it('transfers 256 KiB of four-byte characters byte for byte', async () => {
    const { secret } = await app.listeners.create({ events: ['article.written'], url: app.receiver.url });
    const text = '\u{1F980}'.repeat(65_000);
    await app.webhooks.publish('article.written', { text });
    await app.dispatcher.drain();
    const [request] = app.receiver.requests;
    expect(request?.rawBody.length).toBeGreaterThan(260_000);
    expect((request?.json as { data: { text: string } }).data.text).toBe(text);
    new StandardWebhook(secret).verify(request?.rawBody.toString() ?? '', request?.headers as Record<string, string>);
  });

  it('shows no receiver what an interceptor of the global axios adds', async () => {
    axios.interceptors.request.use((config) => {
      config.headers.set('authorization', 'Bearer of-the-application');
      return config;
    });
    await app.listeners.create({ events: ['order.*'], url: app.receiver.url });
    await orders().save({ status: 'a' });
    await app.dispatcher.drain();
    expect(app.receiver.requests).toHaveLength(1);
    expect(app.receiver.requests[0]?.headers).not.toHaveProperty('authorization');
  });

  it('is not sent to a private address, and records why', async () => {
    const guarded = await startApp({
      database: fresh.options,
      entities: [Order, Line],
      others: [Audit],
      webhooks: { security: { allowHttp: true } },
    });
    try {
      await expect(guarded.listeners.create({ events: ['order.*'], url: guarded.receiver.url })).rejects.toMatchObject({
        code: 'URL_ADDRESS_BLOCKED',
      });
      // A listener that was created under a less strict rule.
      await app.listeners.create({ events: ['order.*'], url: guarded.receiver.url });
      await guarded.dataSource.getRepository(Order).save({ status: 'a' });
      await guarded.dispatcher.drain();
      expect(guarded.receiver.requests).toHaveLength(0);
      expect((await guarded.deliveries.list()).items).toMatchObject([
        { state: 'due', lastErrorCode: 'ADDRESS_BLOCKED' },
      ]);
    } finally {
      await guarded.close();
    }
  });

  it('is made once per event and listener by two live dispatchers', async () => {
    const other = await start();
    try {
      const url = app.receiver.url;
      await app.listeners.create({ events: ['order.*'], url });
      await app.listeners.create({ events: ['*'], url });
      app.dispatcher.start();
      other.dispatcher.start();
      const half = (of: TestApp) =>
        Promise.all(
          Array.from({ length: 50 }, (_, index) => of.dataSource.getRepository(Order).save({ status: `s${index}` })),
        );
      await Promise.all([half(app), half(other)]);
      await app.receiver.waitFor(200, { timeoutMs: 20_000 });
      await app.dispatcher.stop();
      await other.dispatcher.stop();
      await app.dispatcher.drain();
      expect(app.receiver.requests).toHaveLength(200);
      const ids = new Map<string, number>();
      for (const { headers } of app.receiver.requests) {
        const id = String(headers['webhook-id']);
        ids.set(id, (ids.get(id) ?? 0) + 1);
      }
      expect([...new Set(ids.values())]).toEqual([2]);
      expect(await app.deliveries.counts()).toMatchObject({ succeeded: 200, due: 0, leased: 0 });
    } finally {
      await other.close();
    }
  });

  it('is reclaimed when its lease expires, and the late worker changes nothing', async () => {
    await app.listeners.create({ events: ['order.*'], url: app.receiver.url });
    await orders().save({ status: 'a' });
    let release = () => undefined as void;
    const held = new Promise<void>((resolve) => (release = resolve));
    app.receiver.respond([{ status: 500, delayUntil: held }, { status: 204 }]);
    const slow = app.dispatcher.runOnce();
    await app.receiver.waitFor(1);
    app.clock.advance(61_000);
    const other = await start();
    try {
      other.clock.set(app.clock.now());
      expect(await other.dispatcher.drain()).toMatchObject({ attempts: 1 });
      release();
      await slow;
      const [delivery] = (await app.deliveries.list()).items;
      expect(delivery).toMatchObject({ state: 'succeeded', attemptCount: 1 });
      const { attempts } = await app.deliveries.get(delivery?.id ?? '');
      expect(attempts.map(({ status, superseded }) => [status, superseded])).toEqual([
        [500, true],
        [204, false],
      ]);
      const ids = app.receiver.requests.map((request) => request.headers['webhook-id']);
      expect(ids[0]).toBe(ids[1]);
    } finally {
      release();
      await other.close();
    }
  });

  it('in flight is completed when the dispatcher stops', async () => {
    await app.listeners.create({ events: ['order.*'], url: app.receiver.url });
    let release = () => undefined as void;
    app.receiver.respond([{ status: 204, delayUntil: new Promise<void>((resolve) => (release = resolve)) }]);
    app.dispatcher.start();
    await orders().save({ status: 'a' });
    await app.receiver.waitFor(1);
    const stopped = app.dispatcher.stop();
    release();
    await stopped;
    expect(await app.deliveries.counts()).toMatchObject({ succeeded: 1, leased: 0 });
  });

  it('is not made for an event that cannot be read, and the other events continue', async () => {
    await app.listeners.create({ events: ['order.*'], url: app.receiver.url });
    await orders().save({ status: 'torn' });
    await app.dataSource.query("UPDATE webhook_events SET payload = '{'");
    await orders().save({ status: 'whole' });
    await app.dispatcher.drain();
    expect(bodies().map(({ data }) => data.status)).toEqual(['whole']);
    const [first] = await app.dataSource.query('SELECT seq FROM webhook_events ORDER BY seq');
    const damaged: { seq: unknown }[] = await app.dataSource.query('SELECT seq FROM webhook_damaged');
    expect(damaged.map(({ seq }) => seq)).toEqual([first.seq]);
    expect(await app.dataSource.query('SELECT seq FROM webhook_outbox')).toEqual([]);
    expect(await app.dataSource.query('SELECT token FROM webhook_leases')).toEqual([]);
  });
});
