import { afterEach, beforeEach, expect, it } from 'vitest';
import { runtimeToken } from '../../libs/webhooks/src/instance.js';
import type { WebhooksRuntime } from '../../libs/webhooks/src/webhooks-runtime.js';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { HOUR, MINUTE, Order, ThreeAttempts } from '../support/logged-orders.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

describeDatabases('the backlog', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  beforeEach(async () => {
    fresh = await database.reuse();
    app = await startApp({
      database: fresh.options,
      entities: [{ entity: Order, capture: 'trigger' }],
      webhooks: {
        publishedTypes: ['thing.happened'],
        parts: { retrySchedule: ThreeAttempts },
        dispatcher: { circuit: { failures: 1, cooldownMs: HOUR, maxCooldownMs: HOUR } },
      },
    });
  });
  afterEach(async () => {
    await app.close();
    await fresh.drop();
  });

  const backlog = () => app.app.get<WebhooksRuntime>(runtimeToken('default')).backlog();
  const publish = () => app.webhooks.publish('thing.happened', {});
  const listen = (events = ['*']) => app.listeners.create({ events, url: app.receiver.url });
  const NOTHING = { due: 0, retry: 0, held: 0, paused: 0 };

  it('is empty in an empty database', async () => {
    expect(await backlog()).toEqual({
      outboxLagMs: 0,
      queueLagMs: 0,
      isPaused: false,
      pending: 0,
      waiting: NOTHING,
      listeners: { active: 0, failing: 0, pending: 0, disabled: 0 },
    });
  });

  it('grows older while nobody routes, and is empty afterwards', async () => {
    await publish();
    app.clock.advance(MINUTE);
    await publish();
    const before = await backlog();
    expect(before.pending).toBe(2);
    expect(before.outboxLagMs).toBeGreaterThanOrEqual(MINUTE);
    await app.dispatcher.drain();
    expect(await backlog()).toMatchObject({ pending: 0, outboxLagMs: 0, queueLagMs: 0 });
  });

  it('has rows that a trigger captured and nobody has turned into events', async () => {
    await app.dataSource.getRepository(Order).insert({});
    app.clock.advance(HOUR);
    expect((await backlog()).outboxLagMs).toBeGreaterThan(MINUTE);
    await app.dispatcher.drain();
    expect((await backlog()).outboxLagMs).toBe(0);
  });

  it('has retries, and is late when nobody sends them in time', async () => {
    await listen();
    const other = await listen(['order.*']);
    app.receiver.respond({ status: 500 });
    await publish();
    await app.dispatcher.drain();
    // A circuit that is open pauses its listener.
    expect(await backlog()).toMatchObject({ queueLagMs: 0, waiting: { ...NOTHING, paused: 1 } });
    app.clock.advance(HOUR + MINUTE);
    const late = await backlog();
    expect(late).toMatchObject({ waiting: { ...NOTHING, due: 1 }, listeners: { active: 1, failing: 1 } });
    expect(late.queueLagMs).toBeGreaterThanOrEqual(MINUTE);
    await app.listeners.disable(other.id);
    expect(await backlog()).toMatchObject({ listeners: { active: 0, failing: 1, disabled: 1 } });
  });

  it('has retries that are not due, and deliveries that are held', async () => {
    const { id } = await listen();
    app.receiver.respond({ status: 429, headers: { 'retry-after': '60' } });
    await publish();
    await app.dispatcher.drain();
    await app.listeners.disable(id);
    expect(await backlog()).toMatchObject({ waiting: { ...NOTHING, held: 1 } });
    await app.listeners.enable(id);
    expect(await backlog()).toMatchObject({ waiting: { ...NOTHING, retry: 1 } });
  });
});
