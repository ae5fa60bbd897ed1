import { EventEmitter2 } from '@nestjs/event-emitter';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { RetrySchedule, type CreateListenerInput, type WebhooksModuleOptions } from 'nestjs-entity-webhooks';
import { appsOn } from '../support/apps-on.js';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { arePartitioned } from '../support/partitioned.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { changesOf, countRows } from './outbox.js';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** No retries. */
class Once extends RetrySchedule {
  delayMs(): null {
    return null;
  }
}

/** Thirty attempts, two days apart. */
class ForMonths extends RetrySchedule {
  delayMs(failures: number): number | null {
    return failures < 30 ? 2 * DAY : null;
  }
}

/** With partitions, the first chore of each test makes those of thirty days: on a busy machine, each takes a second. */
const SLOW = arePartitioned ? { timeout: 180_000 } : {};

describeDatabases('retention', SLOW, (database) => {
  const apps = appsOn(database);
  let app: TestApp;
  const start = (webhooks: WebhooksModuleOptions = {}) =>
    apps.start({
      entities: [],
      webhooks: { publishedTypes: ['article.written', 'article.read'], parts: { retrySchedule: Once }, ...webhooks },
    });

  const listen = (input: Partial<CreateListenerInput> = {}) =>
    app.listeners.create({ events: ['article.written'], url: app.receiver.url, ...input });
  const publish = (count = 1, type = 'article.written') =>
    app.dataSource.transaction(async (manager) => {
      for (let n = 0; n < count; n++) await app.webhooks.publish(type, { n }, { manager });
    });
  const rows = () => countRows(app.dataSource, 'events', 'deliveries', 'attempts');
  /** With partitions, the last rows of a day are deleted one by one only if the day could not be dropped: up to two days later. */
  const laterMs = arePartitioned && database.name === 'postgres' ? 2 * DAY : 0;

  it('keeps succeeded deliveries for 30 days, then deletes attempts, deliveries and events', async () => {
    app = await start();
    await listen();
    await publish(3);
    await app.dispatcher.drain();
    // The first attempt is in the row of its delivery, and a later one is not.
    for (const { id } of (await app.deliveries.list()).items) await app.deliveries.resend(id);
    await app.dispatcher.drain();
    app.clock.advance(30 * DAY);
    expect(await app.dispatcher.runChores()).toEqual({ discarded: 0, deliveries: 0, events: 0 });
    expect(await rows()).toEqual({ events: 3, deliveries: 3, attempts: 3 });
    app.clock.advance(5 * MINUTE);
    expect(await app.dispatcher.runChores()).toEqual({ discarded: 0, deliveries: 3, events: 3 });
    expect(await rows()).toEqual({ events: 0, deliveries: 0, attempts: 0 });
  });

  it('keeps failed deliveries and their events for 90 days, and deletes succeeded deliveries of the same event earlier', async () => {
    app = await start();
    await listen();
    const failing = await listen({ url: `${app.receiver.url}/bad` });
    app.receiver.respond(({ url }) => ({ status: url.endsWith('/bad') ? 500 : 204 }));
    await publish(2);
    await app.dispatcher.drain();
    for (const { id } of (await app.deliveries.list()).items) await app.deliveries.resend(id);
    await app.dispatcher.drain();
    app.clock.advance(31 * DAY);
    await app.dispatcher.runChores();
    expect(await rows()).toEqual({ events: 2, deliveries: 2, attempts: 4 });
    expect((await app.deliveries.list()).items).toMatchObject([
      { listenerId: failing.id, state: 'exhausted' },
      { listenerId: failing.id, state: 'exhausted' },
    ]);
    app.clock.advance(58 * DAY);
    await app.dispatcher.runChores();
    expect(await rows()).toEqual({ events: 2, deliveries: 2, attempts: 4 });
    app.clock.advance(2 * DAY);
    await app.dispatcher.runChores();
    expect(await rows()).toEqual({ events: 0, deliveries: 0, attempts: 0 });
  });

  it('deletes events without deliveries after the succeeded age, and damaged events after the failed age', async () => {
    app = await start();
    await listen();
    await publish(1, 'article.read');
    await publish(1);
    await app.dataSource.query(`UPDATE webhook_events SET payload = 'no JSON' WHERE type = 'article.written'`);
    vi.spyOn(console, 'error').mockImplementation(() => undefined);
    await app.dispatcher.drain();
    app.clock.advance(31 * DAY);
    await app.dispatcher.runChores();
    const left = () => countRows(app.dataSource, 'events', 'damaged', 'deliveries');
    expect(await left()).toEqual({ events: 1, damaged: 1, deliveries: 0 });
    app.clock.advance(60 * DAY + laterMs);
    await app.dispatcher.runChores();
    expect(await left()).toEqual({ events: 0, damaged: 0, deliveries: 0 });
  });

  it('never deletes unfinished deliveries or their events, however old they are', async () => {
    app = await start({ dispatcher: { maxAgeMs: 3_650 * DAY }, parts: { retrySchedule: ForMonths } });
    const failing = await listen();
    const disabled = await listen();
    app.receiver.respond({ status: 500 });
    await publish();
    await app.dispatcher.drain();
    await app.listeners.disable(disabled.id);
    await publish(1, 'article.read');
    app.clock.advance(200 * DAY);
    const before = await rows();
    await app.dispatcher.runChores();
    expect(await rows()).toEqual(before);
    expect(await app.deliveries.counts()).toMatchObject({ due: 1, held: 1 });
    // In flight.
    let answer: () => void = () => undefined;
    app.receiver.respond({ status: 204, delayUntil: new Promise<void>((resolve) => (answer = resolve)) });
    const sent = app.receiver.requests.length;
    const draining = app.dispatcher.drain();
    await app.receiver.waitFor(sent + 1);
    expect(await app.deliveries.counts({ listenerId: failing.id })).toMatchObject({ leased: 1 });
    app.clock.advance(DAY);
    await app.dispatcher.runChores();
    expect(await app.deliveries.counts({ listenerId: failing.id })).toMatchObject({ leased: 1 });
    answer();
    await draining;
    expect(await app.deliveries.counts()).toMatchObject({ succeeded: 1, held: 1 });
    // The next daily chore deletes the delivery that was in flight. The held delivery and its event stay.
    app.clock.advance(DAY);
    await app.dispatcher.runChores();
    expect(await rows()).toEqual({ events: 1, deliveries: 1, attempts: 1 });
    expect(await app.deliveries.counts()).toMatchObject({ held: 1 });
  });

  it('deletes a bounded number of rows per transaction, even if one event has many deliveries', async () => {
    app = await start();
    const wide = 700;
    await listen();
    await publish(450);
    await app.dispatcher.drain();
    app.clock.advance(31 * DAY);
    await widen(wide);
    const transactions = changesOf(app);
    expect(await app.dispatcher.runChores()).toMatchObject({ deliveries: 450 + wide, events: 450 });
    const deleting = transactions.filter((changes) => 'deliveries' in changes || 'events' in changes);
    // 1,150 deliveries in batches of 500, and 450 events in batches of 200.
    expect(deleting.length).toBeGreaterThanOrEqual(3);
    for (const { deliveries = 0, events = 0, attempts = 0 } of deleting) {
      expect(deliveries).toBeLessThanOrEqual(500);
      expect(attempts).toBeLessThanOrEqual(500);
      expect(events).toBeLessThanOrEqual(200);
    }
    expect(await rows()).toEqual({ events: 0, deliveries: 0, attempts: 0 });
  });

  /** Adds deliveries of the first event to listeners that never existed. */
  async function widen(count: number): Promise<void> {
    const [event] = await app.dataSource.query('SELECT seq, created_at FROM webhook_events ORDER BY seq LIMIT 1');
    const old = app.clock.now() - 31 * DAY;
    for (let from = 0; from < count; from += 100) {
      const values = Array.from({ length: 100 }, (_, n) => {
        const id = String(from + n).padStart(6, '0');
        return `('dlv_wide${id}', ${event.seq}, ${event.created_at}, 'lst_wide${id}', 'article.written', 'succeeded', 1, 1, ${old}, ${old}, ${old})`;
      });
      await app.dataSource.query(
        `INSERT INTO webhook_deliveries (id, event_seq, event_at, listener_id, type, state, attempts, retries, next_at, created_at, finished_at) VALUES ${values.join(', ')}`,
      );
    }
  }

  it('is shared by two processes that run at the same time: each row is deleted once, without an error', async () => {
    app = await start();
    const other = await start();
    await listen();
    await publish(450);
    await app.dispatcher.drain();
    for (const one of [app, other]) one.clock.set(app.clock.now() + 31 * DAY);
    const results = await Promise.all([
      app.dispatcher.runChores(),
      other.dispatcher.runChores(),
      app.dispatcher.runChores(),
    ]);
    expect(results.reduce((sum, { events }) => sum + events, 0)).toBe(450);
    expect(results.reduce((sum, { deliveries }) => sum + deliveries, 0)).toBe(450);
    expect(await rows()).toEqual({ events: 0, deliveries: 0, attempts: 0 });
  });

  it('continues in another process when its process has died', async () => {
    app = await start();
    await listen();
    await publish();
    await app.dispatcher.drain();
    app.clock.advance(31 * DAY);
    const now = app.clock.now();
    await app.dataSource.query(
      `INSERT INTO webhook_chores (name, lease_token, lease_until, due_at, position) VALUES ('prune', 'lease_dead', ${now + MINUTE}, ${now}, 0)`,
    );
    expect(await app.dispatcher.runChores()).toMatchObject({ events: 0 });
    app.clock.advance(MINUTE);
    expect(await app.dispatcher.runChores()).toMatchObject({ events: 1 });
  });

  it('reads each event once: failed deliveries are not read again until the failed age', async () => {
    app = await start();
    await listen();
    app.receiver.respond({ status: 500 });
    await publish(5);
    await app.dispatcher.drain();
    app.clock.advance(31 * DAY);
    await app.dispatcher.runChores();
    const [{ position }] = await app.dataSource.query(`SELECT position FROM webhook_chores WHERE name = 'prune'`);
    expect(Number(position)).toBe(5);
    app.clock.advance(HOUR);
    await app.dispatcher.runChores();
    const [again] = await app.dataSource.query(`SELECT position FROM webhook_chores WHERE name = 'prune'`);
    expect(Number(again.position)).toBe(5);
    expect(await rows()).toMatchObject({ events: 5 });
  });

  it('deletes a removed listener and its state once no delivery refers to it', async () => {
    app = await start();
    const { id } = await listen();
    const kept = await listen();
    await publish();
    await app.dispatcher.drain();
    await app.listeners.remove(id);
    app.clock.advance(89 * DAY);
    await app.dispatcher.runChores();
    const of = () => countRows(app.dataSource, 'listeners', 'listener_state');
    expect(await of()).toEqual({ listeners: 2, listener_state: 2 });
    app.clock.advance(2 * DAY + laterMs);
    await app.dispatcher.runChores();
    expect(await of()).toEqual({ listeners: 1, listener_state: 1 });
    expect(await app.listeners.get(kept.id)).toMatchObject({ id: kept.id });
  });

  it('is off with retention: false, and accepts other ages', async () => {
    app = await start({ retention: false });
    await listen();
    await publish();
    await app.dispatcher.drain();
    app.clock.advance(3_000 * DAY);
    expect(await app.dispatcher.runChores()).toEqual({ discarded: 0, deliveries: 0, events: 0 });
    expect(await rows()).toEqual({ events: 1, deliveries: 1, attempts: 0 });
    const other = await start({ retention: { succeededMs: 2 * HOUR, failedMs: HOUR } });
    other.clock.set(app.clock.now());
    expect(await other.dispatcher.runChores()).toMatchObject({ deliveries: 1, events: 1 });
  });

  it('runs while the dispatcher runs, logs a failure once, and stops with the dispatcher', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      app = await start();
      const logged = vi.fn();
      app.app.useLogger({ log: logged, error: logged, warn: logged });
      await listen();
      await publish();
      await app.dispatcher.drain();
      app.clock.advance(31 * DAY);
      await app.dataSource.query('ALTER TABLE webhook_chores RENAME TO webhook_gone');
      app.dispatcher.start();
      // One second at a time, each with a round trip, so that a running statement is answered before its time limit.
      const minutePasses = async () => {
        for (let second = 0; second < 60; second++) {
          await vi.advanceTimersByTimeAsync(SECOND);
          await app.dataSource.query('SELECT 1');
        }
      };
      const looks = async (until: () => Promise<boolean> | boolean) => {
        const deadline = Date.now() + 40_000;
        while (!(await until())) {
          if (Date.now() > deadline) throw new Error('it did not happen');
          await minutePasses();
        }
      };
      // Other chores may exceed their time limit, because the fake time is faster than the database.
      const failures = () => logged.mock.calls.filter(([text]) => String(text).includes("'chores'"));
      await looks(() => failures().length > 0);
      for (let n = 0; n < 5; n++) await minutePasses();
      expect(failures()).toHaveLength(1);
      await app.dataSource.query('ALTER TABLE webhook_gone RENAME TO webhook_chores');
      await looks(async () => (await rows()).events === 0);
      expect(failures().map(([text]) => String(text))).toEqual([
        expect.stringContaining("The chore 'chores' failed"),
        "The chore 'chores' works again.",
      ]);
      await app.dispatcher.stop();
      await publish(1, 'article.read');
      await app.dispatcher.drain();
      app.clock.advance(31 * DAY);
      for (let n = 0; n < 5; n++) await minutePasses();
      expect(await rows()).toMatchObject({ events: 1 });
    } finally {
      vi.useRealTimers();
    }
  }, 120_000);
});

