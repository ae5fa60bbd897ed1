// Not English on purpose. cspell:ignore Gehéimnis Leerzeichen mehr
import { createHmac } from 'node:crypto';
import { Logger } from '@nestjs/common';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { generateSecret, SignatureScheme, type SigningInput } from 'nestjs-entity-webhooks';
import { verifyIncomingWebhook } from 'nestjs-entity-webhooks/receiver';
import { createSqlite, type FreshDatabase } from '../support/fresh-database.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const sha = (secret: string, body: Buffer) => createHmac('sha256', secret).update(body).digest('hex');

/** The secrets that a team had before it used this library. */
class HouseScheme extends SignatureScheme {
  readonly name = 'house';
  sign({ secrets, body }: SigningInput) {
    return { 'x-house': sha(String(secrets[0]), body) };
  }
  verify() {
    return false;
  }
}

describe('a secret that a receiver already has', () => {
  let fresh: FreshDatabase;
  let app: TestApp;
  const warned: string[] = [];

  beforeEach(async () => {
    fresh = await createSqlite();
    app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: {
        publishedTypes: ['a.b'],
        parts: { signatureSchemes: [HouseScheme] },
        secrets: { keys: [{ id: 'k', key: Buffer.alloc(32, 'k') }] },
      },
    });
    warned.length = 0;
    vi.spyOn(Logger.prototype, 'warn').mockImplementation((text: unknown) => void warned.push(String(text)));
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await app.close();
    await fresh.drop();
  });

  const create = (secret: string, schemes: string[]) =>
    app.listeners.create({ events: ['*'], url: app.receiver.url, secret, schemes });
  const sent = async () => {
    app.receiver.clear();
    await app.webhooks.publish('a.b', {});
    await app.dispatcher.drain();
    const [request] = app.receiver.requests;
    if (!request) throw new Error('nothing was sent');
    return request;
  };

  it.each([
    'topsecret',
    'a8f5f167f44f4964e6c998dee827110c',
    'whsec_not-base64!!',
    'Gehéimnis mit Leerzeichen ☕ und mehr',
  ])('signs unchanged with github, stripe, google-code and a custom scheme: %s', async (secret) => {
    await create(secret, ['github', 'stripe', 'google-code', 'house']);
    const { headers, rawBody } = await sent();
    expect(headers['x-hub-signature-256']).toBe(`sha256=${sha(secret, rawBody)}`);
    expect(headers['x-house']).toBe(sha(secret, rawBody));
    expect(headers['stripe-signature']).toMatch(/v1=/);
    expect(warned.filter((text) => text.includes('can guess a secret'))).toHaveLength(
      Buffer.byteLength(secret) < 24 ? 1 : 0,
    );
    expect(warned.join()).not.toContain(secret);
  });

  it('is refused by the scheme that requires whsec_ and base64', async () => {
    for (const schemes of [['standard'], ['github', 'standard']]) {
      await expect(create('topsecret', schemes)).rejects.toMatchObject({ code: 'INVALID_SECRET', httpStatus: 400 });
    }
    const { id } = await create('topsecret', ['github']);
    await expect(app.listeners.update(id, { schemes: ['github', 'standard'] })).rejects.toMatchObject({
      code: 'INVALID_SECRET',
    });
    expect(await app.listeners.get(id)).toMatchObject({ schemes: ['github'] });
  });

  it('can be replaced with a whsec_ secret, so that the listener can use standard', async () => {
    const { id } = await create('topsecret', ['github']);
    const secret = generateSecret();
    await app.listeners.rotateSecret(id, { secret, overlapMs: 0 });
    await app.listeners.update(id, { schemes: ['standard'] });
    const { headers, rawBody } = await sent();
    verifyIncomingWebhook({ headers, body: rawBody, secrets: secret, now: app.clock.now() });
    await expect(app.listeners.rotateSecret(id, { secret: 'topsecret' })).rejects.toMatchObject({
      code: 'INVALID_SECRET',
    });
  });

  it.each(['', 'a\0b', 'x'.repeat(513), '\ud800', 'whsk_AAAA', 7 as unknown as string])(
    'is no secret: %j',
    async (secret) => {
      await expect(create(secret, ['github'])).rejects.toMatchObject({ httpStatus: 400 });
    },
  );
});
