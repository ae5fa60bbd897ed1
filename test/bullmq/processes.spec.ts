import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { SystemService, SystemWebhookClock, type DispatcherOptions } from 'nestjs-entity-webhooks';
import { bullmqEngine } from 'nestjs-entity-webhooks/bullmq';
import { describeServers, type FreshDatabase } from '../support/databases.js';
import {
  Parcel,
  prepareProcesses,
  type DispatchingProcess,
  type DispatchingProcesses,
} from '../support/dispatching-process.js';
import { hasRedisServer, OwnRedis } from '../support/own-redis.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const PATIENT = { timeout: 90_000, timeoutMs: 90_000 };
const TIMEOUT_MS = 240_000;
/** A dead worker's deliveries are due again after this time. */
const LEASE_MS = 6_000;

let processes: DispatchingProcesses;
let redis: OwnRedis;

describe.skipIf(!hasRedisServer)('workers with the engine of BullMQ', () => {
  beforeAll(async () => {
    processes = await prepareProcesses();
    redis = await OwnRedis.start();
  }, 120_000);
  afterAll(() => redis.stop());

  describeServers('beside a web process', (database) => {
    let fresh: FreshDatabase;
    let app: TestApp;
    let running: DispatchingProcess[];

    beforeEach(async () => {
      running = [];
      fresh = await database.reuse();
      await redis.send((client) => client.flushall());
      const engine = bullmqEngine({ connection: redis.connection });
      app = await startApp({
        database: fresh.options,
        entities: [Parcel],
        ownClock: new SystemWebhookClock(),
        webhooks: { dispatcher: { engine } },
      });
    });
    afterEach(async () => {
      for (const one of running) await one.stop();
      await app.close();
      await fresh.drop();
    });

    async function startWorker(dispatcher: DispatcherOptions): Promise<DispatchingProcess> {
      // The receiver fails more often than a circuit allows.
      const circuit = { failures: 1_000 };
      const shared = { pollIntervalMs: 200, leaseMs: LEASE_MS, timeoutMs: LEASE_MS - 2_000, circuit };
      const worker = await processes.startWorker({
        database: fresh.options,
        webhooks: { dispatcher: { ...shared, ...dispatcher } },
        engine: { connection: redis.connection, reconcileEveryMs: 3_000 },
        retryMs: 1_000,
      });
      running.push(worker);
      return worker;
    }
    const save = (count: number) =>
      app.dataSource.getRepository(Parcel).save(Array.from({ length: count }, (_, n) => ({ name: `parcel ${n}` })));
    const listen = async (count: number) => {
      for (let n = 0; n < count; n++) await app.listeners.create({ events: ['*'], url: `${app.receiver.url}/${n}` });
    };
    const sizes = async () => {
      const { processes: all } = await app.app.get(SystemService).overview();
      return all.map(({ concurrency }) => concurrency).toSorted((a, b) => a - b);
    };
    async function succeed(count: number): Promise<void> {
      await expect.poll(() => app.deliveries.counts(), PATIENT).toMatchObject({ succeeded: count, due: 0, leased: 0 });
    }
    /** The number of requests of each delivery. */
    function requestsOf(): number[] {
      const counts = new Map<string, number>();
      for (const { url, headers } of app.receiver.requests) {
        const key = `${url} ${String(headers['webhook-id'])}`;
        counts.set(key, (counts.get(key) ?? 0) + 1);
      }
      return [...counts.values()];
    }

    it('share what is due: each retry is sent once', { timeout: TIMEOUT_MS }, async () => {
      await listen(6);
      app.receiver.failTimes(6 * 20);
      await startWorker({ concurrency: 3, concurrencyPerListener: 1 });
      await startWorker({ concurrency: 5, concurrencyPerListener: 1 });
      await expect.poll(sizes, PATIENT).toEqual([3, 5]);
      await save(20);
      await succeed(6 * 20);
      const counts = requestsOf();
      expect(counts).toHaveLength(6 * 20);
      // 120 answers were failures, and each was the answer to a first attempt or to a retry.
      expect(counts.reduce((sum, count) => sum + count, 0)).toBe(2 * 6 * 20);
    });

    it('take over the jobs of a worker that is killed', { timeout: TIMEOUT_MS }, async () => {
      await listen(4);
      const first = await startWorker({ concurrency: 8 });
      app.receiver.failTimes(4 * 5);
      await save(5);
      await app.receiver.waitFor(4 * 5, PATIENT);
      let release: () => void = () => undefined;
      const held = new Promise<void>((resolve) => (release = resolve));
      app.receiver.respond({ status: 204, delayUntil: held });
      // Retries are in flight, so the worker runs jobs.
      await app.receiver.waitFor(4 * 5 + 8, PATIENT);
      first.kill('SIGKILL');
      await first.ended;
      release();
      app.receiver.respond({ status: 204 });
      await startWorker({ concurrency: 16 });
      await succeed(4 * 5);
      // A request that the dead worker did not record is sent again, under the same id.
      expect(requestsOf()).toHaveLength(4 * 5);
      const twice = requestsOf().filter((count) => count > 2);
      expect(twice.length).toBeLessThanOrEqual(8);
    });

    it('a worker that gets SIGTERM hands over, and ends', { timeout: TIMEOUT_MS }, async () => {
      await listen(4);
      const first = await startWorker({ concurrency: 3 });
      app.receiver.failTimes(4 * 5);
      await save(5);
      await app.receiver.waitFor(4 * 5, PATIENT);
      first.kill('SIGTERM');
      expect(await first.ended).toEqual([null, 'SIGTERM']);
      await startWorker({ concurrency: 5 });
      await succeed(4 * 5);
      expect(requestsOf().every((count) => count === 2)).toBe(true);
    });
  });
});
