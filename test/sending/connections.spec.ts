import { once } from 'node:events';
import { createServer } from 'node:http';
import type { Socket } from 'node:net';

import { describe, expect, it } from 'vitest';

import { LOOPBACK, OK, cleanups, BOTH_WAYS, listen, receiver, request, tcp } from './transport-setup.js';

/** A server whose answers are so long, and the connections that were made to it. */
async function answering(length: number): Promise<{ url: string; connections: ReadonlySet<Socket> }> {
  const connections = new Set<Socket>();
  const server = createServer((incoming, response) => {
    incoming.resume();
    response.end('y'.repeat(length));
  }).on('connection', (socket: Socket) => connections.add(socket));
  return { url: `http://127.0.0.1:${await listen(server)}/`, connections };
}

describe.each(BOTH_WAYS)('the connection of a request %s', (_name, sender) => {
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
    const { url, connections } = await answering(20_000);
    const transport = sender(LOOPBACK, { connectionsPerOrigin: 1 });
    for (let i = 0; i < 5; i++) {
      expect(await transport.send(request(url))).toMatchObject({ kind: 'accepted', response: 'y'.repeat(4096) });
    }
    expect(connections.size).toBe(1);
  });

  it('is not kept after a response of which too much is left to read', async () => {
    const { url, connections } = await answering(200_000);
    const transport = sender(LOOPBACK, { connectionsPerOrigin: 1 });
    for (let i = 0; i < 2; i++) expect(await transport.send(request(url))).toMatchObject({ kind: 'accepted' });
    expect(connections.size).toBe(2);
  });

  it('keeps a connection whose answers have together become long', async () => {
    const { url, connections } = await answering(60_000);
    const transport = sender(LOOPBACK, { connectionsPerOrigin: 1 });
    // 720 KB: an answer that were that long by itself would break the connection.
    for (let i = 0; i < 12; i++) expect(await transport.send(request(url))).toMatchObject({ kind: 'accepted' });
    expect(connections.size).toBe(1);
  });

  it('that became old serves its request to the end', async () => {
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

  it('is ended by the end of the transport, also when another one has taken over', async () => {
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

  it.each(['alone', 'after one that failed'])('ends an idle connection that became old: %s', async (what) => {
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

  it('ends an idle connection after keepAliveMs when its receiver says nothing of how long it keeps it', async () => {
    const sockets: Socket[] = [];
    const server = createServer((incoming, response) => {
      incoming.resume();
      response.end();
    }).on('connection', (socket) => void sockets.push(socket));
    server.keepAliveTimeout = 0;
    const url = `http://127.0.0.1:${await listen(server)}/`;
    const transport = sender(LOOPBACK, { connectionsPerOrigin: 1, keepAliveMs: 100 });
    await transport.send(request(url));
    // undici's own limit is 4 seconds.
    await expect.poll(() => sockets[0]?.readableEnded, { timeout: 3_000 }).toBe(true);
  });

  it.each(['http', 'https'])('is given up after connectTimeoutMs while it is made: %s', async (scheme) => {
    const url = (await tcp((socket) => socket.resume())).replace('http:', `${scheme}:`);
    // What is silent in the beginning of http is the name server.
    const silent = scheme === 'http' ? { lookup: () => undefined } : {};
    const transport = sender(LOOPBACK, { connectTimeoutMs: 100, ...silent });
    const to = url.replace('127.0.0.1', scheme === 'http' ? 'silent.example' : '127.0.0.1');
    const outcome = await transport.send(request(to, { timeoutMs: 10_000 }));
    expect(outcome).toMatchObject({ kind: 'unreachable', errorCode: 'TIMEOUT' });
    expect(outcome.errorDetail).toMatch(/^UND_ERR_CONNECT_TIMEOUT/);
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
