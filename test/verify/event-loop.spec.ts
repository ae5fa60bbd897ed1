import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { Controller, HttpCode, Post } from '@nestjs/common';
import { generateSecret, generateSigningKey, WebhooksKeysModule } from 'nestjs-entity-webhooks';
import { IncomingWebhookError, verifyIncomingWebhook } from 'nestjs-entity-webhooks/receiver';
import { VerifyIncomingWebhook, IncomingWebhooksModule } from 'nestjs-entity-webhooks/receiver/nest';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { signedByStandard } from '../receiver/signed-requests.js';
import { leastHeldMs, LONGEST_MS } from '../support/event-loop.js';
import { returned, startVerifyApp, TYPE, type Platform, type Returned, type VerifyApp } from './verify-app.js';

const MIB = 1_024 * 1_024;

/** The client runs in another thread, so that its work does not count. */
const CLIENT = `
  const { parentPort } = require('node:worker_threads');
  const http = require('node:http');
  parentPort.on('message', ({ url, method, headers, body }) => {
    let isOver = false;
    const over = (answer) => {
      if (!isOver) parentPort.postMessage(answer);
      isOver = true;
    };
    const request = http.request(url, { method, headers, agent: false }, (response) => {
      response.resume().on('close', () => over(response.statusCode));
    });
    request.on('error', (error) => over(String(error)));
    request.end(body);
  });`;

const invented = Array.from({ length: 32 }, () => `v1a,${Buffer.alloc(64, 1).toString('base64')}`).join(' ');
const largestJson = () => Buffer.from(JSON.stringify({ type: 'a.b', data: { text: 'x'.repeat(MIB - 40) } }));

interface Asked {
  url: string;
  method: 'GET' | 'POST';
  headers: Record<string, string>;
  body?: Buffer;
}

const SECRETS = Array.from({ length: 20 }, () => generateSecret());
const KEYS = Array.from({ length: 5 }, () => generateSigningKey().publicKey);

@Controller('hooks')
class HooksController {
  @Post()
  @HttpCode(204)
  @VerifyIncomingWebhook('shop')
  receive(): void {}

  @Post('keys')
  @HttpCode(204)
  @VerifyIncomingWebhook('keys')
  receiveByKeys(): void {}
}

describe.each<Platform>(['express', 'fastify'])('the event loop of an application on %s', (platform) => {
  let app: VerifyApp;
  let client: Worker;
  let listenerId: string;
  /** A delivery of the largest payload, to a listener with the maximum number of keys. */
  let delivered: Returned;

  beforeAll(async () => {
    app = await startVerifyApp({
      platform,
      imports: [
        WebhooksKeysModule.forRoot(),
        IncomingWebhooksModule.forRoot({
          sources: {
            shop: { secrets: SECRETS },
            keys: { secrets: KEYS },
          },
        }),
      ],
      controllers: [HooksController],
      // By default a receiver accepts larger bodies than Nest's parser.
      prepare: (nest) => {
        if (platform === 'express') (nest as NestExpressApplication).useBodyParser('json', { limit: MIB });
      },
      webhooks: { secrets: { keys: [{ id: 'a', key: Buffer.alloc(32, 7) }] } },
    });
    client = new Worker(CLIENT, { eval: true });
    const { id } = await app.listeners.create({
      ...{ events: [TYPE], url: app.receiver.url, secret: generateSecret() },
      schemes: ['standard', 'standard-v1a', 'github', 'stripe', 'google-code'],
    });
    listenerId = id;
    delivered = returned(await app.deliver({ text: 'x'.repeat(262_000) }));
    expect(delivered.body.length).toBeGreaterThan(262_000);
    for (let n = 0; n < 21; n++) {
      await app.listeners.rotateSecret(id, { overlapMs: 0 });
      await app.listeners.rotateSigningKey(id, { overlapMs: 0 });
    }
  }, 120_000);
  afterAll(async () => {
    await client.terminate();
    await app.close();
  });

  async function ask(asked: Asked): Promise<unknown> {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- this is the message port of a thread, and a thread has no origin
    client.postMessage(asked);
    const [status] = (await once(client, 'message')) as [unknown];
    return status;
  }

  /** @param status `null`: the server may close the connection before the client has read its answer */
  const leastHeld = (asked: Asked, status: number | null): Promise<number> =>
    leastHeldMs(async () => {
      const answer = await ask(asked);
      if (status !== null) expect(answer).toBe(status);
    });

  const back = (more: Partial<Returned> = {}): Asked => ({ url: app.url, method: 'POST', ...delivered, ...more });
  const hook = (path: string, headers: Record<string, string>, body: Buffer): Asked => ({
    url: new URL(path, app.url).href,
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body,
  });
  it.each<[string, () => Asked, number | null]>([
    ['the verify view: a delivery of the largest payload, signed with keys that are no longer kept', () => back(), 200],
    [
      'the verify view: the same with 32 invented Ed25519 signatures',
      () => back({ headers: { ...delivered.headers, 'webhook-signature': invented } }),
      200,
    ],
    ['the verify view: the largest body, which was never sent', () => back({ body: Buffer.alloc(MIB / 2, 120) }), 200],
    ['the verify view: a body that is too large', () => back({ body: Buffer.alloc(4 * MIB, 120) }), null],
    ['the verify view: nothing', () => back({ headers: {}, body: Buffer.alloc(0) }), 200],
    [
      'the keys of a listener that has rotated them',
      () => ({ url: new URL(`/webhooks/keys/${listenerId}`, app.url).href, method: 'GET', headers: {} }),
      200,
    ],
    [
      'a receiver: the largest body, signed by the last of 20 secrets',
      () => {
        const body = largestJson();
        return hook('/hooks', signedByStandard(SECRETS.at(-1) ?? '', body.toString()), body);
      },
      204,
    ],
    [
      'a receiver: the largest body, with as many wrong signatures as fit into a header, and 20 secrets',
      () => {
        const body = largestJson();
        const wrong = Array.from({ length: 200 }, (_, n) => `v1,${Buffer.alloc(32, n).toString('base64')}`).join(' ');
        return hook('/hooks', { ...signedByStandard(SECRETS[0] ?? '', 'x'), 'webhook-signature': wrong }, body);
      },
      401,
    ],
    [
      'a receiver: the largest body, with 32 invented Ed25519 signatures and 5 public keys',
      () =>
        hook(
          '/hooks/keys',
          { ...signedByStandard(SECRETS[0] ?? '', 'x'), 'webhook-signature': invented },
          largestJson(),
        ),
      401,
    ],
    ['a receiver: a body that is too large', () => hook('/hooks', {}, Buffer.alloc(4 * MIB, 120)), null],
  ])(
    'is not blocked by a request to %s',
    async (_what, asked, status) => {
      expect(await leastHeld(asked(), status)).toBeLessThan(LONGEST_MS);
    },
    120_000,
  );
});

describe('the event loop of a receiver in plain Node.js', () => {
  const keys = Array.from({ length: 10 }, () => generateSigningKey().publicKey);

  it.each([1, 5, 10])(
    'is not held by 32 invented signatures over the largest body, with %i public keys',
    async (count) => {
      const body = largestJson();
      const headers = { ...signedByStandard(SECRETS[0] ?? '', 'x'), 'webhook-signature': invented };
      const refuse = () => verifyIncomingWebhook({ headers, body, secrets: keys.slice(0, count) });
      const held = await leastHeldMs(async () => expect(refuse).toThrow(IncomingWebhookError));
      expect(held).toBeLessThan(LONGEST_MS);
    },
  );
});
