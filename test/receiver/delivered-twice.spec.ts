import { Controller, HttpCode, InternalServerErrorException, Post } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { Column, DataSource, Entity, PrimaryColumn, PrimaryGeneratedColumn } from 'typeorm';
import { generateSecret, Webhook } from 'nestjs-entity-webhooks';
import {
  IncomingWebhookParam,
  IncomingWebhookMessage,
  VerifyIncomingWebhook,
} from 'nestjs-entity-webhooks/receiver/nest';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { databases, type FreshDatabase, type TestDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { startReceiverApp, type Platform, type ReceiverApp } from './receiver-app.js';

const SECRET = generateSecret();

@Webhook()
@Entity()
class Invoice {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'int' })
  amount: number;
}

@Entity()
class Booking {
  @PrimaryColumn({ type: 'int' })
  invoiceId: number;

  @Column({ type: 'int' })
  amount: number;
}

/** How many times the handler answers 500 after its work, like a process that dies before it answers. */
let lostAnswers = 0;
const duplicates: boolean[] = [];

@Controller('hooks')
class BookingController {
  constructor(private readonly dataSource: DataSource) {}

  @Post('standard')
  @HttpCode(204)
  @VerifyIncomingWebhook('standard')
  book(@IncomingWebhookParam() webhook: IncomingWebhookMessage<Invoice>): Promise<void> {
    return this.once(webhook);
  }

  @Post('by-body')
  @HttpCode(204)
  @VerifyIncomingWebhook('google-code')
  bookByBody(@IncomingWebhookParam() webhook: IncomingWebhookMessage<Invoice>): Promise<void> {
    return this.once(webhook);
  }

  private async once(webhook: IncomingWebhookMessage<Invoice>): Promise<void> {
    const { isDuplicate } = await webhook.processInTransaction(this.dataSource.manager, async (manager) => {
      await manager.insert(Booking, { invoiceId: webhook.data.id, amount: webhook.data.amount });
    });
    duplicates.push(isDuplicate);
    lostAnswers -= 1;
    if (lostAnswers >= 0) throw new InternalServerErrorException();
  }
}

describe.each<Platform>(['express', 'fastify'])('a webhook of this library, at a Nest receiver on %s', (platform) => {
  let theirs: FreshDatabase;
  let ours: FreshDatabase;
  let sender: TestApp;
  let receiver: ReceiverApp;

  beforeAll(async () => {
    const [sqlite] = databases as [TestDatabase];
    [theirs, ours] = [await sqlite.create(), await sqlite.create()];
    sender = await startApp({ database: theirs.options, entities: [Invoice] });
    receiver = await startReceiverApp({
      platform,
      receiver: {
        sources: { standard: { secrets: SECRET }, 'google-code': { scheme: 'google-code', secrets: SECRET } },
        inbox: {},
      },
      controllers: [BookingController],
      imports: [TypeOrmModule.forRoot({ ...ours.options, entities: [Booking], synchronize: true })],
    });
  });
  afterAll(async () => {
    await sender.close();
    await receiver.close();
    await theirs.drop();
    await ours.drop();
  });
  beforeEach(() => {
    lostAnswers = 0;
    duplicates.length = 0;
  });

  it.each([
    ['standard', 'standard'],
    ['google-code', 'by-body'],
  ])('is booked once, although its answer was lost and the webhook was sent again, by %s', async (scheme, path) => {
    const url = `${receiver.url}/hooks/${path}`;
    const listener = await sender.listeners.create({ entity: Invoice, url, secret: SECRET, schemes: [scheme] });
    lostAnswers = 1;
    const { id } = await sender.dataSource.getRepository(Invoice).save({ amount: 7 });
    await sender.dispatcher.drain();
    sender.clock.advance(10_000);
    await sender.dispatcher.drain();
    const { items } = await sender.deliveries.list({ listenerId: listener.id });
    expect(items).toMatchObject([{ state: 'succeeded', attemptCount: 2, lastStatus: 204 }]);

    await sender.deliveries.resend(items[0]?.id ?? '');
    await sender.dispatcher.drain();

    expect(duplicates).toEqual([false, true, true]);
    const bookings = await receiver.app.get(DataSource).getRepository(Booking).findBy({ invoiceId: id });
    expect(bookings).toEqual([{ invoiceId: id, amount: 7 }]);
    await sender.listeners.remove(listener.id);
  });
});
