import { Logger } from '@nestjs/common';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { RetrySchedule, SystemWebhookClock, type ClockReading } from 'nestjs-entity-webhooks';
import { databases, describeDatabases, type FreshDatabase } from '../support/databases.js';
import { Parcel } from '../support/dispatching-process.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const SECOND = 1_000;
const HOUR = 60 * 60 * SECOND;
/** The retry delay of the test, and some more for a busy machine. */
const RETRY_MS = 2 * SECOND;
const MOMENT_MS = 10 * SECOND;
/** Longer than the test needs to set the clock back, and short, because the tests wait for its end. */
const DEAD_LEASE_MS = 3 * SECOND;
const WAIT = { timeout: 20_000, interval: 20 };

class SoonSchedule extends RetrySchedule {
  override delayMs(): number {
    return RETRY_MS;
  }
}

/** The clock of a server, which the test sets. */
class ServersClock extends SystemWebhookClock {
  aheadMs = 0;

  override read(reading: ClockReading): void {
    super.read({ ...reading, databaseMs: reading.databaseMs + this.aheadMs });
  }
}

describeDatabases('a server whose clock was an hour ahead, and is right again', (target) => {
  let fresh: FreshDatabase;
  let clock: ServersClock;
  let app: TestApp;
  let warned: string[];

  const start = async (of: ServersClock): Promise<TestApp> => {
    const webhooks = {
      parts: { retrySchedule: SoonSchedule },
      dispatcher: { pollIntervalMs: 50, autoStart: false },
    };
    const started = await startApp({ database: fresh.options, entities: [Parcel], ownClock: of, webhooks });
    return started;
  };
  const timesOf = async (url: string) => {
    const rows = (await app.dataSource.query(
      `select d.state, d.next_at as next, d.lease_until as lease, s.paused_until as paused, s.ready_at as ready from webhook_deliveries d join webhook_listener_state s on s.listener_id = d.listener_id join webhook_listeners l on l.id = d.listener_id where l.url = '${url}'`,
    )) as Record<string, unknown>[];
    return rows[0];
  };
  const urlOf = (path: string) => new URL(`/${path}`, app.receiver.url).href;

  beforeEach(async () => {
    fresh = await target.reuse();
    clock = new ServersClock();
    clock.aheadMs = HOUR;
    warned = [];
    vi.spyOn(Logger.prototype, 'warn').mockImplementation((text: unknown) => void warned.push(String(text)));
    vi.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
    app = await start(clock);
    for (const path of ['failing', 'paused', 'dead']) await app.listeners.create({ events: ['*'], url: urlOf(path) });
    app.receiver.respond(({ url: path }) => {
      if (path === '/failing') return { status: 500 };
      return path === '/paused' ? { status: 503, headers: { 'retry-after': '60' } } : { status: 204 };
    });
    app.dispatcher.start();
    await app.dataSource.getRepository(Parcel).save({ name: 'a' });
    await vi.waitFor(async () => expect((await timesOf(urlOf('paused')))?.paused).toBeTruthy(), WAIT);
    await vi.waitFor(async () => expect((await timesOf(urlOf('failing')))?.state).toBe('due'), WAIT);
    await vi.waitFor(async () => expect((await timesOf(urlOf('dead')))?.state).toBe('succeeded'), WAIT);
    // A lease of a process that has died since.
    await app.dataSource.query(
      `update webhook_deliveries set state = 'leased', lease_token = 'lease_dead', lease_until = ${clock.now() + DEAD_LEASE_MS}, finished_at = null where state = 'succeeded'`,
    );
    app.receiver.respond({ status: 204 });
  });
  afterEach(async () => {
    await app.close();
    await fresh.drop();
    vi.restoreAllMocks();
  });

  it('moves retries, leases and pauses back, signs the right time, and logs it once', async () => {
    clock.aheadMs = 0;
    await vi.waitFor(() => expect(warned.filter((text) => text.includes('clock'))).toHaveLength(1), WAIT);
    await vi.waitFor(async () => expect((await timesOf(urlOf('failing')))?.state).toBe('succeeded'), WAIT);
    await vi.waitFor(async () => expect((await timesOf(urlOf('dead')))?.state).toBe('succeeded'), WAIT);
    const { paused, ready } = (await timesOf(urlOf('paused'))) ?? {};
    expect(Number(paused)).toBeGreaterThan(Date.now() + 30 * SECOND);
    expect(Number(paused)).toBeLessThan(Date.now() + 60 * SECOND + MOMENT_MS);
    expect(Number(ready)).toBe(Number(paused));
    const signed = Number(app.receiver.requests.at(-1)?.headers['webhook-timestamp']) * SECOND;
    expect(Math.abs(signed - Date.now())).toBeLessThan(MOMENT_MS + RETRY_MS);
    expect(warned.filter((text) => text.includes('3600 s ahead'))).toHaveLength(1);
  });

  it('moves them back, too, when all processes were restarted meanwhile', async () => {
    await app.dispatcher.stop();
    clock.aheadMs = 0;
    const { receiver } = app;
    const next = await startApp({
      database: fresh.options,
      entities: [Parcel],
      ownClock: new ServersClock(),
      webhooks: {
        parts: { retrySchedule: SoonSchedule },
        dispatcher: { pollIntervalMs: 50, autoStart: true },
      },
    });
    try {
      await vi.waitFor(
        () => expect(receiver.requests.filter(({ url }) => url === '/failing').length).toBeGreaterThan(1),
        WAIT,
      );
      await vi.waitFor(async () => expect((await next.deliveries.counts()).leased).toBe(0), WAIT);
    } finally {
      await next.close();
    }
  });
});

