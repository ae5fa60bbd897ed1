import type { HttpService } from '@nestjs/axios';
import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { describe, expect, it } from 'vitest';
import {
  EVERY_OWNER,
  EventService,
  getWebhooksHttpToken,
  RetrySchedule,
  SignatureScheme,
  Webhook,
  type Attempt,
  type WebhooksModuleOptions,
} from 'nestjs-entity-webhooks';
import { appsOn } from '../support/apps-on.js';
import { describeDatabases } from '../support/databases.js';
import { sharedApp } from '../support/shared-app.js';
import type { TestApp } from '../support/webhooks-app.js';

@Webhook({ owner: EVERY_OWNER })
@Entity('detail_note')
class Note {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'int', default: 0 })
  step: number;
}

class EveryMinute extends RetrySchedule {
  override delayMs(failures: number): number | null {
    return failures < 4 ? MINUTE : null;
  }
}

/** Sends the key itself, like `X-Gitlab-Token`. */
class TokenScheme extends SignatureScheme {
  override readonly name = 'verbatim';
  override sign({ secrets }: { secrets: readonly string[] }): Record<string, string> {
    return { 'x-verbatim': `key=${secrets[0]?.replace('whsec_', '')}` };
  }
  override verify(): boolean {
    return false;
  }
}

const MINUTE = 60_000;
const WEBHOOKS = {
  parts: { retrySchedule: EveryMinute, signatureSchemes: [TokenScheme] },
  dispatcher: { circuit: { failures: 3, cooldownMs: 30 * MINUTE, maxCooldownMs: 30 * MINUTE } },
} satisfies WebhooksModuleOptions;

const rowsOf = async ({ dataSource }: TestApp, table: string): Promise<number> =>
  (await dataSource.query<unknown[]>(`SELECT seq FROM webhook_${table}`)).length;

