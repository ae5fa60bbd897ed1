import type { EntitySubscriberInterface, QueryRunner, TransactionCommitEvent } from 'typeorm';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { Audit, Line, Order, stories, storedEvents } from './shop.js';

describeDatabases('a change and its transaction', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeEach(async () => {
    fresh = await database.reuse();
    app = await startApp({ database: fresh.options, entities: [Order, Line], others: [Audit] });
    await app.listeners.create({ events: ['*'], url: app.receiver.url });
  });
  afterEach(async () => {
    await app.close();
    await fresh.drop();
  });

  const orders = () => app.dataSource.getRepository(Order);
  const statuses = async () => {
    const rows = await orders().find({ order: { id: 'ASC' }, withDeleted: true });
    return rows.map((order) => `order.created ${order.status}`);
  };
  const received = () => app.receiver.requests.map((request) => (request.json as { type: string }).type);

  it('is sent when it commits', async () => {
    await app.dataSource.transaction(async (manager) => {
      await manager.save(Order, { status: 'a' });
      await manager.save(Order, { status: 'b' });
    });
    await app.dispatcher.drain();
    expect(received()).toEqual(['order.created', 'order.created']);
  });

  it('is not sent when it rolls back', async () => {
    const failing = app.dataSource.transaction(async (manager) => {
      await manager.save(Order, { status: 'a' });
      throw new Error('no');
    });
    await expect(failing).rejects.toThrow('no');
    await app.dispatcher.drain();
    expect(received()).toEqual([]);
    expect(await stories(app)).toEqual([]);
  });

  it('is not sent when a hand-written ROLLBACK TO SAVEPOINT undoes it', async () => {
    await app.dataSource.transaction(async (manager) => {
      await manager.save(Order, { status: 'before' });
      await manager.query('SAVEPOINT "Mine"'.replaceAll('"', fresh.options.type.startsWith('m') ? '`' : '"'));
      await manager.save(Order, { status: 'inside' });
      await manager.query('SAVEPOINT deeper');
      await manager.save(Order, { status: 'deeper' });
      await manager.query('RELEASE SAVEPOINT deeper');
      await manager.query(
        'ROLLBACK TO SAVEPOINT "Mine"'.replaceAll('"', fresh.options.type.startsWith('m') ? '`' : '"'),
      );
      await manager.save(Order, { status: 'after' });
    });
    expect(await stories(app)).toEqual(['order.created before', 'order.created after']);
    expect(await statuses()).toEqual(await stories(app));
  });

  it('is emitted in process after the commit, and not if a savepoint was rolled back', async () => {
    const emitted: string[] = [];
    const { EventEmitter2 } = await import('@nestjs/event-emitter');
    app.app.get(EventEmitter2).on('webhooks.event.order.created', (event: { data: { status: string } }) => {
      emitted.push(event.data.status);
    });
    await app.dataSource.transaction(async (manager) => {
      await manager.save(Order, { status: 'a' });
      await manager
        .transaction(async (inner) => {
          await inner.save(Order, { status: 'inner' });
          throw new Error('inner');
        })
        .catch(() => undefined);
      await manager.transaction((inner) => inner.save(Order, { status: 'b' }));
      expect(emitted).toEqual([]);
    });
    await vi.waitFor(() => expect(emitted).toEqual(['a', 'b']));
  });

  it('makes events although a nested transaction in it rolls back, which makes none', async () => {
    await app.dataSource.transaction(async (manager) => {
      await manager.save(Order, { status: 'outer' });
      const inner = manager.transaction(async (nested) => {
        await nested.save(Order, { status: 'inner' });
        throw new Error('inner only');
      });
      await expect(inner).rejects.toThrow('inner only');
      await manager.save(Order, { status: 'last' });
    });
    expect(await stories(app)).toEqual(['order.created outer', 'order.created last']);
  });

  it('keeps its events through a hand-written COMMIT, and so do writes after it', async () => {
    const runner = app.dataSource.createQueryRunner();
    await runner.startTransaction();
    await runner.manager.save(Order, { status: 'a' });
    await runner.query('COMMIT');
    expect(await stories(app)).toEqual(['order.created a']);
    // TypeORM still counts an open transaction. The database has none.
    await runner.manager.save(Order, { status: 'b' });
    expect(await stories(app)).toEqual(['order.created a', 'order.created b']);
    await runner.release();
    expect(await statuses()).toEqual(await stories(app));
  });

  it('makes events when save() gets its own data inside a transaction', async () => {
    await app.dataSource.transaction(async (manager) => {
      await manager.save(Order, { status: 'a' }, { data: { request: 1 } });
      await manager.save(Order, { status: 'b' }, { data: { request: 2 } });
    });
    expect(await stories(app)).toEqual(['order.created a', 'order.created b']);
  });

  it('makes events also for what another subscriber saves before the commit', async () => {
    class Auditor implements EntitySubscriberInterface {
      private done = false;
      async beforeTransactionCommit(event: TransactionCommitEvent): Promise<void> {
        if (this.done) return;
        this.done = true;
        await event.manager.save(Order, { status: 'late' });
      }
    }
    app.dataSource.subscribers.push(new Auditor());
    await app.dataSource.transaction((manager) => manager.save(Order, { status: 'a' }));
    expect(await stories(app)).toEqual(['order.created a', 'order.created late']);
    expect(await statuses()).toEqual(await stories(app));
  });

  it('is captured after the data source was closed and opened again', async () => {
    if (database.name === 'sqlite') await orders().save({ status: 'first' });
    const { subscribers } = app.dataSource;
    await app.dataSource.destroy();
    await app.dataSource.initialize();
    expect(app.dataSource.subscribers).toContain(subscribers[0]);
    await orders().save({ status: 'a' });
    expect((await stories(app)).at(-1)).toBe('order.created a');
  });

  it('makes one event for each of several changes of a row, with the row as it was at that moment', async () => {
    await app.dataSource.transaction(async (manager) => {
      const order = await manager.save(Order, { status: 'one' });
      order.status = 'two';
      await manager.save(Order, order);
      order.status = 'three';
      order.total = 3;
      await manager.save(Order, order);
      await manager.remove(Order, order);
    });
    const events = await storedEvents(app);
    expect(events.map(({ type, data, previous }) => [type, data.status, previous ?? null])).toEqual([
      ['order.created', 'one', null],
      ['order.updated', 'two', { status: 'one' }],
      ['order.updated', 'three', { status: 'two', total: 0 }],
      ['order.deleted', 'three', null],
    ]);
  });

  it('has the whole row in its event when two writers change different columns', async () => {
    const { id } = await orders().save({ status: 'a', total: 1 });
    const first = app.dataSource.createQueryRunner();
    await first.startTransaction();
    await first.manager.save(Order, { id, status: 'b' });
    let hasRead = () => undefined as void;
    const read = new Promise<void>((resolve) => (hasRead = resolve));
    // TypeORM reads the row without a lock: the second writer has seen the old status when the first one commits.
    const spy: EntitySubscriberInterface = { beforeUpdate: () => hasRead() };
    app.dataSource.subscribers.push(spy);
    const second = app.dataSource.transaction((manager) => manager.save(Order, { id, total: 2 }));
    // On SQLite it cannot even begin before that.
    if (database.name !== 'sqlite') await read;
    await first.commitTransaction();
    await first.release();
    await second;
    const last = (await storedEvents(app)).at(-1);
    expect(last).toMatchObject({ type: 'order.updated', data: { status: 'b', total: 2 }, previous: { total: 1 } });
    expect(await orders().findOneByOrFail({ id })).toMatchObject({ status: 'b', total: 2 });
  });

  it('makes no event if an update changes no exposed value', async () => {
    const order = await orders().save({ status: 'a' });
    await orders().save(order);
    await orders().save({ id: order.id, status: 'a' });
    expect(await stories(app)).toEqual(['order.created a']);
  });

  it('has the whole row in its event after a partial save, without false nulls', async () => {
    const { id } = await orders().save({ status: 'a', note: 'keep', total: 7 });
    await orders().save({ id, status: 'b' });
    const [, update] = await storedEvents(app);
    expect(update).toMatchObject({ data: { status: 'b', note: 'keep', total: 7 }, previous: { status: 'a' } });
    expect(Object.keys(update?.previous ?? {})).toEqual(['status']);
  });

  it('writes the event of save(x, { transaction: false }) immediately, on the same connection', async () => {
    await orders().save({ status: 'a' }, { transaction: false });
    expect(await stories(app)).toEqual(['order.created a']);
  });

  it('makes its event in the order of the writes, also without a transaction', async () => {
    const statuses = Array.from({ length: 20 }, (_, n) => `${n}`);
    const many = orders().create(statuses.map((status) => ({ status, lines: [{ article: `line ${status}` }] })));
    await orders().save(many, { transaction: false });
    for (const order of many) order.status += '!';
    await orders().save(many.toReversed(), { transaction: false });
    const ofOrders = (await stories(app)).filter((story) => story.startsWith('order.'));
    expect(ofOrders).toEqual([
      ...statuses.map((status) => `order.created ${status}`),
      ...statuses.toReversed().map((status) => `order.updated ${status}!`),
    ]);
  });

  it('makes no event with save(x, { listeners: false })', async () => {
    await orders().save({ status: 'a' }, { listeners: false });
    expect(await stories(app)).toEqual([]);
  });

  it('makes events for cascades, orphans and soft deletes', async () => {
    const order = await orders().save({ status: 'a', lines: [{ article: 'pen' }, { article: 'ink' }] } as Order);
    expect((await stories(app)).toSorted()).toEqual(['line.created ink', 'line.created pen', 'order.created a']);
    order.lines = order.lines.filter((line) => line.article === 'pen');
    await orders().save(order);
    expect((await stories(app)).at(-1)).toBe('line.deleted ink');
    await orders().softRemove(order);
    const soft = (await storedEvents(app)).at(-1);
    expect(soft).toMatchObject({ type: 'order.deleted', data: { status: 'a' } });
    expect(soft?.data.deletedAt).toMatch(/^\d{4}-\d\d-\d\dT/);
    await orders().recover(order);
    expect((await storedEvents(app)).at(-1)).toMatchObject({ type: 'order.restored', data: { deletedAt: null } });
    await orders().remove(order);
    expect((await stories(app)).at(-1)).toBe('order.deleted a');
  });

  it('has the id of the row that a foreign key points to', async () => {
    const order = await orders().save({ status: 'a', lines: [{ article: 'pen' }] } as Order);
    const line = (await storedEvents(app)).find((event) => event.type === 'line.created');
    expect(line?.data).toEqual({ id: 1, article: 'pen', order: order.id });
    const other = await orders().save({ status: 'b' });
    const lines = app.dataSource.getRepository(Line);
    await lines.save({ id: 1, order: other } as Line);
    expect((await storedEvents(app)).at(-1)).toEqual({
      type: 'line.updated',
      data: { id: 1, article: 'pen', order: other.id },
      previous: { order: order.id },
    });
  });

  it('fails the write when its event cannot be stored', async () => {
    await app.dataSource.query('DROP TABLE webhook_events');
    await expect(orders().save({ status: 'a' })).rejects.toThrow();
    expect(await orders().count()).toBe(0);
  });

  if (database.name === 'postgres' || database.name === 'sqlite') {
    it('makes no event if the COMMIT fails, and the next transaction does', async () => {
      const unique = database.name === 'postgres';
      await app.dataSource.query(
        unique
          ? 'ALTER TABLE shop_audit ADD CONSTRAINT later UNIQUE (text) DEFERRABLE INITIALLY DEFERRED'
          : 'CREATE TABLE later (id integer, audit integer REFERENCES shop_audit(id) DEFERRABLE INITIALLY DEFERRED)',
      );
      const failing = app.dataSource.transaction(async (manager) => {
        await manager.save(Order, { status: 'a' });
        if (unique) await manager.query("INSERT INTO shop_audit (text) VALUES ('x'), ('x')");
        else await manager.query('INSERT INTO later VALUES (1, 999)');
      });
      await expect(failing).rejects.toThrow();
      await orders().save({ status: 'b' });
      expect(await stories(app)).toEqual(['order.created b']);
      expect(await statuses()).toEqual(['order.created b']);
    });
  }

  if (database.name === 'postgres') {
    it('fails at a COMMIT that the server would turn into a ROLLBACK, because an error was swallowed', async () => {
      const swallowing = app.dataSource.transaction(async (manager) => {
        await manager.save(Order, { status: 'a' });
        await manager.query('SELECT nonsense').catch(() => undefined);
      });
      await expect(swallowing).rejects.toThrow(/aborted/);
      expect(await stories(app)).toEqual([]);
    });
  }

  if (database.name === 'mariadb' || database.name === 'mysql2') {
    it('makes events for exactly the committed rows after a deadlock that the caller caught', async () => {
      const [x, y] = await orders().save([{ status: 'x' }, { status: 'y' }]);
      const lock = (runner: QueryRunner, id: number) =>
        runner.query('SELECT id FROM shop_order WHERE id = ? FOR UPDATE', [id]);
      const victim = app.dataSource.createQueryRunner();
      const winner = app.dataSource.createQueryRunner();
      await victim.startTransaction();
      await winner.startTransaction();
      await victim.manager.save(Order, { status: 'lost' });
      await victim.manager.save(Audit, { text: 'lost' });
      // The server rolls back the transaction that wrote less, so the winner writes more.
      await winner.query("INSERT INTO shop_audit (text) VALUES ('1'), ('2'), ('3'), ('4'), ('5'), ('6'), ('7'), ('8')");
      await lock(victim, x?.id as number);
      await lock(winner, y?.id as number);
      const waiting = lock(winner, x?.id as number);
      const error: unknown = await lock(victim, y?.id as number).catch((caught: unknown) => caught);
      await waiting;
      expect(error).toMatchObject({ errno: 1213 });
      await winner.commitTransaction();
      // The caller goes on. The server has rolled back, so the next writes are in no transaction.
      await victim.manager.save(Order, { status: 'stands' });
      await victim.rollbackTransaction();
      await victim.release();
      await winner.release();
      expect(await statuses()).toEqual(['order.created x', 'order.created y', 'order.created stands']);
      expect(await stories(app)).toEqual(await statuses());
    });
  }
});
