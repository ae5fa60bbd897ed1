import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { createGzip } from 'node:zlib';
import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { map, type Observable } from 'rxjs';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { createWebhooksClient, type WebhooksClient } from 'nestjs-entity-webhooks/client';
import { describeDatabases, describeServers } from '../support/databases.js';
import { createSqlite } from '../support/fresh-database.js';
import { HANDLER } from '../../libs/webhooks/src/api/api.controller.js';
import { Order, startApiApp, type ApiApp, type Platform } from './api-app.js';
import { countStatements } from './statements.js';
import { CuttingProxy, StreamReading } from './stream-reading.js';

// The polls and the heartbeats of the streams are the only intervals here: they come when a test waits.
beforeAll(() => void vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] }));
afterAll(() => void vi.useRealTimers());

const POLL_MS = 2_000;
const HEARTBEAT_MS = 15_000;

/** Waits for what a poll brings. */
const polled = <T>(read: () => T) =>
  // oxlint-disable-next-line vitest/require-awaited-expect-poll -- its callers await the matcher
  expect.poll(() => {
    vi.advanceTimersByTime(POLL_MS);
    return read();
  });

const open = new Set<StreamReading>();

async function reading(client: WebhooksClient, filter = {}, lastId?: string): Promise<StreamReading> {
  const one = new StreamReading(client, filter, lastId);
  open.add(one);
  return one.isOpen();
}

afterEach(async () => {
  await Promise.all([...open].map((one) => one.close()));
  open.clear();
});

const urlOf = (origin: string) => `${origin}/webhooks/v1`;
const clientOf = (origin: string, user: string) =>
  createWebhooksClient({ url: urlOf(origin), headers: { 'x-user': user } });

let orders = 0;
async function order(api: ApiApp, customer: string): Promise<void> {
  await api.dataSource.getRepository(Order).save({ id: ++orders, customer, status: 'new' });
  await api.dispatcher.drain();
}

const newListener = (api: ApiApp, owner: string | null, url = api.receiver.url) =>
  api.listeners.create({ ...(owner === null ? {} : { owner }), events: ['order.*'], url });

