import { AssertionError } from 'node:assert';
import { lookup as realLookup } from 'node:dns';
import type { LookupFunction } from 'node:net';

import { afterEach, describe, expect, it } from 'vitest';

import { generateSecret, StandardScheme } from '../../libs/webhooks/src/signing/index.js';
import {
  expectDelivered,
  expectNothingSent,
  FakeClock,
  FakeDns,
  TestReceiver,
} from '../../libs/webhooks/src/testing/index.js';

describe('the receiver', () => {
  let receiver: TestReceiver;
  afterEach(() => receiver.stop());

  const start = async () => (receiver = await new TestReceiver().start());
  const post = (body: string, path = '', headers: Record<string, string> = {}) =>
    fetch(receiver.url + path, { method: 'POST', body, headers });
  const event = (type: string, data: unknown = {}) => post(JSON.stringify({ type, data }));

  it('records requests as they arrive and answers 204', async () => {
    await start();
    const before = Date.now();
    const response = await post('{"a":"𝕏"}', '/x?y=1', { 'X-A': 'b' });
    expect(response.status).toBe(204);
    expect(receiver.requests).toHaveLength(1);
    const [request] = receiver.requests;
    expect(request).toMatchObject({ method: 'POST', url: '/hooks/x?y=1', json: { a: '𝕏' } });
    expect(request?.headers['x-a']).toBe('b');
    expect(request?.rawBody).toEqual(Buffer.from('{"a":"𝕏"}'));
    expect(request?.receivedAt).toBeGreaterThanOrEqual(before);
    await post('no json');
    expect(receiver.requests[1]?.json).toBeUndefined();
    receiver.clear();
    expect(receiver.requests).toEqual([]);
  });

  it('answers in sequence, by function, with failures, and late', async () => {
    await start();
    receiver.respond([{ status: 500 }, { status: 302, headers: { location: '/' }, body: 'x' }]);
    const options = { method: 'POST', redirect: 'manual' } as const;
    expect((await fetch(receiver.url, options)).status).toBe(500);
    const second = await fetch(receiver.url, options);
    expect([second.status, second.headers.get('location')]).toEqual([302, '/']);
    expect((await fetch(receiver.url, options)).status).toBe(204);

    receiver.failTimes(2, 503);
    expect([(await post('')).status, (await post('')).status, (await post('')).status]).toEqual([503, 503, 204]);

    receiver.respond((request, index) => ({ status: 200, body: `${index}:${request.rawBody.toString()}` }));
    expect(await (await post('a')).text()).toBe('0:a');
    expect(await (await post('b')).text()).toBe('1:b');

    let release: () => void = () => undefined;
    let answered = false;
    receiver.respond({ status: 200, delayUntil: new Promise<void>((resolve) => (release = resolve)) });
    const arrived = receiver.waitFor(receiver.requests.length + 1);
    const late = post('').then(() => (answered = true));
    await arrived;
    expect(answered).toBe(false);
    release();
    expect(await late).toBe(true);
  });

  it('stops with a request still unanswered', async () => {
    await start();
    receiver.respond({ status: 200, delayUntil: new Promise(() => undefined) });
    const cut = post('').catch((error: unknown) => error);
    await receiver.waitFor(1);
    await receiver.stop();
    expect(await cut).toBeInstanceOf(TypeError);
    await receiver.stop();
  });

  it('waits for a number of requests, and for a matching request', async () => {
    await start();
    const three = receiver.waitFor(3);
    const b = receiver.waitForRequest((request) => request.rawBody.toString() === 'b');
    for (const body of ['a', 'b', 'c']) await post(body);
    expect((await three).map((request) => request.rawBody.toString())).toEqual(['a', 'b', 'c']);
    expect((await b).rawBody.toString()).toBe('b');
    expect(await receiver.waitFor(1)).toHaveLength(3);
  });

  it('fails after the time limit with a list of the requests that arrived', async () => {
    await start();
    await expect(receiver.waitFor(1, { timeoutMs: 10 })).rejects.toThrow(
      'waited 10 ms for 1 request. Nothing arrived.',
    );
    await event('order.created');
    await expect(receiver.waitFor(2, { timeoutMs: 10 })).rejects.toThrow(/1 arrived:\n {2}POST \/hooks order\.created/);
    const broken = receiver.waitForRequest((request) => {
      if (request.rawBody.length === 0) throw new Error('broken predicate');
      return false;
    });
    await Promise.all([
      expect(broken).rejects.toThrow('broken predicate'),
      expect(post('')).resolves.toMatchObject({ status: 204 }),
    ]);
  });

  it('verifies a recorded request, however old it is', async () => {
    await start();
    const secret = generateSecret();
    const body = JSON.stringify({ type: 'order.created', data: { id: 1 } });
    const timestamp = 1_000_000_000;
    const signed = new StandardScheme().sign({ id: 'evt_1', timestamp, body: Buffer.from(body), secrets: [secret] });
    await post(body, '', { 'webhook-id': 'evt_1', 'webhook-timestamp': String(timestamp), ...signed });
    const [request] = await receiver.waitFor(1);
    expect(receiver.verify(request!, secret)).toMatchObject({ id: 'evt_1', type: 'order.created', data: { id: 1 } });
    expect(() => receiver.verify(request!, generateSecret())).toThrow('The signature does not match');
    expect(() => receiver.verify(request!, secret, { toleranceSeconds: 300 })).toThrow('more than 300 seconds ago');
  });

  it('throws if it is not started, or is started twice', async () => {
    expect(() => new TestReceiver().url).toThrow('start() first');
    await start();
    await expect(receiver.start()).rejects.toThrow('already');
  });

  it('passes expectDelivered() for the given type, data and count, and fails otherwise', async () => {
    await start();
    const soon = expectDelivered(receiver, { type: 'order.updated', data: { id: 1, tags: ['a'] } });
    await event('order.created', { id: 1 });
    await event('order.updated', { id: 2, tags: ['a'] });
    await event('order.updated', { id: 1, tags: ['a'], more: true });
    expect(await soon).toHaveLength(1);
    await expectDelivered(receiver, { type: 'order.updated', count: 2 });
    await expectDelivered(receiver, { type: 'order.deleted', count: 0 });
    const failing = [
      expectDelivered(receiver, { type: 'order.updated', count: 1 }),
      expectDelivered(receiver, { type: 'order.updated', count: 3, timeoutMs: 10 }),
      expectDelivered(receiver, { type: 'order.updated', data: { id: 9 }, timeoutMs: 10 }),
      expectDelivered(receiver, { type: 'order.created', count: 0 }),
    ];
    for (const result of await Promise.allSettled(failing)) {
      expect(result.status).toBe('rejected');
      const reason: unknown = (result as PromiseRejectedResult).reason;
      expect(reason).toBeInstanceOf(AssertionError);
      expect(String(reason)).toContain('3 arrived');
    }
  });

  it('counts only accepted requests as delivered', async () => {
    await start();
    receiver.failTimes(2);
    const delivered = expectDelivered(receiver, { type: 'order.created' });
    for (let attempt = 0; attempt < 3; attempt++) await event('order.created', { id: 1 });
    const [request] = await delivered;
    expect(request?.status).toBe(204);
    expect(receiver.requests.map(({ status }) => status)).toEqual([500, 500, 204]);
    await expect(expectDelivered(receiver, { type: 'order.created', count: 3, timeoutMs: 10 })).rejects.toThrow(
      /found 1\. 3 arrived:\n.*answered 500\n.*answered 500\n.*answered 204/,
    );
  });

  it('passes expectNothingSent() only without a request', async () => {
    await start();
    expectNothingSent(receiver);
    await event('order.created');
    expect(() => expectNothingSent(receiver)).toThrow(AssertionError);
  });
});

