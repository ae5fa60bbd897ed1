// The test of an application that uses the package. `scripts/pack-test.mjs` runs it with jest and with vitest, as `order.spec.ts`.
import 'reflect-metadata';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EventEmitterModule } from '@nestjs/event-emitter';
import { Test } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { WebhookClock, ListenerService, WebhooksModule } from 'nestjs-entity-webhooks';
import { verifyIncomingWebhook } from 'nestjs-entity-webhooks/receiver';
import { drain, expectDelivered, expectNothingSent, FakeClock, TestReceiver } from 'nestjs-entity-webhooks/testing';
import { Order } from './order.entity.js';

/** Both runners define this global. */
declare const it: (name: string, test: () => Promise<void>, timeoutMs?: number) => void;

it('sends paid orders when the dispatcher is drained', async () => {
  const moduleRef = await Test.createTestingModule({
    imports: [
      TypeOrmModule.forRoot({
        type: 'better-sqlite3',
        database: join(tmpdir(), `webhooks-suite-${process.pid}.sqlite`),
        entities: [Order],
        synchronize: true,
        dropSchema: true,
      }),
      EventEmitterModule.forRoot(),
      WebhooksModule.forRoot({
        dispatcher: { autoStart: false },
        security: { allowedAddresses: ['127.0.0.0/8'], allowHttp: true },
      }),
      WebhooksModule.forFeature([Order]),
    ],
  })
    .overrideProvider(WebhookClock)
    .useValue(new FakeClock())
    .compile();
  const app = moduleRef.createNestApplication();
  await app.init();
  const receiver = await new TestReceiver().start();
  const { secret } = await app.get(ListenerService).create({ events: ['order.updated'], url: receiver.url });
  const orders = app.get(DataSource).getRepository(Order);
  const order = await orders.save({ status: 'new' });
  await drain(app);
  expectNothingSent(receiver);
  await orders.save({ ...order, status: 'paid' });
  await drain(app);
  const [request] = await expectDelivered(receiver, { type: 'order.updated', data: { status: 'paid' } });
  if (!request) throw new Error('expectDelivered() returned no request');
  verifyIncomingWebhook({ headers: request.headers, body: request.rawBody, secrets: secret });
  await receiver.stop();
  await app.close();
}, 60_000);
