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

  /** Taken by another row, it makes a write fail. */
  @Column({ type: 'varchar', length: 50, nullable: true, unique: true })
  code: string | null;
}

@Webhook({ name: 'card' })
@Entity('one_runner_card')
class Told extends Card {}

/** Has no webhooks. */
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
      entities: [Told],
      others: [Plain],
      webhooks: { publishedTypes: ['cards.dealt'] },
    });
  });
  beforeEach(async () => {
    for (const entity of [Told, Plain]) {
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

  /** In short, in the order of the outbox: `updated 3 title`. */
  const told = async () =>
    (await storedEvents(app)).map(({ type, data }) =>
      [type.replace('card.', ''), data.id, data.title].filter((part) => part !== undefined).join(' '),
    );
  const titleOf = async (id: number, entity: typeof Told | typeof Plain = Told) =>
    (await app.dataSource.manager.findOneBy<Card>(entity, { id }))?.title;
  /** The outcomes, in the order of the calls. */
  const settled = async (writes: Promise<unknown>[]) =>
    (await Promise.allSettled(writes)).map(({ status }) => status).join(', ');
  /** What does not wait for its turn has had the time to show it. */
  const othersWork = async () => {
    for (let n = 0; n < 20; n++) await app.dataSource.query('SELECT 1 AS one');
  };
  const failing = (id: number) => manager.update(Told, { id }, { title: 'fails', code: 'card 1' });

  /** Adds a subscriber for the length of one test. */
  async function subscribed(subscriber: EntitySubscriberInterface, work: () => Promise<void>): Promise<void> {
    app.dataSource.subscribers.push(subscriber);
    try {
      await work();
    } finally {
      app.dataSource.subscribers.splice(app.dataSource.subscribers.indexOf(subscriber), 1);
    }
  }

  /** Holds the insert of one row in the middle of its transaction until it is let go, and then lets it fail or not. */
  function held(id: number, error?: Error) {
    let letGo = () => {};
    let reached = () => {};
    const isReached = new Promise<void>((resolve) => (reached = resolve));
    const gone = new Promise<void>((resolve) => (letGo = resolve));
    const subscriber: EntitySubscriberInterface<Told> = {
      listenTo: () => Told,
      async afterInsert({ entity }) {
        if (entity.id !== id) return;
        reached();
        await gone;
        if (error) throw error;
      },
    };
    return { subscriber, isReached, letGo: () => letGo() };
  }

  describe('outside a transaction', () => {
    it('are committed each for itself: what fails takes nothing with it', async () => {
      const outcomes = await settled([
        failing(2),
        manager.update(Told, { id: 3 }, { title: 'three' }),
        failing(4),
        manager.insert(Told, { id: 100, title: 'hundred' }),
        manager.save(Told, { id: 5, code: 'card 1' }),
        manager.save(Told, { id: 6, title: 'six' }),
      ]);
      expect(outcomes).toBe('rejected, fulfilled, rejected, fulfilled, rejected, fulfilled');
      expect(await told()).toEqual(['updated 3 three', 'created 100 hundred', 'updated 6 six']);
      expect(await Promise.all([2, 3, 4, 100, 6].map((id) => titleOf(id)))).toEqual([
        'new',
        'three',
        'new',
        'hundred',
        'six',
      ]);
      expect(runner.isTransactionActive).toBe(false);
    });

    it('leave alone what the runner is asked for beside them: raw SQL, other entities, published events', async () => {
      const { subscriber, isReached, letGo } = held(100, new Error('no'));
      let outcomes = '';
      await subscribed(subscriber, async () => {
        const fails = manager.save(Told, { id: 100 });
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
        letGo();
        outcomes = await settled([fails, ...beside]);
      });
      expect(outcomes).toBe(`rejected${', fulfilled'.repeat(6)}`);
      expect(await Promise.all([1, 2, 3, 4].map((id) => titleOf(id, Plain)))).toEqual([
        'raw',
        'updated',
        'saved',
        'own',
      ]);
      expect(await told()).toEqual(['cards.dealt published', 'cards.dealt once']);
    });

    it('have each their own data: only what is saved with webhooks: false makes no event', async () => {
      await settled([
        manager.save(Told, { id: 1, title: 'quiet' }, { data: { webhooks: false } }),
        manager.save(Told, { id: 2, title: 'loud' }),
        manager.update(Told, { id: 3 }, { title: 'loud' }),
        manager.save(Told, { id: 4, title: 'quiet' }, { data: { webhooks: false } }),
        manager.save(Told, { id: 101, title: 'loud' }, { data: { tenant: 7 } }),
      ]);
      expect(await told()).toEqual(['updated 2 loud', 'updated 3 loud', 'created 101 loud']);
      expect(await Promise.all([1, 2, 3, 4, 101].map((id) => titleOf(id)))).toEqual([
        'quiet',
        'loud',
        'loud',
        'quiet',
        'loud',
      ]);
      expect(runner.data).toEqual({});
    });

    it('make exactly one event for each that is committed, whatever they are', async () => {
      const cards = await manager.findBy(Told, {});
      const card = (id: number) => cards.find((one) => one.id === id) as Told;
      const kinds = [
        (id: number) => [manager.insert(Told, { id: 100 + id, title: 'in' }), `created ${100 + id} in`] as const,
        (id: number) => [manager.save(Told, { id: 100 + id, title: 's' }), `created ${100 + id} s`] as const,
        (id: number) => [manager.save(Told, { id, title: 's' }), `updated ${id} s`] as const,
        (id: number) => [manager.delete(Told, { id }), `deleted ${id} new`] as const,
        (id: number) => [manager.remove(card(id)), `deleted ${id} new`] as const,
      ];
      const writes = Array.from({ length: 20 }, (_, n) => (kinds[n % kinds.length] as (typeof kinds)[number])(n + 2));
      const failures = Array.from({ length: 5 }, (_, n) => failing(25 + n));
      expect(await settled([...writes.map(([write]) => write), ...failures])).toBe(
        [...writes.map(() => 'fulfilled'), ...failures.map(() => 'rejected')].join(', '),
      );
      expect(await told()).toEqual(writes.map(([, event]) => event));
      expect(await manager.count(Told)).toBe(CARDS);
    });

    it('all are done when the runner is released behind them', async () => {
      const fails = failing(2);
      const good = manager.update(Told, { id: 3 }, { title: 'three' });
      const last = manager.save(Told, { id: 4, title: 'four' });
      await expect(Promise.all([fails, good, last])).rejects.toThrow();
      await runner.release();
      expect(await settled([good, last])).toBe('fulfilled, fulfilled');
      expect(await told()).toEqual(['updated 3 three', 'updated 4 four']);
    });
  });

  describe('called in a hook of one', () => {
    /** Writes one more row for each that is inserted, by every way there is. */
    const echo = (
      write: (event: InsertEvent<ObjectLiteral>, id: number) => Promise<unknown>,
    ): EntitySubscriberInterface => ({
      listenTo: () => Told,
      async afterInsert(event: InsertEvent<ObjectLiteral>) {
        const { id } = event.entity;
        if (id < 200) await write(event, (id as number) + 100);
      },
    });
    const echoes = {
      'insert()': echo((event, id) => event.manager.insert(Told, { id, title: 'echo' })),
      'save()': echo((event, id) => event.queryRunner.manager.save(Told, { id, title: 'echo' })),
      'save() in a transaction': echo((event, id) =>
        event.manager.transaction((inner) => inner.save(Told, { id, title: 'echo' })),
      ),
    };

    for (const [name, subscriber] of Object.entries(echoes)) {
      it(`do not wait for it: ${name}`, async () => {
        await subscribed(subscriber, async () => {
          const outcomes = await settled([
            manager.insert(Told, { id: 100 }),
            manager.save(Told, { id: 101 }),
            failing(2),
            manager.save(Told, { id: 102 }, { transaction: false }),
          ]);
          expect(outcomes).toBe('fulfilled, fulfilled, rejected, fulfilled');
        });
        expect((await told()).toSorted()).toEqual([
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

    it('are committed each for itself where that one is in no transaction', async () => {
      const subscriber = echo((event, id) =>
        id === 201
          ? event.manager.update(Told, { id: 2 }, { title: 'fails', code: 'card 1' }).catch(() => undefined)
          : event.manager.insert(Told, { id, title: 'echo' }),
      );
      await subscribed(subscriber, async () => {
        await manager.save(Told, [{ id: 100 }, { id: 101 }, { id: 102 }], { transaction: false });
      });
      expect((await told()).toSorted()).toEqual([
        'created 100 new',
        'created 101 new',
        'created 102 new',
        'created 200 echo',
        'created 202 echo',
      ]);
    });

    it('make no event where that one makes none, and events of their own where another does', async () => {
      await subscribed(echoes['save()'], async () => {
        await settled([
          manager.save(Told, { id: 100 }, { data: { webhooks: false } }),
          manager.save(Told, { id: 101 }),
        ]);
      });
      expect((await told()).toSorted()).toEqual(['created 101 new', 'created 201 echo']);
    });

    it('take a turn of their own once that one is over', async () => {
      const { subscriber: holding, isReached, letGo } = held(150, new Error('no'));
      let late: Promise<unknown> | undefined;
      const hook = echo(async (event, id) => {
        late ??= isReached.then(() => event.manager.insert(Told, { id, title: 'late' }));
      });
      await subscribed(holding, () =>
        subscribed(hook, async () => {
          await manager.insert(Told, { id: 100 });
          const fails = manager.save(Told, { id: 150 });
          await isReached;
          await othersWork();
          letGo();
          expect(await settled([fails, late as Promise<unknown>])).toBe('rejected, fulfilled');
        }),
      );
      expect(await told()).toEqual(['created 100 new', 'created 200 late']);
    });
  });

  describe('and a transaction of the application', () => {
    it('begins when those are done that were called before, and holds those that are called after', async () => {
      const { subscriber, isReached, letGo } = held(100);
      await subscribed(subscriber, async () => {
        const order: string[] = [];
        const first = manager.insert(Told, { id: 100 }).then(() => order.push('first'));
        await isReached;
        const begun = runner.startTransaction().then(() => order.push('begun'));
        const second = manager.update(Told, { id: 2 }, { title: 'two' });
        // The write still has its turn: a transaction that did not wait for it would be a savepoint in its.
        await othersWork();
        expect(order).toEqual([]);
        letGo();
        await Promise.all([first, begun, second]);
        expect(order).toEqual(['first', 'begun']);
        await runner.rollbackTransaction();
      });
      expect(await told()).toEqual(['created 100 new']);
      expect(await titleOf(2)).toBe('new');
    });

    it('begins like that as manager.transaction(), too, and as a statement', async () => {
      const { subscriber, isReached, letGo } = held(100);
      await subscribed(subscriber, async () => {
        const first = manager.insert(Told, { id: 100 });
        await isReached;
        const rolledBack = manager.transaction(async (inner) => {
          await inner.update(Told, { id: 2 }, { title: 'two' });
          throw new Error('no');
        });
        letGo();
        await first;
        await expect(rolledBack).rejects.toThrow('no');
        const second = manager.insert(Told, { id: 101 });
        const begun = runner.query('BEGIN');
        const third = manager.update(Told, { id: 3 }, { title: 'three' });
        await Promise.all([second, begun, third]);
        await runner.query('ROLLBACK');
      });
      expect(await told()).toEqual(['created 100 new', 'created 101 new']);
      expect(await Promise.all([2, 3].map((id) => titleOf(id)))).toEqual(['new', 'new']);
    });

    it('lets those that waited for its begin run at once, like all that are called in it', async () => {
      const first = held(100);
      const second = held(101);
      await subscribed(first.subscriber, () =>
        subscribed(second.subscriber, async () => {
          const inserted = manager.insert(Told, { id: 100 });
          await first.isReached;
          const begun = runner.startTransaction();
          const waiting = manager.insert(Told, { id: 101 });
          first.letGo();
          await Promise.all([inserted, begun, second.isReached]);
          await manager.update(Told, { id: 2 }, { title: 'two' });
          second.letGo();
          await waiting;
          await runner.commitTransaction();
        }),
      );
      expect(await told()).toEqual(['created 100 new', 'created 101 new', 'updated 2 two']);
    });

    it('is not that of a write: who ends it, or the runner, does not end that', async () => {
      const { subscriber, isReached, letGo } = held(100);
      await subscribed(subscriber, async () => {
        const first = manager.insert(Told, { id: 100 });
        await isReached;
        // As code does that cannot know whether its transaction has begun.
        const ends = runner.isTransactionActive ? [runner.rollbackTransaction(), runner.commitTransaction()] : [];
        // TypeORM 0.3 has `release()` alone.
        const dispose = (runner as Partial<QueryRunner>)[Symbol.asyncDispose] ?? runner.release;
        const disposed = dispose.call(runner);
        const outcomes = Promise.allSettled([first, ...ends, disposed]);
        await othersWork();
        letGo();
        expect(await outcomes).toMatchObject([
          { status: 'fulfilled' },
          { reason: { name: 'TransactionNotStartedError' } },
          { reason: { name: 'TransactionNotStartedError' } },
          { status: 'fulfilled' },
        ]);
      });
      expect(runner.isReleased).toBe(true);
      expect(await told()).toEqual(['created 100 new']);
    });

    it('is the one of all that are called in it, each with its own data', async () => {
      await runner.startTransaction();
      const outcomes = await settled([
        manager.save(Told, { id: 1, title: 'quiet' }, { data: { webhooks: false } }),
        manager.save(Told, { id: 2, title: 'loud' }),
        manager.update(Told, { id: 3 }, { title: 'loud' }),
        manager.save(Told, { id: 4, title: 'loud' }, { data: { tenant: 7 } }),
        manager.save(Told, { id: 100, title: 'quiet' }, { data: { webhooks: false } }),
        manager.save(Told, { id: 101, title: 'loud' }),
      ]);
      expect(outcomes).toBe('fulfilled, fulfilled, fulfilled, fulfilled, fulfilled, fulfilled');
      // TypeORM would leave the data of one of them here.
      expect(runner.data).toEqual({});
      await manager.save(Told, { id: 5, title: 'loud' });
      await runner.commitTransaction();
      expect((await told()).toSorted()).toEqual([
        'created 101 loud',
        'updated 2 loud',
        'updated 3 loud',
        'updated 4 loud',
        'updated 5 loud',
      ]);
      expect(await titleOf(1)).toBe('quiet');
    });
  });

  it('are told each as its own row was written, also when a hook holds one of them back', async () => {
    let inserted = () => {};
    const isInserted = new Promise<void>((resolve) => (inserted = resolve));
    const subscriber: EntitySubscriberInterface<Told> = {
      listenTo: () => Told,
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
        manager.save(Told, { id: 101, title: 'early', code: 'early' }),
        manager.save(Told, { id: 100, title: 'x', code: 'x' }),
      ]);
    });
    await runner.commitTransaction();
    expect(await titleOf(101)).toBe('late');
    expect((await told()).toSorted()).toEqual(['created 100 x', 'created 101 late']);
  });

  it('send what TypeORM sends where no entity has webhooks', async () => {
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
      // TypeORM mixes the statements of writes that run at once; here they come one write after the other.
      expect(here.toSorted()).toEqual((await writesOf(bare)).toSorted());
      expect(here.length).toBeGreaterThan(8);
    } finally {
      await bare.destroy();
    }
  });
});
