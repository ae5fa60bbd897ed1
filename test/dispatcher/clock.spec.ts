import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { SystemWebhookClock } from 'nestjs-entity-webhooks';
import type { Database } from '../../libs/webhooks/src/store/database/database.js';
import { DatabaseTime } from '../../libs/webhooks/src/store/database/database-time.js';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { Parcel, prepareProcesses, type DispatchingProcesses } from '../support/dispatching-process.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

describe('the clock', () => {
  let monotonic = 0;
  beforeEach(() => {
    monotonic = 5_000;
    vi.spyOn(performance, 'now').mockImplementation(() => monotonic);
  });
  afterEach(() => vi.restoreAllMocks());
  const read = (clock: SystemWebhookClock, databaseMs: number, roundTripMs: number) =>
    clock.read({ databaseMs, askedAt: monotonic - roundTripMs, answeredAt: monotonic });

  it('shows the time of the host until the database was read', () => {
    vi.spyOn(Date, 'now').mockReturnValue(1_234);
    expect(new SystemWebhookClock().now()).toBe(1_234);
  });

  it('shows the time of the database, plus half of the round trip, and continues from there', () => {
    const clock = new SystemWebhookClock();
    read(clock, 1_000_000, 10);
    expect(clock.now()).toBe(1_000_005);
    monotonic += 60_000.7;
    expect(clock.now()).toBe(1_060_005);
  });

  it('is not moved by a slow answer that does not contradict it', () => {
    const clock = new SystemWebhookClock();
    read(clock, 1_000_000, 2);
    monotonic += 1_000;
    // The database read 1,001,001 at the time of the query, and the answer took 800 ms to come back.
    read(clock, 1_000_201, 800);
    expect(clock.now()).toBe(1_001_001);
  });

  it('follows a drift as far as a slower answer proves it', () => {
    const clock = new SystemWebhookClock();
    read(clock, 1_000_000, 2);
    monotonic += 1_000;
    read(clock, 1_001_300, 10);
    // The database was at 1,001,300 or later when the answer came. Nothing proves a later time.
    expect(clock.now()).toBe(1_001_300);
  });

  it('never goes back: it stands still until the database has caught up', () => {
    const clock = new SystemWebhookClock();
    read(clock, 1_000_000, 0);
    expect(clock.now()).toBe(1_000_000);
    read(clock, 999_000, 0);
    expect(clock.now()).toBe(1_000_000);
    monotonic += 900;
    expect(clock.now()).toBe(1_000_000);
    monotonic += 300;
    expect(clock.now()).toBe(1_000_200);
  });
});

describe('a clock that was far ahead', () => {
  it('is set back, and continues from there', () => {
    let monotonic = 5_000;
    vi.spyOn(performance, 'now').mockImplementation(() => monotonic);
    const clock = new SystemWebhookClock();
    const read = (databaseMs: number) => clock.read({ databaseMs, askedAt: monotonic, answeredAt: monotonic });
    read(1_000_000);
    read(1_000_000 + 60 * MINUTE);
    expect(clock.now()).toBe(1_000_000 + 60 * MINUTE);
    read(1_000_000);
    expect(clock.now()).toBe(1_000_000);
    monotonic += SECOND;
    expect(clock.now()).toBe(1_000_000 + SECOND);
    vi.restoreAllMocks();
  });
});

describe('the time of the database', () => {
  const answering = () => {
    const single = vi.fn(() => Promise.resolve({ databaseMs: 5 }));
    return {
      single,
      time: new DatabaseTime({ dialect: 'sqlite', single } as unknown as Database, new SystemWebhookClock()),
    };
  };
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] }));
  afterEach(() => void vi.useRealTimers());

  it('is read at the start and each minute, until the reader stops', async () => {
    const { single, time } = answering();
    await time.start();
    expect(single).toHaveBeenCalledTimes(1);
    await vi.advanceTimersByTimeAsync(3 * MINUTE);
    expect(single).toHaveBeenCalledTimes(4);
    time.stop();
    await vi.advanceTimersByTimeAsync(3 * MINUTE);
    expect(single).toHaveBeenCalledTimes(4);
  });

  it('is read without a separate query while polls return it', async () => {
    const { single, time } = answering();
    await time.start();
    for (let second = 0; second < 180; second++) {
      await time.from(() => Promise.resolve({ databaseMs: 5 }));
      await vi.advanceTimersByTimeAsync(SECOND);
    }
    expect(single).toHaveBeenCalledTimes(1);
    time.stop();
  });
});

