import {
  Module,
  type DynamicModule,
  type INestApplication,
  type NestApplicationOptions,
  type Provider,
  type Type,
} from '@nestjs/common';
import { EventEmitter2, EventEmitterModule } from '@nestjs/event-emitter';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { WebhookClock } from 'nestjs-entity-webhooks';
import {
  INCOMING_WEBHOOK_EVENTS,
  IncomingWebhooksModule,
  type IncomingWebhooksModuleOptions,
  type IncomingWebhookRejectedEvent,
} from 'nestjs-entity-webhooks/receiver/nest';
import { FakeClock } from 'nestjs-entity-webhooks/testing';

export type Platform = 'express' | 'fastify';

export interface ReceiverAppOptions {
  platform?: Platform;
  receiver: DynamicModule | IncomingWebhooksModuleOptions;
  controllers: Type[];
  imports?: (DynamicModule | Type)[];
  providers?: Provider[];
  nest?: NestApplicationOptions;
  /** Runs between creation and start, when an application registers body parsers. */
  prepare?: (app: INestApplication) => void;
}

export interface ReceiverApp {
  app: INestApplication;
  url: string;
  clock: FakeClock;
  /** The events emitted as `webhooks.incoming.rejected`. */
  rejected: IncomingWebhookRejectedEvent[];
  post(path: string, headers: Record<string, string>, body: string | Buffer): Promise<Response>;
  close(): Promise<void>;
}

/** A Nest application that receives, on a real HTTP server. */
export async function startReceiverApp(options: ReceiverAppOptions): Promise<ReceiverApp> {
  const { receiver, platform = 'express' } = options;
  const module = 'module' in receiver ? receiver : IncomingWebhooksModule.forRoot(receiver);
  @Module({
    imports: [EventEmitterModule.forRoot(), module, ...(options.imports ?? [])],
    controllers: options.controllers,
    providers: options.providers ?? [],
  })
  class AppModule {}
  const clock = new FakeClock(Date.now());
  const testing = await Test.createTestingModule({ imports: [AppModule] })
    .overrideProvider(WebhookClock)
    .useValue(clock)
    .compile();
  const adapter = platform === 'fastify' ? new FastifyAdapter() : new ExpressAdapter();
  const app = testing.createNestApplication(adapter, { logger: false, rawBody: true, ...options.nest });
  try {
    options.prepare?.(app);
    await app.init();
    if (platform === 'fastify') await (app as NestFastifyApplication).getHttpAdapter().getInstance().ready();
    await app.listen(0, '127.0.0.1');
  } catch (error) {
    await app.close();
    throw error;
  }
  const url = (await app.getUrl()).replace('[::1]', '127.0.0.1');
  const rejected: IncomingWebhookRejectedEvent[] = [];
  app
    .get(EventEmitter2)
    .on(INCOMING_WEBHOOK_EVENTS.rejected, (event: IncomingWebhookRejectedEvent) => rejected.push(event));
  return {
    app,
    url,
    clock,
    rejected,
    post: (path, headers, body) =>
      fetch(`${url}${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: typeof body === 'string' ? body : new Uint8Array(body),
      }),
    close: () => app.close(),
  };
}