describeDatabases('the stream', (database) => {
  let api: ApiApp;
  beforeAll(async () => {
    const fresh = await database.reuse();
    api = await startApiApp({ database: fresh.options, api: { limits: { streams: 20 } } });
  });
  afterAll(() => api.close());

  it('sends new deliveries, attempts and changed listeners, each once', async () => {
    const read = await reading(clientOf(api.origin, 'operator'));
    const acme = await newListener(api, 'acme');
    await order(api, 'acme');
    await api.listeners.disable(acme.id);
    await order(api, 'acme');
    await polled(() => read.texts).toEqual([
      'order.created succeeded 1 accepted',
      'order.created held',
      'listener disabled',
    ]);
    await api.listeners.enable(acme.id);
    await api.dispatcher.drain();
    await polled(() => read.texts.slice(3).toSorted()).toEqual([
      'listener active',
      'order.created succeeded 1 accepted',
    ]);
    await api.listeners.remove(acme.id);
    await polled(() => read.texts.slice(5)).toEqual(['listener removed']);
    expect(new Set(read.events.map(({ data }) => data.id)).size).toBe(6);
  });

  it('sends the progress of tasks to those who see them', async () => {
    const { id: listenerId } = await newListener(api, 'acme');
    await api.listeners.disable(listenerId);
    for (let n = 0; n < 3; n++) await order(api, 'acme');
    api.clock.advance(60_000);
    const [all, own, foreign] = await Promise.all([
      reading(clientOf(api.origin, 'operator')),
      reading(clientOf(api.origin, 'acme')),
      reading(clientOf(api.origin, 'globex')),
    ]);
    const tasks = api.tasks.forOwner('acme');
    const { id } = await tasks.create({ kind: 'discard', listenerId, ratePerSecond: 1 });
    await polled(() => own.texts).toEqual(['discard queued 0']);
    // Each batch is one delivery.
    for (const done of [1, 2]) {
      const interrupted = new AbortController();
      await tasks.run(id, { signal: interrupted.signal, onProgress: () => interrupted.abort() });
      await polled(() => own.texts.at(-1)).toBe(`discard running ${done}`);
      // The next batch is long after the begin of the task.
      api.clock.advance(60_000);
    }
    await tasks.run(id);
    await polled(() => own.texts.at(-1)).toBe('discard done 3');
    expect(own.events.at(-1)).toMatchObject({
      event: 'task',
      data: { task: { id, filter: { listenerId }, endedAt: expect.any(String) as string } },
    });
    await polled(() => all.texts.at(-1)).toBe('discard done 3');
    await polled(() => all.texts).toEqual(own.texts);
    expect(foreign.texts).toEqual([]);
    // A position that differs shows that the stream is open.
    api.clock.advance(1);
    const late = await reading(clientOf(api.origin, 'globex'), {}, own.lastId);
    await polled(() => late.texts).toEqual([]);
    await api.listeners.remove(listenerId);
  });

  it('sends an overview every 10 seconds, to each reader their own', async () => {
    const { id: listenerId } = await newListener(api, 'acme');
    await api.listeners.disable(listenerId);
    const [all, own, narrow] = await Promise.all([
      reading(clientOf(api.origin, 'operator')),
      reading(clientOf(api.origin, 'globex')),
      reading(clientOf(api.origin, 'acme'), { listenerId }),
    ]);
    api.clock.advance(10_000);
    await polled(() => all.overviews.length).toBe(1);
    await polled(() => own.overviews.length).toBe(1);
    const counts = [all, own].map(({ overviews }) => overviews[0]?.disabled);
    expect(counts[0]).toBeGreaterThan(counts[1] as number);
    expect(all.overviews[0]).toMatchObject({ paused: false, failing: [] });
    api.clock.advance(10_000);
    await polled(() => own.overviews.length).toBe(2);
    expect([all.overviews.length, narrow.overviews.length]).toEqual([2, 0]);
    await api.listeners.remove(listenerId);
  });

  it('shows an owner nothing of another one, and no address of a blocked attempt', async () => {
    const acme = await newListener(api, 'acme');
    const globex = await newListener(api, 'globex');
    await newListener(api, null);
    api.clock.advance(1_000);
    const [all, own, view] = await Promise.all([
      reading(clientOf(api.origin, 'operator')),
      reading(clientOf(api.origin, 'acme')),
      reading(clientOf(api.origin, 'acme'), { listenerId: acme.id, type: 'order.*' }),
    ]);
    await api.listeners.update(acme.id, { name: 'renamed' });
    await order(api, 'acme');
    await order(api, 'globex');
    await polled(() => all.deliveries.length).toBe(4);
    await polled(() => [own.texts, view.texts]).toEqual(
      Array.from({ length: 2 }, () => ['order.created succeeded 1 accepted', 'listener active']),
    );
    expect(JSON.stringify(own.events)).not.toContain(globex.id);
    const foreign = await reading(clientOf(api.origin, 'acme'), { listenerId: globex.id });
    const unknown = await reading(clientOf(api.origin, 'acme'), { listenerId: 'lst_0' });
    for (const { problem } of [foreign, unknown])
      expect(problem).toMatchObject({ status: 404, code: 'LISTENER_NOT_FOUND' });
  });

  it('sends what a reader has missed, and nothing twice, although its connections are cut', async () => {
    const proxy = await new CuttingProxy().start();
    proxy.target = Number(new URL(api.origin).port);
    const { id } = await newListener(api, 'acme');
    const read = await reading(clientOf(proxy.origin, 'acme'), { listenerId: id });
    await order(api, 'acme');
    await polled(() => read.deliveries.length).toBe(1);
    proxy.cutAfterBytes = 2_500;
    for (let n = 0; n < 8; n++) await order(api, 'acme');
    proxy.target = 0;
    for (let n = 0; n < 4; n++) await order(api, 'acme');
    // So that they are no longer read again.
    api.clock.advance(11_000);
    proxy.target = Number(new URL(api.origin).port);
    const { items } = await api.deliveries.list({ listenerId: id });
    await polled(() => read.deliveries.length).toBe(13);
    expect(read.deliveries.toSorted()).toEqual(items.map((one) => one.id).toSorted());
    expect(proxy.cuts).toBeGreaterThan(0);
    proxy.stop();
  });

  it('continues after a restart of the reader', async () => {
    const { id } = await newListener(api, 'acme');
    const before = await reading(clientOf(api.origin, 'acme'), { listenerId: id });
    await order(api, 'acme');
    await polled(() => before.deliveries.length).toBe(1);
    await before.close();
    await order(api, 'acme');
    const after = await reading(clientOf(api.origin, 'acme'), { listenerId: id }, before.lastId);
    await order(api, 'acme');
    const { items } = await api.deliveries.list({ listenerId: id });
    const newest = items.map((one) => one.id).slice(0, 2);
    await polled(() => after.deliveries).toEqual(expect.arrayContaining(newest));
  });
});

