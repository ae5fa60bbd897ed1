import {
  Controller,
  Injectable,
  Post,
  Req,
  SetMetadata,
  VersioningType,
  type CanActivate,
  type ExecutionContext,
} from '@nestjs/common';
import { APP_GUARD, NestFactory, Reflector, RouterModule } from '@nestjs/core';
import { EventEmitterModule } from '@nestjs/event-emitter';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { ThrottlerGuard, ThrottlerModule } from '@nestjs/throttler';
import express from 'express';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { ConfigurationError, WebhooksVerifyModule } from 'nestjs-entity-webhooks/verify';
import {
  appModule,
  flipped,
  returned,
  startVerifyApp,
  TYPE,
  type Platform,
  type VerifyApp,
  type VerifyAppOptions,
} from './verify-app.js';

const platforms: Platform[] = ['express', 'fastify'];
const KIB = 1_024;

let test: VerifyApp | undefined;
afterEach(async () => {
  await test?.close();
  test = undefined;
});
async function start(options: VerifyAppOptions): Promise<VerifyApp> {
  test = await startVerifyApp(options);
  return test;
}

describe.each(platforms)('On %s', (platform) => {
  it('an application that keeps no raw bodies does not start, and the error says what to set', async () => {
    const refused = await start({ platform, nest: { rawBody: false } }).catch((error: unknown) => error);

    expect(refused).toBeInstanceOf(ConfigurationError);
    expect(refused).toMatchObject({ code: 'RAW_BODY_MISSING' });
    expect((refused as Error).message).toContain('{ rawBody: true }');
  });

  it('an application made by NestFactory starts with rawBody: true, and without it does not', async () => {
    const create = (rawBody: boolean) =>
      NestFactory.create(appModule({}), platform === 'fastify' ? new FastifyAdapter() : new ExpressAdapter(), {
        rawBody,
        logger: false,
        abortOnError: false,
      });
    const refused = await create(false);
    await expect(refused.listen(0, '127.0.0.1')).rejects.toMatchObject({ code: 'RAW_BODY_MISSING' });
    await refused.close();

    const app = await create(true);
    await app.listen(0, '127.0.0.1');
    await app.close();
  });

  it('a payload of 256 KiB is verified without any limit being set', async () => {
    const { listeners, receiver, deliver, verdict } = await start({ platform });
    await listeners.create({ events: [TYPE], url: receiver.url });
    const request = await deliver({ text: '😀'.repeat(64 * KIB - 100) });
    expect(request.rawBody.length).toBeGreaterThan(255 * KIB);

    expect(await verdict(returned(request))).toBe('VERIFIED');
  });

  it('a body over twice the payload limit is refused with 413, with or without a content-length', async () => {
    const { url, ask } = await start({ platform, webhooks: { payload: { maxPayloadBytes: 100 * KIB } } });
    const headers = { 'content-type': 'application/json', 'webhook-id': 'evt_1' };

    expect((await ask({ headers, body: Buffer.alloc(200 * KIB, 'a') })).status).toBe(200);
    expect((await ask({ headers, body: Buffer.alloc(200 * KIB + 1, 'a') })).status).toBe(413);
    const chunked = new Blob([Buffer.alloc(300 * KIB, 'a')]).stream();
    const response = await fetch(url, { method: 'POST', headers, body: chunked, duplex: 'half' });
    expect(response.status).toBe(413);
  });

  it('the content type of the returned body does not matter', async () => {
    const { url, listeners, receiver, deliver, ask } = await start({ platform });
    await listeners.create({ events: [TYPE], url: receiver.url });
    // More "parameters" than Express's form parser takes.
    const request = await deliver({ text: 'a&'.repeat(2_000) });

    const types = [
      'application/x-www-form-urlencoded',
      'text/plain',
      'application/octet-stream',
      'multipart/form-data',
    ];
    for (const type of [...types, 'application/json; charset=utf-7', 'nonsense']) {
      const response = await ask(returned(request, { 'content-type': type }));
      expect([type, response.status, await response.text()]).toEqual([type, 200, 'VERIFIED']);
    }
    const { 'content-type': _, ...headers } = returned(request).headers;
    const body = new Blob([new Uint8Array(request.rawBody)]); // without a type, so that fetch sends none
    expect(await (await fetch(url, { method: 'POST', headers, body })).text()).toBe('VERIFIED');
  });

  it('an empty request gets INVALID', async () => {
    const { url } = await start({ platform });

    const response = await fetch(url, { method: 'POST' });

    expect([response.status, await response.text()]).toEqual([200, 'INVALID']);
  });

  it("the application's global throttling guard applies", async () => {
    const { listeners, receiver, deliver, ask } = await start({
      platform,
      imports: [ThrottlerModule.forRoot([{ ttl: 60_000, limit: 2 }])],
      providers: [{ provide: APP_GUARD, useClass: ThrottlerGuard }],
    });
    await listeners.create({ events: [TYPE], url: receiver.url });
    const given = returned(await deliver());

    const statuses = [];
    for (let i = 0; i < 3; i++) statuses.push((await ask(given)).status);

    expect(statuses).toEqual([200, 200, 429]);
  });

  it('a global guard that requires a login blocks the route unless decorators allow it', async () => {
    const Public = () => SetMetadata('public', true);
    @Injectable()
    class LoginGuard implements CanActivate {
      private readonly reflector = new Reflector();
      canActivate(context: ExecutionContext): boolean {
        return this.reflector.getAllAndOverride<boolean>('public', [context.getHandler(), context.getClass()]) ?? false;
      }
    }
    const providers = [{ provide: APP_GUARD, useClass: LoginGuard }];
    const shut = await start({ platform, providers });
    expect((await fetch(shut.url, { method: 'POST' })).status).toBe(403);
    await shut.close();

    const open = await start({ platform, providers, verify: { decorators: [Public()] } });
    expect((await fetch(open.url, { method: 'POST' })).status).toBe(200);
  });

  it('the route has its path below the global prefix, without a version', async () => {
    const { url, listeners, receiver, deliver, ask } = await start({
      platform,
      verify: { path: '/ipn' },
      prepare: (app) => {
        app.setGlobalPrefix('api/v0');
        app.enableVersioning({ type: VersioningType.URI, defaultVersion: '1' });
      },
    });
    await listeners.create({ events: [TYPE], url: receiver.url });
    const request = await deliver();
    const { origin } = new URL(url);

    expect((await ask(returned(request), `${origin}/ipn`)).status).toBe(404);
    expect(await (await ask(returned(request), `${origin}/api/v0/ipn?x=1`)).text()).toBe('VERIFIED');
    const response = await ask(returned(request, {}, flipped(request.rawBody, 0)), `${origin}/api/v0/ipn`);
    expect([response.status, await response.text()]).toEqual([200, 'INVALID']);
  });

  it("a route that a RouterModule moved works with the application's parsers", async () => {
    const { url, listeners, receiver, deliver, ask } = await start({
      platform,
      imports: [RouterModule.register([{ path: 'moved', module: WebhooksVerifyModule }])],
    });
    await listeners.create({ events: [TYPE], url: receiver.url });
    const request = await deliver();

    const response = await ask(returned(request), url.replace('/webhooks', '/moved/webhooks'));

    expect([response.status, await response.text()]).toEqual([200, 'VERIFIED']);
  });

  it("the application's other routes keep their parsed bodies and limits", async () => {
    @Controller()
    class OtherController {
      @Post('other')
      other(@Req() request: { body: unknown; rawBody?: Buffer }) {
        return { body: request.body, raw: request.rawBody?.toString() };
      }
    }
    const { url } = await start({ platform, imports: [{ module: class Other {}, controllers: [OtherController] }] });
    const send = (body: string, type = 'application/json') =>
      fetch(url.replace('webhooks/verify', 'other'), { method: 'POST', headers: { 'content-type': type }, body });

    expect(await (await send('{"a": 1}')).json()).toEqual({ body: { a: 1 }, raw: '{"a": 1}' });
    expect((await send('{"a": ')).status).toBe(400);
    expect((await send(JSON.stringify('x'.repeat(1_100 * KIB)))).status).toBe(413);
  });

  it("with rawBody: 'provided', a parser that keeps no bytes gives an error at the first request", async () => {
    const { listeners, receiver, deliver, ask } = await start({
      platform,
      nest: { rawBody: false },
      verify: { rawBody: 'provided' },
    });
    await listeners.create({ events: [TYPE], url: receiver.url });

    expect((await ask(returned(await deliver()))).status).toBe(500);
  });
});

