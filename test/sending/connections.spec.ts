import { once } from 'node:events';
import { createServer } from 'node:http';
import type { Socket } from 'node:net';

import { describe, expect, it } from 'vitest';

import {
  cleanUpAfterEach,
  LOOPBACK,
  OK,
  cleanups,
  BOTH_WAYS,
  listen,
  receiver,
  request,
  tcp,
} from './transport-setup.js';

cleanUpAfterEach();

/** A server whose answers have the given length, and the connections that it accepted. */
async function answering(length: number): Promise<{ url: string; connections: ReadonlySet<Socket> }> {
  const connections = new Set<Socket>();
  const server = createServer((incoming, response) => {
    incoming.resume();
    response.end('y'.repeat(length));
  }).on('connection', (socket: Socket) => connections.add(socket));
  return { url: `http://127.0.0.1:${await listen(server)}/`, connections };
}

describe.each(BOTH_WAYS)('the connection of a request %s', (_name, sender) => {
  it('fails with TRANSPORT_CLOSED after the transport closed, also while the request is in flight', async () => {
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

  it('is reused, also after a response that is longer than the part that is kept', async () => {
    const { url, connections } = await answering(20_000);
    const transport = sender(LOOPBACK, { connectionsPerOrigin: 1 });
    for (let i = 0; i < 5; i++) {
      expect(await transport.send(request(url))).toMatchObject({ kind: 'accepted', response: 'y'.repeat(4096) });
    }
    expect(connections.size).toBe(1);
  });

  it('is closed after a response with too many unread bytes', async () => {
    const { url, connections } = await answering(200_000);
    const transport = sender(LOOPBACK, { connectionsPerOrigin: 1 });
    for (let i = 0; i < 2; i++) expect(await transport.send(request(url))).toMatchObject({ kind: 'accepted' });
    expect(connections.size).toBe(2);
  });

  it('is kept when many answers together are long', async () => {
    const { url, connections } = await answering(60_000);
    const transport = sender(LOOPBACK, { connectionsPerOrigin: 1 });
    // 720 KB in total: a single answer of this length would close the connection.
    for (let i = 0; i < 12; i++) expect(await transport.send(request(url))).toMatchObject({ kind: 'accepted' });
    expect(connections.size).toBe(1);
  });

  it('completes its request when it reaches its maximum age', async () => {
    const to = await receiver();
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    to.respond((_received, index) => (index === 0 ? { status: 202, delayUntil: held } : { status: OK }));
    const transport = sender(LOOPBACK, { connectionMaxAgeMs: 20 });
    const underWay = transport.send(request(to.url, { timeoutMs: 60_000 }));
    await to.waitFor(1);
    const madeAt = Date.now();
    await expect.poll(() => Date.now() - madeAt).toBeGreaterThan(30);
    expect(await transport.send(request(to.url))).toMatchObject({ kind: 'accepted' });
    release();
    expect(await underWay).toMatchObject({ kind: 'accepted', status: 202 });
  });

  it('is closed with the transport, also when a newer connection has replaced it', async () => {
    const to = await receiver();
    const held = new Promise<void>((resolve) => cleanups.push(resolve));
    to.respond((_received, index) => (index === 0 ? { status: OK, delayUntil: held } : { status: OK }));
    const transport = sender(LOOPBACK, { connectionMaxAgeMs: 20 });
    const underWay = transport.send(request(to.url, { timeoutMs: 60_000 }));
    await to.waitFor(1);
    const madeAt = Date.now();
    await expect.poll(() => Date.now() - madeAt).toBeGreaterThan(30);
    expect(await transport.send(request(to.url))).toMatchObject({ kind: 'accepted' });
    await transport.close();
    expect(await underWay).toMatchObject({ kind: 'unreachable', errorCode: 'TRANSPORT_CLOSED' });
  });

  it('takes no request when it is older than connectionMaxAgeMs', async () => {
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

  it.each(['alone', 'after one that failed'])(
    'is closed when it is idle and has reached its maximum age: %s',
    async (what) => {
      const { url, sockets } = await patientServer();
      const broken = await tcp((socket) => socket.once('data', () => socket.destroy()));
      const transport = sender(LOOPBACK, { connectionsPerOrigin: 1, connectionMaxAgeMs: 1_000, keepAliveMs: 600_000 });
      if (what !== 'alone') {
        expect(await transport.send(request(broken))).toMatchObject({ errorCode: 'CONNECTION_FAILED' });
      }
      await transport.send(request(url));
      const [old] = sockets as [Socket];
      const ended = once(old, 'end');
      const madeAt = Date.now();
      await expect.poll(() => Date.now() - madeAt, { timeout: 3_000 }).toBeGreaterThan(1_010);
      expect(old.readableEnded).toBe(false);
      await transport.send(request(url));
      await ended;
      expect(sockets).toHaveLength(2);
      expect(sockets[1]?.readableEnded).toBe(false);
    },
  );

  it('is closed after keepAliveMs of idleness, however long its receiver would keep it', async () => {
    const { url, sockets } = await patientServer();
    const transport = sender(LOOPBACK, { connectionsPerOrigin: 1, keepAliveMs: 500 });
    await transport.send(request(url));
    await transport.send(request(url));
    expect(sockets).toHaveLength(1); // the connection was kept
    // The client closes it: the server and the maximum age would both keep it longer than the time limit of this test.
    await once(sockets[0] as Socket, 'end');
    await transport.send(request(url));
    expect(sockets).toHaveLength(2);
  });

  it('is closed after keepAliveMs of idleness when its receiver sends no keep-alive time', async () => {
    const sockets: Socket[] = [];
    const server = createServer((incoming, response) => {
      incoming.resume();
      response.end();
    }).on('connection', (socket) => void sockets.push(socket));
    server.keepAliveTimeout = 0;
    const url = `http://127.0.0.1:${await listen(server)}/`;
    const transport = sender(LOOPBACK, { connectionsPerOrigin: 1, keepAliveMs: 100 });
    await transport.send(request(url));
    // The default of undici is 4 seconds.
    await expect.poll(() => sockets[0]?.readableEnded, { timeout: 3_000 }).toBe(true);
  });

  it.each(['http', 'https'])('times out after connectTimeoutMs while it opens: %s', async (scheme) => {
    const url = (await tcp((socket) => socket.resume())).replace('http:', `${scheme}:`);
    // For http, the name server does not answer.
    const silent = scheme === 'http' ? { lookup: () => undefined } : {};
    const transport = sender(LOOPBACK, { connectTimeoutMs: 100, ...silent });
    const to = url.replace('127.0.0.1', scheme === 'http' ? 'silent.example' : '127.0.0.1');
    const outcome = await transport.send(request(to, { timeoutMs: 10_000 }));
    expect(outcome).toMatchObject({ kind: 'unreachable', errorCode: 'TIMEOUT' });
    expect(outcome.errorDetail).toMatch(/^UND_ERR_CONNECT_TIMEOUT/);
  });

  it('is reset at the time limit of a request, so that the kernel does not repeat the request later', async () => {
    const errors: unknown[] = [];
    const url = await tcp((socket) => socket.resume().on('error', (error) => errors.push(error)));
    const outcome = await sender(LOOPBACK).send(request(url, { timeoutMs: 100 }));
    expect(outcome).toMatchObject({ errorCode: 'TIMEOUT' });
    await expect.poll(() => errors).toMatchObject([{ code: 'ECONNRESET' }]);
  });

  it('counts towards the limit of its origin, and a request that expired while it waited for one is not sent', async () => {
    const to = await receiver();
    const held = new Promise<void>((resolve) => cleanups.push(resolve));
    to.respond((_received, index) => (index < 2 ? { status: OK, delayUntil: held } : { status: OK }));
    const transport = sender(LOOPBACK, { connectionsPerOrigin: 2 });
    const outcomes = await Promise.all(
      // The waiting requests expire while the first two are still in flight.
      Array.from({ length: 6 }, (_, n) => transport.send(request(to.url, { timeoutMs: n < 2 ? 600 : 200 }))),
    );
    expect(outcomes.map((outcome) => outcome.errorCode)).toEqual(Array(6).fill('TIMEOUT'));
    expect((await transport.send(request(to.url))).kind).toBe('accepted');
    expect(to.requests).toHaveLength(3);
  });
});
