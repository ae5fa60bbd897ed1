import { once } from 'node:events';
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  createWebhooksHttpService,
  HttpTransport,
  type Outcome,
  resolveSecurityOptions,
} from '../../libs/webhooks/src/sending/index.js';
import { describeOn, type FreshDatabase } from '../support/databases.js';
import { LOOPBACK, startApp, type TestApp } from '../support/webhooks-app.js';

const LIMIT_MS = 600;
/** How much a busy machine may exceed a time limit. The limits of undici are five minutes. */
const SLACK_MS = 3_000;
const MIB = 1024 * 1024;

type Expected = Partial<Outcome>;

const UNREACHABLE = { kind: 'unreachable', status: null, response: null } as const;
const TIMEOUT: Expected = { ...UNREACHABLE, errorCode: 'TIMEOUT' };
const NO_CONNECTION: Expected = { ...UNREACHABLE, errorCode: 'CONNECTION_FAILED' };
const NO_HTTP: Expected = { ...UNREACHABLE, errorCode: 'INVALID_RESPONSE' };
const NO_TLS: Expected = { ...UNREACHABLE, errorCode: 'TLS_FAILED' };
/** The status arrived and decides the outcome; the body is kept only for the log. */
const ACCEPTED: Expected = { kind: 'accepted', status: 200, errorCode: null };

const OVER_HTTP: Readonly<Record<string, Expected>> = {
  'says nothing': TIMEOUT,
  'reads nothing': TIMEOUT,
  'closes at once': NO_CONNECTION,
  'resets before it answers': NO_CONNECTION,
  'drips its status line': TIMEOUT,
  'drips headers': TIMEOUT,
  'never ends a header': NO_HTTP,
  'never ends its headers': NO_HTTP,
  'has 10,000 headers': NO_HTTP,
  'sends 103 without end': NO_HTTP,
  'sends 102 without end, slowly': NO_HTTP,
  'sends 100 without end': NO_HTTP,
  'switches protocols': NO_CONNECTION,
  'resets inside its headers': NO_CONNECTION,
  'is no HTTP': NO_HTTP,
  'speaks HTTP/2': NO_HTTP,
  'speaks HTTP/0.9': NO_HTTP,
  'has two lengths': NO_HTTP,
  'has a length and chunks': NO_HTTP,
  'has a negative length': NO_HTTP,
  'has a length beyond numbers': NO_HTTP,
  'has a NUL in a header': NO_HTTP,
  'has a status of 0': NO_CONNECTION,
  'drips its body': ACCEPTED,
  'never ends its body': { ...ACCEPTED, response: 'x'.repeat(4096) },
  'sends chunks of one byte without end': { ...ACCEPTED, response: 'x'.repeat(4096) },
  'never ends the extension of a chunk': ACCEPTED,
  'never ends its trailers': ACCEPTED,
  'resets inside its body': { ...ACCEPTED, response: 'part' },
  'sends a decompression bomb': ACCEPTED,
};

const OVER_TLS: Readonly<Record<string, Expected>> = {
  'accepts and starts no TLS': TIMEOUT,
  'drips a TLS record': TIMEOUT,
  'floods TLS with records of nothing': NO_TLS,
  'floods TLS with noise': NO_TLS,
  'answers TLS with HTTP': NO_TLS,
  'resets inside TLS': NO_TLS,
};

let receivers: ChildProcess;
let ports: Record<string, number>;
const urlOf = (kind: string): string => `${kind in OVER_TLS ? 'https' : 'http'}://127.0.0.1:${ports[kind]}/hooks`;

