import { Logger } from '@nestjs/common';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { RetrySchedule, SystemWebhookClock, type DispatcherOptions } from 'nestjs-entity-webhooks';
import { bullmqEngine, type BullmqDispatcherEngine, type BullmqEngineOptions } from 'nestjs-entity-webhooks/bullmq';
import { describeServers, type FreshDatabase } from '../support/databases.js';
import { Parcel } from '../support/dispatching-process.js';
import { hasRedisServer, OwnRedis } from '../support/own-redis.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const HOUR = 60 * 60 * 1_000;
const TIMEOUT_MS = 90_000;
const PATIENT = { timeout: 60_000 };

class Steady extends RetrySchedule {
  static afterMs = 1_000;
  override delayMs(): number {
    return Steady.afterMs;
  }
}

// Each test kills, flushes or fills its own Redis. Nothing may be lost, and nothing sent twice: no process dies here.
describe.skipIf(!hasRedisServer)('the engine of BullMQ, when Redis fails', () => {
  describeServers('on one database', (database) => {
    let fresh: FreshDatabase;
    let redis: OwnRedis;
    let running: TestApp[];

    beforeEach(async () => {
      running = [];
      Steady.afterMs = 1_000;
      fresh = await database.reuse();
      redis = await OwnRedis.start();
    });
    afterEach(async () => {
      vi.restoreAllMocks();
      for (const app of running.toReversed()) await app.close();
      await redis.stop();
      await fresh.drop();
    });

    async function start(
      options: Partial<BullmqEngineOptions> = {},
      dispatcher: DispatcherOptions = {},
    ): Promise<TestApp & { engine: BullmqDispatcherEngine }> {
      const engine = bullmqEngine({ connection: redis.connection, fallbackAfterMs: 1_000, ...options });
      const app = await startApp({
        database: fresh.options,
        entities: [Parcel],
        ownClock: new SystemWebhookClock(),
        webhooks: {
          dispatcher: { autoStart: true, pollIntervalMs: 200, engine, ...dispatcher },
          parts: { retrySchedule: Steady },
        },
      });
      running.push(app);
      return Object.assign(app, { engine });
    }
    const save = (app: TestApp, count: number) =>
      app.dataSource.getRepository(Parcel).save(Array.from({ length: count }, (_, n) => ({ name: `parcel ${n}` })));
    const queueOf = ({ engine }: { engine: BullmqDispatcherEngine }) => {
      const [queue] = engine.queues();
      if (!queue) throw new Error('the engine has no queue');
      return queue;
    };

    /** Ten listeners whose first attempts failed, so that each has a delayed job. @returns the number of deliveries */
    async function failOnce(app: TestApp & { engine: BullmqDispatcherEngine }, listeners = 10): Promise<number> {
      for (let n = 0; n < listeners; n++)
        await app.listeners.create({ events: ['*'], url: `${app.receiver.url}/${n}` });
      app.receiver.failTimes(2 * listeners);
      await save(app, 2);
      await expect.poll(() => app.deliveries.counts(), PATIENT).toMatchObject({ due: 2 * listeners, leased: 0 });
      await expect.poll(() => queueOf(app).getDelayedCount(), PATIENT).toBe(listeners);
      return 2 * listeners;
    }

    /** Each delivery failed once and then succeeded once. */
    async function expectEachOnce(app: TestApp, deliveries: number): Promise<void> {
      await expect
        .poll(() => app.deliveries.counts(), PATIENT)
        .toMatchObject({ succeeded: deliveries, due: 0, leased: 0 });
      const counts = new Map<unknown, number>();
      for (const { headers, url } of app.receiver.requests) {
        const key = `${url} ${String(headers['webhook-id'])}`;
        counts.set(key, (counts.get(key) ?? 0) + 1);
      }
      expect([...counts.values()].every((count) => count === 2)).toBe(true);
      expect(counts.size).toBe(deliveries);
    }

    it('FLUSHALL loses no delivery: the jobs are added again within seconds', { timeout: TIMEOUT_MS }, async () => {
      Steady.afterMs = 4_000;
      const app = await start({ reconcileEveryMs: HOUR });
      const deliveries = await failOnce(app);
      await redis.send((client) => client.flushall());
      await expect.poll(() => queueOf(app).getDelayedCount(), PATIENT).toBe(10);
      await expectEachOnce(app, deliveries);
    });

    it('jobs that were lost alone are found by the reconciliation', { timeout: TIMEOUT_MS }, async () => {
      Steady.afterMs = 2_000;
      const app = await start({ reconcileEveryMs: 1_000 });
      const deliveries = await failOnce(app);
      const queue = queueOf(app);
      // The sentinel stays. Some jobs lose everything, some their place in the queue, some their content.
      await redis.send(async (client) => {
        const jobs = await queue.getDelayed();
        for (const [index, { id }] of jobs.entries()) {
          if (index % 3 !== 2) await client.zrem(queue.toKey('delayed'), String(id));
          if (index % 3 !== 1) await client.del(queue.toKey(String(id)));
        }
      });
      await expectEachOnce(app, deliveries);
    });

    it('a Redis that evicts any key loses no delivery', { timeout: TIMEOUT_MS }, async () => {
      vi.spyOn(console, 'warn').mockImplementation(() => undefined);
      Steady.afterMs = 2_000;
      const app = await start({ reconcileEveryMs: 1_000 });
      const deliveries = await failOnce(app);
      await redis.send(async (client) => {
        const used = Number(/used_memory:(\d+)/.exec(await client.info('memory'))?.[1]);
        await client.config('SET', 'maxmemory-policy', 'allkeys-lru');
        await client.config('SET', 'maxmemory', String(used + 200_000));
        for (let n = 0; n < 2_000; n++) await client.set(`other:${n}`, 'x'.repeat(1_000));
        expect(Number(/evicted_keys:(\d+)/.exec(await client.info('stats'))?.[1])).toBeGreaterThan(0);
      });
      await expectEachOnce(app, deliveries);
    });

    it(
      'while Redis is killed, the database is searched, the log has one warning, and Redis is used again by itself',
      { timeout: TIMEOUT_MS },
      async () => {
        const warn = vi.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
        const log = vi.spyOn(Logger.prototype, 'log').mockImplementation(() => undefined);
        const lines = (of: typeof warn, part: string) => of.mock.calls.filter(([text]) => String(text).includes(part));
        const app = await start({ reconcileEveryMs: HOUR });
        const deliveries = await failOnce(app);
        await redis.kill();
        await expectEachOnce(app, deliveries);
        expect(lines(warn, 'Redis has not answered')).toHaveLength(1);
        Steady.afterMs = 3_000;
        app.receiver.failTimes(10);
        await save(app, 1);
        await expect.poll(() => app.deliveries.counts(), PATIENT).toMatchObject({ due: 10, leased: 0 });
        await redis.begin();
        await expect.poll(() => lines(log, 'Redis answers again'), PATIENT).toHaveLength(1);
        await expect.poll(() => app.deliveries.counts(), PATIENT).toMatchObject({ succeeded: deliveries + 10, due: 0 });
        // The next retry waits in Redis again.
        Steady.afterMs = HOUR;
        app.receiver.failTimes(1);
        await save(app, 1);
        await expect.poll(() => queueOf(app).getDelayedCount(), PATIENT).toBe(1);
        expect(lines(warn, 'Redis has not answered')).toHaveLength(1);
      },
    );

    it('a Redis that refuses writes counts as away', { timeout: TIMEOUT_MS }, async () => {
      vi.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
      const app = await start();
      const deliveries = await failOnce(app);
      await redis.send((client) => client.config('SET', 'maxmemory', '1'));
      await expectEachOnce(app, deliveries);
    });

    it('an application starts, sends and ends without any Redis', { timeout: TIMEOUT_MS }, async () => {
      vi.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
      await redis.kill();
      const app = await start();
      await app.listeners.create({ events: ['*'], url: app.receiver.url });
      app.receiver.failTimes(1);
      await save(app, 1);
      await expect.poll(() => app.deliveries.counts(), PATIENT).toMatchObject({ succeeded: 1 });
      const began = performance.now();
      await app.dispatcher.stop();
      expect(performance.now() - began).toBeLessThan(15_000);
    });
  });
});
