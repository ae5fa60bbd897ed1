import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import {
  type AddressInfo,
  connect,
  createServer as createTcpServer,
  type Server as TcpServer,
  type Socket,
} from 'node:net';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  type ConnectionOptions,
  createWebhooksHttpService,
  HttpTransport,
  resolveSecurityOptions,
  type EgressProxyOptions,
  type SecurityOptions,
  type SignedRequest,
} from '../../libs/webhooks/src/sending/index.js';
import { FakeDns, TestReceiver } from '../../libs/webhooks/src/testing/index.js';
import { certificateFor, type TestCertificate } from '../support/certificates.js';
import { databases } from '../support/databases.js';
import { startApp } from '../support/webhooks-app.js';

const BODY = Buffer.from('{"type":"order.updated","data":{"id":7}}');
const LOOPBACK: SecurityOptions = { allowedAddresses: ['127.0.0.0/8', '::1/128'], allowHttp: true };

const closing: (() => unknown)[] = [];
const sockets = new Set<Duplex>();

afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
  await expect.poll(() => sockets.size, { message: 'every connection is closed again' }).toBe(0);
});

async function listen(server: TcpServer, host = '127.0.0.1'): Promise<number> {
  server.on('connection', track).listen(0, host);
  closing.push(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

function track(socket: Duplex): void {
  sockets.add(socket);
  socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
}

interface Tunnel {
  readonly to: string;
  readonly headers: IncomingHttpHeaders;
}

/** A real proxy: it connects to the requested host, and then forwards bytes. */
class Proxy {
  readonly tunnels: Tunnel[] = [];
  /** If it returns an answer, the proxy sends that answer and does not connect. */
  refuse: (to: string) => string | undefined = () => undefined;
  /** Names that the proxy resolves. */
  readonly names = new Map<string, string>();
  port = 0;

  async start(tls?: TestCertificate): Promise<this> {
    const server: Server = tls ? createTlsServer(tls) : createServer();
    server.on('connect', (request: { url?: string; headers: IncomingHttpHeaders }, client: Socket) => {
      const to = request.url ?? '';
      this.tunnels.push({ to, headers: request.headers });
      const refusal = this.refuse(to);
      if (refusal !== undefined) {
        client.end(refusal);
        return;
      }
      const { hostname, port } = new URL(`http://${to}`);
      const host = hostname.replace(/^\[|\]$/g, '');
      const upstream = connect(Number(port), this.names.get(host) ?? host);
      track(upstream);
      upstream.on('connect', () => {
        client.write('HTTP/1.1 200 Connection established\r\n\r\n');
        upstream.pipe(client).pipe(upstream);
      });
      upstream.on('error', () => client.end('HTTP/1.1 502 Bad Gateway\r\n\r\n'));
      client.on('error', () => upstream.destroy()).on('close', () => upstream.destroy());
    });
    this.port = await listen(server);
    return this;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }
}

/** A TCP server that runs the handler of the test. */
async function tcp(onSocket: (socket: Socket) => void): Promise<string> {
  return `http://127.0.0.1:${await listen(createTcpServer(onSocket))}`;
}

async function receiver(): Promise<TestReceiver> {
  const started = await new TestReceiver().start();
  closing.push(() => started.stop());
  return started;
}

/** A receiver with TLS that records the requested server name. */
async function tlsReceiver(certificate: TestCertificate): Promise<{ port: number; asked: (string | false | null)[] }> {
  const asked: (string | false | null)[] = [];
  const server = createTlsServer(certificate, (request, response) => {
    asked.push((request.socket as TLSSocket & { servername: string | false | null }).servername);
    request.resume().on('end', () => response.end('thanks'));
  });
  return { port: await listen(server), asked };
}

const dns = new FakeDns({
  'hooks.example': '127.0.0.1',
  'two.example': ['127.0.0.5', '127.0.0.1'],
  'inner.example': '10.0.0.1',
  'mixed.example': ['127.0.0.1', '10.0.0.1'],
});

function through(
  proxy: EgressProxyOptions,
  security: SecurityOptions = LOOPBACK,
  connections: ConnectionOptions = {},
): HttpTransport {
  const http = createWebhooksHttpService({
    security: resolveSecurityOptions({ ...security, proxy }),
    lookup: dns.lookup,
    connectionsPerOrigin: 1,
    ...connections,
  });
  const transport = new HttpTransport(http);
  closing.push(() => transport.close());
  return transport;
}

const request = (url: string, change: Partial<SignedRequest> = {}): SignedRequest => ({
  ...{ url, headers: { 'content-type': 'application/json' }, body: BODY, timeoutMs: 5_000 },
  ...change,
});

let ofReceiver: TestCertificate;
let ofProxy: TestCertificate;
let ofOther: TestCertificate;
beforeAll(async () => {
  [ofReceiver, ofProxy, ofOther] = await Promise.all([
    certificateFor('hooks.example'),
    certificateFor('proxy.example'),
    certificateFor('other.example'),
  ]);
});

describe('through an egress proxy', () => {
  it('CONNECT has the checked address, and TLS has the name', async () => {
    const proxy = await new Proxy().start();
    const { port, asked } = await tlsReceiver(ofReceiver);
    const transport = through({ url: proxy.url });
    const outcome = await transport.send(request(`https://hooks.example:${port}/in`, { tls: { ca: ofReceiver.cert } }));
    expect(outcome).toMatchObject({ kind: 'accepted', status: 200, response: 'thanks' });
    expect(proxy.tunnels.map(({ to }) => to)).toEqual([`127.0.0.1:${port}`]);
    expect(asked).toEqual(['hooks.example']);
  });

  it('a certificate of another name is refused', async () => {
    const proxy = await new Proxy().start();
    const { port, asked } = await tlsReceiver(ofOther);
    const transport = through({ url: proxy.url });
    const outcome = await transport.send(request(`https://hooks.example:${port}/`, { tls: { ca: ofOther.cert } }));
    expect(outcome).toMatchObject({ kind: 'unreachable', errorCode: 'TLS_FAILED', response: null });
    expect(asked).toEqual([]);
  });

  it('a webhook to http: is tunnelled as well, byte for byte, over one tunnel for several', async () => {
    const proxy = await new Proxy().start();
    const to = await receiver();
    const transport = through({ url: proxy.url });
    const { port } = new URL(to.url);
    for (let i = 0; i < 3; i++) {
      expect(await transport.send(request(`http://hooks.example:${port}/hooks`))).toMatchObject({ kind: 'accepted' });
    }
    expect(proxy.tunnels.map((tunnel) => tunnel.to)).toEqual([`127.0.0.1:${port}`]);
    expect(to.requests).toHaveLength(3);
    for (const arrived of to.requests) {
      expect(arrived.rawBody.equals(BODY)).toBe(true);
      expect(arrived.headers.host).toBe(`hooks.example:${port}`);
    }
  });

  it('only the proxy receives its password', async () => {
    const proxy = await new Proxy().start();
    const to = await receiver();
    const transport = through({ url: proxy.url.replace('//', '//us%40er:p%3Ass@') });
    await transport.send(request(to.url));
    const expected = `Basic ${Buffer.from('us@er:p:ss').toString('base64')}`;
    expect(proxy.tunnels[0]?.headers['proxy-authorization']).toBe(expected);
    expect(JSON.stringify(to.requests[0]?.headers)).not.toMatch(/proxy|Basic/i);
  });

  it.each([
    'http://10.0.0.1/',
    'http://169.254.169.254/latest/meta-data/',
    'http://[::ffff:127.0.0.1]/',
    'http://2852039166/',
    'http://inner.example/',
    'https://inner.example/',
    'http://mixed.example/',
  ])('%s is blocked before the proxy is asked', async (url) => {
    const proxy = await new Proxy().start();
    const outcome = await through({ url: proxy.url }).send(request(url));
    expect(outcome).toMatchObject({ kind: 'blocked', errorCode: 'ADDRESS_BLOCKED', response: null });
    expect(proxy.tunnels).toEqual([]);
  });

  it('a second address of a name is tried when the proxy cannot connect to the first', async () => {
    const proxy = await new Proxy().start();
    proxy.refuse = (to) => (to.startsWith('127.0.0.5') ? 'HTTP/1.1 503 No route\r\n\r\n' : undefined);
    const to = await receiver();
    const { port } = new URL(to.url);
    const outcome = await through({ url: proxy.url }).send(request(`http://two.example:${port}/`));
    expect(outcome).toMatchObject({ kind: 'accepted' });
    expect(proxy.tunnels.map((tunnel) => tunnel.to)).toEqual([`127.0.0.5:${port}`, `127.0.0.1:${port}`]);
  });

  it('any 2xx to CONNECT opens the tunnel', async () => {
    const url = await tcp((socket) =>
      socket.once('data', () => {
        socket.write('HTTP/1.1 201 Created\r\n\r\n');
        socket.once('data', () => socket.end('HTTP/1.1 204 No Content\r\n\r\n'));
      }),
    );
    expect(await through({ url }).send(request('http://127.0.0.1:9/'))).toMatchObject({
      kind: 'accepted',
      status: 204,
    });
  });

  it('CONNECT has an IPv6 address in brackets', async () => {
    const proxy = await new Proxy().start();
    proxy.refuse = () => 'HTTP/1.1 503 No route\r\n\r\n';
    await through({ url: proxy.url }).send(request('http://[::1]:8080/'));
    expect(proxy.tunnels.map((tunnel) => tunnel.to)).toEqual(['[::1]:8080']);
  });

  it.each([
    ['refuses', 'HTTP/1.1 403 Forbidden\r\ncontent-length: 6\r\n\r\nsecret'],
    ['asks for a password', 'HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\r\n'],
    ['sends us on', 'HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\n\r\n'],
    ['speaks no HTTP', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['has headers without end', `HTTP/1.1 200 OK\r\n${'x: y\r\n'.repeat(10_000)}`],
    ['says nothing and goes', ''],
  ])('a proxy that %s gives PROXY_FAILED, with a detail for operators', async (_case, answer) => {
    const url = await tcp((socket) => socket.once('data', () => socket.end(answer)));
    const outcome = await through({ url }).send(request('http://127.0.0.1:9/'));
    expect(outcome).toMatchObject({ kind: 'unreachable', status: null, errorCode: 'PROXY_FAILED', response: null });
    expect(outcome.errorDetail).toMatch(/^the proxy/);
  });

  it('an unreachable or silent proxy fails within the time limit', async () => {
    const refused = await through({ url: 'http://127.0.0.1:1' }).send(request('http://127.0.0.1:9/'));
    expect(refused).toMatchObject({ errorCode: 'PROXY_FAILED' });
    const url = await tcp((socket) => socket.resume());
    const silent = await through({ url }).send(request('http://127.0.0.1:9/', { timeoutMs: 100 }));
    expect(silent).toMatchObject({ errorCode: 'TIMEOUT' });
    expect(silent.durationMs).toBeLessThan(3_000);
    const given = await through({ url }, LOOPBACK, { connectTimeoutMs: 100 }).send(request('http://127.0.0.1:9/'));
    expect(given.errorDetail).toMatch(/^the proxy opened no tunnel within \d+ ms$/);
  });

  it('the certificate of a proxy with TLS is verified before any data is sent', async () => {
    const proxy = await new Proxy().start(ofProxy);
    const to = await receiver();
    const names = `https://user:hunter2@localhost:${proxy.port}`;
    const untrusted = await through({ url: names }).send(request(to.url));
    expect(untrusted).toMatchObject({ kind: 'unreachable', errorCode: 'PROXY_FAILED' });
    expect(untrusted.errorDetail).not.toContain('hunter2');
    expect(proxy.tunnels).toEqual([]);
    // Its certificate has another name.
    expect(await through({ url: names, ca: ofProxy.cert }).send(request(to.url))).toMatchObject({
      errorCode: 'PROXY_FAILED',
    });
    const right = await new Proxy().start(await certificateFor('localhost'));
    expect(right.tunnels).toEqual([]);
  });

  it('a proxy with TLS forwards webhooks', async () => {
    const certificate = await certificateFor('localhost');
    const proxy = await new Proxy().start(certificate);
    const { port, asked } = await tlsReceiver(ofReceiver);
    const transport = through({ url: `https://localhost:${proxy.port}`, ca: certificate.cert });
    const url = `https://hooks.example:${port}/`;
    expect(await transport.send(request(url, { tls: { ca: ofReceiver.cert } }))).toMatchObject({ kind: 'accepted' });
    expect([proxy.tunnels.length, asked]).toEqual([1, ['hooks.example']]);
  });
});

describe('through a proxy that resolves names', () => {
  it('CONNECT has the name, and this process does not resolve it', async () => {
    const proxy = await new Proxy().start();
    const to = await receiver();
    const { port } = new URL(to.url);
    proxy.names.set('outside.example', '127.0.0.1');
    const before = dns.queries.length;
    const outcome = await through({ url: proxy.url, resolvesNames: true }, { allowHttp: true }).send(
      request(`http://outside.example:${port}/`),
    );
    expect(outcome).toMatchObject({ kind: 'accepted' });
    expect(proxy.tunnels.map((tunnel) => tunnel.to)).toEqual([`outside.example:${port}`]);
    expect(dns.queries.length).toBe(before);
  });

  it('this process still checks literal addresses and ports', async () => {
    const proxy = await new Proxy().start();
    const security = { allowHttp: true, allowedPorts: [443] };
    const transport = through({ url: proxy.url, resolvesNames: true }, security);
    expect(await transport.send(request('http://127.0.0.1:443/'))).toMatchObject({ errorCode: 'ADDRESS_BLOCKED' });
    expect(await transport.send(request('http://[::1]:443/'))).toMatchObject({ errorCode: 'ADDRESS_BLOCKED' });
    expect(await transport.send(request('http://outside.example/'))).toMatchObject({ errorCode: 'URL_REFUSED' });
    expect(proxy.tunnels).toEqual([]);
  });
});

describe('an application with a proxy', () => {
  it('sends its webhooks through it', async () => {
    const proxy = await new Proxy().start();
    const fresh = await (databases[0] as (typeof databases)[0]).create();
    const app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: { publishedTypes: ['tried'], security: { ...LOOPBACK, proxy: { url: proxy.url } } },
    });
    try {
      await app.listeners.create({ events: ['tried'], url: app.receiver.url, owner: null });
      await app.webhooks.publish('tried', {});
      await app.dispatcher.drain();
      expect(app.receiver.requests).toHaveLength(1);
      expect(proxy.tunnels.map(({ to }) => to)).toEqual([new URL(app.receiver.url).host]);
    } finally {
      await app.close();
      await fresh.drop();
    }
  });
});

afterAll(() => expect(closing).toEqual([]));