beforeAll(async () => {
  receivers = spawn(process.execPath, [join(import.meta.dirname, 'hostile-receivers.mjs')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(createInterface({ input: receivers.stdout as NodeJS.ReadableStream }), 'line')) as [
    string,
  ];
  ports = JSON.parse(line) as Record<string, number>;
});
afterAll(async () => {
  receivers.kill();
  await once(receivers, 'exit');
});

describe('a receiver that', () => {
  let transport: HttpTransport;
  beforeAll(() => {
    const security = resolveSecurityOptions(LOOPBACK);
    transport = new HttpTransport(createWebhooksHttpService({ security }));
  });
  afterAll(() => transport.close());

  const send = (url: string, timeoutMs: number, headers: Record<string, string> = {}) =>
    transport.send({ url, headers, body: Buffer.alloc(256 * 1024, 'b'), timeoutMs });

  // All kinds run concurrently: each waits for its own limit.
  it.concurrent.each(Object.entries({ ...OVER_HTTP, ...OVER_TLS }))('%s', async (kind, expected) => {
    const isEndless = expected === TIMEOUT || kind === 'drips its body';
    // A kind that another limit ends must end before this one, also on a busy machine.
    const limitMs = isEndless ? LIMIT_MS : 10 * LIMIT_MS;
    const outcome = await send(urlOf(kind), limitMs);
    expect(outcome).toMatchObject(expected);
    expect(outcome.response?.length ?? 0).toBeLessThanOrEqual(4096);
    expect(outcome.durationMs).toBeLessThan(isEndless ? LIMIT_MS + SLACK_MS : limitMs);
  });

  it('answers twice does not answer another request', async () => {
    const url = `http://127.0.0.1:${ports['answers twice']}/`;
    const answers: (string | null)[] = [];
    for (let number = 0; number < 10; number++) {
      answers.push((await send(url, 10 * LIMIT_MS, { 'x-number': String(number) })).response);
    }
    // It may break the connection, so that the next request fails. The next request never gets the second answer.
    for (const [number, answer] of answers.entries()) expect([`to ${number}`, null]).toContain(answer);
    expect(answers[0]).toBe('to 0');
  });

  it('is slow in every phase has one time limit for name resolution, connect, headers and body together', async () => {
    const slow = new HttpTransport(
      createWebhooksHttpService({
        security: resolveSecurityOptions(LOOPBACK),
        lookup: (_name, _options, callback) => {
          setTimeout(() => callback(null, [{ address: '127.0.0.1', family: 4 }]), 900);
        },
      }),
    );
    const url = `http://slow.example:${ports['drips headers']}/`;
    const outcome = await slow.send({ url, headers: {}, body: Buffer.from('{}'), timeoutMs: 1_000 });
    await slow.close();
    expect(outcome).toMatchObject(TIMEOUT);
    // Separate limits would add up to 1,900 ms. Most of the one limit was used before the connection opened.
    expect(outcome.durationMs).toBeLessThan(1_700);
  });
});

// Not SQLite, whose writes block the event loop themselves.
describeOn('postgres', 'while every kind of hostile receiver is sent to', (postgres) => {
  const EVENTS = 10;
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeAll(async () => {
    fresh = await postgres.create();
    app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: {
        publishedTypes: ['tried'],
        dispatcher: { timeoutMs: 5_000, concurrency: 128, concurrencyPerListener: 2 },
      },
    });
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  it('other receivers get every webhook at the first attempt, and memory and event loop stay within their bounds', async () => {
    const kinds = Object.keys({ ...OVER_HTTP, ...OVER_TLS });
    for (const kind of kinds) await app.listeners.create({ events: ['tried'], url: urlOf(kind) });
    const good = await app.listeners.create({ events: ['tried'], url: app.receiver.url });

    const delay = monitorEventLoopDelay({ resolution: 10 });
    const before = process.memoryUsage.rss();
    let most = before;
    const watch = setInterval(() => (most = Math.max(most, process.memoryUsage.rss())), 20);
    delay.enable();
    app.dispatcher.start();
    const startedAt = performance.now();
    for (let i = 0; i < EVENTS; i++) await app.webhooks.publish('tried', { i });
    await app.receiver.waitFor(EVENTS, { timeoutMs: 20_000 });
    const goodMs = performance.now() - startedAt;
    // Keep measuring until each hostile receiver has been tried.
    const untried = async (): Promise<string[]> => {
      const { items } = await app.listeners.list({ limit: 500 });
      const counts = await Promise.all(
        items.map(async ({ id, url }) => ({ url, made: await app.deliveries.list({ listenerId: id, limit: 500 }) })),
      );
      return counts
        .filter(({ made }) => !made.items.some(({ attemptCount }) => attemptCount > 0))
        .map(({ url }) => url);
    };
    const giveUpAt = performance.now() + 20_000;
    while ((await untried()).length > 0 && performance.now() < giveUpAt) await pause(50);
    delay.disable();
    clearInterval(watch);
    await app.dispatcher.stop();

    expect(await untried()).toEqual([]);
    const { items: delivered } = await app.deliveries.list({ listenerId: good.id });
    expect(delivered.map(({ state, attemptCount }) => `${state} ${attemptCount}`)).toEqual(
      Array(EVENTS).fill('succeeded 1'),
    );
    const seen = {
      goodMs,
      usualDelayMs: delay.percentile(50) / 1e6,
      p99DelayMs: delay.percentile(99) / 1e6,
      longestDelayMs: delay.max / 1e6,
      grownMib: (most - before) / MIB,
    };
    // Alone on two cores, three runs of this file had a p50 of 10 ms (the resolution), a p99 of 78 to 116, a longest of 142 to 174, and 42 to
    // 66 MiB. The bounds leave three times that and more to a machine that is busy with other things. The bomb, unpacked on the loop, is
    // 64 MiB and half a second each time, and comes with each event: about one sample in fifty, so it shows in the p99.
    const bounds = { goodMs: 10_000, usualDelayMs: 60, p99DelayMs: 350, longestDelayMs: 1_000, grownMib: 150 };
    const beyond = Object.entries(bounds).filter(([key, bound]) => seen[key as keyof typeof seen] > bound);
    expect(beyond.map(([key]) => [key, seen])).toEqual([]);
    console.log(
      `hostile receivers: ${kinds.length} kinds, ${EVENTS} good deliveries in ${goodMs.toFixed(0)} ms, event loop delay ` +
        `p50 ${(delay.percentile(50) / 1e6).toFixed(0)} ms, p99 ${(delay.percentile(99) / 1e6).toFixed(0)} ms, most ${(delay.max / 1e6).toFixed(0)} ms, ` +
        `${((most - before) / MIB).toFixed(0)} MiB more at most`,
    );
  });
});
