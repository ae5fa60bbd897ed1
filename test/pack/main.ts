// A small application that uses the packed package. `scripts/pack-test.mjs` compiles it with the types of the package and runs it, with
// the oldest and the newest peers. It exits with 0 only if a receiver got a signed webhook for a saved entity, and if a Nest application on
// either platform accepts each genuine webhook once, and no other webhook, and serves the API to the client of the package.
import 'reflect-metadata';
import { strictEqual } from 'node:assert';
import { Controller, HttpCode, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventEmitterModule } from '@nestjs/event-emitter';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { getRepositoryToken, TypeOrmModule } from '@nestjs/typeorm';
import { Column, DataSource, Entity, PrimaryGeneratedColumn, type Repository } from 'typeorm';
import {
  DispatcherService,
  ListenerService,
  Webhook,
  WebhooksModule,
  WebhooksService,
  type WebhooksModuleOptions,
} from 'nestjs-entity-webhooks';
import { webhookCatalog } from 'nestjs-entity-webhooks/catalog';
import { MANAGE, WebhooksApiModule } from 'nestjs-entity-webhooks/api';
import { createWebhooksClient } from 'nestjs-entity-webhooks/client';
import { webhookMigrations } from 'nestjs-entity-webhooks/migrations';
import { StandardScheme, verifyIncomingWebhook } from 'nestjs-entity-webhooks/receiver';
import {
  IncomingWebhookParam,
  IncomingWebhookMessage,
  VerifyIncomingWebhook,
  IncomingWebhooksModule,
} from 'nestjs-entity-webhooks/receiver/nest';
import { expectDelivered, TestReceiver } from 'nestjs-entity-webhooks/testing';
import { WebhooksVerifyModule } from 'nestjs-entity-webhooks/verify';

@Webhook({ fields: ['id', 'status'], owner: 'customer' })
@Entity()
class Invoice {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar' })
  status: string;

  @Column({ type: 'varchar' })
  customer: string;
}

const options: WebhooksModuleOptions = {
  security: { allowedAddresses: ['127.0.0.0/8'], allowHttp: true },
  dispatcher: { autoStart: false },
  publishedTypes: ['report.ready'],
};

@Module({
  imports: [
    TypeOrmModule.forRoot({
      type: 'better-sqlite3',
      database: process.argv[2] ?? 'pack-test.sqlite',
      autoLoadEntities: true,
      synchronize: true,
    }),
    EventEmitterModule.forRoot(),
    WebhooksModule.forRoot(options),
    WebhooksModule.forFeature([Invoice]),
    TypeOrmModule.forFeature([Invoice]),
  ],
})
class AppModule {}

let processed = 0;

@Controller()
class HooksController {
  constructor(private readonly dataSource: DataSource) {}

  @Post()
  @HttpCode(204)
  @VerifyIncomingWebhook('shop')
  async receive(@IncomingWebhookParam() webhook: IncomingWebhookMessage): Promise<void> {
    await webhook.processInTransaction(this.dataSource.manager, () => {
      processed += 1;
    });
  }
}

const receiver = await new TestReceiver().start();
const app = await NestFactory.createApplicationContext(AppModule, { logger: ['error', 'warn'] });
const listener = await app.get(ListenerService).create({ entity: Invoice, url: receiver.url, owner: 'acme' });
const invoices = app.get<Repository<Invoice>>(getRepositoryToken(Invoice));
const invoice = await invoices.save(invoices.create({ status: 'open', customer: 'acme' }));
await app.get(WebhooksService).publish('report.ready', { pages: 2 }, { owner: 'acme' });
await app.get(DispatcherService).drain();

const [request] = await expectDelivered(receiver, {
  type: 'invoice.created',
  data: { id: invoice.id, status: 'open' },
});
const { headers, rawBody } = request!;
const verified = verifyIncomingWebhook<{ type: string }>({ headers, body: rawBody, secrets: listener.secret });
strictEqual(verified.payload.type, 'invoice.created');
strictEqual(receiver.requests.length, 1);
strictEqual(webhookMigrations().length > 0, true);
strictEqual(typeof WebhooksVerifyModule.forRoot, 'function');

for (const platform of [new ExpressAdapter(), new FastifyAdapter()]) {
  @Module({
    imports: [
      TypeOrmModule.forRoot({
        type: 'better-sqlite3',
        database: `${process.argv[2] ?? 'pack-test'}-hooks`,
        synchronize: true,
      }),
      IncomingWebhooksModule.forRoot({ sources: { shop: { secrets: listener.secret } }, inbox: {} }),
    ],
    controllers: [HooksController],
  })
  class HooksModule {}
  const hooks = await NestFactory.create(HooksModule, platform, { rawBody: true, logger: ['error', 'warn'] });
  await hooks.listen(0, '127.0.0.1');
  const signed = {
    id: `evt_${platform.getType()}`,
    timestamp: Math.floor(Date.now() / 1_000),
    body: rawBody,
    secrets: [listener.secret],
  };
  const post = async (body: string) => {
    const headers = {
      'content-type': 'application/json',
      'webhook-id': signed.id,
      'webhook-timestamp': String(signed.timestamp),
      ...new StandardScheme().sign(signed),
    };
    return (await fetch(await hooks.getUrl(), { method: 'POST', headers, body })).status;
  };
  processed = 0;
  strictEqual(await post(rawBody.toString()), 204);
  strictEqual(await post(rawBody.toString()), 204);
  strictEqual(await post('{}'), 401);
  strictEqual(processed, 1);
  await hooks.close();
}

const catalog = await webhookCatalog(app);
const unconnected = new DataSource({ type: 'better-sqlite3', database: '/nowhere/none.sqlite', entities: [Invoice] });
strictEqual(
  catalog.typeScript(),
  (await webhookCatalog(unconnected, { publishedTypes: ['report.ready'] })).typeScript(),
);

await app.close();

for (const platform of [new ExpressAdapter(), new FastifyAdapter()]) {
  @Module({
    imports: [AppModule, WebhooksApiModule.forRoot({ access: () => ({ kind: 'owner', owner: 'acme', can: MANAGE }) })],
  })
  class ApiModule {}
  const api = await NestFactory.create(ApiModule, platform, { logger: ['error', 'warn'] });
  api.setGlobalPrefix('api');
  await api.listen(0, '127.0.0.1');
  const client = createWebhooksClient({ url: `${await api.getUrl()}/api/webhooks/v1` });
  const { id } = await client.createListener({ body: { events: ['invoice.*'], url: receiver.url } });
  strictEqual((await client.listListeners()).items[0]?.id, id);
  strictEqual((await client.listDeliveries({ query: { type: 'invoice.created' } })).items[0]?.state, 'succeeded');
  await client.deleteListener({ id });
  const code = await client.getListener({ id }).catch((error: unknown) => (error as { code: string }).code);
  strictEqual(code, 'LISTENER_NOT_FOUND');
  await api.close();
}

await receiver.stop();
console.log(`delivered ${verified.payload.type} as ${verified.id}`);
