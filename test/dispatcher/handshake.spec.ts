import { EventEmitter2 } from '@nestjs/event-emitter';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { RetrySchedule, LIFECYCLE_EVENTS, type ListenerDisabledLifecycleEvent } from 'nestjs-entity-webhooks';
import { FakeDns, type ReceivedRequest } from 'nestjs-entity-webhooks/testing';
import { appsOn } from '../support/apps-on.js';
import { describeDatabases } from '../support/databases.js';
import { listenToLog } from '../support/said.js';
import { LOOPBACK, type TestApp } from '../support/webhooks-app.js';

const MINUTE = 60_000;
const ORIGIN = 'events.example.com';

/** Three tries, a minute apart. */
class ThreeTimes extends RetrySchedule {
  override delayMs(failures: number): number | null {
    return failures < 3 ? MINUTE : null;
  }
}

describeDatabases('a listener with a handshake', (database) => {
  const dns = new FakeDns();
  let resolving = () => {};
  const apps = appsOn(database);
  let app: TestApp;

  const start = (handshake: { default?: 'none' | 'challenge'; origin?: string } = {}) =>
    apps.start({
      entities: [],
      webhooks: {
        publishedTypes: ['tried'],
        handshake: { origin: ORIGIN, ...handshake },
        parts: { retrySchedule: ThreeTimes },
        security: {
          ...LOOPBACK,
          lookup: (name, options, callback) => {
            resolving();
            dns.lookup(name, options, callback);
          },
        },
      },
    });

  beforeEach(async () => {
    resolving = () => {};
    app = await start();
  });

  const listen = (input: object = {}, by = app) =>
    by.listeners.create({ events: ['tried'], url: app.receiver.url, handshake: 'challenge', ...input });
  const publish = (n: number) => app.webhooks.publish('tried', { n });
  /** Drains the dispatcher, and returns the requests that were received meanwhile. */
  async function drained(by = app): Promise<ReceivedRequest[]> {
    app.receiver.clear();
    await by.dispatcher.drain();
    return [...app.receiver.requests];
  }
  const kinds = (requests: readonly ReceivedRequest[]) =>
    requests.map(({ method, json }) => (method === 'OPTIONS' ? method : (json as { type: string }).type));
  const { advance } = apps;
  afterEach(() => vi.restoreAllMocks());

  describe('of the kind challenge', () => {
    it('gets a signed request before anything else, and then the deliveries that were held', async () => {
      const { id, state, secret } = await listen();
      expect(state).toBe('pending');
      await publish(1);
      app.receiver.respond({ status: 204 });
      const [refused, ...more] = await drained();
      expect(more).toEqual([]);
      const { payload } = app.receiver.verify(refused as ReceivedRequest, secret);
      expect(payload).toMatchObject({ type: 'webhook.challenge', data: { listenerId: id } });
      expect(await app.deliveries.list({ state: 'held' })).toMatchObject({ items: [{ attemptCount: 0 }] });

      app.receiver.passHandshakes();
      expect(await drained()).toEqual([]);
      advance(MINUTE);
      const passing = await drained();
      expect(kinds(passing)).toEqual(['webhook.challenge', 'tried']);
      const challengeIn = ({ json }: ReceivedRequest) => (json as { data: { challenge: string } }).data.challenge;
      expect(challengeIn(passing[0] as ReceivedRequest)).not.toBe(challengeIn(refused as ReceivedRequest));
      expect(await app.listeners.get(id)).toMatchObject({ state: 'active', handshakeError: null });

      await publish(2);
      expect(kinds(await drained())).toEqual(['tried']);
    });

    it.each<{
      answer: string;
      passes: boolean;
      body: (challenge: string, request: ReceivedRequest) => string | Buffer;
    }>([
      { answer: 'the challenge', passes: true, body: (challenge) => challenge },
      { answer: 'the challenge and a line break', passes: true, body: (challenge) => `${challenge}\n` },
      { answer: 'JSON with it', passes: true, body: (challenge) => JSON.stringify({ challenge, by: 'us' }) },
      { answer: 'another challenge', passes: false, body: (challenge) => challenge.replace(/.$/, '!') },
      { answer: 'nothing', passes: false, body: () => '' },
      { answer: 'the request itself', passes: false, body: (_, { rawBody }) => rawBody },
      { answer: 'it among other text', passes: false, body: (challenge) => `we were sent ${challenge}` },
      { answer: 'it behind 5 KB', passes: false, body: (challenge) => ' '.repeat(5_000) + challenge },
    ])('takes $answer for consent: $passes', async ({ passes, body }) => {
      const { id } = await listen();
      app.receiver.respond((request) => ({
        status: 200,
        body: body((request.json as { data: { challenge: string } }).data.challenge, request),
      }));
      await drained();
      const expected = passes
        ? { state: 'active', handshakeError: null }
        : { state: 'pending', handshakeError: 'HANDSHAKE_REFUSED' };
      expect(await app.listeners.get(id)).toMatchObject(expected);
    });

    it('counts a redirect as a refusal, and does not follow it', async () => {
      const { id } = await listen();
      app.receiver.respond({ status: 307, headers: { location: `${app.receiver.url}/other` } });
      expect(await drained()).toHaveLength(1);
      expect(await app.listeners.get(id)).toMatchObject({ state: 'pending', handshakeError: 'REDIRECT' });
    });

    it('is disabled with a reason when the schedule ends, and gets a new handshake when it is enabled', async () => {
      const { id } = await listen();
      const disabled: ListenerDisabledLifecycleEvent[] = [];
      app.app
        .get(EventEmitter2)
        .on(LIFECYCLE_EVENTS.listenerDisabled, (event: ListenerDisabledLifecycleEvent) => disabled.push(event));
      await publish(1);
      app.receiver.respond({ status: 500 });
      for (let n = 0; n < 5; n++) {
        expect(await drained()).toHaveLength(n < 3 ? 1 : 0);
        advance(MINUTE);
      }
      const disabledReason = 'the handshake failed: HTTP_STATUS';
      expect(await app.listeners.get(id)).toMatchObject({ state: 'disabled', disabledReason });
      expect(disabled).toMatchObject([{ listenerId: id, url: expect.any(String), reason: disabledReason }]);
      expect(await app.deliveries.counts()).toMatchObject({ held: 1 });

      app.receiver.passHandshakes().respond({ status: 204 });
      expect(await app.listeners.enable(id)).toMatchObject({ state: 'pending', disabledReason: null });
      expect(kinds(await drained())).toEqual(['webhook.challenge', 'tried']);
    });

    it('gets a new handshake for a new URL, and not for other changes', async () => {
      app.receiver.passHandshakes();
      const { id } = await listen();
      await drained();
      expect(await app.listeners.update(id, { description: 'x', url: app.receiver.url })).toMatchObject({
        state: 'active',
      });
      const url = `${app.receiver.url}/moved`;
      expect(await app.listeners.update(id, { url })).toMatchObject({ state: 'pending' });
      await publish(1);
      // The pause after the previous handshake.
      advance(5_000);
      const requests = await drained();
      expect(kinds(requests)).toEqual(['webhook.challenge', 'tried']);
      expect(requests.map((request) => request.url)).toEqual(['/hooks/moved', '/hooks/moved']);
      expect(await app.listeners.update(id, { handshake: 'cloudevents' })).toMatchObject({ state: 'pending' });
      expect(await app.listeners.update(id, { handshake: 'none' })).toMatchObject({ state: 'active' });
      expect(await drained()).toEqual([]);
    });

    it('gets no more handshakes when it is enabled or moved to other URLs again and again', async () => {
      const { id } = await listen();
      const asked: number[] = [];
      for (let second = 0; second < 100; second++) {
        const by =
          second % 2 ? app.listeners.enable(id) : app.listeners.update(id, { url: `${app.receiver.url}/${second}` });
        await by;
        const { length } = await drained();
        expect(length).toBeLessThanOrEqual(1);
        if (length) asked.push(second);
        advance(1_000);
      }
      // A pause of 5 s, which doubles each time.
      expect(asked).toEqual([0, 5, 15, 35, 75]);
    });

    it('keeps the pause when a handshake passes, and forgets it after an hour', async () => {
      const { id } = await listen();
      app.receiver.passHandshakes();
      const move = (n: number) => app.listeners.update(id, { url: `${app.receiver.url}/${n}` });
      expect(await drained()).toHaveLength(1);
      await move(1);
      expect(await drained()).toHaveLength(0);
      advance(5_000);
      expect(await drained()).toHaveLength(1);
      await move(2);
      advance(5_000);
      expect(await drained()).toHaveLength(0);
      advance(5_000);
      expect(await drained()).toHaveLength(1);
      advance(2 * 60 * MINUTE);
      for (const n of [3, 4]) {
        await move(n);
        advance(5_000);
        expect(await drained()).toHaveLength(1);
      }
    });

    it('sends a host a limited number of requests a minute, whatever owners its listeners have, and leaves some of them to other owners', async () => {
      const named = (owner: string | null, count: number) =>
        Promise.all(Array.from({ length: count }, (_, n) => listen({ owner, url: `${app.receiver.url}/${n}` })));
      /** Within a few seconds: a process sends four handshakes of one owner at a time. */
      const asked = async () => {
        let count = 0;
        for (let second = 0; second < 5; second++) {
          count += (await drained()).length;
          advance(1_000);
        }
        return count;
      };
      await named('many', 25);
      expect(await asked()).toBe(10);
      await named('few', 3);
      expect(await asked()).toBe(3);
      await named(null, 60);
      // The rest of the 60 requests to the host.
      expect(await asked()).toBe(47);
      // After a minute the limit starts again. Handshakes that were already sent are tried again.
      advance(MINUTE);
      expect(await asked()).toBe(60);
    });

    it('does not pass by an answer from its former URL', async () => {
      const { id } = await listen();
      let moved: Promise<unknown> | undefined;
      app.receiver.respond((request) => {
        const { challenge } = (request.json as { data: { challenge: string } }).data;
        if (request.url !== '/hooks') return { status: 500 };
        moved = app.listeners.update(id, { url: `${app.receiver.url}/moved` });
        return { status: 200, body: challenge, delayUntil: moved };
      });
      await drained();
      await moved;
      expect(await app.listeners.get(id)).toMatchObject({ state: 'pending', url: `${app.receiver.url}/moved` });
    });

    it('is neither disabled nor counted down by requests to its former URL', async () => {
      app.receiver.passHandshakes();
      const { id } = await listen();
      await drained();
      await publish(1);
      let moved: Promise<unknown> | undefined;
      app.receiver.respond(() => {
        moved ??= app.listeners.update(id, { url: 'https://127.0.0.1:1/moved' });
        return { status: 410, delayUntil: moved };
      });
      await app.dispatcher.runOnce();
      expect(await app.listeners.get(id)).toMatchObject({ state: 'pending', disabledReason: null });
      // The listener has its three tries there.
      for (let n = 0; n < 2; n++) {
        advance(MINUTE);
        await app.dispatcher.drain();
        expect(await app.listeners.get(id)).toMatchObject({ state: 'pending' });
      }
      advance(MINUTE);
      await app.dispatcher.drain();
      expect(await app.listeners.get(id)).toMatchObject({ disabledReason: 'the handshake failed: CONNECTION_REFUSED' });
    });

    it('gets the handshake from one process at a time, and from another when that process has died', async () => {
      const other = await start();
      other.clock.set(app.clock.now());
      await listen();
      const arrived = app.receiver.waitFor(1);
      let answer = () => {};
      app.receiver.respond({ status: 500, delayUntil: new Promise<void>((resolve) => (answer = resolve)) });
      const draining = app.dispatcher.drain();
      await arrived;
      await other.dispatcher.drain();
      expect(app.receiver.requests).toHaveLength(1);

      app.receiver.passHandshakes();
      advance(MINUTE);
      await other.dispatcher.drain();
      expect(kinds(app.receiver.requests)).toEqual(['webhook.challenge', 'webhook.challenge']);
      answer();
      await draining;
      // A late answer of the first process is ignored.
      expect(await app.listeners.list()).toMatchObject({ items: [{ state: 'active', handshakeError: null }] });
    });

    it('counts no try whose lease had expired', async () => {
      const other = await start();
      other.clock.set(app.clock.now());
      await listen();
      const arrived = app.receiver.waitFor(1);
      let answer = () => {};
      const late = new Promise<void>((resolve) => (answer = resolve));
      app.receiver.respond((_, n) => ({ status: 500, ...(n === 0 ? { delayUntil: late } : {}) }));
      const draining = app.dispatcher.drain();
      await arrived;
      advance(MINUTE);
      await other.dispatcher.drain();
      answer();
      await draining;
      advance(MINUTE);
      await other.dispatcher.drain();
      expect(app.receiver.requests).toHaveLength(3);
      // Two of three tries counted.
      expect(await app.listeners.list()).toMatchObject({ items: [{ state: 'pending' }] });
    });

    it('gets the handshake from a running dispatcher without a wake-up', async () => {
      app.receiver.passHandshakes();
      app.dispatcher.start();
      const arrived = app.receiver.waitForRequest(({ json }) => (json as { type: string }).type === 'tried');
      await listen();
      await publish(1);
      await arrived;
      expect(kinds(app.receiver.requests)).toEqual(['webhook.challenge', 'tried']);
    });

    it('shows its owner only that an address was blocked', async () => {
      dns.set('rebind.example', '93.184.215.14');
      const { id } = await listen({ url: 'https://rebind.example/', owner: 'acme' });
      dns.set('rebind.example', '10.11.12.13');
      const RESOLVING_MS = 1_234;
      resolving = () => app.clock.advance(RESOLVING_MS);
      await drained();
      const shown = await app.listeners.forOwner('acme').get(id);
      expect(shown).toMatchObject({ state: 'pending', handshakeError: 'ADDRESS_BLOCKED' });
      expect(JSON.stringify(shown)).not.toContain('10.11');
      // The next try is timed from the start of this one. Its time is shown, and would reveal how long the name
      // lookup took.
      const asked = dns.queries.length;
      advance(MINUTE - RESOLVING_MS);
      await drained();
      expect(dns.queries).toHaveLength(asked + 1);
    });

    it('gets no test event and no resend before its handshake has passed', async () => {
      const { id } = await listen();
      await publish(1);
      await drained();
      const { items } = await app.deliveries.list();
      await expect(app.listeners.sendTest(id)).rejects.toMatchObject({ code: 'LISTENER_PENDING', httpStatus: 409 });
      await expect(app.deliveries.resend(items[0]?.id ?? '')).rejects.toMatchObject({ code: 'LISTENER_PENDING' });
    });

    it('is listed by its state, and can be disabled and removed like any other listener', async () => {
      const { id } = await listen();
      const { id: other } = await listen();
      expect((await app.listeners.list({ state: 'pending' })).items).toHaveLength(2);
      expect(await app.listeners.disable(id)).toMatchObject({ state: 'disabled' });
      await app.listeners.remove(other);
      expect(await drained()).toEqual([]);
      advance(10 * MINUTE);
      expect(await drained()).toEqual([]);
    });
  });

  describe('of the kind cloudevents', () => {
    const grant = (headers: Record<string, string>, status = 200) =>
      app.receiver.respond((request) => (request.method === 'OPTIONS' ? { status, headers } : { status: 204 }));

    it('gets an OPTIONS request, and the name of the sender in each delivery', async () => {
      await listen({ handshake: 'cloudevents' });
      await publish(1);
      grant({ 'webhook-allowed-origin': ORIGIN.toUpperCase(), 'webhook-allowed-rate': '*' });
      const requests = await drained();
      expect(kinds(requests)).toEqual(['OPTIONS', 'tried']);
      expect(requests.map(({ headers }) => headers['webhook-request-origin'])).toEqual([ORIGIN, ORIGIN]);
      expect(requests[0]?.rawBody).toHaveLength(0);
    });

    it.each([
      { what: 'another origin', headers: { 'webhook-allowed-origin': 'example.com' }, status: 200 },
      { what: 'no header', headers: { allow: 'POST' }, status: 204 },
      { what: 'a rate of 0', headers: { 'webhook-allowed-origin': '*', 'webhook-allowed-rate': '0' }, status: 200 },
    ])('takes an answer with $what for no permission', async ({ headers, status }) => {
      const { id } = await listen({ handshake: 'cloudevents' });
      grant({ ...headers } as never, status);
      await drained();
      expect(await app.listeners.get(id)).toMatchObject({ state: 'pending', handshakeError: 'HANDSHAKE_REFUSED' });
    });

    it('gets at most as many requests a minute as its receiver granted', async () => {
      const { id } = await listen({ handshake: 'cloudevents' });
      for (let n = 0; n < 5; n++) await publish(n);
      grant({ 'webhook-allowed-origin': '*', 'webhook-allowed-rate': '2' });
      expect(kinds(await drained())).toEqual(['OPTIONS', 'tried', 'tried']);
      expect(await app.listeners.get(id)).toMatchObject({ state: 'active', allowedRate: 2 });
      await publish(5);
      expect(await drained()).toEqual([]);
      advance(MINUTE + MINUTE / 20);
      expect(kinds(await drained())).toEqual(['tried', 'tried']);
    });

    it('needs a name for the sender', async () => {
      const nameless = await start({ origin: undefined as never });
      await expect(listen({ handshake: 'cloudevents' }, nameless)).rejects.toMatchObject({
        code: 'HANDSHAKE_ORIGIN_MISSING',
      });
    });

    it('keeps its deliveries pending without an attempt, with one log line, while its sender has no name any more', async () => {
      grant({ 'webhook-allowed-origin': '*' });
      const { id } = await listen({ handshake: 'cloudevents' });
      await drained();
      const { id: unasked } = await listen({ handshake: 'cloudevents' });
      const { id: other } = await listen({ handshake: 'none' });

      const nameless = await start({ origin: undefined as never });
      const said = listenToLog();
      nameless.clock.set(app.clock.now());
      for (let n = 0; n < 4; n++) {
        await publish(n);
        expect(kinds(await drained(nameless))).toEqual(['tried']); // The request goes to the other listener.
        advance(MINUTE);
      }
      expect(said.errors).toEqual([
        expect.stringMatching(/^HANDSHAKE_ORIGIN_MISSING: Listener lst_.* same handshake\.origin\.$/),
      ]);
      expect(await app.listeners.get(id)).toMatchObject({ state: 'active' });
      expect(await app.listeners.get(unasked)).toMatchObject({ state: 'pending', handshakeError: null });
      for (const listenerId of [id, unasked]) {
        const { items } = await app.deliveries.list({ listenerId });
        expect(items.map(({ attemptCount, lastErrorCode }) => [attemptCount, lastErrorCode])).toEqual(
          Array.from({ length: 4 }, () => [0, null]),
        );
      }

      // `handshake.origin` is set again.
      await app.listeners.remove(other);
      const arrived = await drained();
      expect(kinds(arrived).toSorted()).toEqual(['OPTIONS', ...Array<string>(8).fill('tried')]);
      expect(new Set(arrived.map(({ headers }) => headers['webhook-request-origin']))).toEqual(new Set([ORIGIN]));

      // The option is not needed either when no listener needs it.
      for (const listenerId of [id, unasked]) await app.listeners.update(listenerId, { handshake: 'none' });
      await publish(4);
      advance(MINUTE);
      expect(kinds(await drained(nameless))).toEqual(['tried', 'tried']);
      expect(said.errors).toHaveLength(1);
      expect(said.news).toEqual(['No listener waits for a missing option of this application any more.']);
    });
  });

  describe('that the application requires', () => {
    it('is the default, which a customer cannot turn off at any URL', async () => {
      const strict = await start({ default: 'challenge' });
      const mine = strict.listeners.forOwner('acme');
      const input = { events: ['tried'], url: app.receiver.url };
      expect(await mine.create(input)).toMatchObject({ handshake: 'challenge', state: 'pending' });
      await expect(mine.create({ ...input, handshake: 'none' })).rejects.toMatchObject({ code: 'HANDSHAKE_REQUIRED' });

      const { id } = await strict.listeners.create({ ...input, owner: 'acme', handshake: 'none' });
      expect(await mine.update(id, { handshake: 'none', description: 'x' })).toMatchObject({ state: 'active' });
      expect(await mine.update(id, { url: `${input.url}/new` })).toMatchObject({
        handshake: 'challenge',
        state: 'pending',
      });
      await expect(mine.update(id, { handshake: 'none' })).rejects.toMatchObject({ code: 'HANDSHAKE_REQUIRED' });
    });
  });
});
