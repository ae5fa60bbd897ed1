import { Logger } from '@nestjs/common';
import pg from 'pg';
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { WebhooksModuleOptions } from 'nestjs-entity-webhooks';
import { databases, describeDatabases, type FreshDatabase } from '../support/databases.js';
import { Parcel, prepareProcesses } from '../support/dispatching-process.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const HOUR = 60 * 60 * 1_000;

let fresh: FreshDatabase;
let running: TestApp[];
const create = async (database: (typeof databases)[number]) => {
  running = [];
  fresh = await database.reuse();
};
const remove = async () => {
  vi.restoreAllMocks();
  for (const app of running.toReversed()) await app.close();
  await fresh.drop();
};

async function start(webhooks: WebhooksModuleOptions = {}): Promise<TestApp> {
  const app = await startApp({ database: fresh.options, entities: [Parcel], webhooks });
  running.push(app);
  return app;
}
/** Starts an application that dispatches, and polls so rarely that no poll helps it. */
const startDispatching = (webhooks: WebhooksModuleOptions = {}) =>
  start({ ...webhooks, dispatcher: { pollIntervalMs: HOUR, autoStart: true, ...webhooks.dispatcher } });
const save = (app: TestApp, name = 'a') => app.dataSource.getRepository(Parcel).save({ name });

/** Connections that listen on this database, each with its channel. */
async function listening(app: TestApp): Promise<{ pid: number; query: string }[]> {
  return app.dataSource.query(
    "SELECT pid, query FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'",
  );
}
/** Waits until `count` connections listen. @returns the server process of one of them */
async function untilListening(app: TestApp, count = 1): Promise<number | undefined> {
  await expect.poll(async () => (await listening(app)).length, { timeout: 10_000 }).toBe(count);
  return (await listening(app))[0]?.pid;
}

/** Warnings from now on, except for Nest's warnings about two applications in one process. */
function warnings(): () => string[] {
  const warn = vi.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
  return () => warn.mock.calls.map(([text]) => String(text)).filter((text) => !text.startsWith('A data source'));
}

/** Every statement that this process sends to PostgreSQL from now on, with its connection. */
function statements(): { connection: unknown; text: string; at: number }[] {
  const seen: { connection: unknown; text: string; at: number }[] = [];
  const query = pg.Client.prototype.query as (this: unknown, ...args: unknown[]) => unknown;
  vi.spyOn(pg.Client.prototype, 'query').mockImplementation(function (this: unknown, ...args: unknown[]) {
    const [first] = args as [string | { text: string }];
    seen.push({
      connection: this,
      text: typeof first === 'string' ? first : first.text,
      at: performance.now(),
    });
    return query.apply(this, args);
  } as never);
  return seen;
}
const notifications = (seen: ReturnType<typeof statements>) => seen.filter(({ text }) => text.includes('pg_notify'));

