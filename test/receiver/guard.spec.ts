// Misspelt on purpose. cspell:ignore biling inbx
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

import { Controller, HttpCode, Logger, Post, ValidationPipe } from '@nestjs/common';
import { EventEmitter2 } from '@nestjs/event-emitter';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import {
  generateSecret,
  generateSigningKey,
  GithubScheme,
  GoogleCodeScheme,
  StandardScheme,
  StandardV1aScheme,
  StripeScheme,
} from 'nestjs-entity-webhooks';
import { bodyId, IncomingWebhookError, type IncomingWebhookScheme } from 'nestjs-entity-webhooks/receiver';
import {
  IncomingWebhookParam,
  IncomingWebhookMessage,
  VerifyIncomingWebhook,
  IncomingWebhooksModule,
} from 'nestjs-entity-webhooks/receiver/nest';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';

import { currentCause } from '../../libs/webhooks/src/cause.js';
import { startReceiverApp, type Platform, type ReceiverApp } from './receiver-app.js';
import { signedByGithub, signedByGoogleCode, signedByStandard, signedByStripe } from './signed-requests.js';

const OLD = generateSecret();
const NEW = generateSecret();
const PAIR = generateSigningKey();
const PLAIN = randomBytes(24).toString('hex');
const OTHER = randomBytes(24).toString('hex');
const PAYLOAD = {
  type: 'order.updated',
  timestamp: '2026-01-01T00:00:00.000Z',
  data: { id: 7, note: '🦜' },
  previous: { note: 'x' },
};
const BODY = JSON.stringify(PAYLOAD);

/** A custom scheme: SHA-256 over secret and body, in a header. */
const OWN: IncomingWebhookScheme = {
  name: 'own',
  verify({ headers, body, secrets }) {
    const given = Buffer.from(headers['x-own'] ?? '', 'hex');
    for (const secret of secrets) {
      const expected = createHash('sha256').update(secret).update(body).digest();
      if (given.length === expected.length && timingSafeEqual(given, expected))
        return { id: bodyId(body), timestamp: null };
    }
    throw new IncomingWebhookError('SIGNATURE_MISMATCH', 'Not ours.');
  },
};

let received: IncomingWebhookMessage[] = [];
/** The depth of each call of a handler: the number of events that caused it, one after the other. */
let depths: number[] = [];

@Controller('hooks')
class HooksController {
  @Post('billing')
  @HttpCode(204)
  @VerifyIncomingWebhook('billing')
  async billing(@IncomingWebhookParam() webhook: IncomingWebhookMessage): Promise<void> {
    await Promise.resolve();
    received.push(webhook);
    depths.push(currentCause().depth);
  }

  @Post('stripe')
  @VerifyIncomingWebhook('stripe')
  stripe(@IncomingWebhookParam() webhook: IncomingWebhookMessage): void {
    received.push(webhook);
  }

  @Post('ci')
  @VerifyIncomingWebhook('ci')
  ci(@IncomingWebhookParam() webhook: IncomingWebhookMessage): void {
    received.push(webhook);
  }

  @Post('deliveries')
  @VerifyIncomingWebhook('deliveries')
  deliveries(@IncomingWebhookParam() webhook: IncomingWebhookMessage): void {
    received.push(webhook);
  }

  @Post('commits')
  @VerifyIncomingWebhook('commits')
  commits(@IncomingWebhookParam() webhook: IncomingWebhookMessage): void {
    received.push(webhook);
  }

  @Post('own')
  @VerifyIncomingWebhook('own')
  own(@IncomingWebhookParam() webhook: IncomingWebhookMessage): void {
    received.push(webhook);
  }

  @Post('unguarded')
  unguarded(@IncomingWebhookParam() webhook: IncomingWebhookMessage): void {
    received.push(webhook);
  }
}

const SOURCES = {
  billing: { secrets: [NEW, OLD, PAIR.publicKey], toleranceSeconds: 60 },
  stripe: { scheme: 'stripe', secrets: [OTHER, PLAIN] },
  ci: { scheme: 'github', secrets: [OTHER, PLAIN] },
  deliveries: {
    scheme: 'github',
    secrets: PLAIN,
    id: (webhook: IncomingWebhookMessage) => webhook.headers['x-github-delivery'] ?? '',
  },
  commits: { scheme: 'google-code', secrets: [OTHER, PLAIN] },
  own: { scheme: OWN, secrets: PLAIN },
} as const;

