import { Body, Controller, Headers, HttpCode, Post, Req, type RawBodyRequest } from '@nestjs/common';
import { EventEmitter2 } from '@nestjs/event-emitter';
import { DataSource } from 'typeorm';
import {
  LIFECYCLE_EVENTS,
  type CaptureError,
  type DeliveryLifecycleEvent,
  type WebhookEvent,
} from 'nestjs-entity-webhooks';
import { depthOf, verifyIncomingWebhook, withIncomingWebhook } from 'nestjs-entity-webhooks/receiver';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { Line, Order, stories } from './shop.js';

const SECRET = `whsec_${Buffer.alloc(24, 7).toString('base64')}`;
const LIMIT = 3;

/** Writes the next order for each order that it receives: a loop over HTTP. */
@Controller('hooks')
class HooksController {
  static last: unknown;

  constructor(private readonly dataSource: DataSource) {}

  @Post()
  @HttpCode(204)
  async receive(@Headers() headers: Record<string, string>, @Req() request: RawBodyRequest<object>): Promise<void> {
    const webhook = verifyIncomingWebhook<{ id: number }>({ headers, body: request.rawBody ?? '', secrets: SECRET });
    try {
      await withIncomingWebhook(webhook, () =>
        this.dataSource.getRepository(Order).save({ status: `after ${webhook.data.id}` }),
      );
    } catch (error) {
      HooksController.last = error;
      throw error;
    }
  }

  /** Verifies nothing, and so does not trust the headers. */
  @Post('open')
  @HttpCode(204)
  async anybody(@Body() { status }: { status: string }): Promise<void> {
    await this.dataSource.getRepository(Order).save({ status });
  }
}

describeDatabases('a loop of events', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let emitter: EventEmitter2;

  beforeEach(async () => {
    fresh = await database.reuse();
    app = await startApp({
      database: fresh.options,
      entities: [Order, Line],
      controllers: [HooksController],
      webhooks: { maxCausationDepth: LIMIT, publishedTypes: ['shop.looped'] },
    });
    emitter = app.app.get(EventEmitter2);
  });
  afterEach(async () => {
    await app.close();
    await fresh.drop();
  });

  const orders = () => app.dataSource.getRepository(Order);
  const loop = (depth: number) =>
    expect.objectContaining({ code: 'WEBHOOK_LOOP', details: expect.objectContaining({ depth }) as unknown });

  it('through a handler in the same process ends with an error at the limit, and its write is rolled back', async () => {
    const failed = new Promise<unknown>((resolve) => {
      emitter.on('webhooks.event.order.created', ({ data }: WebhookEvent<{ status: string }>) => {
        orders()
          .save({ status: `${data.status}+` })
          .catch(resolve);
      });
    });
    await orders().save({ status: 'a' });
    expect(await failed).toEqual(loop(LIMIT + 1));
    expect(await stories(app)).toEqual(['a', 'a+', 'a++', 'a+++'].map((status) => `order.created ${status}`));
    expect(await orders().count()).toBe(LIMIT + 1);
    // A separate request starts at depth 0.
    await app.webhooks.withoutCapture(() => orders().save({ status: 'silent' }));
    emitter.removeAllListeners('webhooks.event.order.created');
    await orders().save({ status: 'b' });
    expect((await stories(app)).at(-1)).toBe('order.created b');
  });

  it('through publish() ends with the same error', async () => {
    const failed = new Promise<unknown>((resolve) => {
      emitter.on('webhooks.event.shop.looped', () => {
        app.webhooks.publish('shop.looped', { id: 1 }).catch(resolve);
      });
    });
    await app.webhooks.publish('shop.looped', { id: 1 });
    expect(await failed).toEqual(loop(LIMIT + 1));
    expect(await stories(app)).toHaveLength(LIMIT + 1);
  });

  it('through the lifecycle event of a delivery ends: the depth is stored with the event', async () => {
    await app.listeners.create({ events: ['order.*'], url: app.receiver.url });
    let failure: unknown;
    emitter.on(LIFECYCLE_EVENTS.succeeded, ({ eventId }: DeliveryLifecycleEvent) => {
      orders()
        .save({ status: `sent ${eventId.length}` })
        .catch((error: unknown) => (failure = error));
    });
    await orders().save({ status: 'a' });
    await vi.waitFor(
      async () => {
        await app.dispatcher.drain();
        expect(failure).toEqual(loop(LIMIT + 1));
      },
      // Several consecutive deliveries: on a busy machine they take longer than the default of one second.
      { timeout: 20_000 },
    );
    expect(await stories(app)).toHaveLength(LIMIT + 1);
    const depths = app.receiver.requests.map(({ headers }) => headers['webhook-depth']);
    expect(depths).toEqual([undefined, '1', '2', '3']);
  });

  it('through a receiver in the same application ends: the depth is sent with the delivery', async () => {
    await app.close();
    app = await startApp({
      database: fresh.options,
      entities: [Order, Line],
      controllers: [HooksController],
      application: { rawBody: true },
      webhooks: { maxCausationDepth: LIMIT },
    });
    await app.app.listen(0, '127.0.0.1');
    app.clock.set(Date.now());
    await app.listeners.create({ events: ['order.*'], url: `${await app.app.getUrl()}/hooks`, secret: SECRET });
    HooksController.last = undefined;
    await orders().save({ status: 'a' });
    await app.dispatcher.drain();
    expect(HooksController.last).toEqual(loop(LIMIT + 1));
    expect(await stories(app)).toHaveLength(LIMIT + 1);
    const counts = await app.deliveries.counts();
    expect(counts).toMatchObject({ succeeded: LIMIT, due: 1 });
  });

  it('cannot be faked: an unverified header stops no write', async () => {
    await app.app.listen(0, '127.0.0.1');
    const response = await fetch(`${await app.app.getUrl()}/hooks/open`, {
      method: 'POST',
      headers: { 'webhook-depth': '900', 'content-type': 'application/json' },
      body: JSON.stringify({ status: 'stranger' }),
    });
    expect(response.status).toBe(204);
    expect(await stories(app)).toEqual(['order.created stranger']);
  });

  it('ignores an invalid depth in a verified webhook, and never reduces the depth', async () => {
    for (const depth of ['-1', '1e3', '0x10', '1.5', '99999999', '']) {
      expect(depthOf({ 'webhook-depth': depth })).toBe(0);
    }
    const deep = withIncomingWebhook({ depth: LIMIT }, () =>
      withIncomingWebhook({ depth: 0 }, () => orders().save({ status: 'deep' })),
    );
    await expect(deep).rejects.toEqual(loop(LIMIT + 1));
  });

  it('is not committed by a caller who swallows the error', async () => {
    const swallowing = withIncomingWebhook({ depth: LIMIT }, () =>
      app.dataSource.transaction(async (manager) => {
        await manager.save(Order, { status: 'swallowed' }).catch((error: CaptureError) => {
          expect(error.code).toBe('WEBHOOK_LOOP');
        });
      }),
    );
    await expect(swallowing).rejects.toEqual(loop(LIMIT + 1));
    expect(await orders().count()).toBe(0);
  });

  it('is no loop if the write makes no event', async () => {
    await withIncomingWebhook({ depth: LIMIT }, () =>
      app.webhooks.withoutCapture(() => orders().save({ status: 'quiet' })),
    );
    expect(await orders().count()).toBe(1);
  });
});
