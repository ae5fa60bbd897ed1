import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { RetrySchedule, WebhookTransport, type Outcome } from 'nestjs-entity-webhooks';
import { FakeDns } from 'nestjs-entity-webhooks/testing';
import { databases, describeDatabases, type FreshDatabase } from '../support/databases.js';
import { LOOPBACK, startApp, type TestApp } from '../support/webhooks-app.js';

const MINUTE = 60_000;
/** How long the lookup of a blocked address takes, by the clock of the application. */
const RESOLVING_MS = 1_234;

class TwoAttempts extends RetrySchedule {
  delayMs(failures: number): number | null {
    return failures < 2 ? MINUTE : null;
  }
}

describeDatabases("the customer's view of an attempt", (database) => {
  const dns = new FakeDns();
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: {
        publishedTypes: ['tried'],
        parts: { retrySchedule: TwoAttempts },
        security: {
          ...LOOPBACK,
          lookup: (name, options, callback) => {
            app.clock.advance(RESOLVING_MS);
            dns.lookup(name, options, callback);
          },
        },
      },
    });
  });
  afterEach(async () => {
    for (const { id } of (await app.listeners.list()).items) await app.listeners.remove(id);
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  async function send(url: string): Promise<string> {
    const { id } = await app.listeners.create({ events: ['tried'], url, owner: 'acme' });
    const { deliveryId } = await app.listeners.sendTest(id);
    await app.dispatcher.drain();
    return deliveryId;
  }

  it('to a blocked address shows only that it was blocked: no answer, no address, no timing', async () => {
    dns.set('rebind.example', '93.184.215.14');
    const ofCustomer = app.deliveries.forOwner('acme');
    const { id: listenerId } = await app.listeners.create({
      ...{ events: ['tried'], url: 'https://rebind.example/', owner: 'acme' },
    });
    dns.set('rebind.example', '10.11.12.13');
    const { deliveryId } = await app.listeners.sendTest(listenerId);

    const firstAt = new Date(app.clock.now());
    await app.dispatcher.drain();
    const first = await ofCustomer.get(deliveryId);
    const blocked = {
      ...{ outcome: 'blocked', status: null, errorCode: 'ADDRESS_BLOCKED', errorDetail: null },
      ...{ durationMs: null, response: null, superseded: false },
      ...{
        url: 'https://rebind.example/',
        requestHeaders: null,
        responseHeaders: null,
        omittedHeaders: 0,
        phases: null,
      },
      triggeredBy: null,
    };
    expect(first.attempts).toEqual([{ ...blocked, number: 1, startedAt: firstAt, trigger: 'test' }]);
    expect(first.lastDurationMs).toBeNull();
    expect((await ofCustomer.list()).items).toMatchObject([{ id: deliveryId, lastDurationMs: null }]);
    // The retry is timed from the start of the attempt. Timed from its end, it would reveal how long the attempt took.
    expect(first).toMatchObject({ state: 'due', nextAttemptAt: new Date(firstAt.getTime() + MINUTE) });

    app.clock.advance(MINUTE);
    const secondAt = new Date(app.clock.now());
    await app.dispatcher.drain();
    const second = await ofCustomer.get(deliveryId);
    expect(second.attempts).toEqual([
      { ...blocked, number: 1, startedAt: firstAt, trigger: 'test' },
      { ...blocked, number: 2, startedAt: secondAt, trigger: 'schedule' },
    ]);
    expect(second).toMatchObject({ state: 'exhausted', finishedAt: secondAt, lastStatus: null });
    expect(app.clock.now()).toBe(secondAt.getTime() + RESOLVING_MS);
    expect(JSON.stringify([second, await ofCustomer.list(), await ofCustomer.counts()])).not.toContain('10.11.12.13');

    const { attempts: ofOperators } = await app.deliveries.get(deliveryId);
    const [forOperators] = ofOperators;
    expect(forOperators?.errorDetail).toContain('10.11.12.13');
    expect(forOperators?.durationMs).toBeTypeOf('number');
    expect((await app.deliveries.list()).items).toMatchObject([{ lastDurationMs: ofOperators.at(-1)?.durationMs }]);
    expect(forOperators?.phases).toEqual({
      connection: 'none',
      ...{ dnsMs: null, connectMs: null, tlsMs: null, firstByteMs: null },
    });
  });

  it('whose token endpoint is blocked shows no more', async () => {
    dns.set('token.example', '93.184.215.14');
    const { id: listenerId } = await app.listeners.create({
      ...{ events: ['tried'], url: app.receiver.url, owner: 'acme' },
      auth: { type: 'oauth2', tokenUrl: 'https://token.example/', clientId: 'a', clientSecret: 'secret' },
    });
    dns.set('token.example', '10.11.12.13');
    const { deliveryId } = await app.listeners.sendTest(listenerId);
    const startedAt = app.clock.now();
    await app.dispatcher.drain();
    const { attempts, lastDurationMs, nextAttemptAt } = await app.deliveries.forOwner('acme').get(deliveryId);
    expect(lastDurationMs).toBeNull();
    expect(attempts).toMatchObject([{ outcome: 'blocked', errorCode: 'AUTH_FAILED', durationMs: null }]);
    expect(nextAttemptAt).toEqual(new Date(startedAt + MINUTE));
  });

  it('to their own receiver shows status, answer and duration', async () => {
    app.receiver.respond({ status: 500, body: 'out of order' });
    const id = await send(app.receiver.url);
    const [attempt] = (await app.deliveries.forOwner('acme').get(id)).attempts;
    expect(attempt).toMatchObject({ outcome: 'rejected', status: 500, response: 'out of order', errorDetail: null });
    expect(attempt?.durationMs).toBeTypeOf('number');
  });

  it('has the duration of the last attempt in the list, after each attempt', async () => {
    const ofCustomer = app.deliveries.forOwner('acme');
    app.receiver.respond({ status: 500 });
    const id = await send(app.receiver.url);
    const durations = async () => {
      const [listed] = (await ofCustomer.list()).items;
      return [listed?.lastDurationMs, (await ofCustomer.get(id)).attempts.at(-1)?.durationMs];
    };
    const [first, ofAttempt] = await durations();
    expect(first).toBeTypeOf('number');
    expect(first).toBe(ofAttempt);
    const SLOW_MS = 50;
    app.receiver.respond(() => ({ status: 204, delayUntil: new Promise((resolve) => setTimeout(resolve, SLOW_MS)) }));
    app.clock.advance(MINUTE);
    await app.dispatcher.drain();
    const [second, ofSecond] = await durations();
    expect(second).toBe(ofSecond);
    expect(second).toBeGreaterThanOrEqual(SLOW_MS - 1);
  });
});

