import { Module, type INestApplication, type ModuleMetadata, type NestApplicationOptions } from '@nestjs/common';
import { EventEmitterModule } from '@nestjs/event-emitter';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import type { DataSourceOptions } from 'typeorm';
import {
  WebhookClock,
  DispatcherService,
  ListenerService,
  PayloadFormat,
  WebhooksModule,
  WebhooksService,
  type WebhooksModuleOptions,
} from 'nestjs-entity-webhooks';
import { FakeClock, TestReceiver, type ReceivedRequest } from 'nestjs-entity-webhooks/testing';
import { WebhooksVerifyModule, type WebhooksVerifyOptions } from 'nestjs-entity-webhooks/verify';
import { LOOPBACK } from '../support/webhooks-app.js';

export type Platform = 'express' | 'fastify';
export const MEMORY: DataSourceOptions = { type: 'better-sqlite3', database: ':memory:' };
export const TYPE = 'note.sent';

/** Not JSON, with a content type for which neither framework has a parser. */
export class XmlFormat extends PayloadFormat {
  readonly name = 'xml';
  readonly contentType = 'application/xml';
  render({ type }: { type: string }): string {
    return `<event type="${type}">é & more</event>`;
  }
}

/** The webhook that is posted back. The body is the body of a delivery unless a test changes it. */
export interface Returned {
  headers: Record<string, string>;
  body: Buffer;
}

export interface VerifyApp {
  app: INestApplication;
  url: string;
  listeners: ListenerService;
  webhooks: WebhooksService;
  dispatcher: DispatcherService;
  clock: FakeClock;
  receiver: TestReceiver;
  /** Publishes an event, sends it, and returns the last received request. */
  deliver: (data?: Record<string, string>) => Promise<ReceivedRequest>;
  ask: (returned: Returned, url?: string) => Promise<Response>;
  /** The text of the answer. */
  verdict: (returned: Returned) => Promise<string>;
  close: () => Promise<void>;
}

export interface VerifyAppOptions {
  platform?: Platform;
  database?: DataSourceOptions;
  webhooks?: WebhooksModuleOptions;
  verify?: WebhooksVerifyOptions;
  imports?: ModuleMetadata['imports'];
  providers?: ModuleMetadata['providers'];
  controllers?: ModuleMetadata['controllers'];
  nest?: NestApplicationOptions;
  /** Runs between creation and start, where an application sets its prefix and parsers. */
  prepare?: (app: INestApplication) => void;
}

export function appModule(options: VerifyAppOptions): new () => object {
  @Module({
    imports: [
      TypeOrmModule.forRoot({ synchronize: true, retryAttempts: 0, ...(options.database ?? MEMORY) }),
      EventEmitterModule.forRoot(),
      WebhooksModule.forRoot({
        security: LOOPBACK,
        publishedTypes: [TYPE],
        parts: { payloadFormats: [XmlFormat] },
        ...options.webhooks,
        dispatcher: { autoStart: false, ...options.webhooks?.dispatcher },
      }),
      WebhooksVerifyModule.forRoot(options.verify),
      ...(options.imports ?? []),
    ],
    providers: options.providers ?? [],
    controllers: options.controllers ?? [],
  })
  class AppModule {}
  return AppModule;
}

/** An application on a real HTTP server that serves the verify view, and a receiver of what it sends. */
export async function startVerifyApp(options: VerifyAppOptions = {}): Promise<VerifyApp> {
  const clock = new FakeClock(Date.now());
  const testing = await Test.createTestingModule({ imports: [appModule(options)] })
    .overrideProvider(WebhookClock)
    .useValue(clock)
    .compile();
  const adapter = options.platform === 'fastify' ? new FastifyAdapter() : new ExpressAdapter();
  const app = testing.createNestApplication(adapter, { logger: false, rawBody: true, ...options.nest });
  try {
    options.prepare?.(app);
    await app.init();
    if (options.platform === 'fastify') await (app as NestFastifyApplication).getHttpAdapter().getInstance().ready();
    await app.listen(0, '127.0.0.1');
  } catch (error) {
    await app.close();
    throw error;
  }
  const receiver = await new TestReceiver().start();
  const base = (await app.getUrl()).replace('[::1]', '127.0.0.1');
  const url = `${base}/${options.verify?.path ?? 'webhooks/verify'}`;
  const webhooks = app.get(WebhooksService);
  const dispatcher = app.get(DispatcherService);
  const ask = (returned: Returned, to = url) =>
    fetch(to, { method: 'POST', headers: returned.headers, body: new Uint8Array(returned.body) });
  return {
    app,
    url,
    listeners: app.get(ListenerService),
    webhooks,
    dispatcher,
    clock,
    receiver,
    async deliver(data = { text: 'hello' }) {
      const before = receiver.requests.length;
      await webhooks.publish(TYPE, data);
      await dispatcher.drain();
      const arrived = receiver.requests.slice(before).at(-1);
      if (!arrived) throw new Error('Nothing arrived.');
      return arrived;
    },
    ask,
    verdict: async (returned) => (await ask(returned)).text(),
    async close() {
      await app.close();
      await receiver.stop();
    },
  };
}

/** A received request in the form in which its receiver posts it back. */
export function returned(
  request: ReceivedRequest,
  headers: Record<string, string> = {},
  body = request.rawBody,
): Returned {
  const kept = Object.entries(request.headers).filter(
    ([name, value]) => typeof value === 'string' && (/^webhook-|-hmac$/.test(name) || name === 'content-type'),
  ) as [string, string][];
  return { headers: { ...Object.fromEntries(kept), ...headers }, body };
}

export function without(given: Returned, ...names: string[]): Returned {
  return {
    ...given,
    headers: Object.fromEntries(Object.entries(given.headers).filter(([name]) => !names.includes(name))),
  };
}

/** A copy of the bytes with one bit of the byte at `index` changed. */
export function flipped(body: Buffer, index: number): Buffer {
  const copy = Buffer.from(body);
  copy[index] = copy[index]! ^ 1;
  return copy;
}