describe('the fake clock', () => {
  it('changes only when a test moves it', () => {
    const clock = new FakeClock(new Date(1000));
    expect(clock.now()).toBe(1000);
    clock.advance(500);
    expect(clock.now()).toBe(1500);
    clock.set(0);
    clock.advance(-1);
    expect(clock.now()).toBe(-1);
    expect(() => clock.advance(Number.NaN)).toThrow(RangeError);
  });
});

describe('the fake DNS', () => {
  const ask = (lookup: LookupFunction, name: string, options: Parameters<LookupFunction>[1]) =>
    new Promise<unknown>((resolve) => {
      lookup(name, options, (error, address, family) =>
        resolve(error?.code ?? (family === undefined ? address : [address, family])),
      );
    });

  it('answers like dns.lookup', async () => {
    const dns = new FakeDns({ '127.0.0.1': '127.0.0.1', 'two.example': ['10.0.0.1', '::1'] });
    for (const options of [{ all: true }, {}]) {
      expect(await ask(dns.lookup, '127.0.0.1', options)).toEqual(
        await ask(realLookup as LookupFunction, '127.0.0.1', options),
      );
    }
    expect(await ask(dns.lookup, 'TWO.example', { all: true })).toEqual([
      { address: '10.0.0.1', family: 4 },
      { address: '::1', family: 6 },
    ]);
    expect(await ask(dns.lookup, 'two.example', { family: 6 })).toEqual(['::1', 6]);
    expect(await ask(dns.lookup, 'none.example', { all: true })).toBe('ENOTFOUND');
    expect(dns.queries).toEqual(['127.0.0.1', '127.0.0.1', 'TWO.example', 'two.example', 'none.example']);
  });

  it('can change its answers, and accepts IP addresses only', async () => {
    const dns = new FakeDns({ 'a.example': '1.1.1.1' }).set('a.example', '10.0.0.1');
    expect(await ask(dns.lookup, 'a.example', {})).toEqual(['10.0.0.1', 4]);
    expect(await ask(dns.set('a.example', []).lookup, 'a.example', {})).toBe('ENOTFOUND');
    expect(() => new FakeDns({ 'a.example': 'localhost' })).toThrow(TypeError);
  });
});