describeDatabases('the details of an attempt', (database) => {
  const app = sharedApp(database, { entities: [Note], webhooks: WEBHOOKS });

  const listen = (input: object = {}) =>
    app.listeners.create({ events: ['note.*'], url: app.receiver.url, owner: null, ...input });
  const save = () => app.dataSource.getRepository(Note).save({ step: 1 });
  const only = async () => (await app.deliveries.list()).items[0]?.id ?? '';
  const attempts = async (): Promise<readonly Attempt[]> => (await app.deliveries.get(await only())).attempts;
  const sent = async (): Promise<Attempt> => {
    await save();
    await app.dispatcher.drain();
    return (await attempts()).at(-1) as Attempt;
  };

  it('that failed are its URL, its headers and its phases', async () => {
    await listen({ headers: { 'x-tenant': 'acme' } });
    app.receiver.respond({ status: 503, headers: { 'x-request-id': 'r1', 'retry-after': '7' } });
    const { url, requestHeaders, responseHeaders, phases, omittedHeaders } = await sent();
    const [arrived] = app.receiver.requests;
    expect(url).toBe(app.receiver.url);
    expect(requestHeaders).toEqual({
      'user-agent': arrived?.headers['user-agent'],
      'x-tenant': 'acme',
      'content-type': 'application/json',
      'webhook-id': arrived?.headers['webhook-id'],
      'webhook-timestamp': arrived?.headers['webhook-timestamp'],
      'webhook-signature': arrived?.headers['webhook-signature'],
    });
    expect(responseHeaders).toMatchObject({ 'x-request-id': 'r1', 'retry-after': '7' });
    expect(phases).toMatchObject({ connection: expect.stringMatching(/new|reused/) as string, tlsMs: null });
    expect(omittedHeaders).toBe(0);
  });

  it('that was accepted are not kept, and the attempt has no row of its own', async () => {
    await listen();
    expect(await sent()).toMatchObject({
      ...{ outcome: 'accepted', number: 1, trigger: 'schedule', triggeredBy: null },
      ...{ url: null, requestHeaders: null, responseHeaders: null, phases: null, omittedHeaders: 0 },
    });
    expect(await rowsOf(app, 'attempts')).toBe(0);
  });

  it('that failed first are in a row of the attempt, and the delivery is recorded once', async () => {
    await listen();
    app.receiver.respond([{ status: 500, body: 'out of order' }, { status: 204 }]);
    await sent();
    app.clock.advance(MINUTE);
    await app.dispatcher.drain();
    expect(await attempts()).toMatchObject([
      { number: 1, outcome: 'rejected', response: 'out of order', superseded: false, url: app.receiver.url },
      { number: 2, outcome: 'accepted', superseded: false, url: null },
    ]);
    expect([await rowsOf(app, 'deliveries'), await rowsOf(app, 'attempts')]).toEqual([1, 2]);
  });

  it('have no secret: no credentials, no cookie, no key, and nothing that an interceptor has set', async () => {
    const { axiosRef } = app.app.get<HttpService>(getWebhooksHttpToken());
    const interceptor = axiosRef.interceptors.request.use((config) => {
      config.headers.set('x-gateway', 'gate-pass');
      return config;
    });
    try {
      const { secret } = await listen({
        ...{
          schemes: ['standard', 'verbatim'],
          headers: { 'x-api-key': 'listener-key', 'x-pwd': 'listener-pwd', 'x-plain': 'shown' },
        },
        auth: { type: 'bearer', token: 'bearer-secret' },
      });
      const bare = secret.replace('whsec_', '');
      app.receiver.respond({
        status: 401,
        headers: {
          'set-cookie': 'sid=cookie-secret',
          'x-echo': `Bearer bearer-secret, ${bare}`,
          'www-authenticate': 'Bearer',
        },
      });
      const attempt = await sent();
      expect(attempt.requestHeaders).toMatchObject({
        ...{ authorization: '***', 'x-api-key': '***', 'x-pwd': '***', 'x-gateway': '***', 'x-verbatim': 'key=***' },
        ...{ 'x-plain': 'shown', 'webhook-id': app.receiver.requests[0]?.headers['webhook-id'] },
      });
      expect(attempt.responseHeaders).toMatchObject({
        ...{ 'set-cookie': '***', 'x-echo': '***, ***', 'www-authenticate': 'Bearer' },
      });
      const stored = JSON.stringify(await app.dataSource.query('SELECT * FROM webhook_attempts'));
      for (const text of ['bearer-secret', 'cookie-secret', 'listener-key', 'listener-pwd', 'gate-pass', bare])
        expect(stored).not.toContain(text);
      expect(app.receiver.requests[0]?.headers).toMatchObject({
        'x-gateway': 'gate-pass',
        'x-verbatim': `key=${bare}`,
      });
    } finally {
      axiosRef.interceptors.request.eject(interceptor);
    }
  });

  it('have at most 2 KB of headers, and say how many are left out', async () => {
    const many = (prefix: string) =>
      Object.fromEntries(Array.from({ length: 15 }, (_, n) => [`${prefix}-${n}`, 'v'.repeat(300)]));
    await listen({ headers: many('x-own') });
    app.receiver.respond({ status: 500, headers: { ...many('x-answer'), 'x-short': 'kept' } });
    const { requestHeaders, responseHeaders, omittedHeaders } = await sent();
    const bytes =
      Buffer.byteLength(JSON.stringify(requestHeaders)) + Buffer.byteLength(JSON.stringify(responseHeaders));
    expect(bytes).toBeLessThanOrEqual(2_048);
    // A short header has room although a long header before it had none.
    expect(requestHeaders).toHaveProperty('webhook-id');
    expect(responseHeaders).toMatchObject({ 'x-short': 'kept', 'x-answer-0': `${'v'.repeat(256)}…` });
    const [arrived] = app.receiver.requests;
    expect(Object.keys(arrived?.headers ?? {})).toContain('x-own-14');
    expect(omittedHeaders).toBeGreaterThan(20);
  });

  it('are erased with the content of the event', async () => {
    await listen();
    app.receiver.respond({ status: 500 });
    const { url } = await sent();
    expect(url).toBe(app.receiver.url);
    await app.app.get(EventService).erase((await app.deliveries.get(await only())).eventId);
    expect(await attempts()).toMatchObject([{ outcome: 'rejected', url: null, requestHeaders: null, phases: null }]);
  });

  it('do not name to a customer who asked for the attempt', async () => {
    const { id: withoutOwner } = await listen();
    app.receiver.respond([{ status: 500 }, { status: 204 }]);
    await sent();
    await app.deliveries.withActor('operator@example.com').resend(await only());
    await app.dispatcher.drain();
    const triggers = (await attempts()).map(({ trigger, triggeredBy }) => [trigger, triggeredBy]);
    expect(triggers).toEqual([
      ['schedule', null],
      ['resend', 'operator@example.com'],
    ]);
    await app.listeners.remove(withoutOwner);
    const { id } = await listen({ owner: 'acme' });
    const { deliveryId } = await app.listeners.withActor('operator@example.com').sendTest(id);
    await app.dispatcher.drain();
    const ofCustomer = await app.deliveries.forOwner('acme').get(deliveryId);
    expect(ofCustomer.attempts).toMatchObject([{ trigger: 'test', triggeredBy: null }]);
    const [ofOperator] = (await app.deliveries.get(deliveryId)).attempts;
    expect(ofOperator?.triggeredBy).toBe('operator@example.com');
  });
});

