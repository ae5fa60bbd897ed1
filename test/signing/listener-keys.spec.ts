import { Webhook as SvixWebhook } from 'svix';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import {
  generateSecret,
  generateSigningKey,
  GithubScheme,
  StripeScheme,
  type CreateListenerInput,
} from 'nestjs-entity-webhooks';
import { verifyIncomingWebhook } from 'nestjs-entity-webhooks/receiver';
import type { ReceivedRequest } from 'nestjs-entity-webhooks/testing';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const TYPE = 'note.sent';
const DAY = 24 * 60 * 60 * 1_000;

describeDatabases('the keys of a listener', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: { publishedTypes: [TYPE], secrets: { keys: [{ id: 'k1', key: Buffer.alloc(32, 1) }] } },
    });
  });
  afterEach(async () => {
    const { items } = await app.listeners.list();
    for (const { id } of items) await app.listeners.remove(id);
    app.receiver.clear();
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  const listen = (input: Partial<CreateListenerInput> = {}) =>
    app.listeners.create({ url: app.receiver.url, events: [TYPE], ...input });
  const send = async (): Promise<ReceivedRequest> => {
    app.receiver.clear();
    await app.webhooks.publish(TYPE, { text: 'é 🦜' });
    await app.dispatcher.drain();
    const [request, ...more] = app.receiver.requests;
    expect(more).toEqual([]);
    return request as ReceivedRequest;
  };
  const signatures = (request: ReceivedRequest) =>
    String(request.headers['webhook-signature'])
      .split(' ')
      .map((signature) => signature.split(',')[0]);

  it('are complete after concurrent rotations, and each of them signs', async () => {
    const { id, secret } = await listen();
    const raced = await Promise.all(Array.from({ length: 12 }, () => app.listeners.rotateSecret(id)));
    const request = await send();
    expect(signatures(request)).toHaveLength(13);
    for (const held of [secret, ...raced.map((listener) => listener.secret)]) app.receiver.verify(request, held);
    app.clock.advance(DAY);
    const alone = await send();
    expect(signatures(alone)).toHaveLength(1);
    // Exactly one rotation was the last.
    const last = raced.filter((listener) => {
      try {
        app.receiver.verify(alone, listener.secret);
        return true;
      } catch {
        return false;
      }
    });
    expect(last).toHaveLength(1);
  });

  it('are not lost when all of them are sealed again at the same time', async () => {
    const { id } = await listen();
    const [rotated] = await Promise.all([
      Promise.all(Array.from({ length: 8 }, () => app.listeners.rotateSecret(id))),
      ...Array.from({ length: 4 }, () => app.listeners.resealSecrets()),
    ]);
    const request = await send();
    for (const { secret } of rotated) app.receiver.verify(request, secret);
  });

  it('are at most 20 of a type, so that their signatures fit into headers; a rotation without overlap always succeeds', async () => {
    const { id } = await listen();
    for (let count = 1; count < 20; count++) await app.listeners.rotateSecret(id);
    expect(signatures(await send())).toHaveLength(20);
    await expect(app.listeners.rotateSecret(id)).rejects.toMatchObject({ code: 'TOO_MANY_SECRETS', httpStatus: 409 });
    const { secret } = await app.listeners.rotateSecret(id, { overlapMs: 0 });
    const request = await send();
    expect(signatures(request)).toHaveLength(1);
    app.receiver.verify(request, secret);
  });

  it('sign v1 and v1a in the same request, with separate rotations', async () => {
    const { id, secret, publicKeys } = await listen({ schemes: ['standard', 'standard-v1a'] });
    expect(publicKeys).toEqual([expect.stringMatching(/^whpk_/)]);
    const [first = ''] = publicKeys;
    const both = await send();
    expect(signatures(both)).toEqual(['v1', 'v1a']);
    app.receiver.verify(both, secret);
    app.receiver.verify(both, first);
    const svix = new SvixWebhook(secret);
    const sent = Object.fromEntries(Object.entries(both.headers).map(([name, value]) => [name, String(value)]));
    // The library checks the age with the system's clock.
    sent['webhook-timestamp'] = String(Math.floor(Date.now() / 1_000));
    expect(() => svix.verify(both.rawBody, sent)).toThrow('No matching signature');

    const rotated = await app.listeners.rotateSigningKey(id);
    const [second = ''] = rotated.publicKeys;
    expect(rotated.publicKeys).toEqual([second, first]);
    const during = await send();
    expect(signatures(during)).toEqual(['v1', 'v1a', 'v1a']);
    for (const key of [secret, first, second]) app.receiver.verify(during, key);
    app.clock.advance(DAY);
    const after = await send();
    expect(signatures(after)).toEqual(['v1', 'v1a']);
    app.receiver.verify(after, second);
    expect(() => app.receiver.verify(after, first)).toThrow('The signature does not match');
    expect((await app.listeners.get(id)).publicKeys).toEqual([second]);
  });

  it('include an Ed25519 pair once a scheme needs it, and the same pair when a scheme needs it again', async () => {
    const { id, publicKeys } = await listen();
    expect(publicKeys).toEqual([]);
    const { publicKeys: first } = await app.listeners.update(id, { schemes: ['standard-v1a'] });
    expect(first).toHaveLength(1);
    expect(signatures(await send())).toEqual(['v1a']);
    expect((await app.listeners.update(id, { schemes: ['standard'] })).publicKeys).toEqual([]);
    expect((await app.listeners.update(id, { schemes: ['standard-v1a'] })).publicKeys).toEqual(first);
    app.receiver.verify(await send(), first[0] as string);
  });

  it('may include a private key that several listeners share', async () => {
    const { privateKey, publicKey } = generateSigningKey();
    const { id, publicKeys, secret } = await listen({ schemes: ['standard-v1a'], privateKey });
    expect(publicKeys).toEqual([publicKey]);
    app.receiver.verify(await send(), publicKey);
    const next = generateSigningKey();
    const { publicKeys: both } = await app.listeners.rotateSigningKey(id, { privateKey: next.privateKey });
    expect(both).toEqual([next.publicKey, publicKey]);
    await expect(listen({ privateKey })).rejects.toMatchObject({ code: 'INVALID_LISTENER' });
    for (const privateKey of [publicKey, secret, 'whsk_AAAA']) {
      await expect(listen({ schemes: ['standard-v1a'], privateKey })).rejects.toMatchObject({ code: 'INVALID_SECRET' });
      await expect(app.listeners.rotateSigningKey(id, { privateKey })).rejects.toMatchObject({
        code: 'INVALID_SECRET',
      });
    }
  });

  it('sign for GitHub and Stripe receivers with the text of the secret as the key', async () => {
    const { secret } = await listen({ schemes: ['github', 'stripe', 'google-code', 'standard'] });
    const request = await send();
    app.receiver.verify(request, secret, { scheme: new GithubScheme() });
    app.receiver.verify(request, secret, { scheme: new StripeScheme() });
    app.receiver.verify(request, secret);
    const tampered = { ...request, rawBody: Buffer.from(request.rawBody.toString().replace('é', 'e')) };
    for (const scheme of [new GithubScheme(), new StripeScheme()]) {
      expect(() => app.receiver.verify(tampered, secret, { scheme })).toThrow('The signature does not match');
      expect(() => app.receiver.verify(request, generateSecret(), { scheme })).toThrow('The signature does not match');
    }
    // Stripe's signature covers the time, so nobody can replace an old time.
    const later = {
      ...request.headers,
      'webhook-timestamp': String(Number(request.headers['webhook-timestamp']) + 60),
    };
    const options = { headers: later, body: request.rawBody, secrets: secret, toleranceSeconds: Infinity };
    expect(() => verifyIncomingWebhook({ ...options, scheme: new StripeScheme() })).toThrow(
      'The signature does not match',
    );
  });

  it('replace a signature header that a listener sets itself', async () => {
    for (const name of ['X-Hub-Signature-256', 'Stripe-Signature', 'webhook-signature']) {
      await expect(listen({ headers: { [name]: 'forged' } })).rejects.toMatchObject({ code: 'INVALID_HEADER' });
    }
  });
});