describe('With a custom body parser', () => {
  const keep = (request: object, _: unknown, bytes: Buffer) => {
    Object.assign(request, { rawBody: bytes });
  };

  it('a parser that keeps the bytes is used unchanged', async () => {
    const { listeners, receiver, deliver, verdict } = await start({
      nest: { bodyParser: false, rawBody: false },
      verify: { rawBody: 'provided' },
      prepare: (app) => app.use(express.json({ verify: keep, limit: '1mb' })),
    });
    await listeners.create({ events: [TYPE], url: receiver.url });

    expect(await verdict(returned(await deliver()))).toBe('VERIFIED');
  });

  it("a parser that keeps the bytes is detected without rawBody: 'provided'", async () => {
    const { listeners, receiver, deliver, verdict } = await start({
      nest: { bodyParser: false, rawBody: false },
      prepare: (app) => app.use(express.json({ verify: keep })),
    });
    await listeners.create({ events: [TYPE], url: receiver.url });

    expect(await verdict(returned(await deliver()))).toBe('VERIFIED');
  });

  it('a parser that does not keep the bytes stops the start', async () => {
    await expect(
      start({ nest: { bodyParser: false, rawBody: true }, prepare: (app) => app.use(express.json()) }),
    ).rejects.toMatchObject({ code: 'RAW_BODY_MISSING' });
  });

  it('without any parser, the module reads the bytes itself', async () => {
    const { listeners, receiver, deliver, verdict } = await start({ nest: { bodyParser: false } });
    await listeners.create({ events: [TYPE], url: receiver.url });

    expect(await verdict(returned(await deliver()))).toBe('VERIFIED');
  });

  it('a compressed body is unpacked by the parser first', async () => {
    const { url, listeners, receiver, deliver } = await start({});
    await listeners.create({ events: [TYPE], url: receiver.url });
    const request = await deliver();
    const headers = { ...returned(request).headers, 'content-encoding': 'gzip' };

    const response = await fetch(url, { method: 'POST', headers, body: new Uint8Array(gzipSync(request.rawBody)) });

    expect(await response.text()).toBe('VERIFIED');
  });
});