const postgres = databases.filter(({ name }) => name === 'postgres');
describe.each(postgres)('processes on one database ($name)', (database) => {
  beforeEach(() => create(database));
  afterEach(remove);

  describe('a process that only serves requests', () => {
    let web: TestApp;
    let dispatching: TestApp;
    beforeEach(async () => {
      web = await start();
      dispatching = await startDispatching();
      await web.listeners.create({ events: ['*'], url: web.receiver.url });
      await untilListening(web);
    });

    it('wakes a process that dispatches with each commit, resend and test event', async () => {
      await save(web);
      await web.receiver.waitFor(1);
      await expect.poll(() => web.deliveries.counts()).toMatchObject({ succeeded: 1 });
      const [delivery] = (await web.deliveries.list()).items;
      await web.deliveries.resend(delivery?.id ?? '');
      await web.receiver.waitFor(2);
      const [listener] = (await web.listeners.list()).items;
      await web.listeners.sendTest(listener?.id ?? '');
      await web.receiver.waitFor(3);
    });

    it('sends no notification for a rollback, and none within a transaction', async () => {
      const seen = statements();
      await web.dataSource
        .transaction(async (manager) => {
          await manager.save(Parcel, { name: 'not to be' });
          throw new Error('rolled back');
        })
        .catch(() => undefined);
      await save(web);
      await web.receiver.waitFor(1);
      expect(notifications(seen)).toHaveLength(1);
      const open = new Set<unknown>();
      for (const { connection, text } of seen) {
        if (text.startsWith('START TRANSACTION')) open.add(connection);
        else if (/^(COMMIT|ROLLBACK)/.test(text)) open.delete(connection);
        else if (text.includes('pg_notify')) expect(open.has(connection)).toBe(false);
      }
    });

    it('notifies at most once in 20 ms, however much it commits', async () => {
      const seen = statements();
      await Promise.all(Array.from({ length: 200 }, (_, index) => save(web, `p${index}`)));
      await web.receiver.waitFor(200, { timeoutMs: 20_000 });
      const times = notifications(seen).map(({ at }) => at);
      expect(times.length).toBeGreaterThan(0);
      const gaps = times.slice(1).map((at, index) => at - (times[index] ?? 0));
      // A timer may fire a millisecond early.
      for (const gap of gaps) expect(gap).toBeGreaterThan(18);
    });

    it('is received again after the listening connection was lost, and work that it announced meanwhile is found then', async () => {
      const warn = warnings();
      const log = vi.spyOn(Logger.prototype, 'log').mockImplementation(() => undefined);
      const pid = await untilListening(web);
      const name = (fresh.options as { url: string }).url.split('/').at(-1) ?? '';
      // Existing connections continue, but the connection that listens cannot be replaced.
      const allow = (is: boolean) => onServer(`ALTER DATABASE ${name} ALLOW_CONNECTIONS ${String(is)}`);
      await allow(false);
      await web.dataSource.query('SELECT pg_terminate_backend($1)', [pid]);
      await expect.poll(warn).toHaveLength(1);
      await save(web, 'while nobody listens');
      expect(web.receiver.requests).toEqual([]);
      await allow(true);
      await web.receiver.waitFor(1);
      await untilListening(web);
      await save(web, 'received again');
      await web.receiver.waitFor(2);
      expect(warn()).toEqual([
        expect.stringContaining('The connection that listens for commits of other processes was lost') as string,
      ]);
      expect(
        log.mock.calls
          .map(([text]) => String(text))
          .filter((text) => text.includes('receives wake-ups of other processes again')),
      ).toHaveLength(1);
    });

    it('is received while the other process dispatches, which stops listening when it stops', async () => {
      await dispatching.dispatcher.stop();
      await expect.poll(async () => (await listening(web)).length).toBe(0);
      dispatching.dispatcher.start();
      await untilListening(web);
      await save(web);
      await web.receiver.waitFor(1);
    });
  });

  it('a process that dispatches what it commits sends no notification', async () => {
    const app = await startDispatching();
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    await untilListening(app);
    const seen = statements();
    await save(app);
    await app.receiver.waitFor(1);
    await expect.poll(() => app.deliveries.counts()).toMatchObject({ succeeded: 1 });
    expect(notifications(seen)).toEqual([]);
  });

  it('a process without a free slot notifies the others of its commits', async () => {
    const full = await startDispatching({ dispatcher: { concurrency: 1 } });
    await untilListening(full);
    let release = () => undefined as void;
    full.receiver.respond({ status: 204, delayUntil: new Promise<void>((resolve) => (release = resolve)) });
    await full.listeners.create({ events: ['*'], url: full.receiver.url });
    await save(full, 'held');
    await full.receiver.waitFor(1);
    const seen = statements();
    await save(full, 'another');
    await expect.poll(() => notifications(seen).length).toBe(1);
    release();
  });

  it('with wakeUp: false no process listens or notifies', async () => {
    const web = await start({ wakeUp: false });
    const dispatching = await startDispatching({ wakeUp: false, dispatcher: { pollIntervalMs: 100 } });
    await web.listeners.create({ events: ['*'], url: web.receiver.url });
    const seen = statements();
    await save(web);
    await web.receiver.waitFor(1);
    expect(dispatching.dispatcher.isRunning).toBe(true);
    expect(notifications(seen)).toEqual([]);
    expect(await listening(web)).toEqual([]);
  });

  it('of two instances, with different table prefixes, do not wake each other', async () => {
    const one = await startDispatching({ tablePrefix: 'one_' });
    await startDispatching({ tablePrefix: 'other_' });
    await expect.poll(async () => (await listening(one)).length).toBe(2);
    const channels = (await listening(one)).map(({ query }) => query);
    expect(new Set(channels).size).toBe(2);
  });
});

describe.each(postgres)('another process ($name)', (database) => {
  beforeEach(() => create(database));
  afterEach(remove);
  let processes: Awaited<ReturnType<typeof prepareProcesses>>;
  beforeAll(async () => {
    processes = await prepareProcesses();
  }, 300_000);

  it('sends the commits of a process that only serves requests without delay', async () => {
    const web = await start();
    await web.listeners.create({ events: ['*'], url: web.receiver.url });
    const other = await processes.start({
      database: fresh.options,
      webhooks: { dispatcher: { pollIntervalMs: HOUR } },
    });
    try {
      await untilListening(web);
      await save(web);
      await web.receiver.waitFor(1);
    } finally {
      await other.stop();
    }
  });
});

const POLL_MS = 200;

describeDatabases('an idle application', (database) => {
  beforeEach(() => create(database));
  afterEach(remove);

  it('makes one query per poll interval, and sleeps in between', async () => {
    const app = await start({ dispatcher: { autoStart: true, pollIntervalMs: POLL_MS } });

    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    await save(app);
    await app.receiver.waitFor(1);
    await expect.poll(() => app.deliveries.counts()).toMatchObject({ succeeded: 1 });
    const { database: store } = app.app.get<{ database: Record<'single' | 'transaction', () => Promise<unknown>> }>(
      'WebhooksRuntime:default',
      { strict: false },
    );
    const single = vi.spyOn(store, 'single');
    const transaction = vi.spyOn(store, 'transaction');
    const timers = vi.spyOn(globalThis, 'setTimeout');
    /** Over five polls. */
    const measure = async () => {
      for (const spy of [single, transaction, timers]) spy.mockClear();
      const startedAt = performance.now();
      await vi.waitUntil(() => single.mock.calls.length >= 5, { timeout: 10_000 });
      const intervals = (performance.now() - startedAt) / POLL_MS;
      return { intervals, transactions: transaction.mock.calls.length, timers: timers.mock.calls.length };
    };
    // The work that follows a delivery ends after a moment.
    await expect.poll(async () => (await measure()).transactions, { timeout: 20_000 }).toBe(0);
    const idle = await measure();
    expect(idle.transactions).toBe(0);
    expect(idle.intervals).toBeGreaterThan(4);
    // One timer for the sleep, and one or two of the pool. A loop that does not sleep makes a thousand a second.
    expect(idle.timers).toBeLessThan(6 * (idle.intervals + 1));
  });
});

async function onServer(statement: string): Promise<void> {
  const url = new URL((fresh.options as { url: string }).url);
  url.pathname = 'postgres';
  const client = new pg.Client({ connectionString: url.href });
  await client.connect();
  await client.query(statement);
  await client.end();
}
