import { Channel } from 'node:diagnostics_channel';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { WEBHOOKS_CHANNELS, type WebhooksMessages } from 'nestjs-entity-webhooks';
import { ChannelMessages } from '../support/channel-messages.js';
import { databases, describeDatabases, type FreshDatabase } from '../support/databases.js';
import { MINUTE, Order, ShortFormat, ThreeAttempts } from '../support/logged-orders.js';
import { listenToLog } from '../support/said.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const DAY = 24 * 60 * MINUTE;

function start(fresh: FreshDatabase, capture: 'orm' | 'trigger' = 'orm'): Promise<TestApp> {
  return startApp({
    database: fresh.options,
    entities: [Order],
    webhooks: {
      capture,
      publishedTypes: ['thing.happened'],
      payload: { maxPayloadBytes: 1_024 },
      parts: { retrySchedule: ThreeAttempts, payloadFormats: [ShortFormat] },
      dispatcher: { circuit: { failures: 2, cooldownMs: 1_000, maxCooldownMs: 1_000 } },
    },
  });
}

describeDatabases('the channels of a delivery', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let messages: ChannelMessages;

  beforeEach(async () => {
    fresh = await database.reuse();
    app = await start(fresh);
    messages = new ChannelMessages('captured', 'routed', 'attempts', 'step');
  });
  afterEach(async () => {
    messages.stop();
    await app.close();
    await fresh.drop();
  });

  const captured = () => messages.of('captured').flatMap(({ events }) => events);
  const attempts = () => messages.of('attempts').flatMap((message) => message.attempts);

  it('have the committed events, with their source and size, and none that was rolled back', async () => {
    await app.dataSource.getRepository(Order).save({});
    await app.webhooks.publish('thing.happened', { text: 'é'.repeat(2_000) });
    await expect(
      app.dataSource.transaction(async (manager) => {
        await manager.save(Order, {});
        throw new Error('rolled back');
      }),
    ).rejects.toThrow('rolled back');
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    await app.dispatcher.drain();
    expect(captured()).toMatchObject([
      { type: 'order.created', source: 'orm', isTruncated: false },
      { type: 'thing.happened', source: 'publish', isTruncated: true },
    ]);
    expect(captured()[1]?.payloadBytes).toBeLessThanOrEqual(1_024);
    const sizes = await app.dataSource.query<{ payload: string }[]>('SELECT payload FROM webhook_events ORDER BY seq');
    expect(captured()[0]?.payloadBytes).toBe(Buffer.byteLength(sizes[0]!.payload));
  });

  it('have the new deliveries by type, and each attempt with what followed', async () => {
    const listener = await app.listeners.create({ events: ['*'], url: `${app.receiver.url}?token=1`, owner: 'acme' });
    await app.listeners.create({ events: ['order.*'], url: app.receiver.url });
    app.receiver.respond([{ status: 500 }, { status: 200 }]);
    const order = await app.webhooks.withContext(
      { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' },
      () => app.dataSource.getRepository(Order).save({ customerId: 'acme' }),
    );
    expect(order.id).toBeDefined();
    await app.dispatcher.drain();
    expect(messages.of('routed').map(({ events, deliveries }) => [events, Object.fromEntries(deliveries)])).toEqual([
      [1, { 'order.created': 2 }],
    ]);
    expect(attempts().map(({ outcome, status, state }) => [outcome, status, state])).toEqual(
      expect.arrayContaining([
        ['rejected', 500, 'due'],
        ['accepted', 200, 'succeeded'],
      ]),
    );
    const [request] = app.receiver.requests;
    for (const attempt of attempts()) {
      expect(attempt).toMatchObject({
        type: 'order.created',
        attempt: 1,
        bodyBytes: request?.rawBody.length,
        trace: { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' },
      });
      expect(attempt.signMs).toBeGreaterThan(0);
      expect(attempt.nextAt === null).toBe(attempt.state === 'succeeded');
    }
    expect(attempts().find(({ listenerId }) => listenerId === listener.id)).toMatchObject({
      owner: 'acme',
      url: `${app.receiver.url}?token=1`,
    });
  });

  it('have why each attempt was made, and who asked for it', async () => {
    const { id } = await app.listeners.create({ events: ['*'], url: app.receiver.url });
    app.receiver.respond([{ status: 500 }, { status: 200 }]);
    await app.webhooks.publish('thing.happened', {});
    await app.dispatcher.drain();
    const [delivery] = (await app.deliveries.list()).items;
    await app.deliveries.withActor('ann@example.com').resend(delivery?.id ?? '');
    await app.dispatcher.drain();
    await app.listeners.sendTest(id);
    await app.dispatcher.drain();
    expect(attempts().map(({ attempt, trigger, triggeredBy }) => [attempt, trigger, triggeredBy])).toEqual([
      [1, 'schedule', null],
      [2, 'resend', 'ann@example.com'],
      [1, 'test', null],
    ]);
  });

  it('have the time of each step', async () => {
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    await app.dataSource.getRepository(Order).save({});
    await app.dispatcher.drain();
    expect(new Set(messages.of('step').map(({ step }) => step))).toEqual(
      new Set(['capture', 'route', 'claim', 'record']),
    );
    for (const { durationMs } of messages.of('step')) expect(durationMs).toBeGreaterThan(0);
  });
});

describe('the channels of an instance', () => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let messages: ChannelMessages;

  const begin = async (capture?: 'orm' | 'trigger', ...names: (keyof WebhooksMessages)[]) => {
    fresh = await databases[0]!.create();
    app = await start(fresh, capture);
    listenToLog();
    messages = new ChannelMessages(...names);
  };
  afterEach(async () => {
    messages.stop();
    vi.restoreAllMocks();
    await app.close();
    await fresh.drop();
  });

  it('have each message with one object for the instance', async () => {
    await begin('orm', 'captured', 'routed');
    await app.webhooks.publish('thing.happened', {});
    await app.dispatcher.drain();
    const [captured] = messages.of('captured');
    expect(captured?.instance).toEqual({ name: 'default' });
    expect(messages.of('routed')[0]?.instance).toBe(captured?.instance);
  });

  it('have an event of a trigger, and the step that converted it', async () => {
    await begin('trigger', 'captured', 'step');
    await app.dataSource.getRepository(Order).insert({});
    await app.dispatcher.drain();
    expect(messages.of('captured').flatMap(({ events }) => events)).toMatchObject([
      { type: 'order.created', source: 'trigger' },
    ]);
    expect(messages.of('step').map(({ step }) => step)).toContain('convert');
  });

  it('have a circuit that opens, a recovery, and a listener that is disabled', async () => {
    await begin('orm', 'listener');
    const { id } = await app.listeners.create({ events: ['*'], url: app.receiver.url });
    app.receiver.respond([{ status: 500 }, { status: 500 }, { status: 200 }, { status: 410 }]);
    for (let n = 0; n < 4; n++) {
      if (n === 0 || n === 3) await app.webhooks.publish('thing.happened', {});
      await app.dispatcher.drain();
      app.clock.advance(2 * MINUTE);
    }
    expect(messages.of('listener').map(({ listenerId, change, by }) => [listenerId, change, by])).toEqual([
      [id, 'circuit_opened', null],
      [id, 'recovered', null],
      [id, 'disabled', 'attempts'],
    ]);
  });

  it('have deliveries that are discarded, and what the chores delete', async () => {
    await begin('orm', 'discarded', 'upkeep');
    const { id } = await app.listeners.create({ events: ['*'], url: app.receiver.url });
    await app.listeners.disable(id);
    const unrendered = await app.listeners.create({ events: ['*'], url: app.receiver.url, format: 'short' });
    ShortFormat.isBroken = true;
    await app.webhooks.publish('thing.happened', {});
    await app.dispatcher.drain();
    ShortFormat.isBroken = false;
    app.clock.advance(40 * DAY);
    await app.dispatcher.runChores();
    app.clock.advance(200 * DAY);
    await app.dispatcher.runChores();
    expect(messages.of('discarded').map(({ listenerId, count, reason }) => [listenerId, count, reason])).toEqual([
      [unrendered.id, 1, 'FORMAT_FAILED'],
      [id, 1, 'TOO_OLD'],
    ]);
    const deleted = messages.of('upkeep').map((message) => message.deleted);
    expect(deleted.reduce((sum, { events }) => sum + events, 0)).toBe(1);
    expect(deleted.reduce((sum, { deliveries }) => sum + deliveries, 0)).toBe(2);
  });

  it('have events and images that are damaged', async () => {
    await begin('trigger', 'damaged');
    await app.webhooks.publish('thing.happened', {});
    await app.dataSource.query("UPDATE webhook_events SET payload = '{'");
    await app.dataSource.getRepository(Order).insert({});
    await app.dataSource.query("UPDATE webhook_images SET new_row = '{' WHERE table_path = 'log_order'");
    await app.dispatcher.drain();
    expect(messages.of('damaged').map(({ kind }) => kind)).toEqual(['image', 'event']);
  });

  it('have each failure of the database', async () => {
    await begin('orm', 'trouble');
    await app.dataSource.query('ALTER TABLE webhook_listener_state RENAME TO away');
    app.dispatcher.start();
    expect(await messages.first('trouble')).toMatchObject({
      work: expect.stringMatching(/claiming|polling/) as string,
    });
    await app.dataSource.query('ALTER TABLE away RENAME TO webhook_listener_state');
  });

  it('publish nothing while nobody listens', async () => {
    await begin('orm');
    const published = vi.spyOn(Channel.prototype, 'publish');
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
    await app.dataSource.getRepository(Order).save({});
    app.receiver.respond({ status: 410 });
    await app.dispatcher.drain();
    await app.dispatcher.runChores();
    const ours = new Set<string>(Object.values(WEBHOOKS_CHANNELS));
    const names = published.mock.contexts.map((channel) => String((channel as Channel).name));
    expect(names.filter((name) => ours.has(name))).toEqual([]);
  });
});
