import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import {
  RetrySchedule,
  TaskService,
  Webhook,
  type CreateListenerInput,
  type NewTask,
  type Task,
} from 'nestjs-entity-webhooks';
import { ChannelMessages } from '../support/channel-messages.js';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

@Webhook({ owner: 'customerId' })
@Entity('task_order')
class Order {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50, default: 'new' })
  status: string;

  @Column({ type: 'varchar', length: 50, default: 'acme' })
  customerId: string;
}

/** No retries. */
class Once extends RetrySchedule {
  delayMs(): null {
    return null;
  }
}

const MINUTE = 60_000;
const TABLES = ['events', 'listeners', 'routes', 'route_paths', 'deliveries', 'attempts', 'listener_state', 'tasks'];

describeDatabases('bulk work in tasks', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let tasks: TaskService;
  let start: number;

  const startOne = () =>
    startApp({
      database: fresh.options,
      entities: [Order],
      webhooks: {
        publishedTypes: ['invoice.overdue', 'invoice.paid'],
        parts: { retrySchedule: Once },
        dispatcher: { circuit: { failures: 1_000_000 } },
      },
    });

  beforeAll(async () => {
    fresh = await database.create();
    app = await startOne();
    tasks = app.app.get(TaskService);
    start = app.clock.now();
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    app.clock.set(start);
    app.receiver.respond({ status: 204 }).clear();
    for (const table of TABLES) await app.dataSource.query(`DELETE FROM webhook_${table}`);
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  const listen = (input: Partial<CreateListenerInput> = {}) =>
    app.listeners.create({ events: ['*'], url: app.receiver.url, ...input });
  const since = () => new Date(start - 1);
  const publish = (count: number, type = 'invoice.overdue') =>
    app.dataSource.transaction(async (manager) => {
      for (let n = 0; n < count; n++) await app.webhooks.publish(type, { n }, { manager });
    });
  /** Deliveries whose only attempt failed. */
  const fail = async (count: number, type?: string) => {
    await publish(count, type);
    app.receiver.respond({ status: 500 });
    await app.dispatcher.drain();
    app.receiver.respond({ status: 204 }).clear();
  };
  const run = async (input: NewTask): Promise<Task> => tasks.run((await tasks.create(input)).id);

  describe('of each kind', () => {
    it('recovers failed deliveries of a listener, a type, a state and an error', async () => {
      const one = await listen();
      await listen();
      await fail(2);
      await fail(1, 'invoice.paid');
      const recover = { kind: 'recover', listenerId: one.id, since: since() } as const;
      expect(await tasks.count({ ...recover, errorCode: 'TIMEOUT' })).toMatchObject({ count: 0, oldest: null });
      expect(await tasks.count({ ...recover, states: ['discarded'] })).toMatchObject({ count: 0 });
      expect(await tasks.count({ ...recover, types: ['invoice.paid'] })).toMatchObject({ count: 1, capped: false });
      expect(await tasks.count(recover)).toEqual({
        count: 3,
        capped: false,
        oldest: expect.any(Date) as Date,
        newest: expect.any(Date) as Date,
      });
      const task = await run({
        ...recover,
        types: ['invoice.overdue'],
        errorCode: 'HTTP_STATUS',
      });
      expect(task).toMatchObject({
        id: expect.stringMatching(/^tsk_/) as string,
        ...{ kind: 'recover', state: 'done', done: 2, estimate: 2, owner: null, actor: null, error: null },
        filter: { listenerId: one.id, types: ['invoice.overdue'], since: since() },
      });
      expect(await app.deliveries.counts()).toMatchObject({ due: 2, exhausted: 4 });
      await app.dispatcher.drain();
      expect(app.receiver.requests).toHaveLength(2);
    });

    it('recovers deliveries of the events of one row', async () => {
      await listen();
      const orders = app.dataSource.getRepository(Order);
      const { id } = await orders.save({ status: 'new' });
      await orders.save({ status: 'new' });
      await orders.save({ id, status: 'paid' });
      await fail(0);
      const row = { entity: 'Order', entityId: String(id) };
      expect(await run({ kind: 'recover', since: since(), ...row })).toMatchObject({ done: 2 });
      await expect(
        tasks.create({ kind: 'recover', since: since(), entity: 'Nothing', entityId: 1 }),
      ).rejects.toMatchObject({
        code: 'UNKNOWN_ENTITY',
      });
    });

    it('replays past events of a type to a newer listener', async () => {
      await publish(3);
      await publish(2, 'invoice.paid');
      await app.dispatcher.drain();
      const { id: listenerId } = await listen();
      const replay = { kind: 'replay', listenerId, since: since(), types: ['invoice.paid'] } as const;
      expect(await tasks.count(replay)).toMatchObject({ count: 2, oldest: expect.any(Date) as Date });
      expect(await app.deliveries.counts()).toMatchObject({ due: 0 });
      expect(await run(replay)).toMatchObject({ state: 'done', done: 2, estimate: 2 });
      expect(await run(replay)).toMatchObject({ state: 'done', done: 0 });
    });

    it('discards pending deliveries, and says so', async () => {
      const { id: listenerId } = await listen();
      const other = await listen();
      await publish(3);
      await app.listeners.disable(listenerId);
      await app.dispatcher.drain();
      const messages = new ChannelMessages('discarded');
      expect(await run({ kind: 'discard', listenerId })).toMatchObject({ done: 3 });
      expect(messages.of('discarded')).toMatchObject([{ listenerId, count: 3, reason: 'DISCARDED' }]);
      messages.stop();
      expect(await app.deliveries.counts({ listenerId })).toMatchObject({ held: 0, discarded: 3 });
      expect(await app.deliveries.counts({ listenerId: other.id })).toMatchObject({ succeeded: 3 });
    });

    it('seals secrets with the first key', async () => {
      await listen();
      const task = await run({ kind: 'reseal' });
      expect(task).toMatchObject({ kind: 'reseal', state: 'done', done: 0, error: null, position: null });
    });
  });

  describe('that are not valid', () => {
    it('are refused with the names of the properties', async () => {
      const refused = async (input: object, code: string, properties?: string[]) => {
        const error = { code, httpStatus: 400, ...(properties ? { details: { properties } } : {}) };
        for (const method of ['create', 'count'] as const) {
          await expect(tasks[method](input as NewTask)).rejects.toMatchObject(error);
        }
      };
      await refused({ kind: 'delete' }, 'INVALID_TASK', ['kind']);
      await refused({ kind: 'recover' }, 'INVALID_TASK', ['since']);
      await refused({ kind: 'replay', since: since() }, 'INVALID_TASK', ['listenerId']);
      await refused({ kind: 'replay', listenerId: 'x', since: since(), states: ['due'] }, 'INVALID_TASK', ['states']);
      await refused({ kind: 'recover', since: since(), other: 1 }, 'INVALID_TASK', ['other']);
      await refused({ kind: 'recover', since: since(), entity: 'Order' }, 'INVALID_TASK', ['entity', 'entityId']);
      await refused({ kind: 'recover', since: since(), ratePerSecond: 0 }, 'INVALID_TASK', ['ratePerSecond']);
      await refused({ kind: 'recover', since: since(), types: [] }, 'INVALID_TASK', ['types']);
      await refused({ kind: 'recover', since: since(), states: ['due'] }, 'INVALID_STATE');
      await refused({ kind: 'recover', since: 'yesterday' }, 'INVALID_TIME');
      await refused({ kind: 'erase' }, 'INVALID_TASK', ['eventId', 'entity', 'owner']);
      await refused({ kind: 'erase', eventId: 'evt_1', owner: 'acme' }, 'INVALID_TASK');
      await refused({ kind: 'reseal', owner: 'acme' }, 'INVALID_TASK', ['owner']);
      expect((await tasks.list()).items).toEqual([]);
    });

    it('fail if the listener was removed meanwhile', async () => {
      const { id: listenerId } = await listen();
      const { id } = await tasks.create({ kind: 'replay', listenerId, since: since() });
      await app.listeners.remove(listenerId);
      expect(await tasks.run(id)).toMatchObject({ state: 'failed', error: { code: 'LISTENER_NOT_FOUND' } });
    });
  });

  describe('that are many', () => {
    it('are limited to 2 unfinished tasks for a listener', async () => {
      const { id: listenerId } = await listen();
      const create = () => tasks.create({ kind: 'discard', listenerId });
      const first = await create();
      await create();
      await expect(create()).rejects.toMatchObject({ code: 'TOO_MANY_TASKS', httpStatus: 409, details: { limit: 2 } });
      await tasks.cancel(first.id);
      await create();
    });

    it('are limited to 10 unfinished tasks of an owner', async () => {
      const acme = tasks.forOwner('acme');
      for (let n = 0; n < 10; n++) await acme.create({ kind: 'discard' });
      await expect(acme.create({ kind: 'discard' })).rejects.toMatchObject({ details: { limit: 10 } });
      await tasks.forOwner('globex').create({ kind: 'discard' });
    });

    it('are listed by state and kind, the newest first, page by page', async () => {
      const ids: string[] = [];
      for (let n = 0; n < 3; n++) ids.unshift((await tasks.create({ kind: 'discard' })).id);
      const recover = await tasks.create({ kind: 'recover', since: since() });
      await tasks.cancel(recover.id);
      expect((await tasks.list({ state: 'queued' })).items.map(({ id }) => id)).toEqual(ids);
      expect((await tasks.list({ kind: 'recover' })).items).toMatchObject([{ id: recover.id, state: 'cancelled' }]);
      const page = await tasks.list({ limit: 2 });
      expect(page.items.map(({ id }) => id)).toEqual([recover.id, ids[0]]);
      expect((await tasks.list({ limit: 2, cursor: page.next ?? '' })).items.map(({ id }) => id)).toEqual(ids.slice(1));
    });

    it('are deleted 30 days after their end', async () => {
      const { id } = await run({ kind: 'discard' });
      const queued = await tasks.create({ kind: 'discard' });
      app.clock.set(start + 31 * 24 * 60 * MINUTE);
      await app.dispatcher.runChores();
      await expect(tasks.get(id)).rejects.toMatchObject({ code: 'TASK_NOT_FOUND' });
      expect(await tasks.get(queued.id)).toMatchObject({ state: 'queued' });
    });
  });

  describe('of an owner', () => {
    it('change nothing of another owner, whatever they name', async () => {
      const acme = await listen({ owner: 'acme' });
      const globex = await listen({ owner: 'globex' });
      await app.dataSource.manager.save(Order, [{ customerId: 'acme' }, { customerId: 'globex' }]);
      await fail(0);
      const bound = tasks.forOwner('globex');
      const recover = { kind: 'recover', since: since() } as const;
      expect(await bound.count({ ...recover, listenerId: acme.id })).toMatchObject({ count: 0 });
      expect(await bound.count({ ...recover, owner: 'acme' })).toMatchObject({ count: 0 });
      expect(await bound.count(recover)).toMatchObject({ count: 1 });
      const { id } = await bound.create({ ...recover, listenerId: acme.id });
      expect(await tasks.run(id)).toMatchObject({ done: 0, owner: 'globex' });
      await expect(bound.create({ kind: 'replay', listenerId: acme.id, since: since() })).rejects.toMatchObject({
        code: 'LISTENER_NOT_FOUND',
      });
      for (const kind of ['erase', 'reseal'] as const) {
        await expect(bound.create({ kind, owner: 'globex' })).rejects.toMatchObject({
          code: 'NOT_FOR_OWNERS',
          httpStatus: 403,
        });
      }
      expect(await tasks.run((await bound.create(recover)).id)).toMatchObject({ done: 1 });
      expect(await app.deliveries.counts({ listenerId: globex.id })).toMatchObject({ due: 1 });
    });

    it('are not found, listed or cancelled by another owner', async () => {
      const { id } = await tasks.forOwner('acme').create({ kind: 'discard' });
      const globex = tasks.forOwner('globex');
      for (const call of [() => globex.get(id), () => globex.cancel(id), () => globex.run(id)]) {
        await expect(call()).rejects.toMatchObject({ code: 'TASK_NOT_FOUND', httpStatus: 404 });
      }
      expect((await globex.list()).items).toEqual([]);
      expect((await tasks.forOwner('acme').list()).items).toMatchObject([{ id, state: 'queued' }]);
    });
  });

  describe('that processes work on', () => {
    it('end exactly once if two processes race for each batch', { timeout: 20_000 }, async () => {
      const other = await startOne();
      other.clock.set(app.clock.now());
      try {
        await listen();
        await fail(12);
        const { id } = await tasks.create({ kind: 'recover', since: since(), ratePerSecond: 10_000 });
        const [one, two] = await Promise.all([tasks.run(id), other.app.get(TaskService).run(id)]);
        for (const task of [one, two]) expect(task).toMatchObject({ state: 'done', done: 12 });
        await app.dispatcher.drain();
        expect(await app.deliveries.counts()).toMatchObject({ succeeded: 12, exhausted: 0 });
        expect(app.receiver.requests).toHaveLength(12);
      } finally {
        await other.close();
        for (const table of TABLES) await app.dataSource.query(`DELETE FROM webhook_${table}`);
        app.receiver.clear();
      }
    });

    it('do nothing more once they are cancelled', { timeout: 20_000 }, async () => {
      await listen();
      await fail(8);
      const { id } = await tasks.create({ kind: 'recover', since: since(), ratePerSecond: 500 });
      let cancelled: Promise<Task> | undefined;
      const ended = await tasks.run(id, {
        onProgress: () => void (cancelled ??= tasks.cancel(id)).catch(() => undefined),
      });
      const { done, state } = await tasks.get(id);
      expect(ended.state).toBe(state);
      expect(['cancelled', 'done']).toContain(state);
      expect(await app.deliveries.counts()).toMatchObject({ due: done, exhausted: 8 - done });
      expect(await tasks.run(id)).toMatchObject({ state, done });
      await expect(tasks.cancel(id)).rejects.toMatchObject({ code: 'TASK_ENDED', httpStatus: 409 });
      for (const table of TABLES) await app.dataSource.query(`DELETE FROM webhook_${table}`);
    });

    it('keep their rate', async () => {
      await listen();
      await fail(5);
      const batches: number[] = [];
      const startedAt = performance.now();
      const { id } = await tasks.create({ kind: 'recover', since: since(), ratePerSecond: 2 });
      await tasks.run(id, { onProgress: ({ done }) => batches.push(done) });
      expect([...new Set(batches)]).toEqual([2, 4, 5]);
      // 2 rows, a second, 2 rows, a second, 1 row.
      expect(performance.now() - startedAt).toBeGreaterThan(1_950);
    });

    it('go on in another process if one stops, and nothing is done twice', async () => {
      await listen();
      await fail(6);
      const { id } = await tasks.create({ kind: 'recover', since: since(), ratePerSecond: 2 });
      const stopping = new AbortController();
      const left = await tasks.run(id, { signal: stopping.signal, onProgress: () => stopping.abort() });
      expect(left).toMatchObject({ state: 'running', done: 2 });
      expect(left.position).toEqual(expect.any(Date));
      expect(await tasks.run(id)).toMatchObject({ state: 'done', done: 6, startedAt: left.startedAt });
    });

    it('say when they moved last', async () => {
      await listen();
      await fail(3);
      const moved: number[] = [];
      const { id, createdAt, updatedAt } = await tasks.create({ kind: 'recover', since: since(), ratePerSecond: 2 });
      expect(updatedAt).toEqual(createdAt);
      app.clock.advance(MINUTE);
      const ended = await tasks.run(id, {
        onProgress(task) {
          moved.push(task.updatedAt.getTime() - createdAt.getTime());
          app.clock.advance(MINUTE);
        },
      });
      expect([...new Set(moved)]).toEqual([MINUTE, 2 * MINUTE]);
      expect(ended.updatedAt).toEqual(ended.endedAt);
      const other = await tasks.create({ kind: 'discard' });
      app.clock.advance(MINUTE);
      const cancelled = await tasks.cancel(other.id);
      expect(cancelled.updatedAt.getTime() - other.updatedAt.getTime()).toBe(MINUTE);
    });

    it('are created with a transaction of the application, or not at all', async () => {
      await app.dataSource
        .transaction(async (manager) => {
          await tasks.withManager(manager).create({ kind: 'discard' });
          throw new Error('rolled back');
        })
        .catch(() => undefined);
      expect((await tasks.list()).items).toEqual([]);
      await app.dataSource.transaction((manager) => tasks.withManager(manager).create({ kind: 'discard' }));
      expect((await tasks.list()).items).toHaveLength(1);
    });

    it('run at the same time as retention', { timeout: 20_000 }, async () => {
      await listen();
      await fail(6);
      app.clock.set(start + 91 * 24 * 60 * MINUTE);
      const { id } = await tasks.create({ kind: 'recover', since: since(), ratePerSecond: 10_000 });
      const [task] = await Promise.all([tasks.run(id), app.dispatcher.runChores()]);
      expect(task.state).toBe('done');
      const { due, discarded, exhausted } = await app.deliveries.counts();
      // Each delivery is either due again, or deleted: by this run or by the next one.
      expect(due + discarded + exhausted).toBeLessThanOrEqual(6);
      const [lost] = await app.dataSource.query<{ n: unknown }[]>(
        'SELECT COUNT(*) AS n FROM webhook_deliveries d WHERE NOT EXISTS (SELECT 1 FROM webhook_events e WHERE e.seq = d.event_seq)',
      );
      expect(Number(lost?.n)).toBe(0);
      for (const table of TABLES) await app.dataSource.query(`DELETE FROM webhook_${table}`);
      app.clock.set(start);
    });

    it('are worked on by a running dispatcher', async () => {
      await listen();
      await fail(3);
      app.dispatcher.start();
      try {
        const { id } = await tasks.create({ kind: 'recover', since: since() });
        await app.receiver.waitFor(3);
        await vi.waitFor(async () => expect(await tasks.get(id)).toMatchObject({ state: 'done', done: 3 }), 10_000);
      } finally {
        await app.dispatcher.stop();
      }
    });
  });
});
