import { EventEmitter2 } from '@nestjs/event-emitter';
import { beforeEach, expect, it } from 'vitest';
import { RetrySchedule, LIFECYCLE_EVENTS, type ListenerDisabledLifecycleEvent } from 'nestjs-entity-webhooks';
import { Audit, Line, Order } from '../capture/shop.js';
import { appsOn } from '../support/apps-on.js';
import { describeDatabases } from '../support/databases.js';
import type { TestApp } from '../support/webhooks-app.js';

/** Retries every minute, without end. */
class EveryMinute extends RetrySchedule {
  override delayMs(): number {
    return 60_000;
  }
}

const CIRCUIT = { failures: 3, cooldownMs: 600_000, maxCooldownMs: 3_600_000, disableAfterMs: 86_400_000 };
const HOUR = 3_600_000;

describeDatabases('a listener that fails', (database) => {
  const apps = appsOn(database);
  let app: TestApp;
  /** A dispatcher in another process on the same database. */
  let other: TestApp;

  const start = () =>
    apps.start({
      entities: [Order, Line],
      others: [Audit],
      webhooks: {
        parts: { retrySchedule: EveryMinute },
        // A batch is sent together and recorded before the next one, so no request is in flight when the circuit
        // opens.
        dispatcher: { circuit: CIRCUIT, eventsPerBatch: 3, retryAfterCapMs: 2 * HOUR },
      },
    });

  beforeEach(async () => {
    app = await start();
    other = await start();
    other.clock.set(app.clock.now());
  });

  const listen = () => app.listeners.create({ events: ['order.*'], url: app.receiver.url });
  const orders = () => app.dataSource.getRepository(Order);
  async function placeOrders(count: number): Promise<void> {
    for (let n = 0; n < count; n++) await orders().save({ status: `order ${n}` });
  }
  const ours = () => ({ url: app.receiver.url, owner: null });
  const received = () => app.receiver.requests.map(({ json }) => (json as { data: { status: string } }).data.status);
  const { advance } = apps;
  const drainBoth = () => Promise.all([app.dispatcher.drain(), other.dispatcher.drain()]);

  it('gets no more requests from any process after the limit of consecutive failures', async () => {
    await listen();
    app.receiver.respond({ status: 500 });
    await placeOrders(6);
    await app.dispatcher.drain();
    expect(received().toSorted()).toEqual(['order 0', 'order 1', 'order 2']);
    await other.dispatcher.drain();
    advance(60_000);
    await drainBoth();
    expect(app.receiver.requests).toHaveLength(3);
  });

  it('costs its pending deliveries no attempts and no claims', async () => {
    const { id } = await listen();
    app.receiver.respond({ status: 500 });
    await placeOrders(6);
    await app.dispatcher.drain();
    const before = await waiting();
    advance(9 * 60_000);
    await placeOrders(1);
    await drainBoth();
    expect((await waiting()).slice(0, 6)).toEqual(before);
    // The claim skips the listener, although deliveries to it are due and a new one was created.
    const [{ ready_at: readyAt }] = await app.dataSource.query<[{ ready_at: unknown }]>(
      `SELECT ready_at FROM webhook_listener_state WHERE listener_id = '${id}'`,
    );
    expect(Number(readyAt)).toBe(app.clock.now() + 60_000);
  });

  async function waiting(): Promise<unknown[]> {
    const { items } = await app.deliveries.list();
    return items.toReversed().map(({ id, state, attemptCount }) => ({ id, state, attemptCount }));
  }

  it('gets one probe after the pause, from one process, with its oldest delivery', async () => {
    await listen();
    app.receiver.respond({ status: 500 });
    await placeOrders(6);
    await app.dispatcher.drain();
    app.receiver.clear();
    advance(600_000);
    await drainBoth();
    expect(received()).toEqual(['order 3']);
    // The probe failed, so the pause is twice as long now.
    advance(20 * 60_000 - 1);
    await drainBoth();
    expect(received()).toEqual(['order 3']);
    advance(1);
    await drainBoth();
    expect(received()).toEqual(['order 3', 'order 4']);
  });

  it('gets all pending deliveries once the probe succeeds', async () => {
    await listen();
    app.receiver.failTimes(3);
    await placeOrders(6);
    await app.dispatcher.drain();
    app.receiver.clear();
    advance(600_000);
    await drainBoth();
    expect(received()[0]).toBe('order 3');
    expect(received().toSorted()).toEqual(['order 0', 'order 1', 'order 2', 'order 3', 'order 4', 'order 5']);
    expect(await app.deliveries.counts()).toMatchObject({ succeeded: 6, due: 0 });
  });

  it('has consecutive failures only if no other process had a success between them', async () => {
    await listen();
    app.receiver.respond((_, index) => ({ status: index === 2 ? 204 : 500 }));
    await placeOrders(2);
    await app.dispatcher.drain();
    await placeOrders(1);
    await other.dispatcher.drain();
    await placeOrders(3);
    await app.dispatcher.drain();
    // Two failures, a success, and three more failures.
    expect(app.receiver.requests).toHaveLength(6);
    await placeOrders(1);
    await app.dispatcher.drain();
    expect(app.receiver.requests).toHaveLength(6);
  });

  it.each([
    ['seconds', () => '5400', 5_400_000],
    ['a date', () => new Date(Math.ceil(Date.now() / 1_000) * 1_000 + 5_400_000).toUTCString(), 5_400_000],
    ['longer than the cap', () => '999999', 2 * HOUR],
  ])('is left alone for as long as its Retry-After asks: %s', async (_, header, expected) => {
    const { id } = await listen();
    app.receiver.respond([{ status: 503, headers: { 'retry-after': header() } }]);
    await placeOrders(1);
    await app.dispatcher.drain();
    await placeOrders(1);
    await other.dispatcher.drain();
    expect(app.receiver.requests).toHaveLength(1);
    const [{ paused_until: pausedUntil }] = await app.dataSource.query<[{ paused_until: unknown }]>(
      `SELECT paused_until FROM webhook_listener_state WHERE listener_id = '${id}'`,
    );
    const pausedFor = Number(pausedUntil) - app.clock.now();
    // Retry-After has a date of the machine's clock, which runs while the clock of the test stands still.
    expect(pausedFor).toBeGreaterThan(expected - 1_000);
    expect(pausedFor).toBeLessThan(expected + 60_000);
    advance(pausedFor - 1);
    await drainBoth();
    expect(app.receiver.requests).toHaveLength(1);
    advance(1);
    await drainBoth();
    expect(app.receiver.requests).toHaveLength(3);
  });

  it('is disabled by a 410, and its pending deliveries are held', async () => {
    const { id } = await listen();
    app.receiver.respond({ status: 410 });
    await placeOrders(1);
    const disabled = disabledEvents(app);
    await app.dispatcher.drain();
    await placeOrders(2);
    await drainBoth();
    expect(app.receiver.requests).toHaveLength(1);
    expect(await app.listeners.get(id)).toMatchObject({
      state: 'disabled',
      disabledReason: 'the endpoint answered 410 Gone',
    });
    expect(disabled).toEqual([{ listenerId: id, ...ours(), reason: 'the endpoint answered 410 Gone' }]);
    expect(await app.deliveries.counts()).toMatchObject({ exhausted: 1, held: 2 });
  });

  it('is disabled once after it has failed for the time limit, with an event and its reason', async () => {
    const { id } = await listen();
    app.receiver.respond({ status: 500 });
    const since = new Date(app.clock.now()).toISOString();
    await placeOrders(20);
    const disabled = [disabledEvents(app), disabledEvents(other)];
    await app.dispatcher.drain();
    for (let hour = 0; hour < 30; hour++) {
      await drainBoth();
      advance(HOUR);
    }
    const reason = `every attempt has failed since ${since}`;
    expect(disabled.flat()).toEqual([{ listenerId: id, ...ours(), reason }]);
    expect(await app.listeners.get(id)).toMatchObject({ state: 'disabled', disabledReason: reason });
    // Three attempts opened the circuit. After them only probes: after pauses of 10, 20 and 40 minutes, then one an
    // hour, until a day had passed.
    const attempts = app.receiver.requests.length;
    expect(attempts).toBe(3 + 24);
    const { items } = await app.deliveries.list();
    expect(items.reduce((sum, { attemptCount }) => sum + attemptCount, 0)).toBe(attempts);
    expect(await app.deliveries.counts()).toMatchObject({ held: 20, exhausted: 0 });
  }, 90_000);

  function disabledEvents(of: TestApp): ListenerDisabledLifecycleEvent[] {
    const disabled: ListenerDisabledLifecycleEvent[] = [];
    of.app
      .get(EventEmitter2)
      .on(LIFECYCLE_EVENTS.listenerDisabled, (event: ListenerDisabledLifecycleEvent) => disabled.push(event));
    return disabled;
  }

  it('uses up no attempts of deliveries that are pending behind an open circuit', async () => {
    await listen();
    app.receiver.respond({ status: 500 });
    await placeOrders(6);
    await app.dispatcher.drain();
    for (let step = 0; step < 5; step++) {
      await drainBoth();
      advance(600_000);
    }
    const { items } = await app.deliveries.list();
    // Three attempts first, and probes at 10 and 30 minutes.
    expect(items.map(({ attemptCount }) => attemptCount).toSorted()).toEqual([0, 1, 1, 1, 1, 1]);
  });
});
