import { Controller, Get, Inject, type INestApplication, type Type } from '@nestjs/common';
import { HealthCheck, HealthCheckService, HealthIndicatorService, TerminusModule } from '@nestjs/terminus';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { SystemService } from 'nestjs-entity-webhooks';
import { WebhooksHealthIndicator } from 'nestjs-entity-webhooks/terminus';
import { ChannelMessages } from '../support/channel-messages.js';
import { describeOn, type FreshDatabase } from '../support/databases.js';
import { HOUR, MINUTE } from '../support/logged-orders.js';
import { listenToLog } from '../support/said.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

@Controller('health')
class HealthController {
  constructor(
    @Inject(HealthCheckService) private readonly health: HealthCheckService,
    @Inject(WebhooksHealthIndicator) private readonly webhooks: WebhooksHealthIndicator,
  ) {}

  @Get('live')
  @HealthCheck()
  live() {
    return this.health.check([() => this.webhooks.isAlive('webhooks')]);
  }

  @Get('ready')
  @HealthCheck()
  ready() {
    return this.health.check([() => this.webhooks.isKeepingUp('webhooks', { timeoutMs: 500 })]);
  }
}

interface Health {
  readonly http: number;
  readonly status: string;
  readonly details: { readonly webhooks: Readonly<Record<string, unknown>> };
}

describeOn('sqlite', 'an application with health checks', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let url: string;

  beforeEach(async () => {
    fresh = await database.create();
    app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: { publishedTypes: ['thing.happened'], dispatcher: { pollIntervalMs: 50 } },
      imports: [TerminusModule.forRoot({ logger: false })],
      controllers: [HealthController as Type],
      providers: [WebhooksHealthIndicator],
    });
    url = await listening(app.app);
    listenToLog();
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await app.close();
    await fresh.drop();
  });

  async function health(path: 'live' | 'ready'): Promise<Health> {
    const response = await fetch(`${url}/health/${path}`);
    const body = (await response.json()) as Omit<Health, 'http'>;
    return { http: response.status, ...body };
  }
  const publish = () => app.webhooks.publish('thing.happened', {});

  it('is alive and keeps up when nothing is pending', async () => {
    app.dispatcher.start();
    expect(await health('live')).toMatchObject({ http: 200, details: { webhooks: { dispatching: true } } });
    expect(await health('ready')).toMatchObject({
      http: 200,
      status: 'ok',
      details: {
        webhooks: {
          status: 'up',
          outboxLagMs: 0,
          queueLagMs: 0,
          pending: 0,
          failingListeners: 0,
          disabledListeners: 0,
          dispatching: true,
          refused: false,
          paused: false,
          sending: 0,
        },
      },
    });
  });

  it('is alive without a dispatcher: it only serves requests', async () => {
    expect(await health('live')).toMatchObject({ http: 200, details: { webhooks: { dispatching: false } } });
  });

  it('is not alive when the loop of its dispatcher hangs', async () => {
    app.dispatcher.start();
    await health('live');
    const later = performance.now() + HOUR;
    vi.spyOn(performance, 'now').mockImplementation(() => later);
    expect(await health('live')).toMatchObject({ http: 503, details: { webhooks: { status: 'down' } } });
  });

  it('is degraded by receivers that are down, and never more', async () => {
    for (let n = 0; n < 3; n++) await app.listeners.create({ events: ['*'], url: app.receiver.url });
    await app.receiver.stop();
    for (let n = 0; n < 20; n++) await publish();
    await app.dispatcher.drain();
    app.clock.advance(2 * HOUR);
    app.dispatcher.start();
    await app.dispatcher.drain();
    expect(await health('live')).toMatchObject({ http: 200 });
    expect(await health('ready')).toMatchObject({
      http: 200,
      status: 'degraded',
      details: { webhooks: { status: 'degraded', failingListeners: 3 } },
    });
  });

  it('is degraded when it is late, and down when it is far too late while it dispatches', async () => {
    await publish();
    app.clock.advance(2 * MINUTE);
    expect(await health('ready')).toMatchObject({
      http: 200,
      details: { webhooks: { status: 'degraded', pending: 1 } },
    });
    app.clock.advance(HOUR);
    // Another process has to dispatch.
    expect(await health('ready')).toMatchObject({ http: 200, details: { webhooks: { status: 'degraded' } } });
    // It cannot take events from the outbox, but all else works.
    for (const change of ['UPDATE', 'DELETE']) {
      await app.dataSource.query(
        `CREATE TRIGGER stuck_${change} BEFORE ${change} ON webhook_outbox BEGIN SELECT RAISE(ABORT, 'stuck'); END`,
      );
    }
    app.dispatcher.start();
    expect(await health('ready')).toMatchObject({ http: 503, details: { webhooks: { status: 'down' } } });
    expect(await health('live')).toMatchObject({ http: 200 });
  });

  it('is degraded while attempts cannot be recorded, so that nothing is sent', async () => {
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    const messages = new ChannelMessages('trouble');
    await app.dataSource.query('ALTER TABLE webhook_deliveries RENAME COLUMN duration_ms TO away');
    app.dispatcher.start();
    await publish();
    expect(await messages.first('trouble')).toMatchObject({ work: 'recording' });
    messages.stop();
    expect(await health('ready')).toMatchObject({
      http: 200,
      details: { webhooks: { refused: true, status: 'degraded' } },
    });
    await app.dataSource.query('ALTER TABLE webhook_deliveries RENAME COLUMN away TO duration_ms');
  });

  it('is degraded, and never down, while sending is paused', async () => {
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    app.dispatcher.start();
    await app.app.get(SystemService).pauseSending({ reason: 'a leak' });
    await publish();
    await expect.poll(() => app.deliveries.counts()).toMatchObject({ due: 1 });
    app.clock.advance(HOUR);
    expect(await health('ready')).toMatchObject({
      ...{ http: 200, details: { webhooks: { status: 'degraded', paused: true, queueLagMs: HOUR } } },
    });
    await app.app.get(SystemService).resumeSending();
    await app.receiver.waitFor(1);
    await expect.poll(() => health('ready')).toMatchObject({ status: 'ok', details: { webhooks: { paused: false } } });
  });

  it('is down when its tables are gone', async () => {
    await app.dataSource.query('ALTER TABLE webhook_outbox RENAME TO away');
    expect(await health('ready')).toMatchObject({
      http: 503,
      details: { webhooks: { status: 'down', message: expect.stringContaining('webhook_outbox') as string } },
    });
    await app.dataSource.query('ALTER TABLE away RENAME TO webhook_outbox');
    expect(await health('ready')).toMatchObject({ http: 200 });
  });

  it('is up with a note where it would be degraded, on Terminus 11, which knows only up and down', async () => {
    await publish();
    app.clock.advance(2 * MINUTE);
    const indicators = app.app.get(HealthIndicatorService);
    const check = indicators.check.bind(indicators);
    vi.spyOn(indicators, 'check').mockImplementation((key) => Object.assign(check(key), { degraded: undefined }));
    expect(await health('ready')).toMatchObject({
      http: 200,
      status: 'ok',
      details: { webhooks: { status: 'up', degraded: true, pending: 1 } },
    });
  });

  it('says which instance is missing', () => {
    expect(() => app.app.get(WebhooksHealthIndicator).isAlive('webhooks', { dataSource: 'billing' })).toThrow(
      "instance of the data source 'billing'",
    );
  });
});

async function listening(app: INestApplication): Promise<string> {
  await app.listen(0, '127.0.0.1');
  return app.getUrl();
}
