import type { IncomingHttpHeaders } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import { gzipSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { USER_AGENT, type Outcome, type SignedRequest } from '../../libs/webhooks/src/sending/index.js';
import { FakeClock, FakeDns } from '../../libs/webhooks/src/testing/index.js';
import {
  cleanUpAfterEach,
  LOOPBACK,
  BODY,
  OK,
  cleanups,
  sockets,
  BOTH_WAYS,
  listen,
  http,
  tcp,
  receiver,
  setup,
  request,
  intercept,
} from './transport-setup.js';

cleanUpAfterEach();

const comparable = ({ durationMs: _durationMs, exchange: _exchange, ...rest }: Outcome) => rest;

/** The headers of the log, with values as HTTP sends them. */
const trimmed = (headers: Readonly<Record<string, string | readonly string[]>>) =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value).trim()]));
const sentHeaders = ({ exchange }: Outcome) => trimmed(exchange?.requestHeaders ?? {});
const headersOf = ({ headers }: SignedRequest) => trimmed({ 'user-agent': USER_AGENT, ...headers });

describe.each(BOTH_WAYS)('a request %s', (_name, sender) => {
  it('can use OPTIONS without a body, and its outcome has the permission of the receiver', async () => {
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

  it('gets no permission from a header that arrives twice', async () => {
    const url = await http((incoming, response) => {
      incoming.resume();
      response.setHeader('webhook-allowed-origin', ['events.example.com', '*']).setHeader('webhook-allowed-rate', '1');
      response.end();
    });
    const outcome = await sender().send(request(url, { method: 'OPTIONS', body: Buffer.alloc(0) }));
    expect(outcome).toMatchObject({ kind: 'accepted', permission: { origin: null, rate: '1' } });
  });

  it('that cannot be parsed gives an outcome', async () => {
    const headers = Object.defineProperty({}, 'x-a', {
      enumerable: true,
      get() {
        throw new Error('no such header');
      },
    }) as Record<string, string>;
    const outcome = await sender().send(request('http://127.0.0.1:1/', { headers }));
    expect(outcome).toMatchObject({
      kind: 'unreachable',
      errorCode: 'TRANSPORT_FAILED',
      errorDetail: 'no such header',
    });
  });

  it('arrives byte for byte: 256 KiB of four-byte characters', async () => {
    const to = await receiver();
    const body = Buffer.from('𝕏'.repeat(64 * 1024));
    expect(body.length).toBe(256 * 1024);
    const outcome = await sender().send(request(to.url, { body }));
    expect(outcome).toMatchObject({ kind: 'accepted', status: 204, errorCode: null, response: '' });
    expect(to.requests[0]?.rawBody.equals(body)).toBe(true);
  });

  it('has the headers of this library, and none of axios', async () => {
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

  it('reports the wait of Retry-After, relative to the clock and at most a day', async () => {
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

  it('keeps 4096 bytes of a response: NUL removed, invalid bytes replaced, a cut character omitted', async () => {
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

  it('does not decompress a response, which it did not ask for and which may be a bomb', async () => {
    const to = await receiver();
    const bomb = gzipSync(Buffer.alloc(1024 * 1024, 'x'));
    to.respond({ status: OK, headers: { 'content-encoding': 'gzip' }, body: bomb });
    const { response } = await sender().send(request(to.url));
    expect(response).toBe(bomb.toString('utf8').replaceAll('\0', ''));
  });

  it('is not delayed by a response of 10 MB, and reads only the start of it', async () => {
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

  it('has its outcome as soon as the kept part of a response has arrived, although more may follow', async () => {
    const url = await http((incoming, response) => {
      incoming.resume();
      response.writeHead(OK).write('x'.repeat(5_000));
    });
    // Longer than the time limit of the test.
    const outcome = await sender().send(request(url, { timeoutMs: 120_000 }));
    expect(outcome).toMatchObject({ kind: 'accepted', status: OK, response: 'x'.repeat(4096) });
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

  const ANSWER = 'HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\nHTTP/1.1 100 No!';
  it.each([
    ['100 Continue', 'HTTP/1.1 100 Continue\r\n\r\n'],
    ['100 without a reason', 'HTTP/1.1 100\r\n\r\n'],
    ['100 with headers', 'HTTP/1.1 100 Continue\r\nx-a: 1\r\nx-b: HTTP/1.1 200 OK\r\n\r\n'],
    ['100 three times', 'HTTP/1.1 100 Continue\r\n\r\n'.repeat(3)],
    ['100 between 103 and 102', 'HTTP/1.1 103 A\r\n\r\nHTTP/1.1 100 B\r\n\r\nHTTP/1.1 102 C\r\n\r\n'],
  ])('skips %s, which it did not ask for, and leaves the body unchanged', async (_case, interim) => {
    for (const pieces of [[interim + ANSWER], [...(interim + ANSWER)]]) {
      const url = await tcp((socket) => {
        socket.setNoDelay(true).once('data', () => {
          const next = () => {
            const piece = pieces.shift();
            if (piece !== undefined) socket.write(piece, () => setImmediate(next));
          };
          next();
        });
      });
      expect(await sender().send(request(url))).toMatchObject({
        kind: 'accepted',
        status: OK,
        response: 'HTTP/1.1 100 No!',
      });
    }
  });

  it('skips 100 in each answer of a connection that is kept', async () => {
    let connections = 0;
    const url = await tcp((socket) => {
      connections++;
      socket.on('data', (data) => {
        // Headers and body may arrive separately.
        if (data.subarray(-BODY.length).equals(BODY)) socket.write(`HTTP/1.1 100 Continue\r\n\r\n${ANSWER}`);
      });
    });
    const one = sender();
    for (let n = 0; n < 6; n++) expect(await one.send(request(url))).toMatchObject({ kind: 'accepted', status: OK });
    expect(connections).toBeLessThan(6);
  });

  it('stops at its limit when only 1xx answers come', async () => {
    const url = await tcp((socket) => {
      const timer = setInterval(() => socket.write('HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n'), 30);
      socket.on('close', () => clearInterval(timer));
    });
    expect(await sender().send(request(url, { timeoutMs: 150 }))).toMatchObject({ errorCode: 'TIMEOUT', status: null });
  });

  it('is decided by the status when the body drips beyond the limit', async () => {
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

  it('is decided by the status when the connection breaks inside the body', async () => {
    const url = await tcp((socket) => {
      socket.once('data', () => socket.end('HTTP/1.1 500 Oops\r\ncontent-length: 100\r\n\r\nbroken'));
    });
    expect(await sender().send(request(url))).toMatchObject({ kind: 'rejected', status: 500, response: 'broken' });
  });

  it.each([
    ['is not HTTP', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['has an invalid header', 'HTTP/1.1 200 OK\r\nno header\r\n\r\n'],
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

  it('is unreachable when the server does not support TLS', async () => {
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
      to.url.replace('//', '//user@'),
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
});

describe('the direct path and the path through axios', () => {
  it('report a header that cannot be written, unless axios can correct it', async () => {
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
      expect(outcomes.map(sentHeaders)).toEqual([headersOf(signed), headersOf(signed)]);
      requests.push(...to.requests.splice(0).map((arrived) => arrived.headers));
      expect(requests.at(-1)).toEqual(requests.at(-2));
    }
    expect(requests).toHaveLength(12);
  });
});
