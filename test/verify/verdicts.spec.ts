import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { DataSource } from 'typeorm';
import { GoogleCodeScheme, StandardScheme, type WebhooksModuleOptions } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { flipped, returned, startVerifyApp, TYPE, without, type VerifyApp } from './verify-app.js';

const DAY = 24 * 60 * 60 * 1_000;
const HOUR = 60 * 60 * 1_000;
const newSecret = () => `whsec_${randomBytes(32).toString('base64')}`;

interface StoredEvent {
  id: string;
  payload: string;
}

async function newestEvent({ app }: VerifyApp): Promise<StoredEvent> {
  const [row] = await app
    .get(DataSource)
    .query<StoredEvent[]>('select id, payload from webhook_events order by seq desc limit 1');
  return row!;
}

describeDatabases('A receiver that asks whether a webhook is genuine', (db) => {
  let database: FreshDatabase;
  /** Of the tests without options, one after the other. */
  let shared: VerifyApp;
  let test: VerifyApp;

  beforeAll(async () => {
    database = await db.create();
    shared = await startVerifyApp({ database: database.options });
  });
  afterAll(async () => {
    await shared?.close();
    await database.drop();
  });
  afterEach(async () => {
    // One database for all: listeners of one test must not receive the events of the next.
    for (const { id } of (await test.listeners.list({ limit: 100 })).items) await test.listeners.remove(id);
    if (test !== shared) await test.close();
  });
  const start = async (webhooks?: WebhooksModuleOptions) => {
    if (webhooks) return (test = await startVerifyApp({ database: database.options, webhooks }));
    test = shared;
    test.receiver.respond({ status: 204 }).clear();
    test.clock.set(Math.max(test.clock.now(), Date.now()));
    return test;
  };

  it('gets VERIFIED, in plain text and with no-store, when it posts back a webhook unchanged', async () => {
    const { listeners, receiver, deliver, ask } = await start();
    await listeners.create({ events: [TYPE], url: receiver.url });

    const response = await ask(returned(await deliver()));

    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toMatch(/^text\/plain\b/);
    expect(response.headers.get('cache-control')).toBe('no-store');
    expect(await response.text()).toBe('VERIFIED');
  });

  it('gets the same INVALID when one byte, the id, the timestamp or the signature differs', async () => {
    const { listeners, receiver, deliver, ask, clock } = await start();
    await listeners.create({ events: [TYPE], url: receiver.url });
    const other = await deliver();
    clock.advance(10_000);
    const request = await deliver();
    const { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signature } = request.headers;
    expect(id).not.toBe(other.headers['webhook-id']);

    const refused = {
      'a byte in the middle': returned(request, {}, flipped(request.rawBody, 30)),
      'the first byte, which makes it no JSON': returned(request, {}, flipped(request.rawBody, 0)),
      'a byte more': returned(request, {}, Buffer.concat([request.rawBody, Buffer.from(' ')])),
      'a byte less': returned(request, {}, request.rawBody.subarray(0, -1)),
      'no body': returned(request, {}, Buffer.alloc(0)),
      'the id of another event': returned(request, { 'webhook-id': String(other.headers['webhook-id']) }),
      'an id that never was': returned(request, { 'webhook-id': `${String(id).slice(0, -1)}_` }),
      'the id in upper case': returned(request, { 'webhook-id': String(id).toUpperCase() }),
      'an id with accents': returned(request, { 'webhook-id': 'évt' }),
      'a long id': returned(request, { 'webhook-id': 'e'.repeat(5_000) }),
      'another timestamp': returned(request, { 'webhook-timestamp': String(Number(timestamp) + 1) }),
      'a timestamp that is read as the same number': returned(request, {
        'webhook-timestamp': `${String(timestamp)}.0`,
      }),
      'the signature of another event': returned(request, {
        'webhook-signature': String(other.headers['webhook-signature']),
      }),
      'a signature cut short': returned(request, { 'webhook-signature': String(signature).slice(0, -4) }),
      'the whole of another event under this id': returned(other, { 'webhook-id': String(id) }),
      'no id': without(returned(request), 'webhook-id'),
      'no timestamp': without(returned(request), 'webhook-timestamp'),
      'no signature': without(returned(request), 'webhook-signature'),
    };
    for (const [what, given] of Object.entries(refused)) {
      const response = await ask(given);
      expect([what, response.status, await response.text()]).toEqual([what, 200, 'INVALID']);
    }
    expect(await test.verdict(returned(request)), 'untouched, after all of them').toBe('VERIFIED');
  });

  it('gets INVALID for a signature by a listener that did not receive the event, also without an owner', async () => {
    const { listeners, receiver, deliver, verdict } = await start({ publishedTypes: [TYPE, 'note.read'] });
    await listeners.create({ events: [TYPE], url: receiver.url });
    const stranger = await listeners.create({ events: ['note.read'], url: receiver.url });
    const request = await deliver();
    const signedBy = (secret: string) => {
      const id = String(request.headers['webhook-id']);
      const timestamp = Number(request.headers['webhook-timestamp']);
      return new StandardScheme().sign({ id, timestamp, body: request.rawBody, secrets: [secret] });
    };

    expect(await verdict(returned(request, signedBy(stranger.secret)))).toBe('INVALID');
    expect(await verdict(returned(request, signedBy(newSecret())))).toBe('INVALID');
  });

  it('gets INVALID for a genuine signature of one listener over a body that only another listener received', async () => {
    const { listeners, receiver, deliver, verdict } = await start();
    const plain = await listeners.create({ events: [TYPE], url: `${receiver.url}/plain` });
    await listeners.create({ events: [TYPE], url: `${receiver.url}/xml`, format: 'xml' });
    await deliver();
    const xml = await receiver.waitForRequest(({ url }) => url.endsWith('/xml'));
    const id = String(xml.headers['webhook-id']);
    const timestamp = Number(xml.headers['webhook-timestamp']);
    const forged = new StandardScheme().sign({ id, timestamp, body: xml.rawBody, secrets: [plain.secret] });

    expect(await verdict(returned(xml, forged))).toBe('INVALID');
    expect(await verdict(returned(xml))).toBe('VERIFIED');
  });

  it('gets VERIFIED for a rotated secret until 7 days after it stopped signing', async () => {
    const { listeners, receiver, deliver, verdict, clock } = await start();
    const listener = await listeners.create({ events: [TYPE], url: receiver.url });
    const before = await deliver();
    await listeners.rotateSecret(listener.id, { overlapMs: HOUR });

    expect(await verdict(returned(before)), 'while both sign').toBe('VERIFIED');
    clock.advance(HOUR + 7 * DAY - 1);
    expect(await verdict(returned(before)), '1 ms before the 7 days are over').toBe('VERIFIED');
    clock.advance(1);
    expect(await verdict(returned(before)), '7 days after').toBe('INVALID');
    expect(await verdict(returned(await deliver())), 'signed by the new secret').toBe('VERIFIED');
  });

  it('gets VERIFIED for a webhook of any age: the timestamp is only part of the signed data', async () => {
    const { listeners, receiver, deliver, verdict, clock } = await start();
    await listeners.create({ events: [TYPE], url: receiver.url });
    const request = await deliver();

    clock.advance(365 * DAY);

    expect(await verdict(returned(request))).toBe('VERIFIED');
  });

  it('gets VERIFIED for each of several listeners, also after one is disabled or removed', async () => {
    const { listeners, receiver, deliver, verdict } = await start();
    const gone = await listeners.create({ events: [TYPE], url: `${receiver.url}/0` });
    const off = await listeners.create({ events: [TYPE], url: `${receiver.url}/1` });
    await listeners.create({ events: [TYPE], url: `${receiver.url}/2` });
    await deliver();
    expect(new Set(receiver.requests.map(({ headers }) => headers['webhook-signature'])).size).toBe(3);
    await listeners.remove(gone.id);
    await listeners.disable(off.id);

    for (const request of receiver.requests) expect(await verdict(returned(request))).toBe('VERIFIED');
  });

  it('gets VERIFIED for the thin payload that was sent in place of a payload over the limit', async () => {
    const { listeners, receiver, deliver, verdict } = await start({ payload: { maxPayloadBytes: 1_024 } });
    const { secret } = await listeners.create({ events: [TYPE], url: receiver.url });
    const request = await deliver({ small: 'x', large: 'y'.repeat(1_500) });
    expect(request.rawBody.length).toBeLessThanOrEqual(1_024);

    expect(await verdict(returned(request))).toBe('VERIFIED');

    // The whole payload is stored, yet it was not sent: a genuine signature over it proves nothing.
    const row = await newestEvent(test);
    const id = String(request.headers['webhook-id']);
    expect(row.id).toBe(id);
    const body = Buffer.from(row.payload);
    const timestamp = Number(request.headers['webhook-timestamp']);
    const signed = new StandardScheme().sign({ id, timestamp, body, secrets: [secret] });
    expect(body.length).toBeGreaterThan(1_500);
    expect(await verdict(returned(request, signed, body))).toBe('INVALID');
  });

  it('gets VERIFIED for the exact body that a payload format made', async () => {
    const { listeners, receiver, deliver, verdict } = await start();
    await listeners.create({ events: [TYPE], url: receiver.url, format: 'xml' });
    const request = await deliver();
    expect(request.headers['content-type']).toBe('application/xml');

    expect(await verdict(returned(request))).toBe('VERIFIED');
    expect(await verdict(returned(request, {}, flipped(request.rawBody, 3)))).toBe('INVALID');
  });

  it('gets VERIFIED for google-code only if its listener uses that scheme', async () => {
    const { listeners, receiver, deliver, verdict } = await start();
    const secret = newSecret();
    await listeners.create({ events: [TYPE], url: `${receiver.url}/google`, schemes: ['google-code'] });
    const standard = await listeners.create({ events: [TYPE], url: `${receiver.url}/standard`, secret });
    await deliver();
    const google = await receiver.waitForRequest(({ url }) => url.endsWith('/google'));
    expect(google.headers['webhook-signature']).toBeUndefined();

    expect(await verdict(returned(google))).toBe('VERIFIED');
    expect(await verdict(returned(google, {}, flipped(google.rawBody, 20)))).toBe('INVALID');
    expect(await verdict(returned(google, { 'webhook-id': 'evt_none' }))).toBe('INVALID');
    const unused = new GoogleCodeScheme().sign({
      id: '',
      timestamp: 0,
      body: google.rawBody,
      secrets: [standard.secret],
    });
    expect(await verdict(without(returned(google, unused), 'google-code-project-hosting-hook-hmac'))).toBe('INVALID');
  });

  it('gets INVALID for an event that was not sent yet, although the signature is valid', async () => {
    const { listeners, receiver, webhooks, dispatcher, verdict, clock } = await start();
    const { secret } = await listeners.create({ events: [TYPE], url: receiver.url });
    await webhooks.publish(TYPE, { text: 'wait' });
    const row = await newestEvent(test);
    const body = Buffer.from(row.payload);
    const timestamp = Math.floor(clock.now() / 1_000);
    const made = {
      headers: {
        'webhook-id': row.id,
        'webhook-timestamp': String(timestamp),
        'content-type': 'application/json',
        ...new StandardScheme().sign({ id: row.id, timestamp, body, secrets: [secret] }),
      },
      body,
    };

    expect(await verdict(made), 'in the outbox').toBe('INVALID');
    await dispatcher.drain();
    expect(await verdict(made), 'sent').toBe('VERIFIED');
  });

  it('gets INVALID for a listener whose delivery is pending, although another listener received the same body', async () => {
    const { listeners, receiver, webhooks, dispatcher, verdict } = await start();
    await listeners.create({ events: [TYPE], url: receiver.url });
    const waiting = await listeners.create({ events: [TYPE], url: receiver.url });
    await listeners.disable(waiting.id);
    await webhooks.publish(TYPE, { text: 'one of two' });
    expect(await dispatcher.runOnce()).toEqual({ events: 1, attempts: 1 });
    const [sent] = await receiver.waitFor(1);
    const id = String(sent!.headers['webhook-id']);
    const timestamp = Number(sent!.headers['webhook-timestamp']);
    const signed = new StandardScheme().sign({ id, timestamp, body: sent!.rawBody, secrets: [waiting.secret] });

    expect(await verdict(returned(sent!))).toBe('VERIFIED');
    expect(await verdict(returned(sent!, signed)), 'held').toBe('INVALID');
    await listeners.enable(waiting.id);
    await dispatcher.drain();
    expect(await verdict(returned(sent!, signed)), 'sent').toBe('VERIFIED');
  });

  it('gets VERIFIED before it has answered the delivery', async () => {
    const { listeners, receiver, deliver, verdict } = await start();
    await listeners.create({ events: [TYPE], url: receiver.url });
    const verdicts: string[] = [];
    receiver.respond(async (request) => {
      verdicts.push(await verdict(returned(request)));
      return { status: 204 };
    });

    await deliver();

    expect(verdicts).toEqual(['VERIFIED']);
  });

  it('gets VERIFIED for each attempt of a delivery that failed before', async () => {
    const { listeners, receiver, deliver, dispatcher, verdict, clock } = await start();
    await listeners.create({ events: [TYPE], url: receiver.url });
    receiver.failTimes(1);
    const failed = await deliver();
    clock.advance(DAY);
    await dispatcher.drain();
    const [, again] = await receiver.waitFor(2);
    expect(again!.headers['webhook-timestamp']).not.toBe(failed.headers['webhook-timestamp']);

    expect(await verdict(returned(failed))).toBe('VERIFIED');
    expect(await verdict(returned(again!))).toBe('VERIFIED');
  });
});

