import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  RetrySchedule,
  SystemService,
  SystemWebhookClock,
  type CreateListenerInput,
  type DispatcherOptions,
} from 'nestjs-entity-webhooks';
import { bullmqEngine, type BullmqDispatcherEngine, type BullmqEngineOptions } from 'nestjs-entity-webhooks/bullmq';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { Parcel } from '../support/dispatching-process.js';
import { hasRedisServer, OwnRedis } from '../support/own-redis.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const HOUR = 60 * 60 * 1_000;

/** Retries so late that no test sees them, unless the test says otherwise. */
class Steady extends RetrySchedule {
  static afterMs = HOUR;
  override delayMs(): number {
    return Steady.afterMs;
  }
}

describe.skipIf(!hasRedisServer)('an application with the engine of BullMQ', () => {
  let redis: OwnRedis;
  beforeAll(async () => {
    redis = await OwnRedis.start();
  });
  afterAll(() => redis.stop());

  describeDatabases('on one database', (database) => {
    let fresh: FreshDatabase;
    let running: TestApp[];

    beforeEach(async () => {
      running = [];
      Steady.afterMs = HOUR;
      fresh = await database.reuse();
      await redis.send((client) => client.flushall());
    });
    afterEach(async () => {
      for (const app of running.toReversed()) await app.close();
      await fresh.drop();
    });

    /** Neither a poll nor a reconciliation helps: BullMQ alone says what is due. */
    async function start(
      dispatcher: DispatcherOptions = {},
      options: Partial<BullmqEngineOptions> = {},
    ): Promise<TestApp & { engine: BullmqDispatcherEngine }> {
      const engine = bullmqEngine({ connection: redis.connection, reconcileEveryMs: HOUR, ...options });
      const app = await startApp({
        database: fresh.options,
        entities: [Parcel],
        ownClock: new SystemWebhookClock(),
        webhooks: {
          dispatcher: { autoStart: true, pollIntervalMs: HOUR, engine, ...dispatcher },
          parts: { retrySchedule: Steady },
        },
      });
      running.push(app);
      return Object.assign(app, { engine });
    }
    const listen = (app: TestApp, input: Partial<CreateListenerInput> = {}) =>
      app.listeners.create({ events: ['*'], url: app.receiver.url, ...input } as CreateListenerInput);
    const save = (app: TestApp, count = 1) =>
      app.dataSource.getRepository(Parcel).save(Array.from({ length: count }, (_, n) => ({ name: `parcel ${n}` })));
    const queueOf = ({ engine }: { engine: BullmqDispatcherEngine }) => {
      const [queue] = engine.queues();
      if (!queue) throw new Error('the engine has no queue');
      return queue;
    };
    const jobCount = async (app: { engine: BullmqDispatcherEngine }) =>
      Object.values(await queueOf(app).getJobCounts()).reduce((sum, count) => sum + count, 0);

    it('waits for a retry with one delayed job of the listener, without data, and sends the retry when it is due', async () => {
      Steady.afterMs = 1_500;
      const app = await start();
      const { id } = await listen(app);
      app.receiver.failTimes(1);
      await save(app);
      await app.receiver.waitFor(1);
      await expect
        .poll(async () => (await queueOf(app).getDelayed()).map((job) => [job.id, job.data]))
        .toEqual([[`${id}-0`, {}]]);
      const requests = await app.receiver.waitFor(2);
      expect(requests[1]?.headers['webhook-id']).toBe(requests[0]?.headers['webhook-id']);
      await expect.poll(() => app.deliveries.counts()).toMatchObject({ succeeded: 1, due: 0 });
      await expect.poll(() => jobCount(app)).toBe(0);
    });

    it('has one job for each listener with pending work, however many deliveries wait', async () => {
      const app = await start();
      const listeners = [await listen(app), await listen(app), await listen(app)];
      app.receiver.respond({ status: 500 });
      await save(app, 6);
      await expect.poll(() => app.deliveries.counts()).toMatchObject({ due: 18, leased: 0 });
      await expect
        .poll(async () => (await queueOf(app).getDelayed()).map(({ id }) => id).toSorted())
        .toEqual(listeners.map(({ id }) => `${id}-0`).toSorted());
      expect(await jobCount(app)).toBe(3);
    });

    it('a process that only serves requests schedules a resend in another process', async () => {
      const web = await start({ autoStart: false });
      await listen(web);
      await save(web);
      await web.dispatcher.drain();
      await web.receiver.waitFor(1);
      await start();
      const [delivery] = (await web.deliveries.list()).items;
      await web.deliveries.resend(delivery?.id ?? '');
      await web.receiver.waitFor(2);
    });

    it('a delivery that becomes due earlier brings its job forward', async () => {
      const app = await start();
      const { id } = await listen(app);
      app.receiver.failTimes(1);
      await save(app);
      await app.receiver.waitFor(1);
      await expect.poll(async () => (await queueOf(app).getDelayed()).map((job) => job.id)).toEqual([`${id}-0`]);
      const [delivery] = (await app.deliveries.list()).items;
      await app.deliveries.resend(delivery?.id ?? '');
      await app.receiver.waitFor(2);
    });

    it('stale jobs and jobs of unknown listeners claim nothing, and end', async () => {
      const app = await start();
      const { id } = await listen(app);
      await save(app);
      await app.receiver.waitFor(1);
      const queue = queueOf(app);
      await queue.add('listener', {}, { jobId: `${id}-0` });
      await queue.add('listener', {}, { jobId: `${id}-3` });
      await queue.add('listener', {}, { jobId: 'lst_nobody-0' });
      await expect.poll(() => jobCount(app)).toBe(0);
      await expect.poll(() => app.deliveries.counts()).toMatchObject({ succeeded: 1, due: 0 });
      expect(app.receiver.requests).toHaveLength(1);
    });

    it('sends at most as often as the rate limit of a listener allows', async () => {
      const app = await start();
      await listen(app, { rateLimit: { limit: 2, perSeconds: 1 } });
      const began = performance.now();
      await save(app, 6);
      await app.receiver.waitFor(6);
      // Of six requests, two may start in each second: the last ones start in the third second.
      expect(performance.now() - began).toBeGreaterThan(1_900);
      const ids = app.receiver.requests.map(({ headers }) => headers['webhook-id']);
      expect(new Set(ids).size).toBe(6);
    });

    it('sends one probe to a listener with an open circuit, and the rest after its success', async () => {
      const app = await start({ circuit: { failures: 2, cooldownMs: 1_000, maxCooldownMs: 1_000 } });
      await listen(app);
      Steady.afterMs = 1;
      app.receiver.respond((_request, index) => ({ status: index < 3 ? 500 : 204 }));
      await save(app, 2);
      await app.receiver.waitFor(2);
      await app.receiver.waitFor(3);
      await save(app, 4);
      await expect.poll(() => app.deliveries.counts()).toMatchObject({ succeeded: 6, due: 0, leased: 0 });
      expect(app.receiver.requests).toHaveLength(3 + 6);
    });

    it('keeps the order of an ordered listener', async () => {
      Steady.afterMs = 300;
      const app = await start();
      await listen(app, { ordering: 'entity' });
      app.receiver.respond((_request, index) => ({ status: index % 3 === 0 ? 500 : 204 }));
      const [parcel] = await save(app);
      for (let n = 1; n <= 5; n++)
        await app.dataSource.getRepository(Parcel).save({ id: parcel?.id, name: `step ${n}` });
      await expect.poll(() => app.deliveries.counts()).toMatchObject({ succeeded: 6, due: 0, leased: 0 });
      const accepted = app.receiver.requests.filter((_request, index) => index % 3 !== 0);
      const names = accepted.map(({ json }) => (json as { data: { name: string } }).data.name);
      expect(names).toEqual(['parcel 0', ...[1, 2, 3, 4, 5].map((n) => `step ${n}`)]);
    });

    it('cuts a busy listener into shards, and only while it is busy', async () => {
      const app = await start({ concurrencyPerListener: 2, eventsPerBatch: 10 }, { shards: 3 });
      const { id } = await listen(app);
      const seen = new Set<string>();
      app.receiver.respond(async () => {
        for (const job of await queueOf(app).getJobs(['active', 'waiting', 'delayed'])) if (job.id) seen.add(job.id);
        return { status: 204 };
      });
      await save(app, 120);
      await expect.poll(() => app.deliveries.counts()).toMatchObject({ succeeded: 120, due: 0 });
      expect(app.receiver.requests).toHaveLength(120);
      expect([...seen].toSorted()).toEqual([`${id}-0`, `${id}-1`, `${id}-2`]);
      await expect.poll(() => jobCount(app)).toBe(0);
    });

    it('attempts the handshake of a new listener, and then sends to it', async () => {
      const app = await start();
      app.receiver.passHandshakes();
      const { id } = await listen(app, { handshake: 'challenge' });
      await expect.poll(async () => (await app.listeners.get(id))?.state).toBe('active');
      app.receiver.clear();
      await save(app);
      await app.receiver.waitFor(1);
    });

    it('sends nothing while sending is paused, and everything when it is resumed', async () => {
      const app = await start();
      await listen(app);
      await app.app.get(SystemService).pauseSending();
      await save(app, 3);
      await expect.poll(() => app.deliveries.counts()).toMatchObject({ due: 3 });
      expect(app.receiver.requests).toHaveLength(0);
      await app.app.get(SystemService).resumeSending();
      await app.receiver.waitFor(3);
    });

    it('closes its connections when the application ends', async () => {
      const app = await start();
      await listen(app);
      app.receiver.failTimes(1);
      await save(app);
      await expect.poll(() => jobCount(app)).toBe(1);
      const connections = () =>
        redis.send(
          async (client) =>
            String(await client.client('LIST'))
              .split('\n')
              .filter(Boolean).length - 1,
        );
      expect(await connections()).toBeGreaterThanOrEqual(3);
      await app.close();
      running = [];
      await expect.poll(connections).toBe(0);
    });
  });
});

describe('bullmqEngine()', () => {
  const refused: [string, object][] = [
    ['no connection', {}],
    ['a connection that is no object', { connection: 'redis://127.0.0.1' }],
    ['a client that stops trying', { connection: { options: { maxRetriesPerRequest: 20 } } }],
    ['17 shards', { connection: {}, shards: 17 }],
    ['an empty prefix', { connection: {}, prefix: '' }],
    ['a misspelt option', { connection: {}, shard: 2 }],
  ];
  it.each(refused)('refuses %s', (_what, options) => {
    expect(() => bullmqEngine(options as BullmqEngineOptions)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION' }),
    );
  });

  it('shows no password in the error of a wrong connection', () => {
    const connection = 'redis://:secret-word@127.0.0.1' as never;
    expect(() => bullmqEngine({ connection })).toThrow(/^(?!.*secret-word)/s);
  });
});
