import { Logger } from '@nestjs/common';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, it, vi } from 'vitest';
import { RetrySchedule, type WebhooksModuleOptions } from 'nestjs-entity-webhooks';
import { Parcel } from '../support/dispatching-process.js';
import { startPgBouncer, type PooledDatabase, type RunningPgBouncer } from '../support/pgbouncer.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const HOUR = 60 * 60 * 1_000;

/** Retries every minute; the test moves the clock by hand. */
class EveryMinute extends RetrySchedule {
  override delayMs(): number {
    return 60_000;
  }
}

describe.skipIf(!inject('servers').pgbouncer)('through PgBouncer in transaction mode', () => {
  let pooler: RunningPgBouncer;
  let fresh: PooledDatabase;
  let running: TestApp[];

  beforeAll(async () => {
    pooler = await startPgBouncer();
  });
  afterAll(() => pooler.stop());
  beforeEach(async () => {
    running = [];
    fresh = await pooler.create();
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    for (const app of running.toReversed()) await app.close();
    await fresh.drop();
  });

  const start = async (webhooks: WebhooksModuleOptions = {}) => {
    const options = { wakeUp: false as const, parts: { retrySchedule: EveryMinute }, ...webhooks };
    const app = await startApp({ database: fresh.options, entities: [Parcel], webhooks: options });
    running.push(app);
    return app;
  };
  const save = (app: TestApp, name: string) => app.dataSource.getRepository(Parcel).save({ name });
  const names = (app: TestApp) =>
    app.receiver.requests.map(({ json }) => (json as { data: { name: string } }).data.name);

  it('committed changes are delivered, changes that are rolled back are not, and failed attempts are retried', async () => {
    const app = await start();
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    app.receiver.failTimes(1);
    await app.dataSource.transaction((manager) => manager.save(Parcel, { name: 'committed' }));
    const rolledBack = app.dataSource.transaction(async (manager) => {
      await manager.save(Parcel, { name: 'rolled back' });
      throw new Error('no');
    });
    await expect(rolledBack).rejects.toThrow('no');
    await app.dispatcher.drain();
    app.clock.advance(60_000);
    await app.dispatcher.drain();
    expect(names(app)).toEqual(['committed', 'committed']);
    expect(await app.deliveries.counts()).toMatchObject({ succeeded: 1, due: 0 });
  });

  it('two dispatchers share the work, and send nothing twice', async () => {
    const writer = await start();
    await writer.listeners.create({ events: ['*'], url: writer.receiver.url });
    const dispatcher = { autoStart: true, pollIntervalMs: 20, eventsPerBatch: 5 };
    await start({ dispatcher });
    await start({ dispatcher });
    const saved = Array.from({ length: 60 }, (_, index) => `p${index}`);
    await Promise.all(saved.map((name) => save(writer, name)));
    await expect.poll(() => writer.deliveries.counts(), { timeout: 20_000 }).toMatchObject({ succeeded: saved.length });
    expect(names(writer).toSorted()).toEqual(saved.toSorted());
  });

  it('an ordered listener gets the events of a row in the order of their commits, also when a retry is in the middle', async () => {
    const app = await start();
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    await app.dataSource.query("UPDATE webhook_listeners SET ordering = 'entity'");
    app.receiver.respond([{ status: 204 }, { status: 500 }, { status: 204 }]);
    const parcel = await save(app, 'first');
    for (const name of ['second', 'third']) {
      await app.dataSource.getRepository(Parcel).save({ id: parcel.id, name });
    }
    await app.dispatcher.drain();
    expect(names(app)).toEqual(['first', 'second']);
    app.clock.advance(60_000);
    await app.dispatcher.drain();
    expect(names(app)).toEqual(['first', 'second', 'second', 'third']);
  });

  it('the sessions keep no settings of this library', async () => {
    const app = await start({ dispatcher: { autoStart: true, pollIntervalMs: 20 } });
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    await Promise.all(Array.from({ length: 20 }, (_, index) => save(app, `p${index}`)));
    await app.receiver.waitFor(20);
    await app.dispatcher.stop();
    // Two concurrent transactions use both connections of the pooler.
    const sessions = [0, 1].map(() => app.dataSource.createQueryRunner());
    const pids = new Set<unknown>();
    for (const session of sessions) {
      await session.startTransaction();
      const [state] = (await session.query(
        `SELECT pg_backend_pid() AS pid, current_setting('enable_seqscan') AS seqscan, current_setting('jit') AS jit,
          (SELECT count(*)::int FROM pg_prepared_statements) AS prepared,
          (SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks`,
      )) as Record<string, unknown>[];
      expect(state).toMatchObject({ seqscan: 'on', jit: 'on', prepared: 0, locks: 0 });
      pids.add(state?.['pid']);
    }
    expect(pids.size).toBe(2);
    for (const session of sessions) {
      await session.rollbackTransaction();
      await session.release();
    }
  });

  it('passes no notifications on: that is logged once, and the poll finds the work', async () => {
    const warn = vi.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
    const web = await start({ wakeUp: {} });
    await start({ wakeUp: {}, dispatcher: { autoStart: true, pollIntervalMs: 50 } });
    await web.listeners.create({ events: ['*'], url: web.receiver.url });
    await save(web, 'polled');
    await web.receiver.waitFor(1);
    const said = () =>
      warn.mock.calls.map(([text]) => String(text)).filter((text) => text.includes('receives no notifications'));
    await expect
      .poll(said, { timeout: 15_000 })
      .toEqual([expect.stringMatching(/^This process receives no notifications.*wakeUp\.url/)]);
  });

  it('a commit wakes the other processes when wakeUp.url bypasses the pooler', async () => {
    const wakeUp = { url: fresh.directUrl };
    const web = await start({ wakeUp });
    await start({ wakeUp, dispatcher: { autoStart: true, pollIntervalMs: HOUR } });
    await web.listeners.create({ events: ['*'], url: web.receiver.url });
    const listening = () =>
      web.dataSource.query(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'",
      );
    await expect.poll(listening, { timeout: 10_000 }).toHaveLength(1);
    await save(web, 'received');
    await web.receiver.waitFor(1);
  });
});