describeDatabases('a pending delivery', SLOW, (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let emitted: { name: string; lifecycleEvent: unknown }[];

  beforeEach(async () => {
    fresh = await database.reuse();
    emitted = [];
    app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: {
        publishedTypes: ['article.written'],
        parts: { retrySchedule: ForMonths },
        dispatcher: { circuit: { failures: 2, cooldownMs: HOUR, maxCooldownMs: HOUR, disableAfterMs: 365 * DAY } },
      },
    });
    app.app.get(EventEmitter2).onAny((name, lifecycleEvent) => {
      if (String(name) === 'webhooks.delivery.discarded') emitted.push({ name: String(name), lifecycleEvent });
    });
  });
  afterEach(async () => {
    await app.close();
    await fresh.drop();
  });

  const listen = (input: Partial<CreateListenerInput> = {}) =>
    app.listeners.create({ events: ['*'], url: app.receiver.url, ...input });
  const publish = async (count = 1) => {
    for (let n = 0; n < count; n++) await app.webhooks.publish('article.written', { n });
  };
  const readyAt = async (listenerId: string) => {
    const [row] = await app.dataSource.query(
      `SELECT ready_at FROM webhook_listener_state WHERE listener_id = '${listenerId}'`,
    );
    return row.ready_at === null ? null : Number(row.ready_at);
  };

  it('is discarded when its event is 30 days old, with one lifecycle event per listener', async () => {
    const start = app.clock.now();
    const held = await listen();
    const failing = await listen({ url: `${app.receiver.url}/bad` });
    await app.listeners.disable(held.id);
    app.receiver.respond({ status: 500 });
    await publish(3);
    await app.dispatcher.drain();
    app.clock.set(start + 15 * DAY);
    await publish(2);
    await app.dispatcher.runOnce();
    app.clock.set(start + 30 * DAY - 1);
    await app.dispatcher.runChores();
    expect(emitted).toEqual([]);
    app.clock.set(start + 30 * DAY + 5 * MINUTE);
    expect(await app.dispatcher.runChores()).toMatchObject({ discarded: 6 });
    const inOrder = emitted
      .map(({ lifecycleEvent }) => lifecycleEvent)
      .toSorted((a, b) => JSON.stringify(a).localeCompare(JSON.stringify(b)));
    expect(inOrder).toEqual(
      [held.id, failing.id]
        .toSorted((a, b) => a.localeCompare(b))
        .map((listenerId) => ({ listenerId, count: 3, reason: 'TOO_OLD' })),
    );
    expect(await app.deliveries.counts({ listenerId: held.id })).toMatchObject({ held: 2, discarded: 3 });
    expect(await app.deliveries.counts({ listenerId: failing.id })).toMatchObject({ due: 2, discarded: 3 });
    const { items } = await app.deliveries.list({ state: 'discarded' });
    for (const item of items) {
      expect(item).toMatchObject({
        lastErrorCode: 'TOO_OLD',
        finishedAt: new Date(app.clock.now()),
        nextAttemptAt: null,
      });
    }
    // The remaining deliveries keep their due time.
    const [next] = (await app.deliveries.list({ state: 'due' })).items.toReversed();
    expect(await readyAt(failing.id)).toBeGreaterThanOrEqual(next?.nextAttemptAt?.getTime() ?? Infinity);
    app.receiver.respond({ status: 204 });
    app.clock.advance(3 * DAY);
    await app.dispatcher.drain();
    expect(await app.deliveries.counts({ listenerId: failing.id })).toMatchObject({ succeeded: 2, due: 0 });
    expect(await readyAt(failing.id)).toBeNull();
    app.clock.advance(5 * MINUTE);
    await app.dispatcher.runChores();
    expect(emitted).toHaveLength(2);
  });

  it('uses no attempts while the circuit is open, except for probes', async () => {
    await listen();
    app.receiver.respond({ status: 500 });
    await publish(2);
    await app.dispatcher.drain(); // two failures: open
    await publish(10);
    await app.dispatcher.drain();
    for (let hours = 0; hours < 12; hours++) {
      app.clock.advance(30 * MINUTE);
      await app.dispatcher.drain();
    }
    const probes = app.receiver.requests.length - 2;
    expect(probes).toBeLessThanOrEqual(6);
    const { items } = await app.deliveries.list();
    expect(items.filter(({ attemptCount }) => attemptCount === 0).length).toBe(10 - probes);
    app.receiver.respond({ status: 204 });
    app.clock.advance(HOUR);
    await app.dispatcher.drain();
    expect(await app.deliveries.counts()).toMatchObject({ succeeded: 10 - probes });
    app.clock.advance(3 * DAY);
    await app.dispatcher.drain();
    expect(await app.deliveries.counts()).toMatchObject({ succeeded: 12, exhausted: 0, discarded: 0 });
  });

  it('is exhausted instead of retried after 30 days', async () => {
    await listen();
    app.receiver.respond({ status: 500 });
    await publish();
    for (let days = 0; days < 40; days += 2) {
      await app.dispatcher.drain();
      app.clock.advance(2 * DAY);
    }
    const [delivery] = (await app.deliveries.list()).items;
    // On day 0, 2, 4 … 30.
    expect(delivery).toMatchObject({ state: 'exhausted', attemptCount: 16, lastErrorCode: 'HTTP_STATUS' });
  });

  it('is discarded together with many others in batches, with one lifecycle event', async () => {
    const { id } = await listen();
    await app.listeners.disable(id);
    await app.dataSource.transaction(async (manager) => {
      for (let n = 0; n < 450; n++) await app.webhooks.publish('article.written', { n }, { manager });
    });
    await app.dispatcher.drain();
    app.clock.advance(31 * DAY);
    expect(await app.dispatcher.runChores()).toMatchObject({ discarded: 450 });
    expect(emitted).toEqual([
      { name: 'webhooks.delivery.discarded', lifecycleEvent: { listenerId: id, count: 450, reason: 'TOO_OLD' } },
    ]);
  });

  describe('that is in flight when the chore runs', () => {
    it('is not interrupted, and is discarded later when it is pending again', async () => {
      const { id } = await listen();
      let answer: () => void = () => undefined;
      app.receiver.respond([{ status: 500, delayUntil: new Promise<void>((resolve) => (answer = resolve)) }]);
      await app.listeners.disable(id);
      await publish();
      await app.dispatcher.drain();
      await app.listeners.enable(id);
      const draining = app.dispatcher.drain();
      await app.receiver.waitFor(1);
      app.clock.advance(31 * DAY);
      await app.dispatcher.runChores();
      expect(await app.deliveries.counts()).toMatchObject({ leased: 1 });
      // The same state as after the death of the sending process: due again, and then held.
      await app.listeners.disable(id);
      await app.dataSource.query(`UPDATE webhook_deliveries SET state = 'due', lease_token = NULL, lease_until = NULL`);
      answer();
      await draining;
      expect(await app.deliveries.counts()).toMatchObject({ held: 1 });
      app.clock.advance(5 * MINUTE);
      expect(await app.dispatcher.runChores()).toMatchObject({ discarded: 1 });
    });
  });
});
