import { once } from 'node:events';
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BadRequestError, type Attempt } from 'nestjs-entity-webhooks';
import { FakeDns } from 'nestjs-entity-webhooks/testing';
import { ConnectionAttempts } from '../support/connection-attempts.js';
import { databases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { HOSTILE_URLS, type HostileUrl } from './hostile-urls.js';

/** An allowed receiver, in the role of a customer's public receiver. */
const REDIRECTOR = '127.0.0.9';

const KINDS = [...new Set(HOSTILE_URLS.map(({ kind }) => kind))];
const ofKind = (kind: string): HostileUrl[] => HOSTILE_URLS.filter((url) => url.kind === kind);

/** Listens, and returns the port. */
async function listening(server: Server, host: string): Promise<number> {
  server.listen(0, host);
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

function sendOn(canary: string): (request: IncomingMessage, response: ServerResponse) => void {
  const location = `http://127.0.0.1:${canary}/`;
  return (request, response) => {
    request.resume();
    const way = request.url?.slice(1) ?? '';
    if (/^3\d\d$/.test(way)) response.writeHead(Number(way), { location });
    if (way === 'chain') response.writeHead(302, { location: '/301' });
    if (way === 'loop') response.writeHead(307, { location: '/loop' });
    if (way === 'relative') response.writeHead(302, { location: `//127.0.0.1:${canary}/` });
    if (way === '201') response.writeHead(201, { location });
    if (way === 'refresh') response.writeHead(200, { refresh: `0; url=${location}` });
    if (way === 'alt-svc') response.writeHead(200, { 'alt-svc': `http/1.1="127.0.0.1:${canary}"; ma=60` });
    if (way === 'page') response.writeHead(200, { 'content-type': 'text/html' });
    if (way === 'hints') response.writeEarlyHints({ link: `<${location}>; rel=preconnect` });
    response.end(`<meta http-equiv="refresh" content="0; url=${location}">`);
  };
}

describe('a corpus of hostile URLs', () => {
  const dns = new FakeDns();
  const created = new Map<HostileUrl, string>();
  const sent = new Map<HostileUrl, Attempt>();
  let canaryConnections = 0;
  const canary = createServer((socket) => {
    canaryConnections++;
    socket.on('error', () => undefined).end();
  });
  let redirector: ReturnType<typeof createHttpServer>;
  let attempts: ConnectionAttempts;
  let fresh: FreshDatabase;
  let app: TestApp;
  let port: string;
  let redirectorHost: string;
  const real = ({ url }: HostileUrl): string => url.replaceAll('PORT', port).replaceAll('REDIRECTOR', redirectorHost);

  beforeAll(async () => {
    port = String(await listening(canary, '::'));
    redirector = createHttpServer(sendOn(port));
    redirectorHost = `${REDIRECTOR}:${await listening(redirector, REDIRECTOR)}`;
    // The result does not depend on the database.
    fresh = await (databases[0] as (typeof databases)[0]).create();
    app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: {
        publishedTypes: ['tried'],
        security: { allowHttp: true, allowedAddresses: [`${REDIRECTOR}/32`], lookup: dns.lookup },
      },
    });
    attempts = new ConnectionAttempts();
    resolve('before');
    for (const hostile of HOSTILE_URLS) created.set(hostile, await createWith(real(hostile)));
    resolve('after');
    await sendToAll();
  }, 60_000);

  afterAll(async () => {
    attempts.stop();
    await app.close();
    await fresh.drop();
    canary.close();
    redirector.close();
  });

  function resolve(when: 'before' | 'after'): void {
    for (const { dns: names } of HOSTILE_URLS) {
      for (const [name, answers] of Object.entries(names ?? {})) dns.set(name, answers[when]);
    }
  }

  /** The code of the refusal, or `accepted`. */
  async function createWith(url: string): Promise<string> {
    try {
      const { id } = await app.listeners.create({ events: ['tried'], url });
      await app.listeners.remove(id);
      return 'accepted';
    } catch (error) {
      if (error instanceof BadRequestError) return error.code;
      throw error;
    }
  }

  /** Sends a delivery to each URL. The URL is written into the row of a listener, because most cannot be created. */
  async function sendToAll(): Promise<void> {
    const deliveries = new Map<HostileUrl, string>();
    for (const hostile of HOSTILE_URLS) {
      const { id } = await app.listeners.create({ events: ['tried'], url: 'https://93.184.215.14/' });
      await app.dataSource.query('UPDATE webhook_listeners SET url = ? WHERE id = ?', [real(hostile), id]);
      deliveries.set(hostile, (await app.listeners.sendTest(id)).deliveryId);
    }
    await app.dispatcher.drain();
    for (const [hostile, id] of deliveries) {
      const [attempt] = (await app.deliveries.get(id)).attempts;
      if (attempt) sent.set(hostile, attempt);
    }
  }

  it('has at least 150 different URLs, at most 15 of a kind', () => {
    expect(HOSTILE_URLS.length).toBeGreaterThanOrEqual(150);
    for (const kind of KINDS) expect([kind, ofKind(kind).length]).toSatisfy(([, count]) => Number(count) <= 15);
    expect(new Set(HOSTILE_URLS.map(({ url }) => url)).size).toBe(HOSTILE_URLS.length);
  });

  describe.each(KINDS)('%s', (kind) => {
    it('gets the expected verdict when a listener is created', () => {
      const judged = ofKind(kind).map((hostile) => [hostile.trick, hostile.url, created.get(hostile)]);
      expect(judged).toEqual(ofKind(kind).map(({ trick, url, created: code }) => [trick, url, code]));
    });

    it('gets the expected verdict when a webhook is sent', () => {
      const judged = ofKind(kind).map((hostile) => {
        const attempt = sent.get(hostile);
        return [hostile.trick, hostile.url, attempt?.errorCode ?? attempt?.outcome];
      });
      expect(judged).toEqual(ofKind(kind).map(({ trick, url, sent: code }) => [trick, url, code]));
      for (const hostile of ofKind(kind)) {
        const attempt = sent.get(hostile);
        if (attempt?.outcome === 'blocked') expect(attempt).toMatchObject({ status: null, response: null });
      }
    });
  });

  it('reaches no server: sockets connect only to the redirecting receiver, once for each of its URLs', async () => {
    const redirects = HOSTILE_URLS.filter(({ url }) => url.includes('REDIRECTOR'));
    expect(new Set(attempts.addresses)).toEqual(new Set([REDIRECTOR]));
    expect(attempts.all.length).toBeLessThanOrEqual(redirects.length);
    expect(canaryConnections).toBe(0);
    // The canary and the socket observer would have noticed a connection to any address of this machine.
    for (const host of ['127.0.0.1', '127.0.0.2', '::1']) {
      const socket = connect(Number(port), host);
      await once(socket, 'close');
    }
    expect(canaryConnections).toBe(3);
    expect(attempts.addresses.slice(-3)).toEqual(['127.0.0.1', '127.0.0.2', '::1']);
  });
});
