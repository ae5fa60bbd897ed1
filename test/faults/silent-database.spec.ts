import { Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { FreshDatabase } from '../support/databases.js';
import { Parcel } from '../support/dispatching-process.js';
import { createProxied, networked, type ProxiedDatabase } from '../support/proxied-database.js';
import { listenToLog, type Said } from '../support/said.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

/** The promised time, plus an allowance for a busy machine. */
const BACK_WITHIN_MS = 10_000 + 3_000;
const TIMEOUT_MS = 1_000;
const STOPPED_WITHIN_MS = TIMEOUT_MS + 5_000;

let database: ProxiedDatabase;
let app: TestApp;
/** Only writes, without a dispatcher: it shows that the server works. */
let writer: TestApp;
let said: Said;

const save = (name: string) => writer.dataSource.getRepository(Parcel).save({ name });
const names = () => app.receiver.requests.map(({ json }) => (json as { data: { name: string } }).data.name);
/** Without those of the wake-ups and of the tasks, which have a loop and a log line of their own. */
const ofDispatcher = (texts: readonly string[]) => texts.filter((text) => !/wake-ups|^Tasks /.test(text));
const attempts = async (): Promise<number> => {
  const [row] = (await writer.dataSource.query(
    'select (select count(*) from webhook_attempts) + (select count(*) from webhook_deliveries where outcome is not null) as n',
  )) as [{ n: unknown }];
  return Number(row.n);
};

describe.each(networked)('a server that vanishes without closing its connections ($name)', (target) => {
  let isOpen: boolean;

  beforeEach(async () => {
    database = await createProxied(target);
    const start = (options: FreshDatabase['options']) =>
      startApp({
        database: options,
        entities: [Parcel],
        webhooks: { dispatcher: { pollIntervalMs: 100, timeoutMs: TIMEOUT_MS } },
      });
    writer = await start(database.options);
    app = await start(database.proxied);
    isOpen = true;
    await writer.listeners.create({ events: ['*'], url: app.receiver.url });
    said = listenToLog();
    app.dispatcher.start();
    await save('before');
    await app.receiver.waitFor(1, { timeoutMs: 10_000 });
    await vi.waitFor(async () => expect(await attempts()).toBe(1), { timeout: 10_000 });
  });
  afterEach(async () => {
    if (isOpen) await app.close();
    await writer.close();
    await database.drop();
    vi.restoreAllMocks();
  });

  it('times out within seconds, and the dispatcher continues over new connections', async () => {
    database.proxy.vanish();
    const began = performance.now();
    await save('after');
    await app.receiver.waitFor(2, { timeoutMs: 2 * BACK_WITHIN_MS });
    expect(performance.now() - began).toBeLessThan(BACK_WITHIN_MS);
    expect(names()).toEqual(['before', 'after']);
    await vi.waitFor(() => expect(ofDispatcher(said.news)).toEqual(['The dispatcher works again.']), {
      timeout: BACK_WITHIN_MS,
    });
    expect(ofDispatcher(said.errors)).toHaveLength(1);
    expect(said.errors.join()).toMatch(/did not answer a statement within \d s/);
  });

  it('causes no second request: an attempt in flight is recorded over a new connection', async () => {
    let release = () => undefined as void;
    app.receiver.respond([{ status: 204, delayUntil: new Promise<void>((resolve) => (release = resolve)) }]);
    await save('while');
    await app.receiver.waitFor(2, { timeoutMs: 10_000 });
    database.proxy.vanish();
    release();
    await vi.waitFor(async () => expect(await attempts()).toBe(2), { timeout: BACK_WITHIN_MS });
    expect(await writer.deliveries.counts()).toMatchObject({ succeeded: 2, leased: 0 });
    expect(names()).toEqual(['before', 'while']);
  });

  it('is used again after a time in which it did not answer new connections either', async () => {
    database.proxy.vanish({ alsoNew: true });
    await save('after');
    await vi.waitFor(() => expect(ofDispatcher(said.errors)).toHaveLength(1), { timeout: BACK_WITHIN_MS });
    database.proxy.mend();
    const began = performance.now();
    await app.receiver.waitFor(2, { timeoutMs: 2 * BACK_WITHIN_MS });
    expect(performance.now() - began).toBeLessThan(BACK_WITHIN_MS);
    expect(names()).toEqual(['before', 'after']);
  });

  it('does not delay the end of the process', async () => {
    let release = () => undefined as void;
    app.receiver.respond([{ status: 204, delayUntil: new Promise<void>((resolve) => (release = resolve)) }]);
    await save('while');
    await app.receiver.waitFor(2, { timeoutMs: 10_000 });
    database.proxy.vanish({ alsoNew: true });
    release();
    const began = performance.now();
    isOpen = false;
    await app.close();
    expect(performance.now() - began).toBeLessThan(STOPPED_WITHIN_MS);
  });
});

const HOUR = 60 * 60 * 1_000;

describe.each(networked.filter(({ name }) => name === 'postgres'))(
  'a server that vanishes for the connection that listens for commits ($name)',
  (target) => {
    let isOpen: boolean;

    beforeEach(async () => {
      database = await createProxied(target);
      writer = await startApp({ database: database.options, entities: [Parcel] });
      app = await startApp({
        database: database.options,
        entities: [Parcel],
        webhooks: {
          wakeUp: { url: (database.proxied as { url: string }).url },
          // No poll finds the work.
          dispatcher: { pollIntervalMs: HOUR, timeoutMs: TIMEOUT_MS },
        },
      });
      isOpen = true;
      await writer.listeners.create({ events: ['*'], url: app.receiver.url });
      said = listenToLog();
    });
    afterEach(async () => {
      if (isOpen) await app.close();
      await writer.close();
      await database.drop();
      vi.restoreAllMocks();
    });

    const whenItSends = (words: string) => database.proxy.vanishAt((text) => text.includes(words));
    const moments = [
      { moment: 'before it accepts the connection', words: 'user' },
      { moment: 'before it answers LISTEN', words: 'LISTEN' },
    ];

    it.each(moments)('$moment: the connection is replaced within seconds', async ({ words }) => {
      const vanished = whenItSends(words);
      app.dispatcher.start();
      await vanished;
      const began = performance.now();
      const lost = () => said.warnings.filter((text) => text.includes('listens for commits'));
      await vi.waitFor(() => expect(lost()).toHaveLength(1), { timeout: BACK_WITHIN_MS });
      await save('meanwhile');
      await app.receiver.waitFor(1, { timeoutMs: BACK_WITHIN_MS });
      expect(performance.now() - began).toBeLessThan(BACK_WITHIN_MS);
      expect(said.news.filter((text) => text.includes('wake-ups of other processes again'))).toHaveLength(1);
    });

    it.each([...moments, { moment: 'after it has answered', words: null }])(
      '$moment: the process ends, and leaves no socket open',
      async ({ words }) => {
        const vanished = words === null ? listening() : whenItSends(words);
        app.dispatcher.start();
        await vanished;
        database.proxy.vanish({ alsoNew: true });
        const began = performance.now();
        isOpen = false;
        await app.close();
        expect(performance.now() - began).toBeLessThan(STOPPED_WITHIN_MS);
        expect(openSockets(database.proxy.port)).toEqual([]);
      },
    );

    const listening = () =>
      vi.waitFor(
        async () =>
          expect(
            await writer.dataSource.query(
              "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'",
            ),
          ).toHaveLength(1),
        { timeout: BACK_WITHIN_MS },
      );
  },
);

/** Sockets of clients of this process. An open socket keeps a process alive. */
function openSockets(port: number): Socket[] {
  const { _getActiveHandles: handles } = process as unknown as { _getActiveHandles(): unknown[] };
  return handles
    .call(process)
    .filter((handle): handle is Socket => handle instanceof Socket && handle.remotePort === port && !handle.destroyed);
}
