import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { BadRequestError, RetrySchedule } from 'nestjs-entity-webhooks';
import { TestReceiver } from 'nestjs-entity-webhooks/testing';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { HOUR, MINUTE } from '../support/logged-orders.js';
import { PayloadSchemas } from '../support/payload-schemas.js';
import { listenToLog } from '../support/said.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const DAY = 24 * HOUR;

/** Ten attempts within a minute. */
class TenAttempts extends RetrySchedule {
  override delayMs(failures: number): number | null {
    return failures < 10 ? 1_000 : null;
  }
}

interface Received {
  readonly type: string;
  readonly timestamp: string;
  readonly data: Record<string, unknown>;
}

describeDatabases('with operational events', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  /** The receiver of the events about webhooks. */
  let watcher: TestReceiver;

  beforeEach(async () => {
    fresh = await database.reuse();
    watcher = await new TestReceiver().start();
    app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: {
        operationalEvents: true,
        publishedTypes: ['thing.happened'],
        parts: { retrySchedule: TenAttempts },
        dispatcher: { circuit: { failures: 3, cooldownMs: 1_000, maxCooldownMs: 1_000, disableAfterMs: 3 * DAY } },
      },
    });
    listenToLog();
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    const schemas = await PayloadSchemas.of(app);
    const mistakes = received()
      .filter(({ type }) => type.startsWith('webhooks.'))
      .flatMap((one) => schemas.mistakesOf(one));
    await app.close();
    await watcher.stop();
    await fresh.drop();
    expect(mistakes, 'payloads that the catalogue does not describe').toEqual([]);
  });

  const listen = (events: string[], owner?: string, url = app.receiver.url) =>
    app.listeners.create({ events, url, ...(owner === undefined ? {} : { owner }) });
  const watch = (owner?: string) => listen(['webhooks.*'], owner, `${watcher.url}/${owner ?? 'application'}`);
  const publish = (owner = 'acme') => app.webhooks.publish('thing.happened', {}, { owner });
  async function attempts(count: number, everyMs = 2 * MINUTE): Promise<void> {
    for (let n = 0; n < count; n++) {
      await app.dispatcher.drain();
      app.clock.advance(everyMs);
    }
    await app.dispatcher.drain();
  }
  const received = () => watcher.requests.map(({ json }) => json as Received);
  const types = () => received().map(({ type }) => type);
  const stored = async () => {
    const rows = await app.dataSource.query<{ type: string }[]>(
      "SELECT type FROM webhook_events WHERE type LIKE 'webhooks.%' ORDER BY seq",
    );
    return rows.map(({ type }) => type);
  };

  it('a watcher learns that a listener fails, that its delivery is exhausted, and that it works again', async () => {
    const { id } = await listen(['thing.*'], 'acme', `${app.receiver.url}?token=hidden`);
    await watch();
    app.receiver.failTimes(10);
    await publish();
    await attempts(9);
    await publish();
    await attempts(1);
    expect(types()).toEqual([
      'webhooks.listener.failing',
      'webhooks.delivery.exhausted',
      'webhooks.listener.recovered',
    ]);
    const listener = { id, url: app.receiver.url };
    expect(received()[0]?.data).toMatchObject({ listener, lastStatus: 500, lastErrorCode: 'HTTP_STATUS' });
    expect(received()[1]?.data).toMatchObject({ listener, attempts: 10, event: { type: 'thing.happened' } });
    expect(received()[2]?.data).toMatchObject({ listener, failingSince: expect.any(String) as string });
    expect(JSON.stringify(received())).not.toContain('hidden');
  });

  it('a watcher is warned once, a day before a listener is disabled, and told when it is', async () => {
    await listen(['thing.*'], 'acme');
    await watch();
    app.receiver.respond({ status: 500 });
    for (let n = 0; n < 3; n++) await publish();
    // One probe at a time, eight hours apart.
    await attempts(12, 8 * HOUR);
    const ofListener = received().filter(({ type }) => type.startsWith('webhooks.listener.'));
    expect(ofListener.map(({ type }) => type)).toEqual([
      'webhooks.listener.failing',
      'webhooks.listener.disabling_soon',
      'webhooks.listener.disabled',
    ]);
    const [failing, soon, disabled] = ofListener.map(({ data }) => data);
    expect(soon?.['failingSince']).toBe(failing?.['failingSince']);
    const warnedMs = Date.parse(ofListener[1]?.timestamp ?? '') - Date.parse(String(failing?.['failingSince']));
    expect(warnedMs).toBeGreaterThanOrEqual(2 * DAY);
    expect(warnedMs).toBeLessThan(3 * DAY);
    expect(Date.parse(String(soon?.['disablesAt']))).toBe(Date.parse(String(failing?.['failingSince'])) + 3 * DAY);
    expect(disabled?.['reason']).toContain('every attempt has failed since');
  });

  it('a customer receives those about their own listeners, the application receives all', async () => {
    await listen(['thing.*'], 'acme');
    await watch('acme');
    await watch('other');
    await watch();
    app.receiver.respond({ status: 410 });
    await publish();
    await attempts(1);
    const byPath = watcher.requests.map(({ url, json }) => `${url} ${(json as Received).type}`).toSorted();
    expect(byPath).toEqual([
      '/hooks/acme webhooks.delivery.exhausted',
      '/hooks/acme webhooks.listener.disabled',
      '/hooks/application webhooks.delivery.exhausted',
      '/hooks/application webhooks.listener.disabled',
    ]);
  });

  it('a customer learns that a listener was disabled by a handshake, or by the application after its commit', async () => {
    await watch('acme');
    const { id } = await listen(['thing.*'], 'acme');
    await expect(
      app.dataSource.transaction(async (manager) => {
        await app.listeners.withManager(manager).disable(id, 'rolled back');
        throw new Error('no');
      }),
    ).rejects.toThrow('no');
    await app.listeners.disable(id, 'they asked for it');
    await app.listeners.disable(id, 'again');
    await app.listeners.create({ events: ['thing.*'], url: app.receiver.url, owner: 'acme', handshake: 'challenge' });
    app.receiver.respond({ status: 410 });
    await attempts(60);
    expect(new Set(types())).toEqual(new Set(['webhooks.listener.disabled']));
    expect(received().map(({ data }) => data['reason'])).toEqual([
      'they asked for it',
      expect.stringContaining('the handshake failed'),
    ]);
  });

  it('a failure to deliver one makes no further one', async () => {
    await listen(['thing.*'], 'acme');
    await watch();
    app.receiver.respond({ status: 410 });
    watcher.respond({ status: 500 });
    await publish();
    await attempts(12);
    watcher.respond({ status: 410 });
    await listen(['thing.*'], 'acme', `${app.receiver.url}/again`);
    await publish();
    await attempts(3);
    expect(new Set(await stored())).toEqual(new Set(['webhooks.delivery.exhausted', 'webhooks.listener.disabled']));
    expect(await stored()).toHaveLength(4);
  });

  it('a listener for every type receives none of them', async () => {
    await listen(['thing.*'], 'acme');
    await listen(['*'], undefined, watcher.url);
    app.receiver.respond({ status: 410 });
    await publish();
    await attempts(1);
    expect(await stored()).toHaveLength(2);
    expect(types()).toEqual(['thing.happened']);
  });

  it('the application learns of damaged events and of lag, and customers do not', async () => {
    await watch('acme');
    await watch();
    await publish();
    await app.dataSource.query("UPDATE webhook_events SET payload = '{'");
    await attempts(1);
    expect(types()).toEqual(['webhooks.outbox.damaged']);
    await publish();
    app.clock.advance(10 * MINUTE);
    await app.dispatcher.runChores();
    await app.dispatcher.drain();
    app.clock.advance(2 * MINUTE);
    await app.dispatcher.runChores();
    await app.dispatcher.runChores();
    await app.dispatcher.drain();
    expect(types().slice(1)).toEqual(['webhooks.lag.high', 'webhooks.lag.normal']);
    expect(watcher.requests.every(({ url }) => url === '/hooks/application')).toBe(true);
    await expect(listen(['webhooks.lag.high'], 'acme')).rejects.toMatchObject({ code: 'OWNER_NOT_DECLARED' });
  });

  it('sendTest() has an example of each', async () => {
    const { id } = await watch();
    await app.listeners.sendTest(id, { type: 'webhooks.listener.failing' });
    await app.dispatcher.drain();
    expect(received()[0]?.data).toMatchObject({ failuresInARow: 10 });
  });
});

describeDatabases('without operational events, as by default', (database) => {
  it('no listener can name them, and none is stored', async () => {
    const fresh = await database.reuse();
    const app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: { publishedTypes: ['thing.happened'] },
    });
    listenToLog();
    await expect(app.listeners.create({ events: ['webhooks.*'], url: app.receiver.url })).rejects.toThrow(
      BadRequestError,
    );
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    app.receiver.respond({ status: 410 });
    await app.webhooks.publish('thing.happened', {});
    await app.dispatcher.drain();
    await app.dispatcher.runChores();
    const rows = await app.dataSource.query<unknown[]>("SELECT type FROM webhook_events WHERE type LIKE 'webhooks.%'");
    expect(rows).toEqual([]);
    vi.restoreAllMocks();
    await app.close();
    await fresh.drop();
  });
});
