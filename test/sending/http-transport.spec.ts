import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type RequestListener, type Server } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer, type Socket } from 'node:net';

import axios, { type InternalAxiosRequestConfig } from 'axios';
import { afterEach, describe, expect, it } from 'vitest';

import {
  type ConnectionOptions,
  createWebhooksHttpService,
  HttpTransport,
  type Outcome,
  resolveSecurityOptions,
  type SecurityOptions,
  type SignedRequest,
  USER_AGENT,
  type WebhooksHttp,
} from '../../libs/webhooks/src/sending/index.js';
import { FakeClock, FakeDns, WebhookReceiver } from '../../libs/webhooks/src/testing/index.js';

const LOOPBACK: SecurityOptions = { allowedAddresses: ['127.0.0.0/8', '::1/128'], allowHttp: true };
const BODY = Buffer.from('{"type":"order.updated","data":{"id":7}}');
const OK = 200;

const cleanups: (() => Promise<unknown> | void)[] = [];
const sockets = new Set<Socket>();

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  await expect.poll(() => sockets.size, { message: 'every connection is closed again' }).toBe(0);
});

function track<S extends TcpServer | Server>(server: S): S {
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
  });
  cleanups.push(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });
  return server;
}

async function listen(server: TcpServer | Server, host = '127.0.0.1'): Promise<number> {
  track(server).listen(0, host);
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** An HTTP server; gives its URL. */
async function http(listener: RequestListener): Promise<string> {
  return `http://127.0.0.1:${await listen(createServer(listener))}/hooks`;
}

/** A server that speaks whatever the test says. */
async function tcp(onSocket: (socket: Socket) => void): Promise<string> {
  return `http://127.0.0.1:${await listen(createTcpServer(onSocket))}/hooks`;
}

async function receiver(): Promise<WebhookReceiver> {
  const started = await new WebhookReceiver().start();
  cleanups.push(() => started.stop());
  return started;
}

function setup(
  security: SecurityOptions = LOOPBACK,
  connections: ConnectionOptions = {},
  clock = new FakeClock(),
): { transport: HttpTransport; webhooks: WebhooksHttp } {
  const webhooks = createWebhooksHttpService({ security: resolveSecurityOptions(security), ...connections });
  const transport = new HttpTransport(webhooks, { clock });
  cleanups.push(() => transport.close());
  return { transport, webhooks };
}

function request(url: string, change: Partial<SignedRequest> = {}): SignedRequest {
  return { url, headers: { 'content-type': 'application/json' }, body: BODY, timeoutMs: 5000, ...change };
}

/** Makes the request take axios' pipeline without changing anything. */
function intercept(
  webhooks: WebhooksHttp,
  change: (config: InternalAxiosRequestConfig) => unknown = () => undefined,
): void {
  webhooks.http.axiosRef.interceptors.request.use((config) => {
    change(config);
    return config;
  });
}

const comparable = ({ durationMs: _durationMs, ...rest }: Outcome) => rest;

describe.each([
  ['straight through the adapter', false],
  ['through axios and an interceptor', true],
])('a request %s', (_name, intercepted) => {
  function sender(...args: Parameters<typeof setup>): HttpTransport {
    const { transport, webhooks } = setup(...args);
    if (intercepted) intercept(webhooks);
    return transport;
  }

  it('may ask with OPTIONS, without a body, and tells what it is permitted', async () => {
    const to = await receiver();
    to.respond({
      status: 200,
      headers: { 'webhook-allowed-origin': 'events.example.com', 'webhook-allowed-rate': '60' },
    });
    const headers = { 'webhook-request-origin': 'events.example.com' };
    const outcome = await sender().send(request(to.url, { method: 'OPTIONS', headers, body: Buffer.alloc(0) }));
    expect(outcome).toMatchObject({ kind: 'accepted', permission: { origin: 'events.example.com', rate: '60' } });
    expect(to.requests).toMatchObject([{ method: 'OPTIONS', headers }]);
    expect(to.requests[0]?.rawBody).toHaveLength(0);
  });

  it('arrives byte for byte: 256 KiB of four-byte characters', async () => {
    const to = await receiver();
    const body = Buffer.from('𝕏'.repeat(64 * 1024));
    expect(body.length).toBe(256 * 1024);
    const outcome = await sender().send(request(to.url, { body }));
    expect(outcome).toMatchObject({ kind: 'accepted', status: 204, errorCode: null, response: '' });
    expect(to.requests[0]?.rawBody.equals(body)).toBe(true);
  });

  it('carries our headers and nothing of axios', async () => {
    const to = await receiver();
    const headers = { 'content-type': 'application/json', 'webhook-id': 'evt_1', 'X-Custom': 'a, b' };
    await sender().send(request(`${to.url}?a=1&b=%20`, { headers }));
    const [arrived] = to.requests;
    expect(arrived).toMatchObject({ method: 'POST', url: '/hooks?a=1&b=%20' });
    expect(arrived?.headers).toEqual({
      host: new URL(to.url).host,
      connection: 'keep-alive',
      'content-length': String(BODY.length),
      'content-type': 'application/json',
      'user-agent': USER_AGENT,
      'webhook-id': 'evt_1',
      'x-custom': 'a, b',
    });
  });

  it.each(['application/json; charset=utf-8', 'application/cloudevents+json', 'application/x-www-form-urlencoded'])(
    'has exactly the content type %s',
    async (type) => {
      const to = await receiver();
      await sender().send(request(to.url, { headers: { 'content-type': type } }));
      expect(to.requests[0]?.headers['content-type']).toBe(type);
    },
  );

  it('has no content type when none is given', async () => {
    const to = await receiver();
    await sender().send(request(to.url, { headers: {} }));
    expect(to.requests[0]?.headers).not.toHaveProperty('content-type');
  });

  it('does not follow a redirect', async () => {
    const to = await receiver();
    for (const status of [301, 302, 303, 307, 308]) {
      to.respond({ status, headers: { location: to.url }, body: 'over there' });
      const outcome = await sender().send(request(to.url));
      expect(outcome).toMatchObject({ kind: 'rejected', status, errorCode: 'REDIRECT', response: 'over there' });
    }
    expect(to.requests).toHaveLength(5);
  });

  it.each([400, 404, 410, 429, 500, 503])('is rejected by %d', async (status) => {
    const to = await receiver();
    to.respond({ status, body: '{"no":1}', headers: { 'content-type': 'application/json' } });
    expect(comparable(await sender().send(request(to.url)))).toEqual({
      kind: 'rejected',
      status,
      errorCode: 'HTTP_STATUS',
      errorDetail: null,
      response: '{"no":1}',
      retryAfterMs: null,
    });
  });

  it('tells what Retry-After asks, against the clock and up to a day', async () => {
    const to = await receiver();
    const clock = new FakeClock(Date.parse('2026-01-01T00:00:00Z'));
    const transport = sender(LOOPBACK, {}, clock);
    for (const [value, expected] of [
      ['120', 120_000],
      ['Thu, 01 Jan 2026 00:01:00 GMT', 60_000],
      ['999999', 86_400_000],
      ['soon', null],
    ] as const) {
      to.respond({ status: 503, headers: { 'retry-after': value } });
      expect((await transport.send(request(to.url))).retryAfterMs).toBe(expected);
    }
  });

  it('keeps 4096 bytes of a response, without NUL, damaged bytes replaced, a cut character left off', async () => {
    const to = await receiver();
    const transport = sender();
    const answers: [Buffer, string][] = [
      [Buffer.from('a'.repeat(4096)), 'a'.repeat(4096)],
      [Buffer.from('a'.repeat(4097)), 'a'.repeat(4096)],
      [Buffer.from(`${'a'.repeat(4095)}𝕏`), 'a'.repeat(4095)],
      [Buffer.from([0x61, 0x00, 0x62, 0xff, 0x63]), 'ab\ufffdc'],
    ];
    for (const [body, expected] of answers) {
      to.respond({ status: OK, body });
      expect((await transport.send(request(to.url))).response).toBe(expected);
    }
  });

  it('is not held up by a response of 10 MB, and reads little of it', async () => {
    let written = 0;
    const url = await http((incoming, response) => {
      incoming.resume();
      const chunk = Buffer.alloc(64 * 1024, 'x');
      response.writeHead(OK, { 'content-length': 10 * 1024 * 1024 });
      const write = (): void => {
        while (written < 10 * 1024 * 1024 && !response.destroyed) {
          written += chunk.length;
          if (!response.write(chunk)) {
            response.once('drain', write);
            return;
          }
        }
        response.end();
      };
      write();
    });
    const outcome = await sender().send(request(url));
    expect(outcome).toMatchObject({ kind: 'accepted', status: OK, response: 'x'.repeat(4096) });
    await expect.poll(() => sockets.size).toBe(0);
    expect(written).toBeLessThan(10 * 1024 * 1024);
  });

  it('stops at its limit when the receiver never answers', async () => {
    const url = await tcp((socket) => socket.resume());
    const outcome = await sender().send(request(url, { timeoutMs: 100 }));
    expect(outcome).toMatchObject({ kind: 'unreachable', status: null, errorCode: 'TIMEOUT', response: null });
    // Well above the limit, for a busy machine; far below undici's own limits of minutes.
    expect(outcome.durationMs).toBeGreaterThanOrEqual(99);
    expect(outcome.durationMs).toBeLessThan(3000);
  });

  it('stops at its limit when headers drip', async () => {
    const url = await tcp((socket) => {
      socket.write('HTTP/1.1 200 OK\r\n');
      const timer = setInterval(() => socket.write('x-drip: 1\r\n'), 10);
      socket.on('close', () => clearInterval(timer));
    });
    expect(await sender().send(request(url, { timeoutMs: 150 }))).toMatchObject({ errorCode: 'TIMEOUT', status: null });
  });

  it('stops at its limit when only 1xx answers come', async () => {
    const url = await tcp((socket) => {
      const timer = setInterval(() => socket.write('HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n'), 30);
      socket.on('close', () => clearInterval(timer));
    });
    expect(await sender().send(request(url, { timeoutMs: 150 }))).toMatchObject({ errorCode: 'TIMEOUT', status: null });
  });

  it('goes by the status when the body drips past the limit', async () => {
    const url = await http((_incoming, response) => {
      response.writeHead(OK);
      const timer = setInterval(() => response.write('.'), 10);
      response.on('close', () => clearInterval(timer));
    });
    const outcome = await sender().send(request(url, { timeoutMs: 200 }));
    expect(outcome).toMatchObject({ kind: 'accepted', status: OK, errorCode: null });
    expect(outcome.response).toMatch(/^\.+$/);
    expect(outcome.durationMs).toBeLessThan(3000);
  });

  it('goes by the status when the connection breaks inside the body', async () => {
    const url = await tcp((socket) => {
      socket.once('data', () => socket.end('HTTP/1.1 500 Oops\r\ncontent-length: 100\r\n\r\nbroken'));
    });
    expect(await sender().send(request(url))).toMatchObject({ kind: 'rejected', status: 500, response: 'broken' });
  });

  it.each([
    ['is no HTTP', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['has a header that is none', 'HTTP/1.1 200 OK\r\nno header\r\n\r\n'],
    ['has two lengths', 'HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab'],
    ['has 32 KiB of headers', `HTTP/1.1 200 OK\r\nx: ${'a'.repeat(32 * 1024)}\r\n\r\n`],
  ])('is unreachable when the answer %s', async (_case, answer) => {
    const url = await tcp((socket) => socket.once('data', () => socket.end(answer)));
    expect(await sender().send(request(url))).toMatchObject({
      kind: 'unreachable',
      status: null,
      errorCode: 'INVALID_RESPONSE',
    });
  });

  it('is unreachable when the connection is closed without an answer', async () => {
    const url = await tcp((socket) => socket.once('data', () => socket.destroy()));
    expect(await sender().send(request(url))).toMatchObject({ kind: 'unreachable', errorCode: 'CONNECTION_FAILED' });
  });

  it('is unreachable when nothing listens', async () => {
    const server = createTcpServer();
    const port = await listen(server);
    await cleanups.pop()?.();
    const outcome = await sender().send(request(`http://127.0.0.1:${port}/`));
    expect(outcome).toMatchObject({ kind: 'unreachable', status: null, errorCode: 'CONNECTION_REFUSED' });
    expect(outcome.errorDetail).toContain('ECONNREFUSED');
  });

  it('is unreachable when the name does not resolve', async () => {
    const transport = sender(LOOPBACK, { lookup: new FakeDns().lookup });
    expect(await transport.send(request('http://nobody.example/'))).toMatchObject({
      kind: 'unreachable',
      errorCode: 'DNS_FAILED',
    });
  });

  it('is unreachable when resolving the name takes longer than the limit', async () => {
    const transport = sender(LOOPBACK, { lookup: () => undefined, connectTimeoutMs: 500 });
    const outcome = await transport.send(request('http://slow.example/', { timeoutMs: 100 }));
    expect(outcome).toMatchObject({ kind: 'unreachable', errorCode: 'TIMEOUT' });
  });

  it('is unreachable when there is no TLS', async () => {
    const url = (await http((_incoming, response) => response.end())).replace('http:', 'https:');
    expect(await sender().send(request(url))).toMatchObject({ kind: 'unreachable', errorCode: 'TLS_FAILED' });
  });

  it('is unreachable when the connection breaks inside the TLS handshake', async () => {
    const url = (await tcp((socket) => socket.once('data', () => socket.resetAndDestroy()))).replace('http:', 'https:');
    expect(await sender().send(request(url))).toMatchObject({ kind: 'unreachable', errorCode: 'TLS_FAILED' });
  });

  it('is blocked without allowHttp, with credentials, or with another scheme', async () => {
    const to = await receiver();
    const secure = sender({ allowedAddresses: ['127.0.0.0/8'] });
    expect(await secure.send(request(to.url))).toMatchObject({ kind: 'blocked', errorCode: 'URL_REFUSED' });
    const transport = sender();
    for (const url of [
      to.url.replace('//', '//user:pass@'),
      'ftp://127.0.0.1/',
      'file:///etc/passwd',
      'nonsense',
      '',
    ]) {
      const outcome = await transport.send(request(url));
      expect(outcome).toMatchObject({ kind: 'blocked', errorCode: 'URL_REFUSED', response: null });
      expect(outcome.errorDetail).not.toContain('pass@');
    }
    expect(to.requests).toEqual([]);
  });

  it('fails as closed once the transport is, also while it is under way', async () => {
    const to = await receiver();
    const held = new Promise<void>((resolve) => cleanups.push(resolve));
    to.respond({ status: OK, delayUntil: held });
    const transport = sender();
    const underWay = transport.send(request(to.url));
    await to.waitFor(1);
    await transport.close();
    expect(await underWay).toMatchObject({ kind: 'unreachable', errorCode: 'TRANSPORT_CLOSED' });
    expect(await transport.send(request(to.url))).toMatchObject({ errorCode: 'TRANSPORT_CLOSED' });
    await transport.close();
  });

  it('reuses a connection, also after a response that is longer than what is kept', async () => {
    const connections = new Set<Socket>();
    const server = createServer((incoming, response) => {
      incoming.resume();
      response.end('y'.repeat(20_000));
    }).on('connection', (socket: Socket) => connections.add(socket));
    const url = `http://127.0.0.1:${await listen(server)}/`;
    const transport = sender(LOOPBACK, { connectionsPerOrigin: 1 });
    for (let i = 0; i < 5; i++) {
      expect(await transport.send(request(url))).toMatchObject({ kind: 'accepted', response: 'y'.repeat(4096) });
    }
    expect(connections.size).toBe(1);
  });

  it('uses no connection that is older than connectionMaxAgeMs', async () => {
    let connections = 0;
    const server = createServer((incoming, response) => {
      incoming.resume();
      response.end();
    }).on('connection', () => connections++);
    const url = `http://127.0.0.1:${await listen(server)}/`;
    const transport = sender(LOOPBACK, { connectionsPerOrigin: 1, connectionMaxAgeMs: 20 });
    await transport.send(request(url));
    const madeAt = Date.now();
    await expect.poll(() => Date.now() - madeAt).toBeGreaterThan(30);
    await transport.send(request(url));
    expect(connections).toBe(2);
  });

  /** A receiver that would keep idle connections for ten minutes, and its sockets. */
  async function patientServer(): Promise<{ url: string; sockets: Socket[] }> {
    const sockets: Socket[] = [];
    const server = createServer((incoming, response) => {
      incoming.resume();
      response.setHeader('keep-alive', 'timeout=600');
      response.end();
    }).on('connection', (socket) => void sockets.push(socket));
    server.keepAliveTimeout = 600_000;
    return { url: `http://127.0.0.1:${await listen(server)}/`, sockets };
  }

  it('ends an idle connection that became old as soon as another one takes over', async () => {
    const { url, sockets } = await patientServer();
    const transport = sender(LOOPBACK, { connectionsPerOrigin: 1, connectionMaxAgeMs: 20, keepAliveMs: 600_000 });
    await transport.send(request(url));
    const [old] = sockets as [Socket];
    const ended = once(old, 'end');
    const madeAt = Date.now();
    await expect.poll(() => Date.now() - madeAt).toBeGreaterThan(30);
    expect(old.readableEnded).toBe(false);
    await transport.send(request(url));
    await ended;
    expect(sockets).toHaveLength(2);
    expect(sockets[1]?.readableEnded).toBe(false);
  });

  it('ends an idle connection after keepAliveMs, however long its receiver would keep it', async () => {
    const { url, sockets } = await patientServer();
    const transport = sender(LOOPBACK, { connectionsPerOrigin: 1, keepAliveMs: 500 });
    await transport.send(request(url));
    await transport.send(request(url));
    expect(sockets).toHaveLength(1); // it was kept
    // The client ends it: the server, and the age of the connection, would let it live past the time limit of this test.
    await once(sockets[0] as Socket, 'end');
    await transport.send(request(url));
    expect(sockets).toHaveLength(2);
  });

  it('opens no more connections to an origin than allowed, and sends nothing that expired while it waited', async () => {
    const to = await receiver();
    const held = new Promise<void>((resolve) => cleanups.push(resolve));
    to.respond((_received, index) => (index < 2 ? { status: OK, delayUntil: held } : { status: OK }));
    const transport = sender(LOOPBACK, { connectionsPerOrigin: 2 });
    const outcomes = await Promise.all(
      // Those that wait expire while the first two are still held.
      Array.from({ length: 6 }, (_, n) => transport.send(request(to.url, { timeoutMs: n < 2 ? 600 : 200 }))),
    );
    expect(outcomes.map((outcome) => outcome.errorCode)).toEqual(Array(6).fill('TIMEOUT'));
    expect((await transport.send(request(to.url))).kind).toBe('accepted');
    expect(to.requests).toHaveLength(3);
  });
});

describe('addresses', () => {
  /** A server whose every connection counts, whoever makes it. */
  async function countingServer(host = '127.0.0.1'): Promise<{ port: number; count: () => number }> {
    let count = 0;
    const server = createServer((incoming, response) => {
      incoming.resume();
      response.end('secret of the inner network');
    }).on('connection', () => count++);
    return { port: await listen(server, host), count: () => count };
  }

  const dns = () =>
    new FakeDns({
      'inner.example': '127.0.0.1',
      'mixed.example': ['93.184.215.14', '127.0.0.1'],
      'mapped.example': '::ffff:127.0.0.1',
      'six.example': '::1',
      'metadata.example': '169.254.169.254',
      localhost: ['127.0.0.1', '::1'],
    });

  it.each([
    'http://127.0.0.1:PORT/',
    'http://127.1:PORT/',
    'http://2130706433:PORT/',
    'http://0x7f.0.0.1:PORT/',
    'http://0177.0.0.1:PORT/',
    'http://0.0.0.0:PORT/',
    'http://[::1]:PORT/',
    'http://[::]:PORT/',
    'http://[::ffff:127.0.0.1]:PORT/',
    'http://[::127.0.0.1]:PORT/',
    'http://[64:ff9b::7f00:1]:PORT/',
    'http://[fe80::1]:PORT/',
    'http://localhost:PORT/',
    'http://LOCALHOST:PORT/',
    'http://localhost.:PORT/',
    'http://inner.example:PORT/',
    'http://mixed.example:PORT/',
    'http://mapped.example:PORT/',
    'http://six.example:PORT/',
    'http://metadata.example:PORT/latest/meta-data',
    'http://169.254.169.254:PORT/latest/meta-data',
    'https://127.0.0.1:PORT/',
    'https://inner.example:PORT/',
  ])('blocks %s by default, before any connection', async (template) => {
    const { port, count } = await countingServer();
    const table = dns().set('localhost.', '127.0.0.1');
    const { transport } = setup({ allowHttp: true }, { lookup: table.lookup });
    const outcome = await transport.send(request(template.replace('PORT', String(port))));
    expect(outcome).toMatchObject({
      kind: 'blocked',
      status: null,
      errorCode: 'ADDRESS_BLOCKED',
      response: null,
      retryAfterMs: null,
    });
    expect(count()).toBe(0);
  });

  it('blocks localhost by the resolver of this machine', async () => {
    const { port, count } = await countingServer();
    const { transport } = setup({ allowHttp: true });
    expect(await transport.send(request(`http://localhost:${port}/`))).toMatchObject({ errorCode: 'ADDRESS_BLOCKED' });
    expect(count()).toBe(0);
  });

  it('reaches what a range names, as a literal and by name', async () => {
    const { port, count } = await countingServer();
    const { transport } = setup({ allowHttp: true, allowedAddresses: ['127.0.0.1/32'] }, { lookup: dns().lookup });
    for (const host of ['127.0.0.1', '127.1', 'inner.example']) {
      expect(await transport.send(request(`http://${host}:${port}/`))).toMatchObject({ kind: 'accepted' });
    }
    // One of its addresses is public and one is allowed.
    const mixed = await transport.send(request(`http://mixed.example:${port}/`, { timeoutMs: 50 }));
    expect(mixed.errorCode).not.toBe('ADDRESS_BLOCKED');
    expect(await transport.send(request(`http://127.0.0.2:${port}/`))).toMatchObject({ errorCode: 'ADDRESS_BLOCKED' });
    expect(count()).toBeGreaterThanOrEqual(2);
  });

  it('checks a name again at each connection', async () => {
    const { port, count } = await countingServer('127.0.0.2');
    const table = new FakeDns({ 'rebind.example': '127.0.0.2' });
    const security = { allowHttp: true, allowedAddresses: ['127.0.0.2/32'] };
    const { transport } = setup(security, { lookup: table.lookup, connectionMaxAgeMs: 1 });
    expect((await transport.send(request(`http://rebind.example:${port}/`))).kind).toBe('accepted');
    table.set('rebind.example', '127.0.0.1');
    const madeAt = Date.now();
    await expect.poll(() => Date.now() - madeAt).toBeGreaterThan(5);
    expect(await transport.send(request(`http://rebind.example:${port}/`))).toMatchObject({ kind: 'blocked' });
    expect(count()).toBe(1);
  });

  it('asks the resolver once for a connection, for all addresses', async () => {
    const { port } = await countingServer();
    const table = dns();
    const { transport } = setup(LOOPBACK, { lookup: table.lookup, connectionsPerOrigin: 1 });
    for (let i = 0; i < 3; i++) await transport.send(request(`http://inner.example:${port}/`));
    expect(table.queries).toEqual(['inner.example']);
  });

  it('blocks at the socket when the resolver was got round', async () => {
    const { port } = await countingServer();
    // Says a public address when the guard looks, and leads to loopback when the socket does.
    const lying = setup(
      { allowHttp: true },
      {
        lookup: (_host, _options, callback) => {
          const entry = {
            family: 4,
            reads: 0,
            get address() {
              return this.reads++ === 0 ? '93.184.215.14' : '127.0.0.1';
            },
          };
          callback(null, [entry]);
        },
      },
    );
    const outcome = await lying.transport.send(request(`http://liar.example:${port}/`));
    expect(outcome).toMatchObject({ kind: 'blocked', errorCode: 'ADDRESS_BLOCKED' });
    expect(outcome.errorDetail).toContain('127.0.0.1');
  });
});

describe('axios that the application uses elsewhere', () => {
  it('never reaches a receiver: global interceptors, defaults and base URL', async () => {
    const to = await receiver();
    const elsewhere = await receiver();
    const before = { ...axios.defaults };
    let seen = 0;
    const id = axios.interceptors.request.use((config) => {
      seen++;
      config.headers.set('x-internal-token', 'global');
      return config;
    });
    axios.defaults.headers.common['x-internal-token'] = 'default';
    axios.defaults.headers.post['x-post'] = 'default';
    axios.defaults.baseURL = elsewhere.url;
    axios.defaults.auth = { username: 'u', password: 'p' };
    axios.defaults.params = { token: 'p' };
    cleanups.push(() => {
      axios.interceptors.request.eject(id);
      delete axios.defaults.headers.common['x-internal-token'];
      delete axios.defaults.headers.post['x-post'];
      for (const key of ['baseURL', 'auth', 'params'] as const) {
        if (key in before) axios.defaults[key] = before[key];
        else delete axios.defaults[key];
      }
    });
    const { transport, webhooks } = setup();
    await transport.send(request(to.url));
    intercept(webhooks);
    await transport.send(request(to.url));
    expect(to.requests).toHaveLength(2);
    for (const arrived of to.requests) {
      expect(arrived.url).toBe('/hooks');
      expect(Object.keys(arrived.headers).filter((name) => /^x-|authorization|accept/.test(name))).toEqual([]);
    }
    expect(elsewhere.requests).toEqual([]);
    expect(seen).toBe(0);
  });

  it('takes no proxy from the environment', async () => {
    const proxy = await receiver();
    const to = await receiver();
    const names = ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'NODE_USE_ENV_PROXY'];
    for (const name of names) process.env[name] = process.env[name.toLowerCase()] = proxy.url;
    cleanups.push(() => {
      for (const name of names) {
        delete process.env[name];
        delete process.env[name.toLowerCase()];
      }
    });
    const { transport, webhooks } = setup();
    await transport.send(request(to.url));
    intercept(webhooks);
    await transport.send(request(to.url));
    expect([to.requests.length, proxy.requests.length]).toEqual([2, 0]);
  });
});

describe('interceptors on the HttpService of the module', () => {
  it('run, see the request, and may add headers', async () => {
    const to = await receiver();
    const { transport, webhooks } = setup();
    const seen: unknown[] = [];
    intercept(webhooks, (config) => {
      seen.push(config.url, Buffer.from(config.data as Buffer).toString());
      config.headers.set('x-gateway', 'signed');
    });
    webhooks.http.axiosRef.interceptors.response.use((response) => {
      seen.push(response.status, response.data, response.headers['x-from']);
      return response;
    });
    to.respond({ status: 202, body: 'thanks', headers: { 'x-from': 'receiver' } });
    expect(await transport.send(request(to.url))).toMatchObject({ kind: 'accepted', response: 'thanks' });
    expect(seen).toEqual([to.url, BODY.toString(), 202, 'thanks', 'receiver']);
    expect(to.requests[0]?.headers['x-gateway']).toBe('signed');
  });

  it('are passed over again once they are ejected', async () => {
    const to = await receiver();
    const { transport, webhooks } = setup();
    let ran = 0;
    const id = webhooks.http.axiosRef.interceptors.request.use((config) => {
      ran++;
      return config;
    });
    await transport.send(request(to.url));
    webhooks.http.axiosRef.interceptors.request.eject(id);
    await transport.send(request(to.url));
    expect([ran, to.requests.length]).toEqual([1, 2]);
  });

  it('may change the URL and its parameters, whose address is guarded', async () => {
    const to = await receiver();
    const gateway = await receiver();
    const security = { allowHttp: true, allowedAddresses: ['127.0.0.1/32'] };
    const { transport, webhooks } = setup(security);
    let url = gateway.url;
    intercept(webhooks, (config) => {
      config.url = url;
      config.params = { via: 'gateway' };
    });
    expect(await transport.send(request(to.url))).toMatchObject({ kind: 'accepted' });
    expect(gateway.requests[0]?.url).toBe('/hooks?via=gateway');
    for (url of ['http://127.0.0.2/', 'http://169.254.169.254/', 'http://[::1]/']) {
      expect(await transport.send(request(to.url))).toMatchObject({ kind: 'blocked', errorCode: 'ADDRESS_BLOCKED' });
    }
    url = 'ftp://127.0.0.1/';
    expect(await transport.send(request(to.url))).toMatchObject({ kind: 'blocked', errorCode: 'URL_REFUSED' });
    expect(to.requests).toEqual([]);
  });

  it.each<[string, (config: InternalAxiosRequestConfig) => void]>([
    ['replace the body', (config) => (config.data = '{}')],
    ['parse the body', (config) => (config.data = JSON.parse(String(config.data)))],
    ['write into the body', (config) => (config.data as Buffer).write('X')],
    ['drop the body', (config) => (config.data = undefined)],
    ['transform the body', (config) => (config.transformRequest = [() => 'changed'])],
  ])('may not %s', async (_name, change) => {
    const to = await receiver();
    const { transport, webhooks } = setup();
    intercept(webhooks, change);
    const outcome = await transport.send(request(to.url, { body: Buffer.from(BODY) }));
    expect(outcome).toMatchObject({ kind: 'blocked', status: null, errorCode: 'BODY_MISMATCH' });
    expect(to.requests).toEqual([]);
  });

  it('may hand on the same bytes as something else', async () => {
    const to = await receiver();
    const { transport, webhooks } = setup();
    intercept(webhooks, (config) => (config.data = String(config.data)));
    expect((await transport.send(request(to.url))).kind).toBe('accepted');
    expect(to.requests[0]?.rawBody.equals(BODY)).toBe(true);
  });

  it('may not send a request of their own making', async () => {
    const to = await receiver();
    const { transport, webhooks } = setup();
    const axiosRef = webhooks.http.axiosRef;
    axiosRef.interceptors.request.use(({ url, method, data, headers }) => ({
      url,
      method,
      data: data as unknown,
      headers,
    }));
    expect(await transport.send(request(to.url))).toMatchObject({ kind: 'blocked', errorCode: 'BODY_MISMATCH' });
    axiosRef.interceptors.request.clear();
    await expect(axiosRef.post(to.url, BODY)).rejects.toMatchObject({ code: 'BODY_MISMATCH' });
    expect(to.requests).toEqual([]);
  });

  it('that throw before the request make it unreachable', async () => {
    const to = await receiver();
    const { transport, webhooks } = setup();
    intercept(webhooks, () => {
      throw new Error('no token');
    });
    const outcome = await transport.send(request(to.url));
    expect(outcome).toMatchObject({ kind: 'unreachable', errorCode: 'INTERCEPTOR_FAILED' });
    expect(outcome.errorDetail).toContain('no token');
    expect(to.requests).toEqual([]);
  });

  it.each([[undefined], [null], ['text'], [Object.create(null)], [{ message: 1 }]])(
    'may throw anything: %o',
    async (thrown) => {
      const to = await receiver();
      const { transport, webhooks } = setup();
      intercept(webhooks, () => {
        throw thrown;
      });
      expect(await transport.send(request(to.url))).toMatchObject({
        kind: 'unreachable',
        errorCode: 'INTERCEPTOR_FAILED',
      });
    },
  );

  it('that hang are cut off at the limit, and send nothing later', async () => {
    const to = await receiver();
    const { transport, webhooks } = setup();
    let go: () => void = () => undefined;
    webhooks.http.axiosRef.interceptors.request.use(async (config) => {
      await new Promise<void>((resolve) => (go = resolve));
      return config;
    });
    const late = new Promise<unknown>((resolve) =>
      webhooks.http.axiosRef.interceptors.response.use(undefined, (error) => {
        resolve(error);
        throw error;
      }),
    );
    const outcome = await transport.send(request(to.url, { timeoutMs: 50 }));
    expect(outcome).toMatchObject({ kind: 'unreachable', errorCode: 'INTERCEPTOR_FAILED' });
    go();
    await late;
    expect(to.requests).toEqual([]);
  });

  it('that throw after the answer do not change what the receiver said', async () => {
    const to = await receiver();
    const { transport, webhooks } = setup();
    webhooks.http.axiosRef.interceptors.response.use((response) => {
      response.status = 500;
      throw new Error('cannot parse');
    });
    expect(await transport.send(request(to.url))).toMatchObject({ kind: 'accepted', status: 204, errorCode: null });
  });

  it('that try again have their last answer recorded', async () => {
    const to = await receiver();
    to.failTimes(1);
    const { transport, webhooks } = setup();
    const axiosRef = webhooks.http.axiosRef;
    axiosRef.interceptors.response.use((response) =>
      response.status === 500 ? axiosRef.request(response.config) : response,
    );
    expect(await transport.send(request(to.url))).toMatchObject({ kind: 'accepted', status: 204 });
    expect(to.requests).toHaveLength(2);
  });

  it('may not bring another adapter', async () => {
    const to = await receiver();
    const { transport, webhooks } = setup({ allowHttp: true });
    let other = 0;
    intercept(webhooks, (config) => {
      config.adapter = (own) => {
        other++;
        return Promise.resolve({ status: 200, statusText: '', headers: {}, data: '', config: own });
      };
    });
    intercept(webhooks, (config) => {
      config.transitional = { legacyInterceptorReqResOrdering: false };
    });
    expect(await transport.send(request(to.url))).toMatchObject({ kind: 'blocked', errorCode: 'ADDRESS_BLOCKED' });
    expect(other).toBe(0);
  });

  it('see an unreachable receiver as an AxiosError with our code', async () => {
    const { transport, webhooks } = setup({ allowHttp: true });
    let seen: unknown;
    webhooks.http.axiosRef.interceptors.response.use(undefined, (error: unknown) => {
      seen = error;
      throw error;
    });
    await transport.send(request('http://127.0.0.1:1/'));
    expect(seen).toBeInstanceOf(axios.AxiosError);
    expect(seen).toMatchObject({ code: 'ADDRESS_BLOCKED' });
  });

  it('cannot be replaced by defaults, which are frozen', () => {
    const { webhooks } = setup();
    expect(() => {
      webhooks.http.axiosRef.defaults.headers.common['x-a'] = '1';
    }).toThrow(TypeError);
    expect(() => {
      webhooks.http.axiosRef.defaults.maxRedirects = 5;
    }).toThrow(TypeError);
  });
});

describe('both ways of sending', () => {
  it('report a header that cannot be written, unless axios could clean it', async () => {
    const to = await receiver();
    const outcome = await setup().transport.send(request(to.url, { headers: { 'x-a': 'a\u0001b' } }));
    expect(outcome).toMatchObject({ kind: 'unreachable', errorCode: 'INVALID_REQUEST' });
    expect(to.requests).toEqual([]);
  });

  it('give equal requests and outcomes', async () => {
    const to = await receiver();
    to.respond((arrived) => ({
      status: Number(new URL(arrived.url, to.url).searchParams.get('status')),
      headers: { 'retry-after': '7' },
      body: arrived.rawBody,
    }));
    const clock = new FakeClock(0);
    const direct = setup(LOOPBACK, {}, clock);
    const piped = setup(LOOPBACK, {}, clock);
    intercept(piped.webhooks);
    const headers = { 'content-type': 'application/json', 'webhook-id': 'evt_1', 'X-Mixed-Case': ' kept ' };
    const requests: IncomingHttpHeaders[] = [];
    for (const status of [200, 204, 302, 410, 429, 500]) {
      const signed = request(`${to.url}?status=${status}`, { headers: { ...headers, 'x-status': String(status) } });
      const outcomes = [await direct.transport.send(signed), await piped.transport.send(signed)];
      expect(comparable(outcomes[1] as Outcome)).toEqual(comparable(outcomes[0] as Outcome));
      requests.push(...to.requests.splice(0).map((arrived) => arrived.headers));
      expect(requests.at(-1)).toEqual(requests.at(-2));
    }
    expect(requests).toHaveLength(12);
  });
});
