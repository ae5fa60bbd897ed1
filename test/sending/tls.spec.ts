import { once } from 'node:events';
import { createSecureServer } from 'node:http2';
import type { IncomingMessage } from 'node:http';
import { createServer, type ServerOptions } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { SecureVersion, TLSSocket } from 'node:tls';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  type ConnectionOptions,
  createWebhooksHttpService,
  HttpTransport,
  type Outcome,
  resolveSecurityOptions,
  type TlsIdentity,
  type WebhooksHttp,
} from '../../libs/webhooks/src/sending/index.js';
import { FakeDns } from '../../libs/webhooks/src/testing/index.js';
import { certificateFor, type TestCertificate } from '../support/certificates.js';

let ofReceiver: TestCertificate;
let acme: TestCertificate;
let globex: TestCertificate;

beforeAll(async () => {
  [ofReceiver, acme, globex] = await Promise.all([
    certificateFor('hooks.example'),
    certificateFor('acme'),
    certificateFor('globex'),
  ]);
});

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

interface Arrival {
  readonly client: string | undefined;
  readonly isResumed: boolean;
  readonly version: string;
}

/** Requests a client certificate, and records the name in it. */
async function receiver(
  more: ServerOptions = {},
  onRequest: (request: IncomingMessage) => unknown = () => undefined,
): Promise<{ port: number; arrivals: Arrival[]; connections: () => number }> {
  const arrivals: Arrival[] = [];
  let connections = 0;
  const options = {
    ...ofReceiver,
    requestCert: true,
    ca: [acme.cert, globex.cert],
    rejectUnauthorized: false,
    ...more,
  };
  const server = createServer(options, (request, response) => {
    const socket = request.socket as TLSSocket;
    const { subject } = socket.getPeerCertificate();
    arrivals.push({ client: subject?.CN as string, isResumed: socket.isSessionReused(), version: request.httpVersion });
    onRequest(request);
    request.resume().on('end', () => response.end());
  }).on('secureConnection', () => connections++);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(() => {
    server.close();
    server.closeAllConnections();
  });
  return { port: (server.address() as AddressInfo).port, arrivals, connections: () => connections };
}

function sender(connections: ConnectionOptions = {}): {
  http: WebhooksHttp;
  send: (port: number, tls?: TlsIdentity, host?: string) => Promise<Outcome>;
} {
  const http = createWebhooksHttpService({
    security: resolveSecurityOptions({ allowedAddresses: ['127.0.0.0/8'] }),
    lookup: new FakeDns({ 'hooks.example': '127.0.0.1', 'other.example': '127.0.0.1' }).lookup,
    connectionsPerOrigin: 1,
    ...connections,
  });
  const transport = new HttpTransport(http);
  closing.push(() => transport.close());
  return {
    http,
    send: (port, tls, host = 'hooks.example') =>
      transport.send({
        ...{ url: `https://${host}:${port}/`, headers: {}, body: Buffer.from('{}'), timeoutMs: 5_000 },
        ...(tls ? { tls } : {}),
      }),
  };
}

const as = ({ cert, key }: TestCertificate): TlsIdentity => ({ cert, key, ca: ofReceiver.cert });
const TLS_FAILED = { kind: 'unreachable', errorCode: 'TLS_FAILED', response: null };

