import { expect, it } from 'vitest';
import { EventService, SystemService, type DispatcherOptions } from 'nestjs-entity-webhooks';
import { Audit, Line, Order } from '../capture/shop.js';
import { appsOn } from '../support/apps-on.js';
import { describeDatabases } from '../support/databases.js';
import { HOUR, MINUTE } from '../support/logged-orders.js';
import type { TestApp } from '../support/webhooks-app.js';

const DAY = 24 * HOUR;

describeDatabases('the switch that pauses all sending', (database) => {
  const apps = appsOn(database);
  const start = (dispatcher: DispatcherOptions = {}, more: object = {}) =>
    apps.start({ entities: [Order, Line], others: [Audit], webhooks: { dispatcher, ...more } });
  const systemOf = ({ app }: TestApp) => app.get(SystemService);
  const listen = ({ listeners, receiver }: TestApp, path = 'a') =>
    listeners.create({ events: ['order.*'], url: `${receiver.url}/${path}` });
  const place = ({ dataSource }: TestApp, count = 1) =>
    dataSource.getRepository(Order).save(Array.from({ length: count }, (_, n) => ({ status: `${n}`, note: 'x' })));

  it('stops every request, while events are routed and nothing is lost', async () => {
    const app = await start();
    const { id } = await listen(app);
    await place(app);
    await app.dispatcher.drain();
    await systemOf(app).withActor('ann').pauseSending({ reason: 'our address is blocked' });
    await place(app, 3);
    const { deliveryId } = await app.listeners.sendTest(id);
    const [first] = (await app.deliveries.list({ state: 'succeeded' })).items;
    await app.deliveries.resend(first?.id ?? '');
    expect(await app.dispatcher.drain()).toEqual({ events: 3, attempts: 0 });
    expect(await app.deliveries.counts()).toMatchObject({ due: 5, leased: 0, succeeded: 0 });
    expect(app.receiver.requests).toHaveLength(1);
    expect(await systemOf(app).sending()).toEqual({
      paused: true,
      reason: 'our address is blocked',
      since: new Date(app.clock.now()),
      actor: 'ann',
    });

    app.clock.advance(MINUTE);
    await systemOf(app).resumeSending();
    await app.dispatcher.drain();
    expect(await app.deliveries.counts()).toMatchObject({ due: 0, succeeded: 5 });
    expect(await app.deliveries.get(deliveryId)).toMatchObject({ state: 'succeeded', attemptCount: 1 });
    expect(app.receiver.requests).toHaveLength(6);
    expect(await systemOf(app).sending()).toEqual({
      paused: false,
      reason: null,
      since: new Date(app.clock.now()),
      actor: null,
    });
  });

  it('completes requests in flight, and releases the deliveries that wait in memory', { repeats: 19 }, async () => {
    const app = await start({ autoStart: true, concurrency: 2, pollIntervalMs: 100 });
    let answer: () => void = () => undefined;
    const answered = new Promise<void>((resolve) => (answer = resolve));
    app.receiver.respond(async () => {
      await answered;
      return { status: 200 };
    });
    await listen(app);
    await place(app, 10);
    await app.receiver.waitFor(2);
    await systemOf(app).pauseSending();
    // The two in flight have no row yet.
    await expect.poll(() => app.deliveries.counts()).toMatchObject({ due: 8, succeeded: 0 });
    answer();
    await expect.poll(() => app.deliveries.counts()).toMatchObject({ leased: 0, due: 8, succeeded: 2 });
    expect(app.receiver.requests).toHaveLength(2);
    await systemOf(app).resumeSending();
    await expect.poll(() => app.deliveries.counts(), { timeout: 10_000 }).toMatchObject({ due: 0, succeeded: 10 });
    expect(app.receiver.requests).toHaveLength(10);
  });

  it('counts for every process, also for one that starts later', async () => {
    const web = await start();
    const first = await start({ autoStart: true, pollIntervalMs: 50 });
    await listen(web);
    await systemOf(web).pauseSending();
    const isPaused = () => apps.running.slice(1).map(({ dispatcher }) => dispatcher.activity.isPaused);
    await expect.poll(isPaused).toEqual([true]);
    await place(first, 2);
    const second = await start({ autoStart: true, pollIntervalMs: 50 });
    await place(second, 2);
    await expect.poll(() => web.deliveries.counts()).toMatchObject({ due: 4 });
    await expect.poll(isPaused).toEqual([true, true]);
    expect(web.receiver.requests).toEqual([]);
    await systemOf(second).resumeSending();
    await web.receiver.waitFor(4);
    await expect.poll(isPaused).toEqual([false, false]);
    await expect.poll(() => web.deliveries.counts()).toMatchObject({ due: 0, leased: 0, succeeded: 4 });
  });

  it('also holds inline deliveries, and these wait for nothing', async () => {
    const app = await start({}, { dispatch: 'inline' });
    await listen(app);
    await systemOf(app).pauseSending();
    await place(app);
    expect(await app.deliveries.counts()).toMatchObject({ due: 1 });
    await systemOf(app).resumeSending();
    await place(app);
    await app.receiver.waitFor(1);
    await app.dispatcher.drain();
    expect(await app.deliveries.counts()).toMatchObject({ due: 0, succeeded: 2 });
  });

  it('lets no delivery become too old', async () => {
    const app = await start({ maxAgeMs: 2 * HOUR });
    await listen(app);
    await place(app);
    await systemOf(app).pauseSending();
    await app.dispatcher.drain();
    app.clock.advance(DAY);
    expect(await app.dispatcher.runChores()).toMatchObject({ discarded: 0 });
    await systemOf(app).resumeSending();
    app.clock.advance(HOUR);
    expect(await app.dispatcher.runChores()).toMatchObject({ discarded: 0 });
    expect(await app.deliveries.counts()).toMatchObject({ due: 1 });
    // The age counts again from the end of the pause.
    app.clock.advance(HOUR + 1);
    expect(await app.dispatcher.runChores()).toMatchObject({ discarded: 1 });
  });

  it('disables no listener, because its time counts for no listener that fails', async () => {
    const circuit = { failures: 1_000, cooldownMs: 1, maxCooldownMs: 1, disableAfterMs: HOUR };
    const app = await start({ circuit });
    const { id } = await listen(app);
    const stateOf = async () => (await app.listeners.get(id)).state;
    const fail = async () => {
      await place(app);
      await app.dispatcher.drain();
    };
    app.receiver.respond({ status: 500 });
    for (let n = 0; n < 10; n++) await fail();
    await systemOf(app).pauseSending();
    app.clock.advance(DAY);
    await systemOf(app).resumeSending();
    await fail();
    expect(await stateOf()).toBe('active');
    app.clock.advance(HOUR - 1);
    await fail();
    expect(await stateOf()).toBe('active');
    app.clock.advance(1);
    await fail();
    expect(await stateOf()).toBe('disabled');
  });

  it('is not reported as a lag, and afterwards the lag counts from its end', async () => {
    const app = await start({}, { operationalEvents: true });
    await listen(app);
    const reported = async () => {
      app.clock.advance(6 * MINUTE);
      await app.dispatcher.runChores();
      const { items } = await app.app.get(EventService).list();
      return items.map(({ type }) => type).filter((type) => type.startsWith('webhooks.'));
    };
    await systemOf(app).pauseSending();
    await place(app);
    await app.dispatcher.drain();
    expect(await reported()).toEqual([]);
    await systemOf(app).resumeSending();
    app.clock.advance(2 * MINUTE - 6 * MINUTE);
    expect(await reported()).toEqual([]);
    expect(await reported()).toEqual(['webhooks.lag.high']);
  });

  it('keeps the time when it is paused twice, and resuming twice changes nothing', async () => {
    const app = await start();
    const system = systemOf(app);
    const { since } = await system.pauseSending({ reason: 'one' });
    app.clock.advance(MINUTE);
    expect(await system.withActor('bob').pauseSending({ reason: 'two' })).toEqual({
      paused: true,
      reason: 'two',
      since,
      actor: 'bob',
    });
    const resumed = await system.resumeSending();
    app.clock.advance(MINUTE);
    expect(await system.withActor('bob').resumeSending()).toEqual(resumed);
  });

  it('is refused to owners, and needs a reason that is a text', async () => {
    const app = await start();
    const owner = systemOf(app).forOwner('acme');
    for (const call of [() => owner.pauseSending(), () => owner.resumeSending(), () => owner.sending()])
      await expect(call()).rejects.toMatchObject({ code: 'INVALID_OWNER' });
    for (const reason of ['', '  ', 'x'.repeat(501), 7, null])
      await expect(systemOf(app).pauseSending({ reason: reason as never })).rejects.toMatchObject({
        code: 'INVALID_REASON',
      });
    expect(await systemOf(app).sending()).toMatchObject({ paused: false });
  });

  it('routes a wide event while it is paused, without waiting for room', async () => {
    const app = await start({ autoStart: true, pollIntervalMs: 60_000 });
    const url = app.receiver.url;
    // Not all at once: the pool of a busy machine would run out of time.
    for (let n = 0; n < 1_050; n += 50) {
      await Promise.all(Array.from({ length: 50 }, () => app.listeners.create({ events: ['order.*'], url })));
    }
    await systemOf(app).pauseSending();
    await place(app);
    await expect.poll(() => app.deliveries.counts(), { timeout: 20_000 }).toMatchObject({ due: 1_050 });
    expect(app.receiver.requests).toEqual([]);
  });
});