describeServers('transactions that commit late', (database) => {
  it('hide nothing from the stream', async () => {
    const fresh = await database.reuse();
    const api = await startApiApp({ database: fresh.options });
    try {
      await newListener(api, 'acme');
      await order(api, 'acme');
      const read = await reading(clientOf(api.origin, 'acme'));
      await polled(() => read.deliveries.length).toBe(1);
      const { driver } = api.dataSource;
      const column = (name: string) => driver.escape(name);
      const columns = ['delivery_id', 'event_at', 'number', 'outcome', 'duration_ms', 'superseded', 'started_at'].map(
        column,
      );
      const insert = (number: number) =>
        `insert into ${column('webhook_attempts')} (${columns.join()}) select max(${column('id')}), max(${column('event_at')}), ${number}, 'accepted', 1, 0, ${api.clock.now()} from ${column('webhook_deliveries')}`;
      const late = api.dataSource.createQueryRunner();
      await late.startTransaction();
      await late.query(insert(2));
      await api.dataSource.query(insert(3));
      await polled(() => read.texts.at(-1)).toBe('order.created succeeded 3 accepted');
      await late.commitTransaction();
      await late.release();
      await polled(() => read.texts.at(-1)).toBe('order.created succeeded 2 accepted');
    } finally {
      await api.close();
    }
  });
});

/** Compresses every answer, and respects `no-transform` (RFC 9110, 7.7). It collects what it gets, as gzip does without a flush. */
function gzip(_: unknown, response: ServerResponse, next: () => void): void {
  const { write, end, writeHead } = response;
  const zip = createGzip();
  let isZipped: boolean | undefined;
  const start = () => {
    isZipped ??= !String(response.getHeader('cache-control')).includes('no-transform');
    if (!isZipped) return;
    response.setHeader('content-encoding', 'gzip');
    response.removeHeader('content-length');
    zip.on('data', (data: Buffer) => write.call(response, data, 'utf8'));
    zip.on('end', () => end.call(response, null, 'utf8'));
  };
  response.writeHead = ((...given: Parameters<typeof writeHead>) => {
    if (isZipped === undefined) start();
    return writeHead.apply(response, given);
  }) as typeof writeHead;
  response.write = ((chunk: string, ...rest: []) => {
    if (!response.headersSent) response.writeHead(response.statusCode);
    return isZipped ? zip.write(chunk) : write.call(response, chunk, ...(rest as unknown as ['utf8']));
  }) as typeof response.write;
  response.end = ((chunk?: string, ...rest: []) => {
    if (!response.headersSent) response.writeHead(response.statusCode);
    if (isZipped) zip.end(chunk);
    else end.call(response, chunk, ...(rest as unknown as ['utf8']));
    return response;
  }) as typeof response.end;
  next();
}