describe('a connection over TLS', () => {
  it('trusts only public authorities unless another is given, whatever NODE_TLS_REJECT_UNAUTHORIZED is', async () => {
    const { port, arrivals } = await receiver();
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
    closing.push(() => delete process.env.NODE_TLS_REJECT_UNAUTHORIZED);
    const { send } = sender();
    expect(await send(port)).toMatchObject(TLS_FAILED);
    expect(arrivals).toEqual([]);
    expect(await send(port, { ca: ofReceiver.cert })).toMatchObject({ kind: 'accepted' });
    expect(arrivals).toMatchObject([{ client: undefined }]);
  });

  it('requires a certificate for the name in the URL', async () => {
    const { port, arrivals } = await receiver();
    expect(await sender().send(port, { ca: ofReceiver.cert }, 'other.example')).toMatchObject(TLS_FAILED);
    expect(await sender().send(port, { ca: ofReceiver.cert }, '127.0.0.1')).toMatchObject(TLS_FAILED);
    expect(arrivals).toEqual([]);
  });

  it('uses HTTP/1.1 with a receiver that prefers HTTP/2', async () => {
    const versions: string[] = [];
    const server = createSecureServer({ ...ofReceiver, allowHTTP1: true }, (request, response) => {
      versions.push(request.httpVersion);
      request.resume();
      response.end();
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    closing.push(() => server.close());
    const { send } = sender();
    expect(await send((server.address() as AddressInfo).port, { ca: ofReceiver.cert })).toMatchObject({ status: 200 });
    expect(versions).toEqual(['1.1']);
  });

  it('is not shared: each identity has separate connections and sessions to the same origin', async () => {
    const { port, arrivals, connections } = await receiver();
    const { send } = sender();
    const identities = [as(acme), as(globex), { ca: ofReceiver.cert }, as(acme), as(globex)];
    for (const identity of identities) expect(await send(port, identity)).toMatchObject({ kind: 'accepted' });
    expect(arrivals.map(({ client }) => client)).toEqual(['acme', 'globex', undefined, 'acme', 'globex']);
    expect(connections()).toBe(3);
    expect(arrivals.some(({ isResumed }) => isResumed)).toBe(false);
  });

  it('is not reused for another authority or key, because the old one was verified for a different identity', async () => {
    const { port, arrivals } = await receiver();
    const { send } = sender();
    expect(await send(port, as(acme))).toMatchObject({ kind: 'accepted' });
    expect(await send(port, { ...as(acme), ca: globex.cert })).toMatchObject(TLS_FAILED);
    expect(await send(port, { ...as(acme), key: globex.key })).toMatchObject(TLS_FAILED);
    expect(arrivals).toHaveLength(1);
  });

  it('that replaces an old one resumes a session of the same identity', async () => {
    const { port, arrivals, connections } = await receiver();
    const { send } = sender({ connectionMaxAgeMs: 1 });
    for (const identity of [as(acme), as(globex), as(acme), as(globex)]) {
      await send(port, identity);
      const before = performance.now();
      await expect.poll(() => performance.now() - before).toBeGreaterThan(2);
    }
    expect(arrivals.map(({ client }) => client)).toEqual(['acme', 'globex', 'acme', 'globex']);
    expect(connections()).toBe(4);
  });

  it('is not opened for any identity after the transport closed', async () => {
    const { port, connections } = await receiver();
    const { http, send } = sender();
    expect(await send(port, as(acme))).toMatchObject({ kind: 'accepted' });
    await http.close();
    for (const identity of [as(acme), as(globex)]) {
      expect(await send(port, identity)).toMatchObject({ kind: 'unreachable', errorCode: 'TRANSPORT_CLOSED' });
    }
    expect(connections()).toBe(1);
  });

  it('keeps its identity through interceptors', async () => {
    const { port, arrivals } = await receiver();
    const { http, send } = sender();
    http.http.axiosRef.interceptors.request.use((config) => config);
    expect(await send(port, as(acme))).toMatchObject({ kind: 'accepted' });
    expect(arrivals).toMatchObject([{ client: 'acme' }]);
  });

  it('is reset at the time limit of a request, like one without TLS', async () => {
    const errors: unknown[] = [];
    const silent = createServer({ ...ofReceiver }, (request) => void request.resume());
    silent.on('secureConnection', (socket) => socket.on('error', (error) => errors.push(error)));
    silent.listen(0, '127.0.0.1');
    await once(silent, 'listening');
    closing.push(() => void silent.close());
    const { port } = silent.address() as AddressInfo;
    const outcome = await new HttpTransport(sender().http).send({
      ...{ url: `https://hooks.example:${port}/`, headers: {}, body: Buffer.from('{}'), timeoutMs: 1_000 },
      tls: { ca: ofReceiver.cert },
    });
    expect(outcome).toMatchObject({ errorCode: 'TIMEOUT', errorDetail: 'no complete answer within 1000 ms' });
    await expect.poll(() => errors).toMatchObject([{ code: 'ECONNRESET' }]);
  });

  it('is not opened with a certificate that cannot be parsed', async () => {
    const { port } = await receiver();
    expect(await sender().send(port, { cert: 'no PEM', key: 'neither' })).toMatchObject(TLS_FAILED);
  });
});

describe('a server that requires a certificate that it trusts', () => {
  const VERSIONS: readonly SecureVersion[] = ['TLSv1.2', 'TLSv1.3'];
  const strict = (version: SecureVersion) =>
    receiver({ rejectUnauthorized: true, ca: acme.cert, minVersion: version, maxVersion: version });

  it.each(VERSIONS)('fails each attempt with TLS_FAILED and the reason: %s', async (version) => {
    const { port, arrivals } = await strict(version);
    const { send } = sender();
    for (let n = 0; n < 2; n++) {
      const without = await send(port, { ca: ofReceiver.cert });
      expect(without).toMatchObject({ ...TLS_FAILED, errorDetail: expect.stringMatching(/^ERR_SSL_\w+ALERT_/) });
      expect(await send(port, as(globex))).toMatchObject(TLS_FAILED);
      expect(await send(port, as(acme))).toMatchObject({ kind: 'accepted' });
    }
    expect(arrivals.map(({ client }) => client)).toEqual(['acme', 'acme']);
  });

  it('that only closes is distinguished from a server that requests no certificate or has answered before', async () => {
    const { port } = await strict('TLSv1.3');
    expect((await sender().send(port, as(globex))).errorDetail).toMatch(
      /, before any answer: the server asks for a client certificate, and it may have rejected the certificate$/,
    );

    const GONE = { kind: 'unreachable', errorCode: 'CONNECTION_FAILED' };
    const rude = await receiver({ requestCert: false }, ({ socket }) => socket.destroy());
    expect(await sender().send(rude.port, as(acme))).toMatchObject(GONE);

    const later = await receiver({}, ({ socket }) => later.arrivals.length > 1 && socket.destroy());
    const { send } = sender();
    expect(await send(later.port, as(acme))).toMatchObject({ kind: 'accepted' });
    expect(await send(later.port, as(acme))).toMatchObject(GONE);
    expect(later.connections()).toBe(1);
  });
});
