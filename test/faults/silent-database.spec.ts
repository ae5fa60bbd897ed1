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
const ofDispatcher = (texts: readonly string[]) => texts.filter((text) => !text.includes('wake-ups'));
const attempts = async (): Promise<number> => {
  const [row] = (await writer.dataSource.query('select count(*) as n from webhook_attempts')) as [{ n: unknown }];
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
