import { once } from 'node:events';
import { createServer } from 'node:http';
import { createServer as createTcpServer, type Socket } from 'node:net';

import { describe, expect, it } from 'vitest';

import { AddressGuard } from '../../libs/webhooks/src/sending/address-guard.js';
import { guardedLookup } from '../../libs/webhooks/src/sending/guarded-connector.js';
import { FakeDns } from '../../libs/webhooks/src/testing/index.js';
import { cleanUpAfterEach, LOOPBACK, listen, setup, request } from './transport-setup.js';

cleanUpAfterEach();

describe('the address of a request', () => {
  /** A server that counts every connection. */
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
  ])('is blocked by default before any connection: %s', async (template) => {
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

  it('is blocked when any address of its name is, also for a socket that asks for a single address', async () => {
    const guarded = guardedLookup(new AddressGuard(), dns().lookup);
    const found = await new Promise((resolve) => guarded('mixed.example', {}, (...answer) => resolve(answer)));
    expect(found).toEqual([expect.objectContaining({ code: 'ADDRESS_BLOCKED' }), '']);
  });

  it('is blocked for localhost, resolved by this machine', async () => {
    const { port, count } = await countingServer();
    const { transport } = setup({ allowHttp: true });
    expect(await transport.send(request(`http://localhost:${port}/`))).toMatchObject({ errorCode: 'ADDRESS_BLOCKED' });
    expect(count()).toBe(0);
  });

  it('is reached when a range allows it, as a literal and by name', async () => {
    const { port, count } = await countingServer();
    const { transport } = setup({ allowHttp: true, allowedAddresses: ['127.0.0.1/32'] }, { lookup: dns().lookup });
    for (const host of ['127.0.0.1', '127.1', 'inner.example']) {
      expect(await transport.send(request(`http://${host}:${port}/`))).toMatchObject({ kind: 'accepted' });
    }
    // The name has one public and one allowed address.
    const mixed = await transport.send(request(`http://mixed.example:${port}/`, { timeoutMs: 50 }));
    expect(mixed.errorCode).not.toBe('ADDRESS_BLOCKED');
    expect(await transport.send(request(`http://127.0.0.2:${port}/`))).toMatchObject({ errorCode: 'ADDRESS_BLOCKED' });
    expect(count()).toBeGreaterThanOrEqual(2);
  });

  it('is checked again at each connection', async () => {
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

  it('is resolved once for a connection, with all addresses of the name', async () => {
    const { port } = await countingServer();
    const table = dns();
    const { transport } = setup(LOOPBACK, { lookup: table.lookup, connectionsPerOrigin: 1 });
    for (let i = 0; i < 3; i++) await transport.send(request(`http://inner.example:${port}/`));
    expect(table.queries).toEqual(['inner.example']);
  });

  it.each(['http', 'https'])(
    'blocks at the socket when the resolver was bypassed, before a byte is sent: %s',
    async (scheme) => {
      const sockets: Socket[] = [];
      const port = await listen(createTcpServer((socket) => void sockets.push(socket.resume())));
      // Returns a public address to the guard, and a loopback address to the socket.
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
      const outcome = await lying.transport.send(request(`${scheme}://liar.example:${port}/`));
      expect(outcome).toMatchObject({ kind: 'blocked', errorCode: 'ADDRESS_BLOCKED' });
      expect(outcome.errorDetail).toContain('127.0.0.1');
      await expect.poll(() => sockets).toHaveLength(1);
      const [socket] = sockets as [Socket];
      if (!socket.closed) await once(socket, 'close');
      expect(socket.bytesRead).toBe(0);
    },
  );
});