class Envelope implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(map((data: unknown) => ({ data })));
  }
}

describe.each(['express', 'fastify'] satisfies Platform[])('the stream over HTTP (%s)', (platform) => {
  let api: ApiApp;
  const streamOf = (headers: Record<string, string>, method = 'GET') =>
    fetch(`${urlOf(api.origin)}/stream`, { method, headers });

  beforeAll(async () => {
    api = await startApiApp({
      platform,
      api: { limits: { streams: 2 } },
      prepare: (app) => {
        app.useGlobalInterceptors(new Envelope());
        if (platform === 'express') app.use(gzip);
      },
    });
    await newListener(api, 'acme');
  });
  afterAll(() => api.close());

  it('tells proxies neither to keep nor to change it, and passes an interceptor and a compression', async () => {
    const other = await fetch(`${urlOf(api.origin)}/me`, { headers: { 'x-user': 'acme' } });
    expect(other.headers.get('content-encoding')).toBe(platform === 'express' ? 'gzip' : null);
    api.clock.advance(1_000);
    const response = await streamOf({ 'x-user': 'acme' });
    expect(response.status).toBe(200);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
      'x-content-type-options': 'nosniff',
    });
    expect(response.headers.has('content-encoding')).toBe(false);
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    // The two comments may come in one piece or in two.
    let begun = '';
    while (!begun.endsWith(': current\n\n')) begun += (await reader?.read())?.value ?? '';
    expect(begun).toMatch(/^: open\nretry: 2000\nid: [\w-]+\n\n: current\n\n$/);
    await order(api, 'acme');
    vi.advanceTimersByTime(POLL_MS);
    expect((await reader?.read())?.value).toMatch(/^event: delivery\nid: [\w-]+\ndata: \{"id":"dlv_[^\n]+\}\n\n$/);
    await reader?.cancel();
  });

  it('shows that it lives each 15 s, and ends when its session is revoked', async () => {
    const operator = clientOf(api.origin, 'operator');
    const can = ['deliveries:read'] as const;
    const { id, token } = await operator.createSession({ body: { kind: 'owner', owner: 'acme', can } });
    const response = await streamOf({ authorization: `Bearer ${token}` });
    await operator.revokeSession({ id });
    vi.advanceTimersByTime(HEARTBEAT_MS);
    expect(await response.text()).toMatch(/\n\n: hb\nid: [\w-]+\n\n/);
  });

  it('ends with its session', async () => {
    const body = { kind: 'owner', owner: 'acme', can: ['listeners:read'], expiresInMs: 300_000 } as const;
    const { token } = await clientOf(api.origin, 'operator').createSession({ body });
    // The clock of the test stands still, so the rest of the session passes at once.
    api.clock.advance(299_900);
    const response = await streamOf({ authorization: `Bearer ${token}` });
    expect(response.status).toBe(200);
    expect(await response.text()).toContain(': open');
  });

  it('answers what it refuses with a problem document', async () => {
    const refused = async (headers: Record<string, string>) => {
      const response = await streamOf(headers);
      const { code } = (await response.json()) as { code: string };
      return [response.status, code];
    };
    expect(await refused({})).toEqual([401, 'UNAUTHENTICATED']);
    expect(await refused({ 'x-user': 'acme', 'last-event-id': '7' })).toEqual([400, 'INVALID_REQUEST']);
    const body = { kind: 'owner', owner: 'acme', can: ['catalog:read'] } as const;
    const { token } = await clientOf(api.origin, 'operator').createSession({ body });
    expect(await refused({ authorization: `Bearer ${token}` })).toEqual([403, 'CAPABILITY_MISSING']);
    const [one, two] = await Promise.all([streamOf({ 'x-user': 'acme' }), streamOf({ 'x-user': 'acme' })]);
    expect(await refused({ 'x-user': 'acme' })).toEqual([429, 'TOO_MANY_STREAMS']);
    expect((await streamOf({ 'x-user': 'acme' }, 'HEAD')).status).toBe(429);
    await one.body?.cancel();
    await expect.poll(async () => (await streamOf({ 'x-user': 'acme' }, 'HEAD')).status).toBe(200);
    const again = await streamOf({ 'x-user': 'acme' });
    expect(again.status).toBe(200);
    await Promise.all([two.body?.cancel(), again.body?.cancel()]);
  });

  it('reads for all its readers at once, and nothing while there is none', async () => {
    interface Polled {
      instances: { main: { streams: { polling: Promise<void>; readers: Set<unknown> } } };
    }
    const { streams } = api.app.get<Polled>(HANDLER, { strict: false }).instances.main;
    const statementsOfPoll = async (...users: string[]): Promise<number> => {
      const all = await Promise.all(users.map((user) => reading(clientOf(api.origin, user))));
      await expect.poll(() => streams.readers.size).toBe(users.length);
      const { statements } = await countStatements(api, async () => {
        vi.advanceTimersByTime(POLL_MS);
        await streams.polling;
        return {} as never;
      });
      await Promise.all(all.map((one) => one.close()));
      return statements;
    };
    expect(await statementsOfPoll()).toBe(0);
    const one = await statementsOfPoll('acme');
    expect(one).toBeGreaterThan(0);
    expect(await statementsOfPoll('acme', 'acme', 'globex', 'operator')).toBe(one);
  });

  it('cuts off a reader that does not read', async () => {
    const { hostname, port } = new URL(api.origin);
    const socket = connect(Number(port), hostname);
    socket.write('GET /webhooks/v1/stream HTTP/1.1\r\nHost: a\r\nx-user: globex\r\n\r\n');
    await once(socket, 'readable');
    const held = await Promise.all(Array.from({ length: 40 }, () => newListener(api, 'globex')));
    for (const { id } of held) await api.listeners.disable(id);
    const other = await reading(clientOf(api.origin, 'globex'));
    for (let n = 0; n < 400; n++) {
      await api.dataSource.getRepository(Order).save({ id: ++orders, customer: 'globex', status: 'new' });
    }
    await api.dispatcher.drain();
    await polled(() => other.deliveries.length).toBe(16_000);
    // It gets what the system had taken, and then the end of the connection without the end of the answer.
    const chunks: Buffer[] = [];
    for await (const chunk of socket as AsyncIterable<Buffer>) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString('latin1');
    expect(text.match(/event: delivery/g)?.length).toBeLessThan(16_000);
    expect(text.endsWith('\r\n0\r\n\r\n')).toBe(false);
  });

  it('ends when the application ends, and its reader continues with the next process', async () => {
    const file = await createSqlite();
    const proxy = await new CuttingProxy().start();
    const first = await startApiApp({ platform, database: file.options });
    proxy.target = Number(new URL(first.origin).port);
    const listener = await newListener(first, 'acme');
    const read = await reading(clientOf(proxy.origin, 'acme'), { listenerId: listener.id });
    await order(first, 'acme');
    await polled(() => read.deliveries.length).toBe(1);
    await order(first, 'acme');
    await first.close();
    proxy.target = 0;
    const next = await startApiApp({ platform, database: file.options });
    await order(next, 'acme');
    proxy.target = Number(new URL(next.origin).port);
    await polled(() => read.deliveries.length).toBe(3);
    expect(new Set(read.deliveries).size).toBe(3);
    // The counter of deliveries jumps, as if very many had been made meanwhile.
    await read.close();
    await next.dataSource.query(`update sqlite_sequence set seq = 1000000 where name = 'webhook_deliveries'`);
    await order(next, 'acme');
    const late = await reading(clientOf(next.origin, 'acme'), {}, read.lastId);
    await polled(() => late.texts).toContain('reset');
    await late.close();
    await next.close();
    proxy.stop();
    await file.drop();
  });
});
