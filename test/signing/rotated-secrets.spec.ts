import { createHmac } from 'node:crypto';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { Webhook as StandardWebhook } from 'standardwebhooks';
import { GoogleCodeScheme, StandardScheme, type CreateListenerInput } from 'nestjs-entity-webhooks';
import type { ReceivedRequest } from 'nestjs-entity-webhooks/testing';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { HOUR, Order, ThreeAttempts } from '../support/logged-orders.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const DAY = 24 * HOUR;

describeDatabases('the secrets of a listener', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({
      database: fresh.options,
      entities: [Order],
      webhooks: { parts: { retrySchedule: ThreeAttempts } },
    });
  });
  afterEach(async () => {
    app.clock.set(Date.now());
    app.receiver.respond({ status: 204 }).clear();
    for (const table of ['events', 'listeners', 'routes', 'route_paths', 'deliveries', 'attempts', 'listener_state']) {
      await app.dataSource.query(`DELETE FROM webhook_${table}`);
    }
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  const listen = (input: Partial<CreateListenerInput> = {}) =>
    app.listeners.create({ events: ['*'], url: app.receiver.url, ...input });
  const save = (customerId = 'acme') => app.dataSource.manager.save(Order, { customerId });
  const requests = () => {
    const { requests } = app.receiver;
    const all = [...requests];
    app.receiver.clear();
    return all;
  };

  const send = async (): Promise<ReceivedRequest> => {
    await save();
    await app.dispatcher.drain();
    const [request, ...more] = requests();
    expect(more).toEqual([]);
    return request as ReceivedRequest;
  };
  const accepts = (request: ReceivedRequest, secret: string) => {
    const scheme = new StandardScheme();
    return scheme.verify({
      id: request.headers['webhook-id'] as string,
      timestamp: Number(request.headers['webhook-timestamp']),
      body: request.rawBody,
      secrets: [secret],
      headers: request.headers as Record<string, string>,
    });
  };
  const signatures = (request: ReceivedRequest) => String(request.headers['webhook-signature']).split(' ').length;

  it('the old secret signs together with the new one during the overlap, and not after its end', async () => {
    const { id, secret: old } = await listen();
    const { secret: fresh } = await app.listeners.rotateSecret(id);
    expect(fresh).not.toBe(old);
    const during = await send();
    expect([accepts(during, old), accepts(during, fresh), signatures(during)]).toEqual([true, true, 2]);
    // Newest first: a receiver that reads only one signature reads the new one.
    const [first] = String(during.headers['webhook-signature']).split(' ');
    during.headers['webhook-signature'] = first;
    expect([accepts(during, old), accepts(during, fresh)]).toEqual([false, true]);
    app.clock.advance(DAY - 1);
    const last = await send();
    expect([accepts(last, old), accepts(last, fresh)]).toEqual([true, true]);
    app.clock.advance(1);
    const after = await send();
    expect([accepts(after, old), accepts(after, fresh), signatures(after)]).toEqual([false, true, 1]);
  });

  it('both signatures are accepted by the standardwebhooks package', async () => {
    const { id, secret: old } = await listen();
    const { secret: fresh } = await app.listeners.rotateSecret(id);
    const request = await send();
    for (const secret of [old, fresh]) {
      const verified = new StandardWebhook(secret).verify(request.rawBody, request.headers as Record<string, string>);
      expect(verified).toMatchObject({ type: 'order.created' });
    }
  });

  it('with overlapMs 0 the old secret signs nothing more, not even a pending retry', async () => {
    const { id, secret: old } = await listen();
    app.receiver.respond([{ status: 500 }]);
    expect(accepts(await send(), old)).toBe(true);
    const { secret: fresh } = await app.listeners.rotateSecret(id, { overlapMs: 0 });
    app.clock.advance(HOUR);
    await app.dispatcher.drain();
    const [retry] = requests();
    expect([accepts(retry as ReceivedRequest, old), accepts(retry as ReceivedRequest, fresh)]).toEqual([false, true]);
  });

  it('rotating twice shortens an overlap and never lengthens it', async () => {
    const { id, secret: one } = await listen();
    const { secret: two } = await app.listeners.rotateSecret(id, { overlapMs: HOUR });
    const { secret: three } = await app.listeners.rotateSecret(id, { overlapMs: DAY });
    const all = (request: ReceivedRequest) => [one, two, three].map((secret) => accepts(request, secret));
    expect(all(await send())).toEqual([true, true, true]);
    app.clock.advance(HOUR);
    expect(all(await send())).toEqual([false, true, true]);
    await app.listeners.rotateSecret(id, { overlapMs: 0 });
    expect(all(await send())).toEqual([false, false, false]);
  });

  it('a secret that the caller gives is used for signing, and is shown once', async () => {
    const mine = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
    const created = await listen({ secret: mine });
    expect(created.secret).toBe(mine);
    expect(accepts(await send(), mine)).toBe(true);
    const next = `whsec_${Buffer.alloc(64, 8).toString('base64')}`;
    expect((await app.listeners.rotateSecret(created.id, { secret: next })).secret).toBe(next);
    expect(accepts(await send(), next)).toBe(true);
    const shown = JSON.stringify([await app.listeners.get(created.id), await app.listeners.list()]);
    expect(shown).not.toContain('whsec_');
  });

  it('google-code signs the body with HMAC-MD5 in its own header, alone or beside standard', async () => {
    const googleCode = 'google-code-project-hosting-hook-hmac';
    const { id, secret } = await listen({ schemes: ['google-code'] });
    const md5 = (request: ReceivedRequest, key: string) => createHmac('md5', key).update(request.rawBody).digest('hex');
    const alone = await send();
    expect(alone.headers[googleCode]).toBe(md5(alone, secret));
    expect(alone.headers).not.toHaveProperty('webhook-signature');
    expect(alone.headers['webhook-id']).toMatch(/^evt_/);
    await app.listeners.update(id, { schemes: ['standard', 'google-code'] });
    const both = await send();
    expect(both.headers[googleCode]).toBe(md5(both, secret));
    expect(accepts(both, secret)).toBe(true);
    app.receiver.verify(both, secret, { scheme: new GoogleCodeScheme() });
    const { secret: fresh } = await app.listeners.rotateSecret(id);
    const rotated = await send();
    expect(rotated.headers[googleCode]).toBe(md5(rotated, fresh));
    expect(signatures(rotated)).toBe(2);
  });
});
