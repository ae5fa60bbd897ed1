import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Audit, Parcel, type WorkerOptions } from '../crash/parcels.js';
import { buildWorkers } from '../crash/crash-run.js';
import { databases, describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const NEVER = new Promise<never>(() => undefined);
/** Time for the stop beside the time limit of the attempt: the margin of a lease, and some more for a busy machine. */
const MOMENT_MS = 4_000;

let fresh: FreshDatabase;
let app: TestApp;

const start = (dispatcher = {}): Promise<TestApp> =>
  startApp({ database: fresh.options, entities: [Parcel], others: [Audit], webhooks: { dispatcher } });
const save = (of: TestApp, count: number) =>
  of.dataSource
    .getRepository(Parcel)
    .save(Array.from({ length: count }, (_, n) => ({ change: `c${n}`, colour: 'red' })));

describeDatabases('a dispatcher that stops', (database) => {
  let release: () => void;

  beforeEach(async () => {
    fresh = await database.reuse();
    app = await start({ concurrencyPerListener: 1 });
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    const held = new Promise<void>((resolve) => (release = resolve));
    app.receiver.respond([{ status: 204, delayUntil: held }]);
  });
  afterEach(async () => {
    release();
    await app.close();
    await fresh.drop();
  });

  it('sends in rounds afterwards, and runs chores, as before its start', async () => {
    release();
    app.dispatcher.start();
    await app.dispatcher.stop();
    await save(app, 2);
    expect(await app.dispatcher.drain()).toEqual({ events: 2, attempts: 2 });
    expect(await app.dispatcher.runOnce()).toEqual({ events: 0, attempts: 0 });
    app.receiver.respond({ status: 500 });
    await save(app, 1);
    await app.dispatcher.drain();
    app.clock.advance(31 * 24 * 3_600_000);
    expect(await app.dispatcher.runChores()).toMatchObject({ discarded: 1 });
  });

  it('sends nothing while it stops, and drain() ends', async () => {
    app.dispatcher.start();
    await save(app, 1);
    await app.receiver.waitFor(1);
    const stopped = app.dispatcher.stop();
    await save(app, 2);
    const drained = app.dispatcher.drain();
    // The first attempt is in flight, so its delivery is not on record yet.
    await expect.poll(() => app.deliveries.counts()).toMatchObject({ due: 2, leased: 0 });
    release();
    await Promise.all([stopped, drained]);
    expect(app.receiver.requests).toHaveLength(1);
  });

  it('releases queued deliveries for another process, and completes requests in flight', async () => {
    await save(app, 3);
    app.dispatcher.start();
    await app.receiver.waitFor(1);
    let hasStopped = false;
    const stopped = app.dispatcher.stop().then(() => (hasStopped = true));
    const other = await start();
    try {
      // Without waiting for a lease to expire, because the clock stands still.
      other.dispatcher.start();
      await app.receiver.waitFor(3, { timeoutMs: 10_000 });
      expect(hasStopped).toBe(false);
      release();
      await stopped;
      // A dispatcher that has stopped has written its records; the other may still be writing.
      await other.dispatcher.stop();
      expect(await app.deliveries.counts()).toMatchObject({ succeeded: 3, due: 0, leased: 0 });
      expect(new Set(app.receiver.requests.map(({ headers }) => headers['webhook-id'])).size).toBe(3);
      expect(app.receiver.requests).toHaveLength(3);
    } finally {
      await other.close();
    }
  });

  it('claims nothing more', async () => {
    app.dispatcher.start();
    await app.dispatcher.stop();
    await save(app, 1);
    release();
    expect(await app.deliveries.counts()).toMatchObject({ due: 0, leased: 0 });
    expect(app.dispatcher.isRunning).toBe(false);
    app.dispatcher.start();
    await app.receiver.waitFor(1, { timeoutMs: 10_000 });
  });
});

it('a receiver that never answers delays the end of the application by timeoutMs and about a second', async () => {
  fresh = await databases[0]!.create();
  const timeoutMs = 500;
  app = await start({ timeoutMs, leaseMs: 60_000 });
  await app.listeners.create({ events: ['*'], url: app.receiver.url });
  app.receiver.respond({ status: 204, delayUntil: NEVER });
  app.dispatcher.start();
  await save(app, 1);
  await app.receiver.waitFor(1);
  const began = performance.now();
  await app.close();
  expect(performance.now() - began).toBeLessThan(timeoutMs + MOMENT_MS);
  // The attempt was recorded with its real outcome.
  const next = await start();
  expect((await next.deliveries.list()).items).toMatchObject([
    { state: 'due', lastErrorCode: 'TIMEOUT', attemptCount: 1 },
  ]);
  await next.close();
  await fresh.drop();
});

it('a second SIGTERM neither hangs the process nor ends it early', { timeout: 150_000 }, async () => {
  fresh = await databases[0]!.create();
  const program = await buildWorkers();
  app = await start();
  await app.listeners.create({ events: ['*'], url: app.receiver.url });
  app.receiver.respond({ status: 204, delayUntil: NEVER });
  const timeoutMs = 1_500;
  const options: WorkerOptions = {
    database: fresh.options,
    name: 'w1',
    seed: 1,
    autoStart: true,
    dispatcher: { timeoutMs, concurrency: 1 },
    sharedRows: 1,
  };
  const worker = spawn(process.execPath, [program], {
    env: { ...process.env, CRASH_WORKER: JSON.stringify(options) },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  try {
    await once(worker, 'message');
    await app.receiver.waitFor(1, { timeoutMs: 20_000 });
    worker.send('quiet');
    await once(worker, 'message');
    const exited = once(worker, 'exit') as Promise<[number | null, string | null]>;
    const began = performance.now();
    worker.kill('SIGTERM');
    worker.kill('SIGTERM');
    expect((await exited)[1]).toBe('SIGTERM');
    expect(performance.now() - began).toBeLessThan(timeoutMs + MOMENT_MS);
    expect(await app.deliveries.counts()).toMatchObject({ leased: 0 });
  } finally {
    worker.kill('SIGKILL');
    await app.close();
    await fresh.drop();
  }
});
