import {
  Column,
  DataSource,
  Entity,
  PrimaryColumn,
  type EntityManager,
  type EntitySubscriberInterface,
  type InsertEvent,
  type Logger,
  type ObjectLiteral,
  type QueryRunner,
} from 'typeorm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Webhook } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

abstract class Card {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50, default: 'new' })
  title: string;

  /** Unique: a write fails if another row has the same code. */
  @Column({ type: 'varchar', length: 50, nullable: true, unique: true })
  code: string | null;
}

@Webhook({ name: 'card' })
@Entity('one_runner_card')
class Captured extends Card {}

/** An entity without webhooks. */
@Entity('one_runner_plain')
class Plain extends Card {}

const CARDS = 30;

describeDatabases('writes at the same time on one query runner', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let runner: QueryRunner;
  let manager: EntityManager;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({
      database: fresh.options,
      entities: [Captured],
      others: [Plain],
      webhooks: { publishedTypes: ['cards.dealt'] },
    });
  });
  beforeEach(async () => {
    for (const entity of [Captured, Plain]) {
      await app.dataSource.getRepository(entity).deleteAll();
      await app.dataSource
        .createQueryBuilder()
        .insert()
        .into(entity)
        .values(Array.from({ length: CARDS }, (_, n) => ({ id: n + 1, code: `card ${n + 1}` })))
        .execute();
    }
    await app.dataSource.query('DELETE FROM webhook_events');
    runner = app.dataSource.createQueryRunner();
    ({ manager } = runner);
  });
  afterEach(() => runner.release());
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  /** The events in short form, in the order of the outbox: `updated 3 title`. */
  const eventsInShort = async () =>
    (await storedEvents(app)).map(({ type, data }) =>
      [type.replace('card.', ''), data.id, data.title].filter((part) => part !== undefined).join(' '),
    );
  const titleOf = async (id: number, entity: typeof Captured | typeof Plain = Captured) =>
    (await app.dataSource.manager.findOneBy<Card>(entity, { id }))?.title;
  /** The outcomes, in the order of the calls. */
  const settled = async (writes: Promise<unknown>[]) =>
    (await Promise.allSettled(writes)).map(({ status }) => status).join(', ');
  /** Gives calls that do not wait for their turn the time to run. */
  const othersWork = async () => {
    for (let n = 0; n < 20; n++) await app.dataSource.query('SELECT 1 AS one');
  };
  const failing = (id: number) => manager.update(Captured, { id }, { title: 'fails', code: 'card 1' });

  /** Adds a subscriber for the length of one test. */
  async function subscribed(subscriber: EntitySubscriberInterface, work: () => Promise<void>): Promise<void> {
    app.dataSource.subscribers.push(subscriber);
    try {
      await work();
    } finally {
      app.dataSource.subscribers.splice(app.dataSource.subscribers.indexOf(subscriber), 1);
    }
  }

  /** Pauses the insert of one row in the middle of its transaction until `resume()`. Then it fails with `error`, if given. */
  function paused(id: number, error?: Error) {
    let resume = () => {};
    let reached = () => {};
    const isReached = new Promise<void>((resolve) => (reached = resolve));
    const isResumed = new Promise<void>((resolve) => (resume = resolve));
    const subscriber: EntitySubscriberInterface<Captured> = {
      listenTo: () => Captured,
      async afterInsert({ entity }) {
        if (entity.id !== id) return;
        reached();
        await isResumed;
        if (error) throw error;
      },
    };
    return { subscriber, isReached, resume: () => resume() };
  }

  describe('outside a transaction', () => {
    it('are committed separately: one that fails rolls back no other', async () => {
      const outcomes = await settled([
        failing(2),
        manager.update(Captured, { id: 3 }, { title: 'three' }),
        failing(4),
        manager.insert(Captured, { id: 100, title: 'hundred' }),
        manager.save(Captured, { id: 5, code: 'card 1' }),
        manager.save(Captured, { id: 6, title: 'six' }),
      ]);
      expect(outcomes).toBe('rejected, fulfilled, rejected, fulfilled, rejected, fulfilled');
      expect(await eventsInShort()).toEqual(['updated 3 three', 'created 100 hundred', 'updated 6 six']);
      expect(await Promise.all([2, 3, 4, 100, 6].map((id) => titleOf(id)))).toEqual([
        'new',
        'three',
        'new',
        'hundred',
        'six',
      ]);
      expect(runner.isTransactionActive).toBe(false);
    });

    it('do not affect other calls on the runner: raw SQL, other entities, published events', async () => {
      const { subscriber, isReached, resume } = paused(100, new Error('no'));
      let outcomes = '';
      await subscribed(subscriber, async () => {
        const fails = manager.save(Captured, { id: 100 });
        await isReached;
        const beside = [
          runner.query(`UPDATE one_runner_plain SET title = 'raw' WHERE id = 1`),
          manager.update(Plain, { id: 2 }, { title: 'updated' }),
          manager.save(Plain, { id: 3, title: 'saved' }),
          manager
            .createQueryBuilder()
            .update(Plain)
            .set({ title: 'own' })
            .where({ id: 4 })
            .useTransaction(true)
            .execute(),
          app.webhooks.publish('cards.dealt', { id: 'published' }, { manager }),
          app.webhooks.publish('cards.dealt', { id: 'once' }, { manager, idempotencyKey: 'key' }),
        ];
        resume();
        outcomes = await settled([fails, ...beside]);
      });
      expect(outcomes).toBe(`rejected${', fulfilled'.repeat(6)}`);
      expect(await Promise.all([1, 2, 3, 4].map((id) => titleOf(id, Plain)))).toEqual([
        'raw',
        'updated',
        'saved',
        'own',
      ]);
      expect(await eventsInShort()).toEqual(['cards.dealt published', 'cards.dealt once']);
    });

    it('have their own data each: only saves with webhooks: false make no event', async () => {
      await settled([
        manager.save(Captured, { id: 1, title: 'quiet' }, { data: { webhooks: false } }),
        manager.save(Captured, { id: 2, title: 'loud' }),
        manager.update(Captured, { id: 3 }, { title: 'loud' }),
        manager.save(Captured, { id: 4, title: 'quiet' }, { data: { webhooks: false } }),
        manager.save(Captured, { id: 101, title: 'loud' }, { data: { tenant: 7 } }),
      ]);
      expect(await eventsInShort()).toEqual(['updated 2 loud', 'updated 3 loud', 'created 101 loud']);
      expect(await Promise.all([1, 2, 3, 4, 101].map((id) => titleOf(id)))).toEqual([
        'quiet',
        'loud',
        'loud',
        'quiet',
        'loud',
      ]);
      expect(runner.data).toEqual({});
    });

    it('make exactly one event for each committed write, whatever its kind', async () => {
      const cards = await manager.findBy(Captured, {});
      const card = (id: number) => cards.find((one) => one.id === id) as Captured;
      const kinds = [
        (id: number) => [manager.insert(Captured, { id: 100 + id, title: 'in' }), `created ${100 + id} in`] as const,
        (id: number) => [manager.save(Captured, { id: 100 + id, title: 's' }), `created ${100 + id} s`] as const,
        (id: number) => [manager.save(Captured, { id, title: 's' }), `updated ${id} s`] as const,
        (id: number) => [manager.delete(Captured, { id }), `deleted ${id} new`] as const,
        (id: number) => [manager.remove(card(id)), `deleted ${id} new`] as const,
      ];
      const writes = Array.from({ length: 20 }, (_, n) => (kinds[n % kinds.length] as (typeof kinds)[number])(n + 2));
      const failures = Array.from({ length: 5 }, (_, n) => failing(25 + n));
      expect(await settled([...writes.map(([write]) => write), ...failures])).toBe(
        [...writes.map(() => 'fulfilled'), ...failures.map(() => 'rejected')].join(', '),
      );
      expect(await eventsInShort()).toEqual(writes.map(([, event]) => event));
      expect(await manager.count(Captured)).toBe(CARDS);
    });

    it('are all done when the runner is released after them', async () => {
      const fails = failing(2);
      const good = manager.update(Captured, { id: 3 }, { title: 'three' });
      const last = manager.save(Captured, { id: 4, title: 'four' });
      await expect(Promise.all([fails, good, last])).rejects.toThrow();
      await runner.release();
      expect(await settled([good, last])).toBe('fulfilled, fulfilled');
      expect(await eventsInShort()).toEqual(['updated 3 three', 'updated 4 four']);
    });
  });

  describe('called in a hook of another write', () => {
    /** A subscriber that writes one more row for each inserted row. */
    const echo = (
      write: (event: InsertEvent<ObjectLiteral>, id: number) => Promise<unknown>,
    ): EntitySubscriberInterface => ({
      listenTo: () => Captured,
      async afterInsert(event: InsertEvent<ObjectLiteral>) {
        const { id } = event.entity;
        if (id < 200) await write(event, (id as number) + 100);
      },
    });
    const echoes = {
      'insert()': echo((event, id) => event.manager.insert(Captured, { id, title: 'echo' })),
      'save()': echo((event, id) => event.queryRunner.manager.save(Captured, { id, title: 'echo' })),
      'save() in a transaction': echo((event, id) =>
        event.manager.transaction((inner) => inner.save(Captured, { id, title: 'echo' })),
      ),
    };

    for (const [name, subscriber] of Object.entries(echoes)) {
      it(`do not wait for that write: ${name}`, async () => {
        await subscribed(subscriber, async () => {
          const outcomes = await settled([
            manager.insert(Captured, { id: 100 }),
            manager.save(Captured, { id: 101 }),
            failing(2),
            manager.save(Captured, { id: 102 }, { transaction: false }),
          ]);
          expect(outcomes).toBe('fulfilled, fulfilled, rejected, fulfilled');
        });
        expect((await eventsInShort()).toSorted()).toEqual([
          'created 100 new',
          'created 101 new',
          'created 102 new',
          'created 200 echo',
          'created 201 echo',
          'created 202 echo',
        ]);
        expect(runner.isTransactionActive).toBe(false);
      });
    }

    it('are committed separately if that write is in no transaction', async () => {
      const subscriber = echo((event, id) =>
        id === 201
          ? event.manager.update(Captured, { id: 2 }, { title: 'fails', code: 'card 1' }).catch(() => undefined)
          : event.manager.insert(Captured, { id, title: 'echo' }),
      );
      await subscribed(subscriber, async () => {
        await manager.save(Captured, [{ id: 100 }, { id: 101 }, { id: 102 }], { transaction: false });
      });
      expect((await eventsInShort()).toSorted()).toEqual([
        'created 100 new',
        'created 101 new',
        'created 102 new',
        'created 200 echo',
        'created 202 echo',
      ]);
    });

    it('make no event if that write makes none, and their own events otherwise', async () => {
      await subscribed(echoes['save()'], async () => {
        await settled([
          manager.save(Captured, { id: 100 }, { data: { webhooks: false } }),
          manager.save(Captured, { id: 101 }),
        ]);
      });
      expect((await eventsInShort()).toSorted()).toEqual(['created 101 new', 'created 201 echo']);
    });

    it('take their own turn after that write is done', async () => {
      const { subscriber: pausing, isReached, resume } = paused(150, new Error('no'));
      let late: Promise<unknown> | undefined;
      const hook = echo(async (event, id) => {
        late ??= isReached.then(() => event.manager.insert(Captured, { id, title: 'late' }));
      });
      await subscribed(pausing, () =>
        subscribed(hook, async () => {
          await manager.insert(Captured, { id: 100 });
          const fails = manager.save(Captured, { id: 150 });
          await isReached;
          await othersWork();
          resume();
          expect(await settled([fails, late as Promise<unknown>])).toBe('rejected, fulfilled');
        }),
      );
      expect(await eventsInShort()).toEqual(['created 100 new', 'created 200 late']);
    });
  });

  describe('and a transaction of the application', () => {
    it('begins when the earlier writes are done, and later writes wait for it', async () => {
      const { subscriber, isReached, resume } = paused(100);
      await subscribed(subscriber, async () => {
        const order: string[] = [];
        const first = manager.insert(Captured, { id: 100 }).then(() => order.push('first'));
        await isReached;
        const begun = runner.startTransaction().then(() => order.push('begun'));
        const second = manager.update(Captured, { id: 2 }, { title: 'two' });
        // The write still has its turn. A transaction that did not wait for it would be a savepoint in the transaction of the write.
        await othersWork();
        expect(order).toEqual([]);
        resume();
        await Promise.all([first, begun, second]);
        expect(order).toEqual(['first', 'begun']);
        await runner.rollbackTransaction();
      });
      expect(await eventsInShort()).toEqual(['created 100 new']);
      expect(await titleOf(2)).toBe('new');
    });

    it('begins in the same way by manager.transaction() and by a BEGIN statement', async () => {
      const { subscriber, isReached, resume } = paused(100);
      await subscribed(subscriber, async () => {
        const first = manager.insert(Captured, { id: 100 });
        await isReached;
        const rolledBack = manager.transaction(async (inner) => {
          await inner.update(Captured, { id: 2 }, { title: 'two' });
          throw new Error('no');
        });
        resume();
        await first;
        await expect(rolledBack).rejects.toThrow('no');
        const second = manager.insert(Captured, { id: 101 });
        const begun = runner.query('BEGIN');
        const third = manager.update(Captured, { id: 3 }, { title: 'three' });
        await Promise.all([second, begun, third]);
        await runner.query('ROLLBACK');
      });
      expect(await eventsInShort()).toEqual(['created 100 new', 'created 101 new']);
      expect(await Promise.all([2, 3].map((id) => titleOf(id)))).toEqual(['new', 'new']);
    });

    it('lets the writes that waited for its begin run at the same time, like writes that are called in it', async () => {
      const first = paused(100);
      const second = paused(101);
      await subscribed(first.subscriber, () =>
        subscribed(second.subscriber, async () => {
          const inserted = manager.insert(Captured, { id: 100 });
          await first.isReached;
          const begun = runner.startTransaction();
          const waiting = manager.insert(Captured, { id: 101 });
          first.resume();
          await Promise.all([inserted, begun, second.isReached]);
          await manager.update(Captured, { id: 2 }, { title: 'two' });
          second.resume();
          await waiting;
          await runner.commitTransaction();
        }),
      );
      expect(await eventsInShort()).toEqual(['created 100 new', 'created 101 new', 'updated 2 two']);
    });

    it('is not the transaction of a write: commit, rollback and release do not end that', async () => {
      const { subscriber, isReached, resume } = paused(100);
      await subscribed(subscriber, async () => {
        const first = manager.insert(Captured, { id: 100 });
        await isReached;
        // Like code that does not know whether its transaction has begun.
        const ends = runner.isTransactionActive ? [runner.rollbackTransaction(), runner.commitTransaction()] : [];
        // TypeORM 0.3 has only `release()`.
        const dispose = (runner as Partial<QueryRunner>)[Symbol.asyncDispose] ?? runner.release;
        const disposed = dispose.call(runner);
        const outcomes = Promise.allSettled([first, ...ends, disposed]);
        await othersWork();
        resume();
        expect(await outcomes).toMatchObject([
          { status: 'fulfilled' },
          { reason: { name: 'TransactionNotStartedError' } },
          { reason: { name: 'TransactionNotStartedError' } },
          { status: 'fulfilled' },
        ]);
      });
      expect(runner.isReleased).toBe(true);
      expect(await eventsInShort()).toEqual(['created 100 new']);
    });

    it('contains all writes that are called in it, each with its own data', async () => {
      await runner.startTransaction();
      const outcomes = await settled([
        manager.save(Captured, { id: 1, title: 'quiet' }, { data: { webhooks: false } }),
        manager.save(Captured, { id: 2, title: 'loud' }),
        manager.update(Captured, { id: 3 }, { title: 'loud' }),
        manager.save(Captured, { id: 4, title: 'loud' }, { data: { tenant: 7 } }),
        manager.save(Captured, { id: 100, title: 'quiet' }, { data: { webhooks: false } }),
        manager.save(Captured, { id: 101, title: 'loud' }),
      ]);
      expect(outcomes).toBe('fulfilled, fulfilled, fulfilled, fulfilled, fulfilled, fulfilled');
      // TypeORM would leave the data of one save here.
      expect(runner.data).toEqual({});
      await manager.save(Captured, { id: 5, title: 'loud' });
      await runner.commitTransaction();
      expect((await eventsInShort()).toSorted()).toEqual([
        'created 101 loud',
        'updated 2 loud',
        'updated 3 loud',
        'updated 4 loud',
        'updated 5 loud',
      ]);
      expect(await titleOf(1)).toBe('quiet');
    });
  });

  it('make events with the row of each write, also when a hook delays one of them', async () => {
    let inserted = () => {};
    const isInserted = new Promise<void>((resolve) => (inserted = resolve));
    const subscriber: EntitySubscriberInterface<Captured> = {
      listenTo: () => Captured,
      async beforeInsert({ entity }) {
        if (entity.id !== 101) return;
        await isInserted;
        entity.title = 'late';
      },
      afterInsert({ entity }) {
        if (entity.id === 100) inserted();
      },
    };
    await runner.startTransaction();
    await subscribed(subscriber, async () => {
      await Promise.all([
        manager.save(Captured, { id: 101, title: 'early', code: 'early' }),
        manager.save(Captured, { id: 100, title: 'x', code: 'x' }),
      ]);
    });
    await runner.commitTransaction();
    expect(await titleOf(101)).toBe('late');
    expect((await eventsInShort()).toSorted()).toEqual(['created 100 x', 'created 101 late']);
  });

  it('send the same statements as TypeORM for entities without webhooks', async () => {
    const writesOf = async (dataSource: DataSource) => {
      const statements: string[] = [];
      const { logger } = dataSource;
      const one = dataSource.createQueryRunner();
      try {
        dataSource.logger = {
          logQuery: (text: string) => statements.push(text),
          logQueryError() {},
          logQuerySlow() {},
          log() {},
        } as unknown as Logger;
        await settled([
          one.manager.update(Plain, { id: 2 }, { title: 'two' }),
          one.manager.insert(Plain, { id: 100, title: 'hundred' }),
          one.manager.delete(Plain, { id: 3 }),
          one.manager.update(Plain, { id: 4 }, { title: 'fails', code: 'card 1' }),
        ]);
        await one.manager.save(Plain, { id: 5, title: 'five' });
        await one.manager.remove(await one.manager.findOneByOrFail(Plain, { id: 100 }));
      } finally {
        dataSource.logger = logger;
        await one.release();
      }
      return statements;
    };
    const here = await writesOf(app.dataSource);
    await app.dataSource.manager.save(Plain, [{ id: 3 }, { id: 5, title: 'new' }]);
    const bare = await new DataSource({ ...fresh.options, entities: [Plain] }).initialize();
    try {
      // TypeORM mixes the statements of concurrent writes. Here they come one write after the other, so the lists are sorted.
      expect(here.toSorted()).toEqual((await writesOf(bare)).toSorted());
      expect(here.length).toBeGreaterThan(8);
    } finally {
      await bare.destroy();
    }
  });
});
