// A part of VERIFIED. cspell:ignore VERIF
import { createServer, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';

import { Controller, HttpCode, Post } from '@nestjs/common';
import {
  SenderUnavailableError,
  SenderVerifiedIncomingWebhookScheme,
  verifyWithSender,
} from 'nestjs-entity-webhooks/receiver';
import {
  IncomingWebhookParam,
  IncomingWebhookMessage,
  VerifyIncomingWebhook,
} from 'nestjs-entity-webhooks/receiver/nest';
import type { ReceivedRequest } from 'nestjs-entity-webhooks/testing';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';

import { startReceiverApp, type ReceiverApp } from '../receiver/receiver-app.js';
import { listenToLog } from '../support/said.js';
import { flipped, startVerifyApp, TYPE, type VerifyApp } from './verify-app.js';

const LOCAL = { allowHttp: true };

let sender: VerifyApp;
let delivered: ReceivedRequest;
beforeAll(async () => {
  sender = await startVerifyApp();
  await sender.listeners.create({ events: [TYPE], url: sender.receiver.url, schemes: ['standard', 'google-code'] });
  delivered = await sender.deliver({ text: 'é & <more>' });
});
afterAll(() => sender.close());

describe('verifyWithSender', () => {
  it("is true for a webhook that the sender's view calls genuine, and false for any other", async () => {
    const { headers, rawBody } = delivered;
    expect(await verifyWithSender(sender.url, { headers, body: rawBody, ...LOCAL })).toBe(true);
    expect(await verifyWithSender(sender.url, { headers, body: rawBody.toString(), ...LOCAL })).toBe(true);
    expect(await verifyWithSender(sender.url, { headers, body: flipped(rawBody, 5), ...LOCAL })).toBe(false);
    expect(
      await verifyWithSender(sender.url, { headers: { ...headers, 'webhook-id': 'evt_x' }, body: rawBody, ...LOCAL }),
    ).toBe(false);
  });

  it('posts back only the headers of the signature', async () => {
    let seen: string[] = [];
    const view = await answering((request, response) => {
      seen = Object.keys(request.headers).filter((name) => /webhook|x-|auth|cookie|hmac|stripe/.test(name));
      response.end('INVALID');
    });
    const headers = {
      'Webhook-Id': 'evt_1',
      'stripe-signature': 't=1,v1=2',
      'X-Own': 'signed',
      authorization: 'Bearer mine',
      cookie: 'mine',
      'x-forwarded-for': '10.0.0.1',
    };
    expect(await verifyWithSender(view, { headers, body: '{}', signatureHeaders: ['X-Own'], ...LOCAL })).toBe(false);
    expect(seen.toSorted()).toEqual(['stripe-signature', 'webhook-id', 'x-own']);
  });

  const bad: [what: string, respond: Respond, said: RegExp][] = [
    ['a status of its own', (_, response) => response.writeHead(503).end('VERIFIED'), /status 503/],
    ['another text', (_, response) => response.end('VERIFIED, surely'), /status 200/],
    ['an endless answer', (_, response) => drip(response), /status 200/],
    ['a redirect', (_, response) => response.writeHead(307, { location: sender.url }).end(), /cannot be reached/],
    ['no answer in time', () => undefined, /within 150 ms/],
    ['half an answer in time', (_, response) => void response.write('VERIF'), /within 150 ms/],
    ['a closed connection', (request) => request.socket.destroy(), /cannot be reached/],
  ];
  it.each(bad)('has no verdict after %s', async (_what, respond, said) => {
    const view = await answering(respond);
    const { headers, rawBody } = delivered;
    // A busy machine may need longer than 150 ms for an answer that does come.
    const timeoutMs = said.test('within 150 ms') ? 150 : 10_000;
    const asked = verifyWithSender(view, { headers, body: rawBody, timeoutMs, ...LOCAL });
    await expect(asked).rejects.toThrow(SenderUnavailableError);
    await expect(asked).rejects.toThrow(said);
  });

  it('refuses a URL that is not https:, and a time limit out of range', async () => {
    const question = { headers: {}, body: '' };
    for (const url of ['http://shop.example/verify', 'ftp://shop.example', 'shop.example/verify', '']) {
      await expect(verifyWithSender(url, question)).rejects.toMatchObject({ code: 'INVALID_OPTION' });
    }
    for (const timeoutMs of [0, 1.5, NaN, 10_000_000]) {
      const asked = verifyWithSender('https://shop.example', { ...question, timeoutMs });
      await expect(asked).rejects.toMatchObject({ code: 'INVALID_OPTION' });
      expect(() => new SenderVerifiedIncomingWebhookScheme('https://shop.example', { timeoutMs })).toThrow(/timeoutMs/);
    }
    expect(() => new SenderVerifiedIncomingWebhookScheme('http://shop.example')).toThrow(/https:/);
  });
});

describe('a source whose webhooks are verified by asking the sender', () => {
  const received: IncomingWebhookMessage[] = [];
  let test: ReceiverApp | undefined;
  afterEach(async () => {
    await test?.close();
    received.length = 0;
  });

  @Controller()
  class AskingController {
    @Post()
    @HttpCode(204)
    @VerifyIncomingWebhook('shop')
    receive(@IncomingWebhookParam() webhook: IncomingWebhookMessage): void {
      received.push(webhook);
    }
  }
  async function start(view: string): Promise<ReceiverApp> {
    const scheme = new SenderVerifiedIncomingWebhookScheme(view, { timeoutMs: 2_000, ...LOCAL });
    test = await startReceiverApp({ receiver: { sources: { shop: { scheme } } }, controllers: [AskingController] });
    return test;
  }
  const signed = () =>
    Object.fromEntries(Object.entries(delivered.headers).filter(([name]) => /webhook-|hmac/.test(name))) as Record<
      string,
      string
    >;

  it('accepts a delivery, and refuses one that was changed or is old', async () => {
    const { post, clock, rejected } = await start(sender.url);
    expect((await post('/', signed(), delivered.rawBody)).status).toBe(204);
    expect(received.map(({ id }) => id)).toEqual([delivered.headers['webhook-id']]);
    expect((await post('/', signed(), flipped(delivered.rawBody, 5))).status).toBe(401);
    clock.advance(301_000);
    expect((await post('/', signed(), delivered.rawBody)).status).toBe(401);
    expect(rejected.map(({ code }) => code)).toEqual(['SIGNATURE_MISMATCH', 'TIMESTAMP_TOO_OLD']);
    expect(received).toHaveLength(1);
  });

  it('answers 503 without a verdict, so that it is sent again', async () => {
    const { post, rejected } = await start(await answering((_, response) => response.writeHead(500).end()));
    expect((await post('/', signed(), delivered.rawBody)).status).toBe(503);
    expect([rejected, received]).toEqual([[], []]);
  });

  it('is logged once while the sender is unavailable, and once when it answers again', async () => {
    const said = listenToLog();
    let verdict = '';
    const { post } = await start(
      await answering((_, response) => response.writeHead(verdict ? 200 : 500).end(verdict)),
    );
    for (let n = 0; n < 3; n++) await post('/', signed(), delivered.rawBody);
    expect(said.warnings).toEqual([expect.stringMatching(/^A webhook from shop could not be verified/)]);
    verdict = 'VERIFIED';
    for (let n = 0; n < 2; n++) expect((await post('/', signed(), delivered.rawBody)).status).toBe(204);
    expect(said.news.filter((text) => text.includes('shop'))).toEqual(['Webhooks from shop can be verified again.']);
    vi.restoreAllMocks();
  });
});

type Respond = (...args: Parameters<RequestListener>) => unknown;
const servers: Server[] = [];

/** A verify view that answers as the test defines. */
async function answering(respond: Respond): Promise<string> {
  const server = createServer((request, response) => {
    request.resume();
    respond(request, response);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  servers.push(server);
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}
afterAll(() => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
});

/** Writes until the connection closes. */
function drip(response: ServerResponse): void {
  const more = () => {
    while (!response.destroyed && response.write('VERIFIED'.repeat(1_000)));
  };
  response.on('drain', more);
  more();
}
