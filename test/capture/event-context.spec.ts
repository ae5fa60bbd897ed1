import {
  Controller,
  Injectable,
  Post,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import { EventEmitter2 } from '@nestjs/event-emitter';
import { DataSource } from 'typeorm';
import { PayloadFormat, WebhooksService, type WebhookEvent } from 'nestjs-entity-webhooks';
import { Observable } from 'rxjs';
import { afterAll, beforeAll, beforeEach, expect, it, vi } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { codeBlock } from '../support/scratch-project.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { Line, Order } from './shop.js';

const TRACEPARENT = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';

@Injectable()
export class RequestContextInterceptor implements NestInterceptor {
  constructor(private readonly webhooks: WebhooksService) {}

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const { headers } = context.switchToHttp().getRequest<{ headers: Record<string, string | undefined> }>();
    const { traceparent, tracestate } = headers;
    const requestId = headers['x-request-id']?.slice(0, 100);
    return new Observable((subscriber) =>
      this.webhooks.withContext({ requestId, traceparent, tracestate }, () => next.handle().subscribe(subscriber)),
    );
  }
}

@Controller('orders')
class OrdersController {
  constructor(private readonly dataSource: DataSource) {}

  @Post()
  async create(): Promise<void> {
    await this.dataSource.transaction((manager) => manager.save(Order, { status: 'requested' }));
  }
}

class AuditFormat extends PayloadFormat {
  readonly name = 'audit';
  readonly contentType = 'application/json';

  render({ type, context }: { type: string; context: object | null }): string {
    return JSON.stringify({ type, context });
  }
}

