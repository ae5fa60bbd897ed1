import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  DeliveryService,
  EventService,
  PayloadFormat,
  RetrySchedule,
  TaskService,
  Webhook,
  type CreateListenerInput,
} from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

@Webhook({ owner: 'customerId' })
@Entity('erased_order')
class Order {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50, default: 'a secret name' })
  name: string;

  @Column({ type: 'varchar', length: 50, default: 'acme' })
  customerId: string;
}

class Twice extends RetrySchedule {
  delayMs(failures: number): number | null {
    return failures < 2 ? 60_000 : null;
  }
}

class EchoFormat extends PayloadFormat {
  readonly name = 'echo';
  readonly contentType = 'application/json';
  render({ payload }: { payload: string }): string {
    return JSON.stringify({ rendered: JSON.parse(payload) as object });
  }
}

const TABLES = [
  'events',
  'outbox',
  'leases',
  'damaged',
  'listeners',
  'routes',
  'route_paths',
  'deliveries',
  'attempts',
  'listener_state',
  'tasks',
];
const SECRET = 'a secret name';

describeDatabases('the content of an event', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let events: EventService;
  let deliveries: DeliveryService;
  let tasks: TaskService;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({
      database: fresh.options,
      entities: [Order],
      webhooks: {
        publishedTypes: ['invoice.overdue'],
        parts: { retrySchedule: Twice, payloadFormats: [EchoFormat] },
        dispatcher: { circuit: { failures: 1_000_000 } },
      },
    });
    events = app.app.get(EventService);
    tasks = app.app.get(TaskService);
    ({ deliveries } = app);
  });
  afterEach(async () => {
    app.receiver.respond({ status: 204 }).clear();
    for (const table of TABLES) await app.dataSource.query(`DELETE FROM webhook_${table}`);
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  const listen = (input: Partial<CreateListenerInput> = {}) =>
    app.listeners.create({ events: ['*'], url: app.receiver.url, ...input });
  const save = (customerId = 'acme') =>
    app.webhooks.withContext({ user: SECRET }, () => app.dataSource.manager.save(Order, { customerId }));
  const newest = async () => (await events.list({ limit: 1 })).items[0]?.id ?? '';

  /** Every text in the tables that has the secret. */
  async function traces(): Promise<string[]> {
    const found: string[] = [];
    for (const table of ['events', 'deliveries', 'attempts']) {
      const rows = await app.dataSource.query<Record<string, unknown>[]>(`SELECT * FROM webhook_${table}`);
      for (const row of rows) {
        const columns = Object.keys(row).filter((column) => String(row[column]).includes(SECRET));
        found.push(...columns.map((column) => `${table}.${column}`));
      }
    }
    return found.toSorted();
  }

  describe('once erased', () => {
    it('is nowhere in the tables: payload, context, bodies and answers are gone, and the log stays', async () => {
      await listen();
      await listen({ format: 'echo' });
      app.receiver.respond({ status: 200, body: `thank you, ${SECRET}` });
      await save();
      await app.dispatcher.drain();
      expect(await traces()).toEqual([
        ...['attempts.response', 'deliveries.body', 'deliveries.response', 'events.context', 'events.payload'],
      ]);
      const id = await newest();
      expect(await events.get(id)).toMatchObject({ erasedAt: null, data: { name: SECRET } });
      await events.erase(id);
      expect(await traces()).toEqual([]);
      expect(await events.get(id)).toMatchObject({
        id,
        type: 'order.created',
        ...{ state: 'delivered', data: null, previous: null, context: null, droppedFields: [] },
        erasedAt: new Date(app.clock.now()),
      });
      const { items } = await deliveries.list({ eventId: id });
      expect(items).toMatchObject([{ state: 'succeeded' }, { state: 'succeeded' }]);
      expect((await deliveries.get(items[0]?.id ?? '')).attempts).toMatchObject([{ status: 200, response: null }]);
      await events.erase(id);
    });

    it('is not sent any more: not by a retry, a resend, a recovery, a replay, or to another listener', async () => {
      const { id: listenerId } = await listen({ format: 'echo' });
      app.receiver.respond({ status: 500 });
      await save();
      await app.dispatcher.drain();
      const id = await newest();
      const [delivery] = (await deliveries.list({ eventId: id })).items;
      expect(delivery).toMatchObject({ state: 'due', attemptCount: 1 });
      await events.erase(id);
      const gone = { code: 'CONTENT_ERASED', httpStatus: 410 };
      expect(await deliveries.get(delivery?.id ?? '')).toMatchObject({
        state: 'discarded',
        lastErrorCode: 'CONTENT_ERASED',
        finishedAt: expect.any(Date) as Date,
      });
      await expect(deliveries.resend(delivery?.id ?? '')).rejects.toMatchObject(gone);
      await expect(deliveries.body(delivery?.id ?? '')).rejects.toMatchObject(gone);
      const since = new Date(0);
      expect(await deliveries.recover({ since, state: ['exhausted', 'discarded'] })).toBe(0);
      const { id: newer } = await listen();
      await expect(deliveries.sendEvent(id, newer)).rejects.toMatchObject(gone);
      expect(await deliveries.replay({ listenerId: newer, since })).toBe(0);
      app.receiver.clear();
      app.clock.advance(3_600_000);
      await app.dispatcher.drain();
      expect(app.receiver.requests).toEqual([]);
      expect(await deliveries.counts({ listenerId })).toMatchObject({ discarded: 1, due: 0 });
    });

    it('is not routed, if it was not routed yet', async () => {
      await listen();
      await save();
      await events.erase(await newest());
      await app.dispatcher.drain();
      expect(app.receiver.requests).toEqual([]);
      expect((await deliveries.list()).items).toEqual([]);
    });

    it('is discarded by the claim, if its delivery became due at the same moment', async () => {
      await listen({ format: 'echo' });
      await save();
      await app.listeners.disable((await app.listeners.list()).items[0]?.id ?? '');
      await app.dispatcher.drain();
      const id = await newest();
      // What an erasure leaves behind that a recovery of the same delivery overtakes.
      await app.dataSource.query('UPDATE webhook_events SET payload = NULL, thin_payload = NULL, erased_at = 1');
      await app.listeners.enable((await app.listeners.list()).items[0]?.id ?? '');
      await app.dispatcher.drain();
      expect(app.receiver.requests).toEqual([]);
      expect((await deliveries.list({ eventId: id })).items).toMatchObject([
        { state: 'discarded', lastErrorCode: 'CONTENT_ERASED' },
      ]);
      expect(await traces()).toEqual(['events.context']);
    });

    it('is kept until its requests in flight are recorded', async () => {
      await listen();
      let release = () => undefined as void;
      app.receiver.respond({
        status: 200,
        body: SECRET,
        delayUntil: new Promise<void>((resolve) => (release = resolve)),
      });
      await save();
      const id = await newest();
      const sending = app.dispatcher.drain();
      await app.receiver.waitFor(1);
      let isErased = false;
      const erasing = events.erase(id).then(() => (isErased = true));
      await expect.poll(async () => (await events.get(id)).erasedAt).not.toBeNull();
      expect(isErased).toBe(false);
      release();
      await Promise.all([sending, erasing]);
      expect(await traces()).toEqual([]);
    });

    it('is deleted with its event, when retention is over', async () => {
      await listen();
      await save();
      await app.dispatcher.drain();
      const now = app.clock.now();
      await events.erase(await newest());
      app.clock.advance(91 * 24 * 3_600_000);
      await app.dispatcher.runChores();
      expect((await events.list()).items).toEqual([]);
      app.clock.set(now);
    });

    it('does not make a repeated publish() fail', async () => {
      const first = await app.webhooks.publish('invoice.overdue', { name: SECRET }, { idempotencyKey: 'once' });
      await events.erase(first.id);
      const again = await app.webhooks.publish('invoice.overdue', { name: 'another' }, { idempotencyKey: 'once' });
      expect(again).toMatchObject({ id: first.id, type: 'invoice.overdue', data: { name: 'another' } });
      expect(await traces()).toEqual([]);
    });
  });

  it('is erased by operators only', async () => {
    await save();
    const id = await newest();
    const bound = events.forOwner('acme');
    await expect(bound.erase(id)).rejects.toMatchObject({ code: 'NOT_FOR_OWNERS', httpStatus: 403 });
    await expect(events.erase('evt_unknown')).rejects.toMatchObject({ code: 'EVENT_NOT_FOUND' });
    expect(await bound.get(id)).toMatchObject({ erasedAt: null });
  });

  describe('of many events is erased by a task', () => {
    const run = async (filter: object) => {
      const input = { kind: 'erase', ...filter } as const;
      const { count } = await tasks.count(input);
      const task = await tasks.run((await tasks.create(input)).id);
      expect(task).toMatchObject({ state: 'done', done: count, estimate: count });
      expect(await tasks.count(input)).toMatchObject({ count: 0 });
      return task.done;
    };
    const erased = async () =>
      (await events.list()).items.filter(({ erasedAt }) => erasedAt !== null).map(({ owner, type }) => [type, owner]);

    it('of one row, of one owner, or of one event', async () => {
      await listen();
      const order = await save();
      await app.dataSource.manager.save(Order, { id: order.id, name: 'other' });
      await save();
      await save('globex');
      await app.dispatcher.drain();
      expect(await run({ entity: 'Order', entityId: order.id })).toBe(2);
      expect(await erased()).toEqual([
        ['order.updated', 'acme'],
        ['order.created', 'acme'],
      ]);
      expect(await run({ owner: 'globex' })).toBe(1);
      const [left] = (await events.list()).items.filter(({ erasedAt }) => erasedAt === null);
      expect(await run({ eventId: left?.id })).toBe(1);
      expect(await traces()).toEqual([]);
    });

    it(
      'in batches of a bounded number of rows, also if one event has many deliveries',
      { timeout: 60_000 },
      async () => {
        const { id: listenerId } = await listen();
        const order = await save();
        await app.dispatcher.drain();
        const [event] = await app.dataSource.query<{ seq: unknown; created_at: unknown }[]>(
          'SELECT seq, created_at FROM webhook_events',
        );
        const columns = 'event_seq, event_at, type, state, attempts, retries, next_at, created_at, finished_at, body';
        for (let n = 0; n < 1_100; n += 100) {
          const rows = Array.from({ length: 100 }, (_, i) => {
            const id = String(n + i).padStart(5, '0');
            return `('dlv_${id}', 'lst_${id}', ${String(event?.seq)}, ${String(event?.created_at)}, 'order.created', 'succeeded', 0, 0, 0, 1, 1, '${SECRET}')`;
          });
          await app.dataSource.query(
            `INSERT INTO webhook_deliveries (id, listener_id, ${columns}) VALUES ${rows.join(', ')}`,
          );
        }
        expect((await traces()).length).toBeGreaterThan(1_100);
        const { id } = await tasks.create({ kind: 'erase', entity: 'Order', entityId: order.id });
        let batches = 0;
        expect(await tasks.run(id, { onProgress: () => batches++ })).toMatchObject({ state: 'done', done: 1 });
        expect(batches).toBeGreaterThan(3);
        expect(await traces()).toEqual([]);
        expect(await deliveries.counts({ listenerId })).toMatchObject({ succeeded: 1 });
      },
    );
  });
});