describe('Options', () => {
  it('that are wrong give an error with the key and the fix', () => {
    expect(() => WebhooksVerifyModule.forRoot({ path: '' })).toThrow(
      /Invalid value '' for `path` .* 'webhooks\/verify'/,
    );
    expect(() => WebhooksVerifyModule.forRoot({ rawBody: 'nope' as never })).toThrow(/'nest', 'provided'/);
    expect(() => WebhooksVerifyModule.forRoot({ pth: 'x' } as never)).toThrow(
      /option `pth` .* Did you mean 'path'\? Known: path/,
    );
    expect(() => WebhooksVerifyModule.forRoot({ decorators: ['x'] as never })).toThrow(ConfigurationError);
  });

  it('that name an unknown instance stop the start', async () => {
    await expect(start({ verify: { dataSource: 'billing' } })).rejects.toMatchObject({
      code: 'WEBHOOKS_MODULE_MISSING',
    });
  });

  it('without WebhooksModule, the error says so and stops the start', async () => {
    class Root {}
    const module = { module: Root, imports: [EventEmitterModule.forRoot(), WebhooksVerifyModule.forRoot()] };
    await expect(NestFactory.create(module, { logger: false, abortOnError: false })).rejects.toThrow(
      /Import WebhooksModule\.forRoot\(\)/,
    );
  });
});