describeDatabases('the context of an event', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let url: string;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({
      database: fresh.options,
      entities: [Order, Line],
      webhooks: { publishedTypes: ['shop.opened'], parts: { payloadFormats: [AuditFormat] } },
      controllers: [OrdersController],
      providers: [{ provide: APP_INTERCEPTOR, useClass: RequestContextInterceptor }],
    });
    await app.listeners.create({ events: ['order.*', 'shop.*'], url: app.receiver.url });
    await app.app.listen(0, '127.0.0.1');
    url = await app.app.getUrl();
  });
  beforeEach(async () => {
    await app.dispatcher.drain();
    app.receiver.requests.length = 0;
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  const orders = () => app.dataSource.getRepository(Order);
  const lastStored = async () => {
    const [row] = await app.dataSource.query<{ context: string | null }[]>(
      'SELECT context FROM webhook_events ORDER BY seq DESC LIMIT 1',
    );
    return row?.context == null ? null : (JSON.parse(row.context) as unknown);
  };

  it('merges all contexts around the write, and the inner one wins', async () => {
    await app.webhooks.withContext({ actor: 'john', requestId: 'r1', tags: ['a'] }, () =>
      app.webhooks.withContext({ requestId: 'r2', job: { name: 'nightly', run: 7 }, absent: undefined }, () =>
        app.dataSource.transaction(async (manager) => {
          await manager.transaction((nested) => nested.save(Order, { status: 'a' }));
        }),
      ),
    );
    expect(await lastStored()).toEqual({
      actor: 'john',
      requestId: 'r2',
      tags: ['a'],
      job: { name: 'nightly', run: 7 },
    });
    await orders().save({ status: 'b' });
    expect(await lastStored()).toBeNull();
  });

  it('is separate for each write of a transaction, and for writes at the same time', async () => {
    await app.dataSource.transaction(async (manager) => {
      await app.webhooks.withContext({ actor: 'one' }, () => manager.save(Order, { status: 'of one' }));
      await app.webhooks.withContext({ actor: 'two' }, () => manager.save(Order, { status: 'of two' }));
    });
    const actors = Array.from({ length: 10 }, (_, n) => `actor ${n}`);
    await Promise.all(
      actors.map((actor) => app.webhooks.withContext({ actor }, () => orders().save({ status: `of ${actor}` }))),
    );
    const rows = await app.dataSource.query<{ context: string | null; payload: string }[]>(
      "SELECT context, payload FROM webhook_events WHERE payload LIKE '%of %'",
    );
    expect(rows).toHaveLength(12);
    for (const { context, payload } of rows) {
      const { actor } = JSON.parse(context ?? '') as { actor: string };
      expect((JSON.parse(payload) as { data: object }).data).toMatchObject({ status: `of ${actor}` });
    }
  });

  it('is visible to handlers, the delivery log and payload formats, and not to receivers or owners', async () => {
    const handled = vi.fn<(event: WebhookEvent) => void>();
    app.app.get(EventEmitter2).once('webhooks.event.order.created', handled);
    const audit = await app.listeners.create({ events: ['order.*'], url: app.receiver.url, format: 'audit' });
    const owned = await app.listeners.forOwner('acme').create({ events: ['order.*'], url: app.receiver.url });
    await app.webhooks.withContext({ actor: 'john' }, () => orders().save({ status: 'seen' }));
    await app.dispatcher.drain();
    expect(handled.mock.calls[0]?.[0].context).toEqual({ actor: 'john' });
    const bodies = app.receiver.requests.map(({ json }) => json as Record<string, unknown>);
    expect(bodies).toHaveLength(3);
    expect(bodies.filter((body) => JSON.stringify(body).includes('john'))).toEqual([
      { type: 'order.created', context: { actor: 'john' } },
    ]);
    for (const { headers } of app.receiver.requests) expect(JSON.stringify(headers)).not.toContain('john');
    const { items } = await app.deliveries.list({ listenerId: owned.id });
    const id = items[0]?.id ?? '';
    expect((await app.deliveries.get(id)).context).toEqual({ actor: 'john' });
    expect((await app.deliveries.forOwner('acme').get(id)).context).toBeNull();
    await app.listeners.remove(audit.id);
    await app.listeners.remove(owned.id);
  });

  it('applies to the writes of a handler of its event', async () => {
    const written = new Promise<unknown>((resolve) => {
      app.app.get(EventEmitter2).once('webhooks.event.order.created', () => resolve(orders().save({ status: 'then' })));
    });
    await app.webhooks.withContext({ requestId: 'r1' }, () => orders().save({ status: 'first' }));
    await written;
    expect(await lastStored()).toEqual({ requestId: 'r1', webhookDepth: 1 });
  });

  it('is accepted by publish(), which returns the first event of an idempotency key with its context', async () => {
    const options = { context: { actor: 'john' }, idempotencyKey: 'k' };
    const event = await app.webhooks.withContext({ requestId: 'r1' }, () =>
      app.webhooks.publish('shop.opened', { id: 1 }, options),
    );
    expect(event.context).toEqual({ actor: 'john', requestId: 'r1' });
    const again = await app.webhooks.publish('shop.opened', { id: 1 }, { ...options, context: { actor: 'jane' } });
    expect(again).toEqual(event);
  });

  it('sends its trace as headers, also with a retry, and sends none without a trace', async () => {
    app.receiver.failTimes(1);
    await app.webhooks.withContext({ traceparent: TRACEPARENT, tracestate: 'a=1, b=2' }, () =>
      orders().save({ status: 'traced' }),
    );
    await app.dispatcher.drain();
    app.clock.advance(60_000);
    await app.dispatcher.drain();
    const traces = app.receiver.requests.map(({ headers }) => [headers['traceparent'], headers['tracestate']]);
    expect(traces).toEqual([
      [TRACEPARENT, 'a=1,b=2'],
      [TRACEPARENT, 'a=1,b=2'],
    ]);
    app.receiver.requests.length = 0;
    await app.webhooks.withContext({ traceparent: 'of nobody', tracestate: 'a=1', actor: 'x' }, () =>
      orders().save({ status: 'untraced' }),
    );
    expect(await lastStored()).toEqual({ actor: 'x' });
    await app.dispatcher.drain();
    const names = Object.keys(app.receiver.requests[0]?.headers ?? {});
    expect(names).toContain('webhook-id');
    expect(names).not.toContain('traceparent');
    expect(names).not.toContain('tracestate');
    expect(names).not.toContain('webhook-depth');
  });

  it('never joins the tracestate of one trace to the traceparent of another', async () => {
    const other = TRACEPARENT.replace('4bf9', 'aaaa');
    await app.webhooks.withContext({ traceparent: TRACEPARENT, tracestate: 'a=1' }, () =>
      app.webhooks.withContext({ traceparent: other }, () => orders().save({ status: 'other' })),
    );
    expect(await lastStored()).toEqual({ traceparent: other });
  });

  it('is set from a request by an interceptor', async () => {
    const headers = { 'x-request-id': 'r7', traceparent: TRACEPARENT, 'content-type': 'application/json' };
    const response = await fetch(`${url}/orders`, { method: 'POST', headers, body: '{"a":1}' });
    expect(response.status).toBe(201);
    expect(await lastStored()).toEqual({ requestId: 'r7', traceparent: TRACEPARENT });
  });

  it('is a copy: later changes of the object are not stored', async () => {
    const given = { user: { name: 'john' } };
    await app.webhooks.withContext(given, () => {
      given.user.name = 'jane';
      return orders().save({ status: 'copy' });
    });
    expect(await lastStored()).toEqual({ user: { name: 'john' } });
  });

  it('is refused before the work runs if it is not JSON or too large', async () => {
    const work = vi.fn<() => void>();
    const circular: Record<string, unknown> = {};
    circular['self'] = circular;
    const wrong: unknown[] = [
      ...[null, 'text', [], new Date(), new Map(), { at: new Date() }, { n: Number.NaN }, { big: 1n }],
      ...[{ run: () => 1 }, { list: [undefined] }, { webhookDepth: 3 }, circular, { long: 'x'.repeat(4_096) }],
    ];
    for (const context of wrong) {
      expect(() => app.webhooks.withContext(context as never, work)).toThrow(
        expect.objectContaining({ code: 'INVALID_CONTEXT' }),
      );
      await expect(app.webhooks.publish('shop.opened', {}, { context: context as never })).rejects.toMatchObject({
        code: 'INVALID_CONTEXT',
      });
    }
    const half = { a: 'ü'.repeat(1_000) };
    app.webhooks.withContext(half, () => {
      expect(() => app.webhooks.withContext({ b: 'ü'.repeat(1_100) }, work)).toThrow(
        expect.objectContaining({ details: { bytes: 4_215, maxBytes: 4_096 } }),
      );
    });
    expect(work).not.toHaveBeenCalled();
  });
});

it('is set in docs/capture.md by the interceptor that this file runs', async () => {
  const { readFile } = await import('node:fs/promises');
  const own = await readFile(new URL(import.meta.url), 'utf8');
  const shown = await codeBlock('docs/capture.md', 'interceptor');
  const body = shown.slice(shown.indexOf('@Injectable()')).trim();
  expect(body).toContain('withContext(');
  expect(own).toContain(body);
});