// The statements are those of the test above, so one database is enough.
describe('a server whose clock jumps while deliveries are leased, paused and retried', () => {
  let fresh: FreshDatabase;
  let clock: ServersClock;
  let app: TestApp;

  beforeEach(async () => {
    for (const level of ['warn', 'error'] as const)
      vi.spyOn(Logger.prototype, level).mockImplementation(() => undefined);
    fresh = await (databases[0] as (typeof databases)[number]).reuse();
    clock = new ServersClock();
    app = await startApp({
      database: fresh.options,
      entities: [Parcel],
      ownClock: clock,
      webhooks: { parts: { retrySchedule: SoonSchedule }, dispatcher: { pollIntervalMs: 50 } },
    });
  });
  afterEach(async () => {
    await app.close();
    await fresh.drop();
    vi.restoreAllMocks();
  });

  it.each([
    { jumps: 'an hour ahead and back', steps: [HOUR, -HOUR] },
    { jumps: 'back by less than the clock waits for', steps: [-3 * SECOND] },
    { jumps: 'back by more', steps: [-10 * SECOND] },
  ])('$jumps: loses nothing, and no delivery waits', async ({ steps }) => {
    const paths = ['/leased', '/paused', '/failing'];
    for (const path of paths) await app.listeners.create({ events: ['*'], url: new URL(path, app.receiver.url).href });
    let release = () => undefined as void;
    const held = new Promise<void>((resolve) => (release = resolve));
    const seen = new Set<string>();
    app.receiver.respond(({ url }) => {
      if (seen.has(url)) return { status: 204 };
      seen.add(url);
      if (url === '/leased') return { status: 204, delayUntil: held };
      return url === '/paused' ? { status: 503, headers: { 'retry-after': '2' } } : { status: 500 };
    });
    app.dispatcher.start();
    await app.dataSource.getRepository(Parcel).save({ name: 'before' });
    await vi.waitFor(async () => expect(await app.deliveries.counts()).toMatchObject({ due: 2 }), WAIT);
    // The delivery in flight has no row yet. The lease of its event covers it.
    const leases = await app.dataSource.query<unknown[]>('SELECT token FROM webhook_leases');
    expect(leases).toHaveLength(1);
    for (const step of steps) {
      clock.aheadMs += step;
      await vi.waitFor(() => expect(Math.abs(clock.now() - Date.now() - clock.aheadMs)).toBeLessThan(5 * SECOND), WAIT);
    }
    await app.dataSource.getRepository(Parcel).save({ name: 'after' });
    release();
    await vi.waitFor(
      async () => expect(await app.deliveries.counts()).toMatchObject({ succeeded: 6, leased: 0, due: 0 }),
      WAIT,
    );
    const names = (path: string) =>
      app.receiver.requests
        .filter(({ url, status }) => url === path && status === 204)
        .map(({ json }) => (json as { data: { name: string } }).data.name);
    for (const path of paths) expect(new Set(names(path))).toEqual(new Set(['before', 'after']));
  });
});