describe.each<Platform>(['express', 'fastify'])('a guarded handler on %s', (platform) => {
  let test: ReceiverApp;

  beforeAll(async () => {
    test = await startReceiverApp({
      platform,
      receiver: IncomingWebhooksModule.forRootAsync({
        imports: [
          { module: class Config {}, providers: [{ provide: 'SOURCES', useValue: SOURCES }], exports: ['SOURCES'] },
        ],
        inject: ['SOURCES'],
        useFactory: async (sources: typeof SOURCES) => ({ sources }),
      }),
      controllers: [HooksController],
      prepare: (app) => app.useGlobalPipes(new ValidationPipe({ transform: true, whitelist: true })),
    });
  });
  afterAll(() => test.close());
  beforeEach(() => {
    received = [];
    test.rejected.length = 0;
  });

  const at = () => test.clock.now();
  async function refused(path: string, headers: Record<string, string>, body = BODY): Promise<string | undefined> {
    test.rejected.length = 0;
    const response = await test.post(path, headers, body);
    expect(response.status).toBe(401);
    expect(await response.json()).toEqual({ statusCode: 401, message: 'Unauthorized' });
    expect(received).toEqual([]);
    expect(test.rejected).toHaveLength(1);
    return test.rejected[0]?.code;
  }

  it('gets a genuine webhook as its parameter, signed with any of the secrets', async () => {
    for (const secret of [OLD, NEW]) {
      const headers = signedByStandard(secret, BODY, { at: at() });
      expect((await test.post('/hooks/billing', headers, BODY)).status).toBe(204);
    }
    expect(received).toHaveLength(2);
    expect(received[0]).toBeInstanceOf(IncomingWebhookMessage);
    expect(received[0]).toMatchObject({
      source: 'billing',
      id: 'evt_1',
      timestamp: Math.floor(at() / 1_000),
      type: 'order.updated',
      data: PAYLOAD.data,
      previous: PAYLOAD.previous,
      payload: PAYLOAD,
      rawBody: Buffer.from(BODY),
    });
    expect(received[0]?.headers['webhook-id']).toBe('evt_1');
    expect(test.rejected).toEqual([]);
  });

  it('is not called for a signed challenge, which the guard answers', async () => {
    const challenge = randomBytes(32).toString('base64url');
    const body = JSON.stringify({ type: 'webhook.challenge', data: { challenge } });
    const response = await test.post('/hooks/billing', signedByStandard(NEW, body, { at: at() }), body);
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ challenge });
    expect(received).toEqual([]);
    expect(await refused('/hooks/billing', signedByStandard(generateSecret(), body, { at: at() }), body)).toBe(
      'SIGNATURE_MISMATCH',
    );
    expect(await refused('/hooks/billing', {}, body)).toBe('MISSING_HEADER');
    const markup = JSON.stringify({ type: 'webhook.challenge', data: { challenge: '<script>alert(1)</script>' } });
    expect((await test.post('/hooks/billing', signedByStandard(NEW, markup, { at: at() }), markup)).status).toBe(204);
  });

  it('gets the exact bytes, even if JSON.stringify would write others', async () => {
    const body = '{ "type": "a",\n "data": 1.0 }';
    await test.post('/hooks/billing', signedByStandard(NEW, body, { at: at() }), body);
    expect(received.map((webhook) => webhook.rawBody.toString())).toEqual([body]);
  });

  it('runs as caused by the webhook, so that a loop is detected', async () => {
    depths = [];
    for (const depth of [{}, { 'webhook-depth': '3' }] as Record<string, string>[]) {
      await test.post('/hooks/billing', { ...signedByStandard(NEW, BODY, { at: at() }), ...depth }, BODY);
    }
    expect(depths).toEqual([1, 4]);
    expect(currentCause().depth).toBe(0);
  });

  it('rejects a forged request with a plain 401, and emits the reason in process', async () => {
    const good = signedByStandard(NEW, BODY, { at: at() });
    const without = (name: string) => Object.fromEntries(Object.entries(good).filter(([key]) => key !== name));
    const cases: [code: string, headers: Record<string, string>, body?: string][] = [
      ['SIGNATURE_MISMATCH', good, BODY.replace('7', '8')],
      ['SIGNATURE_MISMATCH', { ...good, 'webhook-id': 'evt_2' }],
      ['SIGNATURE_MISMATCH', { ...good, 'webhook-timestamp': String(Math.floor(at() / 1_000) - 1) }],
      ['SIGNATURE_MISMATCH', signedByStandard(generateSecret(), BODY, { at: at() })],
      ['TIMESTAMP_TOO_OLD', signedByStandard(NEW, BODY, { at: at() - 61_000 })],
      ['TIMESTAMP_IN_FUTURE', signedByStandard(NEW, BODY, { at: at() + 61_000 })],
      ['INVALID_TIMESTAMP', { ...good, 'webhook-timestamp': '1e9' }],
      ['MISSING_HEADER', without('webhook-signature')],
      ['MISSING_HEADER', without('webhook-id')],
      ['MISSING_HEADER', without('webhook-timestamp')],
      ['MISSING_HEADER', {}],
    ];
    for (const [code, headers, body] of cases) expect(await refused('/hooks/billing', headers, body)).toBe(code);
    expect(test.rejected[0]).toEqual({
      source: 'billing',
      code: 'MISSING_HEADER',
      reason: 'The header webhook-id is missing.',
      remoteAddress: '127.0.0.1',
    });
  });

  it('uses the tolerance of the source', async () => {
    expect((await test.post('/hooks/billing', signedByStandard(NEW, BODY, { at: at() - 59_000 }), BODY)).status).toBe(
      204,
    );
    expect((await test.post('/hooks/stripe', signedByStripe(PLAIN, BODY, at() - 299_000), BODY)).status).toBe(201);
    received = [];
    expect(await refused('/hooks/stripe', signedByStripe(PLAIN, BODY, at() - 301_000))).toBe('TIMESTAMP_TOO_OLD');
  });

  it('verifies stripe, whose id is in the signed body', async () => {
    const body = '{"id":"evt_stripe_1","type":"charge.succeeded","data":{"object":{}}}';
    expect((await test.post('/hooks/stripe', signedByStripe(PLAIN, body, at()), body)).status).toBe(201);
    expect((await test.post('/hooks/stripe', signedByStripe(PLAIN, BODY, at()), BODY)).status).toBe(201);
    expect(received.map(({ id }) => id)).toEqual(['evt_stripe_1', bodyId(Buffer.from(BODY))]);
    received = [];
    const good = signedByStripe(PLAIN, BODY, at())['stripe-signature'] ?? '';
    expect(await refused('/hooks/stripe', { 'stripe-signature': good }, body)).toBe('SIGNATURE_MISMATCH');
    expect(await refused('/hooks/stripe', { 'stripe-signature': good.replace(/t=\d+,/, '') })).toBe(
      'INVALID_TIMESTAMP',
    );
    expect(await refused('/hooks/stripe', { 'stripe-signature': `${good},t=1` })).toBe('SIGNATURE_MISMATCH');
    expect(await refused('/hooks/stripe', { 'stripe-signature': good.replace('v1=', 'v0=') })).toBe(
      'SIGNATURE_MISMATCH',
    );
    expect(await refused('/hooks/stripe', {})).toBe('MISSING_HEADER');
  });

  it('verifies github, which signs only the body, so the id is the hash of the body', async () => {
    for (const delivery of ['d-1', 'd-2']) {
      expect((await test.post('/hooks/ci', signedByGithub(PLAIN, BODY, delivery), BODY)).status).toBe(201);
    }
    expect(received.map(({ id, timestamp }) => [id, timestamp])).toEqual(
      Array.from({ length: 2 }, () => [bodyId(Buffer.from(BODY)), null]),
    );
    received = [];
    const good = signedByGithub(PLAIN, BODY)['x-hub-signature-256'] ?? '';
    expect(await refused('/hooks/ci', { 'x-hub-signature-256': good }, `${BODY} `)).toBe('SIGNATURE_MISMATCH');
    expect(await refused('/hooks/ci', { 'x-hub-signature-256': good.slice(7) })).toBe('SIGNATURE_MISMATCH');
    expect(await refused('/hooks/ci', signedByGithub('another secret', BODY))).toBe('SIGNATURE_MISMATCH');
    expect(await refused('/hooks/ci', {})).toBe('MISSING_HEADER');
  });

  it("uses the source's option `id`", async () => {
    await test.post('/hooks/deliveries', signedByGithub(PLAIN, BODY, 'd-9'), BODY);
    expect(received.map(({ id }) => id)).toEqual(['d-9']);
    expect((await test.post('/hooks/deliveries', signedByGithub(PLAIN, BODY, ''), BODY)).status).toBe(500);
  });

  it('verifies google-code', async () => {
    expect((await test.post('/hooks/commits', signedByGoogleCode(PLAIN, BODY), BODY)).status).toBe(201);
    expect(received.map(({ id }) => id)).toEqual([bodyId(Buffer.from(BODY))]);
    received = [];
    expect(await refused('/hooks/commits', signedByGoogleCode('another secret', BODY))).toBe('SIGNATURE_MISMATCH');
    expect(await refused('/hooks/commits', {})).toBe('MISSING_HEADER');
  });

  it('verifies a custom scheme', async () => {
    const hash = createHash('sha256').update(PLAIN).update(BODY).digest('hex');
    expect((await test.post('/hooks/own', { 'x-own': hash }, BODY)).status).toBe(201);
    expect(received).toHaveLength(1);
    received = [];
    expect(await refused('/hooks/own', { 'x-own': hash }, `${BODY} `)).toBe('SIGNATURE_MISMATCH');
  });

  it.each([
    ['/hooks/billing', new StandardScheme(), OLD],
    ['/hooks/billing', new StandardV1aScheme(), PAIR.privateKey],
    ['/hooks/stripe', new StripeScheme(), PLAIN],
    ['/hooks/ci', new GithubScheme(), PLAIN],
    ['/hooks/commits', new GoogleCodeScheme(), PLAIN],
  ])(
    'accepts at %s a webhook that this library signs, and rejects it with one byte changed',
    async (path, scheme, key) => {
      const timestamp = Math.floor(at() / 1_000);
      const input = { id: 'evt_1', timestamp, body: Buffer.from(BODY), secrets: [key] };
      const headers = { 'webhook-id': 'evt_1', 'webhook-timestamp': String(timestamp), ...scheme.sign(input) };
      expect((await test.post(path, headers, BODY)).ok).toBe(true);
      expect(received).toHaveLength(1);
      received = [];
      expect(await refused(path, headers, BODY.replace('7', '8'))).toBe('SIGNATURE_MISMATCH');
    },
  );

  it('accepts a form, as GitHub may send it, by its bytes', async () => {
    const body = `payload=${encodeURIComponent(BODY)}`;
    const headers = { ...signedByGithub(PLAIN, body), 'content-type': 'application/x-www-form-urlencoded' };
    expect((await test.post('/hooks/ci', headers, body)).status).toBe(201);
    expect(received.map(({ rawBody, payload, type }) => [rawBody.toString(), payload, type])).toEqual([
      [body, undefined, null],
    ]);
  });

  it('answers 500 without the guard, and does not run the handler', async () => {
    expect((await test.post('/hooks/unguarded', {}, BODY)).status).toBe(500);
    expect(received).toEqual([]);
  });

  it('answers 401 even if a handler of the in-process event throws', async () => {
    const error = vi.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
    const fail = () => {
      throw new Error('broken');
    };
    const emitter = test.app.get(EventEmitter2);
    emitter.on('webhooks.incoming.rejected', fail);
    try {
      await refused('/hooks/billing', {});
      await vi.waitFor(() => expect(error).toHaveBeenCalledWith(expect.stringContaining('broken')));
    } finally {
      emitter.off('webhooks.incoming.rejected', fail);
      vi.restoreAllMocks();
    }
  });

  it('logs a rejected request without its secrets', async () => {
    const logged: string[] = [];
    vi.spyOn(Logger.prototype, 'debug').mockImplementation((text: unknown) => void logged.push(String(text)));
    try {
      await refused('/hooks/billing', signedByStandard(generateSecret(), BODY, { at: at() }));
    } finally {
      vi.restoreAllMocks();
    }
    expect(logged).toEqual([
      'A request for the source billing was rejected: SIGNATURE_MISMATCH. The signature does not match the body with any of the secrets. Check the secrets, and pass the body exactly as it arrived.',
    ]);
  });
});

