import { SpanKind, SpanStatusCode, trace, type HrTime } from '@opentelemetry/api';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ConfigurationError } from 'nestjs-entity-webhooks';
import { WebhooksTelemetryModule, type WebhooksTelemetryOptions } from 'nestjs-entity-webhooks/otel';
import { BacklogReader } from '../../libs/webhooks/src/otel/backlog-reader.js';
import { runtimeToken } from '../../libs/webhooks/src/instance.js';
import type { WebhooksRuntime } from '../../libs/webhooks/src/webhooks-runtime.js';
import { databases, type FreshDatabase } from '../support/databases.js';
import { MINUTE, Order, ThreeAttempts } from '../support/logged-orders.js';
import { listenToLog } from '../support/said.js';
import { Telemetry } from '../support/telemetry.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const INSTANCE = { webhooks_instance: 'default' };

describe('an application with telemetry', () => {
  let fresh: FreshDatabase;
  let telemetry: Telemetry;
  let app: TestApp;

  const start = async (options: WebhooksTelemetryOptions = {}) => {
    fresh = await databases[0]!.reuse();
    telemetry = await new Telemetry().start();
    app = await startApp({
      database: fresh.options,
      entities: [Order],
      webhooks: {
        publishedTypes: ['thing.happened'],
        payload: { maxPayloadBytes: 1_024 },
        parts: { retrySchedule: ThreeAttempts },
        dispatcher: { circuit: { failures: 2, cooldownMs: 1_000, maxCooldownMs: 1_000 } },
      },
      imports: [WebhooksTelemetryModule.forRoot(options)],
    });
    listenToLog();
  };
  afterEach(async () => {
    vi.restoreAllMocks();
    await app.close();
    await telemetry.stop();
    await fresh.drop();
  });

  const save = () => app.dataSource.getRepository(Order).save({ customerId: 'acme' });

  describe('counts', () => {
    beforeEach(() => start());

    it('events by type and source, with the size of payloads', async () => {
      await save();
      await app.webhooks.publish('thing.happened', { text: 'x'.repeat(2_000) });
      const value = (name: string, labels = {}) => telemetry.value(name, { ...INSTANCE, ...labels });
      expect(await value('webhooks_events_total', { webhooks_event_type: 'order.created' })).toBe(1);
      expect(await value('webhooks_events_total', { webhooks_source: 'publish' })).toBe(1);
      expect(await value('webhooks_payload_size_count', { webhooks_event_type: 'order.created' })).toBe(1);
      expect(await value('webhooks_payload_truncated_total', { webhooks_event_type: 'thing.happened' })).toBe(1);
      // publish() without a manager has a transaction of its own, so only save() is one of the application.
      expect(await value('webhooks_capture_duration_count')).toBe(1);
    });

    it('deliveries and attempts, with how long a customer waited', async () => {
      await app.listeners.create({ events: ['*'], url: app.receiver.url });
      app.receiver.respond([{ status: 500 }, { status: 200 }]);
      await save();
      app.clock.advance(2_000);
      await app.dispatcher.drain();
      app.clock.advance(MINUTE);
      await app.dispatcher.drain();
      const type = { webhooks_event_type: 'order.created' };
      const value = (name: string, labels = {}) => telemetry.value(name, { ...INSTANCE, ...labels });
      expect(await value('webhooks_deliveries_created_total', type)).toBe(1);
      expect(await value('webhooks_deliveries_finished_total', { webhooks_delivery_state: 'succeeded' })).toBe(1);
      const failed = { webhooks_outcome: 'rejected', error_type: '500', http_response_status_code: '500' };
      expect(await value('webhooks_attempt_duration_count', failed)).toBe(1);
      expect(await value('webhooks_attempt_duration_count', { webhooks_outcome: 'accepted' })).toBe(1);
      expect(await value('webhooks_delivery_wait_sum', type)).toBeCloseTo(2, 1);
      expect(await value('webhooks_delivery_age_sum', type)).toBeCloseTo(62, 0);
      for (const step of ['route', 'claim', 'sign', 'record']) {
        const count = await value('webhooks_dispatcher_step_duration_count', { webhooks_step: step });
        expect(count, step).toBeGreaterThan(0);
      }
    });

    it('circuits that open, listeners that are disabled, and exhausted deliveries', async () => {
      await app.listeners.create({ events: ['*'], url: app.receiver.url });
      app.receiver.respond({ status: 500 });
      await save();
      for (let n = 0; n < 3; n++) {
        await app.dispatcher.drain();
        app.clock.advance(2 * MINUTE);
      }
      app.receiver.respond({ status: 410 });
      await save();
      await app.dispatcher.drain();
      expect(await telemetry.value('webhooks_circuit_opened_total')).toBe(1);
      expect(await telemetry.value('webhooks_listener_disabled_total', { webhooks_reason: 'attempts' })).toBe(1);
      expect(
        await telemetry.value('webhooks_deliveries_finished_total', { webhooks_delivery_state: 'exhausted' }),
      ).toBe(2);
    });

    it('pending deliveries by their reason, and listeners by their state', async () => {
      const failing = await app.listeners.create({ events: ['order.*'], url: app.receiver.url });
      await app.listeners.create({ events: ['thing.*'], url: app.receiver.url });
      app.receiver.respond({ status: 500 });
      await save();
      await app.dispatcher.drain();
      await save();
      app.clock.advance(30_000);
      await app.app.get(WebhooksTelemetryModule).readBacklog();
      expect(await telemetry.value('webhooks_outbox_pending')).toBe(1);
      expect(await telemetry.value('webhooks_outbox_lag')).toBeCloseTo(30, 0);
      expect(await telemetry.value('webhooks_deliveries_waiting', { webhooks_wait_reason: 'retry' })).toBe(1);
      expect(await telemetry.value('webhooks_listeners', { webhooks_listener_state: 'failing' })).toBe(1);
      expect(await telemetry.value('webhooks_listeners', { webhooks_listener_state: 'active' })).toBe(1);
      await app.listeners.disable(failing.id, 'a test');
      await app.app.get(WebhooksTelemetryModule).readBacklog();
      expect(await telemetry.value('webhooks_deliveries_waiting', { webhooks_wait_reason: 'held' })).toBe(1);
      expect(await telemetry.value('webhooks_listeners', { webhooks_listener_state: 'disabled' })).toBe(1);
    });

    it('the slots of a running dispatcher', async () => {
      expect(await telemetry.value('webhooks_dispatcher_slots_limit')).toBe(0);
      app.dispatcher.start();
      expect(await telemetry.value('webhooks_dispatcher_slots_limit')).toBe(64);
      let answer = () => {};
      const isHeld = new Promise<void>((held) => {
        app.receiver.respond(async () => {
          held();
          await new Promise<void>((resolve) => (answer = resolve));
          return { status: 200 };
        });
      });
      await app.listeners.create({ events: ['*'], url: app.receiver.url });
      await save();
      await isHeld;
      expect(await telemetry.value('webhooks_dispatcher_slots_used')).toBe(1);
      answer();
    });
  });

  it('names no listener, owner or URL, unless it is asked to', async () => {
    await start();
    const { id } = await app.listeners.create({ events: ['*'], url: app.receiver.url, owner: 'acme' });
    await save();
    await app.dispatcher.drain();
    const text = await telemetry.scrape();
    expect(text).toContain('webhooks_attempt_duration_count');
    for (const secret of [id, 'acme', app.receiver.url]) expect(text).not.toContain(secret);
  });

  it('names listeners and owners if it is asked to', async () => {
    await start({ attributes: { owner: true, listener: true } });
    const { id } = await app.listeners.create({ events: ['*'], url: app.receiver.url, owner: 'acme' });
    await save();
    await app.dispatcher.drain();
    const labels = { webhooks_owner: 'acme', webhooks_listener_id: id };
    expect(await telemetry.value('webhooks_attempt_duration_count', labels)).toBe(1);
  });

  it('stops measuring when it is closed', async () => {
    await start();
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    const second = await startApp({ database: fresh.options, entities: [Order] });
    await second.dataSource.getRepository(Order).save({ customerId: 'acme' });
    await second.dispatcher.drain();
    // The other application has an instance of the same name, but no telemetry.
    expect(await telemetry.value('webhooks_events_total')).toBeUndefined();
    await second.close();
  });

  describe('makes spans', () => {
    beforeEach(() => start());

    it('for an event inside a recorded trace, and for each attempt with a link to it', async () => {
      const { id } = await app.listeners.create({ events: ['*'], url: `${app.receiver.url}?token=hidden` });
      app.receiver.respond([{ status: 500 }, { status: 200 }]);
      await trace.getTracer('test').startActiveSpan('a request', async (span) => {
        await save();
        span.end();
      });
      await app.dispatcher.drain();
      app.clock.advance(MINUTE);
      await app.dispatcher.drain();
      const spans = telemetry.spans.getFinishedSpans();
      expect(spans.map(({ name }) => name)).toEqual(['create order.created', 'a request', 'POST', 'POST']);
      const [created, request, failed, accepted] = spans;
      expect(created).toMatchObject({
        kind: SpanKind.PRODUCER,
        parentSpanContext: { spanId: request?.spanContext().spanId },
      });
      for (const attempt of [failed, accepted]) {
        expect(attempt?.kind).toBe(SpanKind.CLIENT);
        expect(attempt?.parentSpanContext).toBeUndefined();
        expect(attempt?.links.map((link) => link.context.spanId)).toEqual([created?.spanContext().spanId]);
        expect(attempt?.spanContext().traceId).not.toBe(created?.spanContext().traceId);
        expect(attempt?.attributes).toMatchObject({
          'http.request.method': 'POST',
          'server.address': '127.0.0.1',
          'url.full': `${app.receiver.url}?token=REDACTED`,
          'messaging.destination.name': 'order.created',
          'webhooks.listener.id': id,
          'webhooks.instance': 'default',
        });
      }
      expect(failed?.status.code).toBe(SpanStatusCode.ERROR);
      expect(failed?.attributes).toMatchObject({ 'error.type': '500', 'http.response.status_code': 500 });
      expect(accepted?.status.code).toBe(SpanStatusCode.UNSET);
      expect(accepted?.attributes).toMatchObject({ 'webhooks.attempt': 2, 'http.request.resend_count': 1 });
      expect(app.receiver.requests[0]?.headers['traceparent']).toContain(created?.spanContext().spanId);
      expect(milliseconds(accepted?.startTime) - milliseconds(failed?.startTime)).toBeGreaterThanOrEqual(MINUTE);
    });

    it('for no event outside a trace, and keeps a trace that the application gave', async () => {
      const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
      await save();
      await trace.getTracer('test').startActiveSpan('a request', async (span) => {
        await app.webhooks.publish('thing.happened', {}, { context: { traceparent } });
        span.end();
      });
      await app.listeners.create({ events: ['*'], url: app.receiver.url });
      expect(telemetry.spans.getFinishedSpans().map(({ name }) => name)).toEqual(['a request']);
      const rows = await app.dataSource.query<{ context: string | null }[]>(
        'SELECT context FROM webhook_events ORDER BY seq',
      );
      expect(rows.map(({ context }) => context)).toEqual([null, JSON.stringify({ traceparent })]);
    });

    it('for an event of publish(), with its context beside the trace', async () => {
      await trace.getTracer('test').startActiveSpan('a request', async (span) => {
        await app.webhooks.publish('thing.happened', {}, { context: { actor: 'me' } });
        span.end();
      });
      const [created] = telemetry.spans.getFinishedSpans();
      const [row] = await app.dataSource.query<{ context: string }[]>('SELECT context FROM webhook_events');
      const { traceId, spanId } = created!.spanContext();
      expect(JSON.parse(row!.context)).toEqual({ actor: 'me', traceparent: `00-${traceId}-${spanId}-01` });
    });
  });

  it('reads the backlog in one process, and another continues when that one stops or dies', async () => {
    await start();
    const runtime = app.app.get<WebhooksRuntime>(runtimeToken('default'));
    const reader = () =>
      new BacklogReader({
        database: runtime.database,
        clock: app.clock,
        read: () => runtime.backlog(),
        failed: () => {},
      });
    await save();
    await app.app.get(WebhooksTelemetryModule).readBacklog();
    expect(await telemetry.value('webhooks_outbox_pending')).toBe(1);
    const [second, third] = [reader(), reader()];
    await second.readOnce();
    expect(second.isReading).toBe(false);
    app.clock.advance(MINUTE); // the first one has died
    await second.readOnce();
    expect(second.isReading).toBe(true);
    await app.app.get(WebhooksTelemetryModule).readBacklog();
    expect(await telemetry.value('webhooks_backlog_readers')).toBe(0);
    // The SDK keeps the last value of a gauge, so the process that reads no more has to end it.
    expect(await telemetry.value('webhooks_outbox_pending')).toBe(0);
    await third.readOnce();
    expect(third.isReading).toBe(false);
    await second.stop();
    await third.readOnce();
    expect(third.isReading).toBe(true);
  });
});

describe('WebhooksTelemetryModule', () => {
  it('refuses an unknown option, and an instance that does not exist', async () => {
    expect(() => WebhooksTelemetryModule.forRoot({ attribute: {} } as never)).toThrow(ConfigurationError);
    const fresh = await databases[0]!.reuse();
    await expect(
      startApp({
        database: fresh.options,
        entities: [],
        imports: [WebhooksTelemetryModule.forRoot({ dataSource: 'billing' })],
      }),
    ).rejects.toMatchObject({ code: 'WEBHOOKS_MODULE_MISSING' });
    await fresh.drop();
  });
});

function milliseconds([seconds, nanoseconds]: HrTime = [0, 0]): number {
  return seconds * 1_000 + nanoseconds / 1e6;
}
