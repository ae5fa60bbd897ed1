import { createServer } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LookupFunction } from 'node:net';
import { beforeAll, describe, expect, it } from 'vitest';
import type { AttemptPhases } from 'nestjs-entity-webhooks';
import { FakeDns } from '../../libs/webhooks/src/testing/index.js';
import type { Outcome } from '../../libs/webhooks/src/sending/index.js';
import { certificateFor, type TestCertificate } from '../support/certificates.js';
import { BOTH_WAYS, cleanUpAfterEach, http, listen, LOOPBACK, receiver, request, tcp } from './transport-setup.js';

cleanUpAfterEach();

let certificate: TestCertificate;
beforeAll(async () => {
  certificate = await certificateFor('hooks.example');
});

const SLOW_MS = 40;
/** Timers may fire up to a millisecond early. */
const AT_LEAST = SLOW_MS - 2;

const dns = new FakeDns({ 'hooks.example': '127.0.0.1' });
const slowLookup: LookupFunction = (name, options, callback) => {
  void sleep(SLOW_MS).then(() => dns.lookup(name, options, callback));
};

const phasesOf = ({ exchange }: Outcome) => exchange?.phases as AttemptPhases;
const isTime = expect.toSatisfy((ms: unknown) => Number.isSafeInteger(ms) && Number(ms) >= 0) as unknown as number;

describe.each(BOTH_WAYS)('the phases of a request %s', (_name, sender) => {
  it('have a connect time on a new connection, and none on a reused connection', async () => {
    const to = await receiver();
    const transport = sender(LOOPBACK, { connectionsPerOrigin: 1 });
    const first = await transport.send(request(to.url));
    expect(phasesOf(first)).toEqual({
      ...{ connection: 'new', dnsMs: null, connectMs: isTime, tlsMs: null, firstByteMs: isTime },
    });
    const second = await transport.send(request(to.url));
    expect(phasesOf(second)).toEqual({
      ...{ connection: 'reused', dnsMs: null, connectMs: null, tlsMs: null, firstByteMs: isTime },
    });
  });

  it('have the time of a slow name, of the TLS handshake and of a slow answer', async () => {
    const server = createServer({ ...certificate }, (_, response) => {
      void sleep(SLOW_MS).then(() => response.end());
    });
    const port = await listen(server);
    const transport = sender({ ...LOOPBACK }, { lookup: slowLookup });
    const outcome = await transport.send(request(`https://hooks.example:${port}/`, { tls: { ca: certificate.cert } }));
    const { connection, dnsMs, connectMs, tlsMs, firstByteMs } = phasesOf(outcome);
    expect(outcome.kind).toBe('accepted');
    expect([connection, connectMs, tlsMs]).toEqual(['new', isTime, isTime]);
    expect(dnsMs).toBeGreaterThanOrEqual(AT_LEAST);
    expect(firstByteMs).toBeGreaterThanOrEqual(AT_LEAST);
    const sum = (dnsMs ?? 0) + (connectMs ?? 0) + (tlsMs ?? 0) + (firstByteMs ?? 0);
    expect(sum).toBeLessThanOrEqual(outcome.durationMs + 4);
  });

  it('end where the attempt ended: at the name, at the connection, or while the answer was awaited', async () => {
    const transport = sender({ ...LOOPBACK }, { lookup: slowLookup });
    const unknown = await transport.send(request('http://unknown.example/'));
    expect(unknown).toMatchObject({
      errorCode: 'DNS_FAILED',
      exchange: { requestHeaders: null, responseHeaders: null },
    });
    const nothing = { connection: 'none', dnsMs: null, connectMs: null, tlsMs: null, firstByteMs: null };
    expect(phasesOf(unknown)).toEqual(nothing);

    const refused = await transport.send(request('http://hooks.example:1/'));
    expect(refused).toMatchObject({ errorCode: 'CONNECTION_REFUSED', exchange: { requestHeaders: null } });
    expect(phasesOf(refused).dnsMs).toBeGreaterThanOrEqual(AT_LEAST);
    expect(phasesOf(refused)).toMatchObject({ connection: 'none', connectMs: null, firstByteMs: null });

    const silent = await tcp((socket) => void socket.resume());
    const timedOut = await transport.send(request(silent, { timeoutMs: 500 }));
    expect(timedOut).toMatchObject({ errorCode: 'TIMEOUT', exchange: { responseHeaders: null } });
    expect(timedOut.exchange?.requestHeaders).toMatchObject({ 'content-type': 'application/json' });
    expect(phasesOf(timedOut)).toMatchObject({ connection: 'new', connectMs: isTime, firstByteMs: null });
  });

  it('belong to their own request when many requests open connections at the same time', async () => {
    const url = await http((incoming, response) => {
      incoming.resume().on('end', () => void sleep(SLOW_MS).then(() => response.end()));
    });
    const transport = sender({ ...LOOPBACK }, { connectionsPerOrigin: 4 });
    const outcomes = await Promise.all(Array.from({ length: 8 }, () => transport.send(request(url))));
    const connections = outcomes.map((outcome) => phasesOf(outcome).connection).toSorted();
    expect(connections).toEqual([...Array(4).fill('new'), ...Array(4).fill('reused')]);
    for (const outcome of outcomes) expect(phasesOf(outcome).firstByteMs).toBeGreaterThanOrEqual(AT_LEAST);
  });
});