describe('bodies', () => {
  let test: ReceiverApp | undefined;
  afterEach(async () => {
    await test?.close();
    test = undefined;
    received = [];
  });
  const start = async (options: Partial<Parameters<typeof startReceiverApp>[0]> = {}) => {
    test = await startReceiverApp({ receiver: { sources: SOURCES }, controllers: [HooksController], ...options });
    return test;
  };

  it.each<Platform>(['express', 'fastify'])(
    'that %s does not keep stop the bootstrap, with a message that names rawBody',
    async (platform) => {
      await expect(start({ platform, nest: { rawBody: false } })).rejects.toMatchObject({
        code: 'RAW_BODY_MISSING',
        message: expect.stringContaining('{ rawBody: true }') as string,
      });
    },
  );

  it.each<Platform>(['express', 'fastify'])(
    "that are missing on %s despite rawBody: 'provided' fail the first request",
    async (platform) => {
      const error = vi.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
      const { post, clock } = await start({
        platform,
        nest: { rawBody: false },
        receiver: { sources: SOURCES, rawBody: 'provided' },
      });
      const response = await post('/hooks/billing', signedByStandard(NEW, BODY, { at: clock.now() }), BODY);
      expect(response.status).toBe(500);
      expect(JSON.stringify(error.mock.calls.map(([first]) => String(first)))).toContain('{ rawBody: true }');
      vi.restoreAllMocks();
    },
  );

  it('that are too large get 413', async () => {
    const { post, clock } = await start({ receiver: { sources: SOURCES, maxBodyBytes: 100 } });
    const body = JSON.stringify({ type: 'a', data: 'x'.repeat(100) });
    expect((await post('/hooks/billing', signedByStandard(NEW, body, { at: clock.now() }), body)).status).toBe(413);
  });

  it('of a type that Express has no parser for are read by the guard', async () => {
    const { post, clock } = await start();
    const headers = {
      ...signedByStandard(NEW, BODY, { at: clock.now() }),
      'content-type': 'application/cloudevents+json',
    };
    expect((await post('/hooks/billing', headers, BODY)).status).toBe(204);
  });

  it('of a type that Fastify has no parser for need a parser, as docs/receiving describes', async () => {
    const { post, clock } = await start({
      platform: 'fastify',
      prepare: (app) => (app as NestFastifyApplication).useBodyParser('application/cloudevents+json'),
    });
    const headers = {
      ...signedByStandard(NEW, BODY, { at: clock.now() }),
      'content-type': 'application/cloudevents+json',
    };
    expect((await post('/hooks/billing', headers, BODY)).status).toBe(204);
  });
});