let processes: DispatchingProcesses;
beforeAll(async () => {
  processes = await prepareProcesses();
}, 5 * MINUTE);

// All tests share one pair of processes, because each takes seconds to start. A process that acts too early fails the
// test, whatever the other one does.
describeDatabases('two processes, on hosts 10 minutes ahead and 10 minutes behind', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let started: { stop(): Promise<void> }[] = [];

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({ database: fresh.options, entities: [Parcel] });
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    const start = (clockShiftMs: number, name: string) => {
      const webhooks = { dispatcher: { pollIntervalMs: 50 } };
      return processes.start({ database: fresh.options, webhooks, clockShiftMs, saves: [name] });
    };
    started = await Promise.all([start(10 * MINUTE, 'ahead'), start(-10 * MINUTE, 'behind')]);
  }, 5 * MINUTE);
  afterAll(async () => {
    await Promise.all(started.map((process) => process.stop()));
    await app.close();
    await fresh.drop();
  });

  const save = (name: string) => {
    app.clock.set(Date.now());
    return app.dataSource.getRepository(Parcel).save({ name });
  };
  const requestsOf = (name: string) =>
    app.receiver.requests.filter(({ json }) => (json as { data: { name: string } }).data.name === name);
  const succeeded = async (count: number) => {
    await expect.poll(() => app.deliveries.counts(), { timeout: 20_000 }).toMatchObject({ succeeded: count });
  };

  it('take the time of events and signatures from the database', async () => {
    await succeeded(2);
    for (const [request] of [requestsOf('ahead'), requestsOf('behind')]) {
      // Far less than ten minutes, and long enough for a slow machine.
      const { timestamp } = request?.json as { timestamp: string };
      expect(Math.abs(Date.parse(timestamp) - Date.now())).toBeLessThan(2 * MINUTE);
      expect(Math.abs(Number(request?.headers['webhook-timestamp']) * SECOND - Date.now())).toBeLessThan(2 * MINUTE);
    }
  });

  it('retry when the retry is due by the time of the database', async () => {
    app.receiver.failTimes(1);
    await save('retried');
    await succeeded(3);
    const [first, second] = requestsOf('retried');
    // Five seconds after the attempt ended, which is later than it was received; at most a fifth more, and a poll.
    expect((second?.receivedAt ?? 0) - (first?.receivedAt ?? 0)).toBeGreaterThanOrEqual(5 * SECOND);
  });

  it('reclaim a lease of another process when it expires, and not before', async () => {
    const leaseUntil = Date.now() + 3 * SECOND;
    await app.dataSource.query(
      `UPDATE webhook_deliveries SET state = 'leased', lease_token = 'lease_of_the_dead', lease_until = ${leaseUntil}, finished_at = NULL
        WHERE seq = (SELECT last FROM (SELECT MAX(seq) AS last FROM webhook_deliveries) AS d)`,
    );
    await succeeded(3);
    const taken = requestsOf('retried').at(-1);
    expect(taken?.receivedAt).toBeGreaterThanOrEqual(leaseUntil);
  });

  it('never send one delivery at the same time', async () => {
    const names = Array.from({ length: 40 }, (_, index) => `p${index}`);
    for (const name of names) await save(name);
    await succeeded(3 + names.length);
    expect(names.map((name) => requestsOf(name).length)).toEqual(names.map(() => 1));
  });
});