describeDatabases('the trigger of an attempt', (database) => {
  const app = sharedApp(database, { entities: [Note], webhooks: WEBHOOKS });
  const listen = () => app.listeners.create({ events: ['note.*'], url: app.receiver.url });
  const save = () => app.dataSource.getRepository(Note).save({ step: 1 });
  const triggersOf = async (id: string) => (await app.deliveries.get(id)).attempts.map(({ trigger }) => trigger);
  const BEGIN = new Date(0);

  it('is the schedule again after the attempt that was asked for', async () => {
    await listen();
    app.receiver.respond([{ status: 500 }, { status: 500 }, { status: 204 }]);
    await save();
    await app.dispatcher.drain();
    const [delivery] = (await app.deliveries.list()).items;
    const id = delivery?.id ?? '';
    await app.deliveries.resend(id);
    await app.dispatcher.drain();
    app.clock.advance(MINUTE);
    await app.dispatcher.drain();
    expect(await triggersOf(id)).toEqual(['schedule', 'resend', 'schedule']);
  });

  it('is a recovery, a replay, or one past event that was sent', async () => {
    const { id: listenerId } = await listen();
    app.receiver.respond({ status: 410 });
    await save();
    await app.dispatcher.drain();
    const [failed] = (await app.deliveries.list()).items;
    await app.listeners.enable(listenerId);
    app.receiver.respond({ status: 204 });
    const work = app.deliveries.withActor('night shift');
    await app.deliveries.discard({ listenerId, state: 'due' });
    expect(await work.recover({ since: BEGIN, state: ['exhausted', 'discarded'] })).toBe(1);
    await app.dispatcher.drain();
    const { attempts } = await app.deliveries.get(failed?.id ?? '');
    expect(attempts.at(-1)).toMatchObject({ trigger: 'recover', triggeredBy: 'night shift' });

    const { id: later } = await listen();
    expect(await work.replay({ listenerId: later, since: BEGIN })).toBe(1);
    const { id: last } = await listen();
    const one = await work.sendEvent(failed?.eventId ?? '', last);
    await app.dispatcher.drain();
    const [replayed] = (await app.deliveries.list({ listenerId: later })).items;
    for (const id of [replayed?.id ?? '', one.id])
      expect((await app.deliveries.get(id)).attempts).toMatchObject([
        { trigger: 'replay', triggeredBy: 'night shift' },
      ]);
  });

  it('is a probe when the circuit of the listener was open', async () => {
    await listen();
    app.receiver.respond({ status: 500 });
    await save();
    for (let n = 0; n < 3; n++) {
      await app.dispatcher.drain();
      app.clock.advance(MINUTE);
    }
    app.clock.advance(60 * MINUTE);
    app.receiver.respond({ status: 204 });
    await app.dispatcher.drain();
    const [delivery] = (await app.deliveries.list()).items;
    expect(await triggersOf(delivery?.id ?? '')).toEqual(['schedule', 'schedule', 'schedule', 'probe']);
  });
});

describeDatabases('log.details', (database) => {
  const apps = appsOn(database);
  const attemptsWith = async (details: 'all' | 'thin', status: number) => {
    const app = await apps.start({ entities: [Note], webhooks: { ...WEBHOOKS, log: { details } } });
    await app.listeners.create({ events: ['note.*'], url: app.receiver.url });
    app.receiver.respond({ status });
    await app.dataSource.getRepository(Note).save({ step: 1 });
    await app.dispatcher.drain();
    const [delivery] = (await app.deliveries.list()).items;
    const { attempts } = await app.deliveries.get(delivery?.id ?? '');
    return { attempts, rows: await rowsOf(app, 'attempts'), url: app.receiver.url };
  };

  describe("'all'", () => {
    it('keeps the details of an accepted attempt', async () => {
      const { attempts, rows, url } = await attemptsWith('all', 204);
      expect(attempts).toMatchObject([{ number: 1, outcome: 'accepted', url, phases: { connection: 'new' } }]);
      expect(rows).toBe(1);
    });
  });

  describe("'thin'", () => {
    it('keeps no details, not even of an attempt that failed', async () => {
      const { attempts, rows } = await attemptsWith('thin', 500);
      expect(attempts).toMatchObject([{ number: 1, outcome: 'rejected', status: 500, url: null, phases: null }]);
      expect(rows).toBe(0);
    });
  });
});