describe('the bootstrap stops', () => {
  async function stops(options: Partial<Parameters<typeof startReceiverApp>[0]>) {
    const started = startReceiverApp({ receiver: { sources: SOURCES }, controllers: [], ...options });
    return started.then(
      async (test) => {
        await test.close();
        return 'started';
      },
      (error: Error & { code?: string }) => `${error.code}: ${error.message}`,
    );
  }

  it('for a source that the options do not have', async () => {
    @Controller()
    @VerifyIncomingWebhook('biling')
    class MistypedController {}
    expect(await stops({ controllers: [MistypedController] })).toMatch(
      /^UNKNOWN_SOURCE: @VerifyIncomingWebhook\('biling'\) .* Did you mean 'billing'\? Known: billing, stripe.* sources\.biling/,
    );
  });

  it('for a guard without the module', async () => {
    const module = { module: class NotTheReceiver {} };
    expect(await stops({ receiver: module, controllers: [HooksController] })).toMatch(
      /^RECEIVER_MODULE_MISSING: .*IncomingWebhooksModule\.forRoot/,
    );
  });

  it('for a factory that returns the data source, which must be known before the factory runs', async () => {
    const receiver = IncomingWebhooksModule.forRootAsync({
      useFactory: () => ({ sources: SOURCES, dataSource: 'billing' }),
    });
    expect(await stops({ receiver })).toMatch(/^INVALID_OPTION: Unknown option `dataSource` /);
  });

  const wrong: [what: string, receiver: object, message: RegExp][] = [
    ['no sources', {}, /INVALID_OPTION: Invalid value .* for `sources` of /],
    ['an empty list of sources', { sources: {} }, /INVALID_OPTION: Invalid value .* for `sources` of /],
    [
      'an unknown key',
      { sources: SOURCES, inbx: {} },
      /INVALID_OPTION: Unknown option `inbx` .* Did you mean 'inbox'\? Known: sources, inbox/,
    ],
    [
      'an invalid name',
      { sources: { 'a b': { secrets: NEW } } },
      /INVALID_OPTION: Invalid value 'a b' for `sources` of /,
    ],
    [
      'a source without secrets',
      { sources: { a: {} } },
      /INVALID_OPTION: Invalid value undefined for `sources\.a\.secrets` .* variable set/,
    ],
    ['secrets in the place of the sources', { sources: NEW }, /INVALID_OPTION: Invalid value '…' for `sources` of /],
    [
      'a secret in the place of its source',
      { sources: { a: NEW } },
      /INVALID_OPTION: Invalid value '…' for `sources\.a` of /,
    ],
    [
      'a secret in the place of the scheme',
      { sources: { a: { scheme: NEW } } },
      /INVALID_OPTION: Invalid value '…' for `.*\.scheme` of /,
    ],
    [
      'an empty secret',
      { sources: { a: { secrets: [NEW, ' '] } } },
      /INVALID_OPTION: .* for `sources\.a\.secrets` of /,
    ],
    [
      'a secret that its scheme cannot use',
      { sources: { a: { secrets: 'whsec_&' } } },
      /INVALID_SECRET: .*sources\.a\.secrets/,
    ],
    [
      'an unknown scheme',
      { sources: { a: { scheme: 'md5', secrets: NEW } } },
      /'md5' for `sources\.a\.scheme` .* Allowed: 'standard', 'stripe'/,
    ],
    [
      'a scheme that accepts everything',
      { sources: { a: { scheme: { name: 'x', verify: () => ({}) }, secrets: NEW } } },
      /accepted an unsigned request/,
    ],
    [
      'a tolerance of 0',
      { sources: { a: { secrets: NEW, toleranceSeconds: 0 } } },
      /Invalid value 0 for `sources\.a\.toleranceSeconds` .* 1 to 86,400/,
    ],
    ['an id that is not a function', { sources: { a: { secrets: NEW, id: 'x' } } }, /`sources\.a\.id` .* a function/],
    [
      'a retention of a minute',
      { sources: SOURCES, inbox: { retentionMs: 60_000 } },
      /Invalid value 60000 for `inbox\.retentionMs` of /,
    ],
    ['a prefix with a quote', { sources: SOURCES, inbox: { tablePrefix: '"' } }, /'"' for `inbox\.tablePrefix` of /],
    [
      'an unknown key of the inbox',
      { sources: SOURCES, inbox: { retention: 1 } },
      /Unknown option `inbox\.retention` .* Known: tablePrefix, tableSchema, retentionMs/,
    ],
    [
      'an inbox without a data source',
      { sources: SOURCES, inbox: {} },
      /INVALID_OPTION: The option `inbox` .* 'default'/,
    ],
    [
      'an unknown value of rawBody',
      { sources: SOURCES, rawBody: 'express' },
      /'express' for `rawBody` .* 'nest', 'provided'/,
    ],
    ['a limit of 0', { sources: SOURCES, maxBodyBytes: 0 }, /Invalid value 0 for `maxBodyBytes` of /],
  ];
  it.each(wrong)('for %s', async (_what, receiver, message) => {
    const answer = await stops({ receiver: receiver as never });
    expect(answer).toMatch(message);
    expect(answer).not.toContain(NEW);
  });
});

describe('published vectors', () => {
  it('of GitHub are accepted', async () => {
    @Controller()
    class VectorController {
      @Post()
      @VerifyIncomingWebhook('github')
      receive(@IncomingWebhookParam() webhook: IncomingWebhookMessage): string {
        return webhook.source;
      }
    }
    const test = await startReceiverApp({
      receiver: { sources: { github: { scheme: 'github', secrets: "It's a Secret to Everybody" } } },
      controllers: [VectorController],
    });
    try {
      const headers = {
        'content-type': 'text/plain',
        'x-hub-signature-256': 'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17',
      };
      expect((await test.post('/', headers, 'Hello, World!')).status).toBe(201);
      expect((await test.post('/', headers, 'Hello, World?')).status).toBe(401);
    } finally {
      await test.close();
    }
  });
});