/** Returns the answer of a blocked address, which customers must not see. */
class TalkativeTransport extends WebhookTransport {
  override send(): Promise<Outcome> {
    return Promise.resolve({
      ...{ kind: 'blocked', status: 403, errorCode: 'ADDRESS_BLOCKED', errorDetail: '10.11.12.13' },
      ...{ durationMs: 7, response: 'Welcome to the inner network', retryAfterMs: null },
    });
  }
}

describe("the customer's view of an attempt that a replaced transport blocked", () => {
  it('shows no more than with the built-in transport', async () => {
    const fresh = await (databases[0] as (typeof databases)[0]).create();
    const app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: { publishedTypes: ['tried'], parts: { transport: TalkativeTransport } },
    });
    try {
      const { id } = await app.listeners.create({ events: ['tried'], url: app.receiver.url, owner: 'acme' });
      const { deliveryId } = await app.listeners.sendTest(id);
      await app.dispatcher.drain();
      const [attempt] = (await app.deliveries.forOwner('acme').get(deliveryId)).attempts;
      expect(attempt).toMatchObject({
        ...{ outcome: 'blocked', errorCode: 'ADDRESS_BLOCKED' },
        ...{ status: null, errorDetail: null, durationMs: null, response: null },
      });
      const [forOperators] = (await app.deliveries.get(deliveryId)).attempts;
      expect(forOperators).toMatchObject({ status: 403, durationMs: 7, response: 'Welcome to the inner network' });
    } finally {
      await app.close();
      await fresh.drop();
    }
  });
});

describe("the customer's view during a blocked attempt", () => {
  it.each(['delivery', 'handshake'] as const)(
    'changes when the time limit is over, however long the %s took',
    async (kind) => {
      const timeoutMs = 700;
      const fresh = await (databases[0] as (typeof databases)[0]).create();
      const asked: number[] = [];
      class BlockedAtOnce extends WebhookTransport {
        override send(): Promise<Outcome> {
          asked.push(performance.now());
          return new TalkativeTransport().send();
        }
      }
      const app = await startApp({
        database: fresh.options,
        entities: [],
        webhooks: { publishedTypes: ['tried'], dispatcher: { timeoutMs }, parts: { transport: BlockedAtOnce } },
      });
      try {
        const handshake = kind === 'handshake' ? 'challenge' : 'none';
        const input = { events: ['tried'], url: app.receiver.url, owner: 'acme', handshake } as const;
        const { id } = await app.listeners.create(input);
        const deliveryId = kind === 'delivery' ? (await app.listeners.sendTest(id)).deliveryId : '';
        const seen = async () =>
          kind === 'delivery'
            ? (await app.deliveries.forOwner('acme').get(deliveryId)).attemptCount > 0
            : (await app.listeners.forOwner('acme').get(id)).handshakeError !== null;
        app.dispatcher.start();
        await expect.poll(seen, { timeout: 10_000, interval: 10 }).toBe(true);
        expect(performance.now() - Number(asked[0])).toBeGreaterThanOrEqual(timeoutMs - 20);
      } finally {
        await app.close();
        await fresh.drop();
      }
    },
  );
});

describe("the customer's view of an attempt that the proxy refused", () => {
  it('shows no timing, because the address may be in the internal network', async () => {
    const fresh = await (databases[0] as (typeof databases)[0]).create();
    const app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: { publishedTypes: ['tried'], security: { ...LOOPBACK, proxy: { url: 'http://127.0.0.1:1' } } },
    });
    try {
      const { id } = await app.listeners.create({ events: ['tried'], url: app.receiver.url, owner: 'acme' });
      const { deliveryId } = await app.listeners.sendTest(id);
      await app.dispatcher.drain();
      const [attempt] = (await app.deliveries.forOwner('acme').get(deliveryId)).attempts;
      expect(attempt).toMatchObject({ errorCode: 'PROXY_FAILED', durationMs: null, response: null, errorDetail: null });
      expect(attempt).toMatchObject({ requestHeaders: null, phases: null });
    } finally {
      await app.close();
      await fresh.drop();
    }
  });
});
