import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { SystemService, type DispatcherOptions } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import {
  Parcel,
  prepareProcesses,
  type DispatchingProcess,
  type DispatchingProcesses,
} from '../support/dispatching-process.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

/** Longer than a test may take, so that no lease that expires helps. */
const LEASE_MS = 10 * 60_000;
/** Another process starts in this time, on a busy machine, too. */
const PATIENT = { timeout: 60_000, timeoutMs: 60_000 };
const TIMEOUT_MS = 240_000;

let processes: DispatchingProcesses;
beforeAll(async () => {
  processes = await prepareProcesses();
}, 120_000);

describeDatabases('workers without HTTP, beside a web process', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let running: DispatchingProcess[];
  let release: () => void;

  beforeEach(async () => {
    running = [];
    fresh = await database.reuse();
    app = await startApp({ database: fresh.options, entities: [Parcel] });
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    const held = new Promise<void>((resolve) => (release = resolve));
    app.receiver.respond({ status: 204, delayUntil: held });
  });
  afterEach(async () => {
    release();
    for (const one of running) await one.stop();
    await app.close();
    await fresh.drop();
  });

  async function startWorker(dispatcher: DispatcherOptions): Promise<DispatchingProcess> {
    const shared = { pollIntervalMs: 50, leaseMs: LEASE_MS, timeoutMs: LEASE_MS - 1_000 };
    const webhooks = { dispatcher: { ...shared, ...dispatcher } };
    const worker = await processes.startWorker({ database: fresh.options, webhooks });
    running.push(worker);
    return worker;
  }

  /** A process that serves requests: it saves, and sends nothing. */
  async function startWeb(parcels: number): Promise<void> {
    const saves = Array.from({ length: parcels }, (_, n) => `parcel ${n}`);
    const webhooks = { dispatcher: { autoStart: false } };
    running.push(await processes.start({ database: fresh.options, webhooks, saves }));
  }

  /** The concurrency of each process in the table, by which a test knows its workers. */
  async function sizes(): Promise<number[]> {
    const { processes: all } = await app.app.get(SystemService).overview();
    return all.map(({ concurrency }) => concurrency).toSorted((a, b) => a - b);
  }

  async function expectEachOnce(parcels: number): Promise<void> {
    await expect.poll(() => app.deliveries.counts(), PATIENT).toMatchObject({ succeeded: parcels, due: 0, leased: 0 });
    const ids = app.receiver.requests.map(({ headers }) => headers['webhook-id']);
    expect(ids).toHaveLength(parcels);
    expect(new Set(ids).size).toBe(parcels);
  }

  it(
    'share the work, each event is sent once, and the table of processes shows the workers only',
    { timeout: TIMEOUT_MS },
    async () => {
      await startWorker({ concurrency: 3, concurrencyPerListener: 3, eventsPerBatch: 4 });
      await startWorker({ concurrency: 5, concurrencyPerListener: 5, eventsPerBatch: 4 });
      await startWeb(40);
      // Neither worker alone can have as many requests in flight.
      await app.receiver.waitFor(8, PATIENT);
      await expect.poll(sizes, PATIENT).toEqual([3, 5]);
      release();
      await expectEachOnce(40);
    },
  );

  it.each(['SIGTERM', 'SIGINT'] as const)(
    'a worker that gets %s hands the rest to another worker at once, and completes its requests',
    { timeout: TIMEOUT_MS },
    async (signal) => {
      const first = await startWorker({ concurrency: 3, concurrencyPerListener: 3, eventsPerBatch: 20 });
      await startWeb(20);
      await app.receiver.waitFor(3, PATIENT);
      first.kill(signal);
      // It takes no more work, and still waits for the answers of its requests.
      await expect.poll(sizes, PATIENT).toEqual([]);
      await startWorker({ concurrency: 5, concurrencyPerListener: 5 });
      await app.receiver.waitFor(3 + 5, PATIENT);
      release();
      expect(await first.ended).toEqual([null, signal]);
      await expectEachOnce(20);
    },
  );
});