describe('An event with more listeners than one page', () => {
  it('is verified for its oldest and its newest listener', async () => {
    const test = await startVerifyApp();
    try {
      const { listeners, receiver, deliver, verdict } = test;
      // 500 deliveries are read at a time: the oldest two of 502 are on the second page.
      const all = [];
      for (let i = 0; i < 502; i++) all.push(await listeners.create({ events: [TYPE], url: `${receiver.url}/${i}` }));
      await deliver();
      const to = (i: number) => receiver.requests.find(({ url }) => url.endsWith(`/hooks/${i}`))!;
      const oldest = all.map(({ id }, i) => ({ id, i })).toSorted((a, b) => (a.id < b.id ? -1 : 1));

      expect(await verdict(returned(to(oldest[0]!.i)))).toBe('VERIFIED');
      expect(await verdict(returned(to(oldest[501]!.i)))).toBe('VERIFIED');
      const unsigned = returned(to(0), { 'webhook-signature': 'v1,AAAA' });
      expect(await verdict(unsigned)).toBe('INVALID');
    } finally {
      await test.close();
    }
  });
});

describe('The time of an answer', () => {
  it('is a multiple of one step for an unknown id, a wrong signature and a genuine webhook', async () => {
    const test = await startVerifyApp();
    try {
      const { listeners, receiver, deliver, ask } = test;
      await listeners.create({ events: [TYPE], url: receiver.url });
      const request = await deliver({ text: 'z'.repeat(50_000) });
      const kinds = {
        genuine: returned(request),
        wrong: returned(request, { 'webhook-signature': 'v1,AAAA' }),
        unknown: returned(request, { 'webhook-id': 'evt_unknown' }),
      };
      const fastest: Record<string, number> = {};
      for (let round = 0; round < 5; round++) {
        for (const [kind, given] of Object.entries(kinds)) {
          const from = performance.now();
          await (await ask(given)).text();
          fastest[kind] = Math.min(fastest[kind] ?? Infinity, performance.now() - from);
        }
      }
      // No answer leaves before the first step of 50 ms, although the work takes less; a timer may be 1 ms early.
      for (const ms of Object.values(fastest)) expect(ms).toBeGreaterThanOrEqual(49);
    } finally {
      await test.close();
    }
  });
});