describeDatabases('one delivery and one event', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({
      database: fresh.options,
      entities: [Order],
      webhooks: { parts: { retrySchedule: Twice }, publishedTypes: ['other'] },
    });
  });
  afterEach(async () => {
    app.receiver.respond({ status: 204 }).clear();
    for (const table of TABLES) await app.dataSource.query(`DELETE FROM webhook_${table}`);
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });
  const listen = (input: Partial<CreateListenerInput> = {}) =>
    app.listeners.create({ events: ['order.*'], url: app.receiver.url, ...input });
  const save = (customerId = 'acme') => app.dataSource.manager.save(Order, { customerId });

  it('can be discarded while it is pending', async () => {
    await listen({ owner: 'acme' });
    app.receiver.respond({ status: 500 });
    await save();
    await app.dispatcher.drain();
    const [delivery] = (await app.deliveries.list()).items;
    const id = delivery?.id ?? '';
    await expect(app.deliveries.forOwner('globex').discardOne(id)).rejects.toMatchObject({
      code: 'DELIVERY_NOT_FOUND',
    });
    expect(await app.deliveries.forOwner('acme').discardOne(id)).toMatchObject({
      state: 'discarded',
      lastErrorCode: 'HTTP_STATUS',
      finishedAt: new Date(app.clock.now()),
    });
    await expect(app.deliveries.discardOne(id)).rejects.toMatchObject({ code: 'DELIVERY_FINISHED', httpStatus: 409 });
    app.receiver.respond({ status: 204 }).clear();
    await app.deliveries.resend(id);
    await app.dispatcher.drain();
    expect(app.receiver.requests).toHaveLength(1);
  });

  it('can be sent to a listener that has not received it', async () => {
    await save();
    await app.dispatcher.drain();
    const eventId = (await app.app.get(EventService).list()).items[0]?.id ?? '';
    const { id: listenerId } = await listen({ owner: 'acme' });
    const acme = app.deliveries.forOwner('acme');
    expect(await acme.sendEvent(eventId, listenerId)).toMatchObject({ eventId, listenerId, state: 'due' });
    await app.dispatcher.drain();
    expect(app.receiver.requests).toMatchObject([{ headers: { 'webhook-id': eventId } }]);
    const [{ id: deliveryId } = { id: '' }] = (await acme.list()).items;
    await expect(acme.sendEvent(eventId, listenerId)).rejects.toMatchObject({
      code: 'DELIVERY_EXISTS',
      details: { deliveryId },
    });
  });

  it('is refused with the reason', async () => {
    await save();
    await app.dispatcher.drain();
    const eventId = (await app.app.get(EventService).list()).items[0]?.id ?? '';
    const refused = async (input: Partial<CreateListenerInput>, code: string, event = eventId) => {
      const { id } = await listen(input);
      await expect(app.deliveries.sendEvent(event, id)).rejects.toMatchObject({ code });
      return id;
    };
    await refused({ events: ['other'] }, 'EVENT_NOT_WANTED');
    await refused({ where: { name: 'x' } }, 'EVENT_NOT_WANTED');
    const globex = await refused({ owner: 'globex' }, 'EVENT_NOT_WANTED');
    await refused({ enabled: false }, 'LISTENER_DISABLED');
    await refused({}, 'EVENT_NOT_FOUND', 'evt_unknown');
    await expect(app.deliveries.sendEvent(eventId, 'lst_unknown')).rejects.toMatchObject({
      code: 'LISTENER_NOT_FOUND',
    });
    const bound = app.deliveries.forOwner('globex');
    await expect(bound.sendEvent(eventId, globex)).rejects.toMatchObject({ code: 'EVENT_NOT_FOUND' });
    await save();
    const pending = (await app.app.get(EventService).list()).items[0]?.id ?? '';
    const { id: waiting } = await listen();
    await save();
    const newest = (await app.app.get(EventService).list()).items[0]?.id ?? '';
    await expect(app.deliveries.sendEvent(newest, waiting)).rejects.toMatchObject({ code: 'EVENT_NOT_ROUTED' });
    expect(await app.deliveries.sendEvent(pending, waiting)).toMatchObject({ state: 'due' });
    await app.dataSource.query('DELETE FROM webhook_outbox');
    await app.dataSource.query(
      "INSERT INTO webhook_damaged (seq, event_at, reason, created_at) SELECT seq, created_at, '', 0 FROM webhook_events",
    );
    await refused({}, 'EVENT_DAMAGED');
  });
});
