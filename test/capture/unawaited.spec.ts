import {
  Column,
  DeleteDateColumn,
  Entity,
  JoinTable,
  ManyToMany,
  ManyToOne,
  OneToMany,
  PrimaryColumn,
  type EntityManager,
  type EntitySubscriberInterface,
  type Relation,
} from 'typeorm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { Webhook, type WebhooksModuleOptions } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

@Webhook({ name: 'card', fields: ['id', 'title', 'deletedAt', 'tags'] })
@Entity('unawaited_card')
class Card {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50, default: 'new' })
  title: string;

  @Column({ type: 'int', default: 0 })
  count: number;

  /** A write with the value of another row fails. */
  @Column({ type: 'varchar', length: 50, nullable: true, unique: true })
  code: string | null;

  @DeleteDateColumn()
  deletedAt: Date | null;

  @ManyToMany(() => Tag)
  @JoinTable({ name: 'unawaited_card_tag' })
  tags: Relation<Tag>[];

  @OneToMany(() => Note, (note) => note.card, { cascade: true })
  notes: Relation<Note>[];
}

@Webhook({ name: 'note' })
@Entity('unawaited_note')
class Note {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50, default: 'new' })
  title: string;

  @ManyToOne(() => Card, (card) => card.notes)
  card: Relation<Card>;
}

@Entity('unawaited_tag')
class Tag {
  @PrimaryColumn({ type: 'int' })
  id: number;
}

/** Short, for tests that wait until it has passed. */
const TIMEOUT_MS = 300;

describeDatabases('a write that is not awaited when its transaction ends', (database) => {
  let app: TestApp;
  let fresh: FreshDatabase;
  /** Promises that are not awaited. */
  let late: Promise<unknown>[];
  const added: EntitySubscriberInterface[] = [];

  const start = (webhooks: WebhooksModuleOptions = {}) =>
    startApp({
      database: fresh.options,
      entities: [Card, Note],
      others: [Tag],
      webhooks: { publishedTypes: ['cards.dealt'], ...webhooks },
    });

  beforeAll(async () => {
    fresh = await database.create();
    app = await start();
    await app.dataSource.manager.insert(Tag, { id: 1 });
  });
  beforeEach(async () => {
    for (const table of ['unawaited_card_tag', 'unawaited_note', 'unawaited_card', 'webhook_events']) {
      await app.dataSource.query(`DELETE FROM ${table}`);
    }
    await app.webhooks.withoutCapture(() =>
      app.dataSource.manager.insert(Card, [
        { id: 1, code: 'one' },
        { id: 2 },
        { id: 3, deletedAt: new Date('2026-01-01T00:00:00Z') },
      ]),
    );
    late = [];
  });
  afterEach(() => {
    for (const subscriber of added.splice(0)) {
      app.dataSource.subscribers.splice(app.dataSource.subscribers.indexOf(subscriber), 1);
    }
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  /** Gives every promise a handler for its rejection. */
  const forget = <T>(write: Promise<T>): void => {
    late.push(write);
    write.catch(() => undefined);
  };
  const outcomes = async () =>
    (await Promise.allSettled(late)).map((one) =>
      one.status === 'fulfilled' ? 'fulfilled' : ((one.reason as { code?: string }).code ?? String(one.reason)),
    );
  const capturedEvents = async () => (await storedEvents(app)).map(({ type, data }) => `${type} ${String(data.id)}`);
  const rows = async () => {
    const cards = await app.dataSource.manager.find(Card, { order: { id: 'ASC' }, withDeleted: true });
    return cards.map(({ id, title }) => `${id} ${title}`);
  };
  const UNCHANGED = ['1 new', '2 new', '3 new'];
  /** Gives a call that does not wait enough time to finish. */
  const othersWork = async (ms = 0) => {
    const start = performance.now();
    for (let n = 0; n < 20 || performance.now() - start < ms; n++) await app.dataSource.query('SELECT 1 AS one');
  };

  /** Makes a hook of one row wait until it is released, and then run some work. */
  function blockHook(hook: 'beforeInsert' | 'afterInsert' | 'afterLoad', id: number, then?: () => Promise<unknown>) {
    let release = () => {};
    let reached = () => {};
    const isReached = new Promise<void>((resolve) => (reached = resolve));
    const gone = new Promise<void>((resolve) => (release = resolve));
    const wait = async ({ entity }: { entity: Card }) => {
      if (entity.id !== id) return;
      reached();
      await gone;
      await then?.();
    };
    const subscriber: EntitySubscriberInterface<Card> = {
      listenTo: () => Card,
      [hook]: hook === 'afterLoad' ? (entity: Card) => wait({ entity }) : wait,
    };
    added.push(subscriber);
    app.dataSource.subscribers.push(subscriber);
    return { isReached, release: () => release() };
  }

  describe('by COMMIT', () => {
    const kinds: Record<string, [(manager: EntityManager) => Promise<unknown>, string[]]> = {
      'insert()': [(m) => m.insert(Card, { id: 9 }), ['card.created 9']],
      'update()': [(m) => m.update(Card, 1, { title: 'x' }), ['card.updated 1']],
      'delete()': [(m) => m.delete(Card, 1), ['card.deleted 1']],
      'softDelete()': [(m) => m.softDelete(Card, 1), ['card.deleted 1']],
      'restore()': [(m) => m.restore(Card, 3), ['card.restored 3']],
      'increment()': [(m) => m.update(Card, 1, { title: () => "'x'" }), ['card.updated 1']],
      'upsert()': [(m) => m.upsert(Card, { id: 1, title: 'x' }, ['id']), ['card.updated 1']],
      'save() of a new row': [(m) => m.save(Card, { id: 9 }), ['card.created 9']],
      'save() of a changed row': [(m) => m.save(Card, { id: 1, title: 'x' }), ['card.updated 1']],
      'save() with a cascade': [
        (m) => m.save(Card, { id: 9, notes: [{ id: 1 }, { id: 2 }] }),
        ['card.created 9', 'note.created 1', 'note.created 2'],
      ],
      'remove()': [async (m) => m.remove(Object.assign(new Card(), { id: 1 })), ['card.deleted 1']],
      'a query builder': [
        (m) => m.createQueryBuilder().update(Card).set({ title: 'x' }).where('id < 3').execute(),
        ['card.updated 1', 'card.updated 2'],
      ],
      'a relation builder': [(m) => m.createQueryBuilder().relation(Card, 'tags').of(1).add(1), ['card.updated 1']],
      'publish()': [(m) => app.webhooks.publish('cards.dealt', { id: 7 }, { manager: m }), ['cards.dealt 7']],
      'publish() with a key': [
        (m) => app.webhooks.publish('cards.dealt', { id: 8 }, { manager: m, idempotencyKey: `${Math.random()}` }),
        ['cards.dealt 8'],
      ],
      'a nested transaction()': [
        (m) => m.transaction(async (inner) => void (await inner.insert(Card, [{ id: 9 }, { id: 10 }]))),
        ['card.created 9', 'card.created 10'],
      ],
      'an unawaited write in a nested transaction()': [
        (m) => m.transaction(async (inner) => forget(inner.save(Card, { id: 9 }))),
        ['card.created 9'],
      ],
    };
    for (const [name, [write, events]] of Object.entries(kinds)) {
      it(`is committed with its event: ${name}`, async () => {
        await app.dataSource.transaction(async (manager) => forget(write(manager)));
        expect(new Set(await outcomes())).toEqual(new Set(['fulfilled']));
        expect((await capturedEvents()).toSorted()).toEqual(events.toSorted());
      });
    }

    it('is committed with its event among many others', async () => {
      await app.dataSource.transaction(async (manager) => {
        for (let id = 10; id < 20; id++)
          forget<unknown>(id % 2 ? manager.insert(Card, { id }) : manager.save(Card, { id }));
      });
      expect(await outcomes()).toEqual(Array.from({ length: 10 }, () => 'fulfilled'));
      expect((await capturedEvents()).toSorted()).toEqual(
        Array.from({ length: 10 }, (_, n) => `card.created ${n + 10}`),
      );
      expect(await rows()).toHaveLength(13);
    });

    it('delays the COMMIT, whichever call sends it, until its hooks are done', async () => {
      for (const commit of ['commitTransaction', 'COMMIT'] as const) {
        const id = commit === 'COMMIT' ? 10 : 11;
        const { isReached, release } = blockHook('afterInsert', id);
        const runner = app.dataSource.createQueryRunner();
        const order: string[] = [];
        await runner.startTransaction();
        forget(runner.manager.save(Card, { id }).then(() => order.push('saved')));
        await isReached;
        const committed = (commit === 'COMMIT' ? runner.query(commit) : runner.commitTransaction()).then(() =>
          order.push('committed'),
        );
        await othersWork();
        expect(order).toEqual([]);
        release();
        await committed;
        await runner.release();
        expect(order).toEqual(['saved', 'committed']);
      }
      expect((await capturedEvents()).toSorted()).toEqual(['card.created 10', 'card.created 11']);
    });

    it('delays the COMMIT of a save() in whose hook it was called', async () => {
      const subscriber: EntitySubscriberInterface<Card> = {
        listenTo: () => Card,
        afterInsert: ({ entity, manager }) => {
          if (entity.id === 9) forget(manager.save(Card, { id: 10, notes: [{ id: 1 }] }));
        },
      };
      added.push(subscriber);
      app.dataSource.subscribers.push(subscriber);
      await app.dataSource.manager.save(Card, { id: 9 });
      expect(await outcomes()).toEqual(['fulfilled']);
      expect((await capturedEvents()).toSorted()).toEqual(['card.created 10', 'card.created 9', 'note.created 1']);
    });

    it('is committed although another write failed and its error was swallowed', async () => {
      if (database.name === 'postgres') return; // On PostgreSQL the error aborts the transaction.
      await app.dataSource.transaction(async (manager) => {
        await Promise.all([
          manager.insert(Card, { id: 10 }),
          manager.insert(Card, { id: 11, code: 'one' }),
          manager.save(Card, { id: 12 }),
        ]).catch(() => undefined);
      });
      expect((await capturedEvents()).toSorted()).toEqual(['card.created 10', 'card.created 12']);
      expect(await rows()).toEqual([...UNCHANGED, '10 new', '12 new']);
    });

    it('cannot delay the COMMIT without end by further writes', async () => {
      let id = 100;
      await app.dataSource.transaction(async (manager) => {
        const loop = async () => {
          for (;;) await manager.insert(Card, { id: id++ });
        };
        forget(loop());
        forget(loop());
        await manager.insert(Card, { id: 10 });
      });
      await Promise.allSettled(late);
      const ids = (await rows()).slice(3).map((row) => `card.created ${parseInt(row)}`);
      expect(ids).toContain('card.created 10');
      expect((await capturedEvents()).toSorted()).toEqual(ids.toSorted());
    });

    it('is refused if it is called after the COMMIT', async () => {
      const { isReached, release } = blockHook('afterInsert', 10);
      const runner = app.dataSource.createQueryRunner();
      await runner.startTransaction();
      forget(runner.manager.save(Card, { id: 10 }));
      await isReached;
      const committed = runner.query('COMMIT');
      await othersWork();
      forget(runner.manager.insert(Card, { id: 11 }));
      release();
      await committed;
      expect(await outcomes()).toEqual(['fulfilled', 'TRANSACTION_ENDED']);
      await runner.release();
      expect(await capturedEvents()).toEqual(['card.created 10']);
      expect(await rows()).toEqual([...UNCHANGED, '10 new']);
    });
  });

  describe('by ROLLBACK', () => {
    it('is rolled back completely', async () => {
      const { isReached, release } = blockHook('beforeInsert', 10);
      const failed = app.dataSource.transaction(async (manager) => {
        forget(manager.save(Card, { id: 10, notes: [{ id: 1 }, { id: 2 }] }));
        await isReached;
        throw new Error('no');
      });
      const order: string[] = [];
      const settled = failed.catch((error: Error) => order.push(error.message));
      await othersWork();
      expect(order).toEqual([]);
      release();
      await settled;
      expect(await outcomes()).toEqual(['fulfilled']);
      expect(await capturedEvents()).toEqual([]);
      expect(await rows()).toEqual(UNCHANGED);
      expect(await app.dataSource.manager.count(Note)).toBe(0);
    });

    it('sends no statement after it', async () => {
      const { isReached, release } = blockHook('beforeInsert', 10);
      const chain = async (manager: EntityManager) => {
        await manager.save(Card, { id: 10 });
        await manager.save(Card, { id: 11 });
      };
      const failed = app.dataSource.transaction(async (manager) => {
        forget(chain(manager));
        await isReached;
        await Promise.all([manager.insert(Card, { id: 12, code: 'one' }), ...late]);
      });
      failed.catch(() => undefined);
      await othersWork();
      release();
      await expect(failed).rejects.toThrow();
      await Promise.allSettled(late);
      expect(await capturedEvents()).toEqual([]);
      expect(await rows()).toEqual(UNCHANGED);
    });
  });

  describe('by RELEASE SAVEPOINT or ROLLBACK TO SAVEPOINT', () => {
    it('belongs to the nested transaction in which it was called', async () => {
      await app.dataSource.transaction(async (manager) => {
        await manager.transaction(async (inner) => forget(inner.save(Card, { id: 10 })));
        await manager
          .transaction(async (inner) => {
            forget(inner.save(Card, { id: 11, notes: [{ id: 1 }] }));
            throw new Error('no');
          })
          .catch(() => undefined);
        await manager.insert(Card, { id: 12 });
      });
      await Promise.allSettled(late);
      expect((await capturedEvents()).toSorted()).toEqual(['card.created 10', 'card.created 12']);
      expect(await rows()).toEqual([...UNCHANGED, '10 new', '12 new']);
    });

    it('keeps its event if a later savepoint is rolled back', async () => {
      const { isReached, release } = blockHook('afterInsert', 10);
      await app.dataSource.transaction(async (manager) => {
        forget(manager.save(Card, { id: 10, title: 'before' }));
        await isReached;
        const nested = manager.transaction(async (inner) => {
          await inner.insert(Card, { id: 11 });
          throw new Error('no');
        });
        nested.catch(() => undefined);
        await othersWork();
        release();
        await expect(nested).rejects.toThrow('no');
      });
      expect(await outcomes()).toEqual(['fulfilled']);
      expect(await capturedEvents()).toEqual(['card.created 10']);
      expect(await rows()).toEqual([...UNCHANGED, '10 before']);
    });

    it('causes no deadlock if hooks of two writes begin nested transactions', async () => {
      const subscriber: EntitySubscriberInterface<Card> = {
        listenTo: () => Card,
        async afterInsert({ entity, manager }) {
          const { id } = entity;
          if (id < 50) await manager.transaction((inner) => inner.save(Card, { id: id + 100 }));
        },
      };
      added.push(subscriber);
      app.dataSource.subscribers.push(subscriber);
      await app.dataSource.transaction(async (manager) => {
        await Promise.all([10, 11, 12].map((id) => manager.save(Card, { id })));
        for (const id of [13, 14]) forget(manager.insert(Card, { id }));
      });
      expect(await outcomes()).toEqual(['fulfilled', 'fulfilled']);
      const ids = [10, 11, 12, 13, 14].flatMap((id) => [id, id + 100]);
      expect((await capturedEvents()).toSorted()).toEqual(ids.map((id) => `card.created ${id}`).toSorted());
      expect(await rows()).toHaveLength(13);
    });
  });

  describe('by release()', () => {
    it('is done before the connection returns to the pool', async () => {
      const { isReached, release } = blockHook('afterInsert', 10);
      const runner = app.dataSource.createQueryRunner();
      await runner.startTransaction();
      forget(runner.manager.save(Card, { id: 10 }));
      forget(runner.commitTransaction());
      await isReached;
      const released = runner.release();
      await othersWork();
      expect(runner.isReleased).toBe(false);
      release();
      await released;
      expect(await outcomes()).toEqual(['fulfilled', 'fulfilled']);
      expect(await capturedEvents()).toEqual(['card.created 10']);
    });

    it('is rolled back if it was not committed', async () => {
      const runner = app.dataSource.createQueryRunner();
      await runner.startTransaction();
      forget(runner.manager.save(Card, { id: 10 }));
      await runner.release();
      expect(runner.isReleased).toBe(true);
      await Promise.allSettled(late);
      expect(await capturedEvents()).toEqual([]);
      expect(await rows()).toEqual(UNCHANGED);
    });
  });

  describe('and never finishes', () => {
    let patient: TestApp;
    beforeAll(async () => {
      patient = app;
      app = await start({ unfinishedWritesTimeoutMs: TIMEOUT_MS });
    });
    afterAll(async () => {
      await app.close();
      app = patient;
    });

    it('makes the COMMIT fail with its name, and sends no further statement', async () => {
      const { isReached, release } = blockHook('beforeInsert', 10);
      const committed = app.dataSource.transaction(async (manager) => {
        await manager.insert(Card, { id: 9 });
        forget(manager.save(Card, { id: 10, notes: [{ id: 1 }] }));
        await isReached;
      });
      await expect(committed).rejects.toMatchObject({
        code: 'WRITES_UNFINISHED',
        message: expect.stringContaining('rolled back instead of committed'),
        details: { writes: ['save() of Card'], timeoutMs: TIMEOUT_MS },
      });
      release();
      expect(await outcomes()).toEqual(['TRANSACTION_ENDED']);
      expect(await capturedEvents()).toEqual([]);
      expect(await rows()).toEqual(UNCHANGED);
    });

    it('ends if a hook waits for a task that waits for the COMMIT', async () => {
      let isCommitted: Promise<unknown> = Promise.resolve();
      const { isReached, release } = blockHook('afterInsert', 10, () => isCommitted);
      const runner = app.dataSource.createQueryRunner();
      await runner.startTransaction();
      forget(runner.manager.save(Card, { id: 10 }));
      await isReached;
      isCommitted = runner.commitTransaction();
      isCommitted.catch(() => undefined);
      release();
      await expect(isCommitted).rejects.toMatchObject({ code: 'WRITES_UNFINISHED' });
      expect(runner.isTransactionActive).toBe(false);
      await runner.release();
      await Promise.allSettled(late);
      expect(await capturedEvents()).toEqual([]);
      expect(await rows()).toEqual(UNCHANGED);
    });

    it('makes a SAVEPOINT fail, and the transaction stays open', async () => {
      const { isReached, release } = blockHook('beforeInsert', 10);
      const runner = app.dataSource.createQueryRunner();
      await runner.startTransaction();
      forget(runner.manager.save(Card, { id: 10 }));
      await isReached;
      await expect(runner.query('SAVEPOINT refused')).rejects.toMatchObject({
        code: 'WRITES_UNFINISHED',
        message: expect.stringMatching(
          /^SAVEPOINT or RELEASE was refused, and nothing was rolled back\. The statement waited for save\(\) of Card,/,
        ),
      });
      release();
      await runner.commitTransaction();
      await runner.release();
      expect(await outcomes()).toEqual(['fulfilled']);
      expect(await capturedEvents()).toEqual(['card.created 10']);
    });

    it('is rolled back by a ROLLBACK and by release()', async () => {
      const { isReached, release } = blockHook('beforeInsert', 10);
      const runner = app.dataSource.createQueryRunner();
      await runner.startTransaction();
      forget(runner.manager.save(Card, { id: 10 }));
      await isReached;
      await runner.rollbackTransaction();
      await runner.release();
      release();
      expect(await outcomes()).toEqual(['TRANSACTION_ENDED']);
      expect(await rows()).toEqual(UNCHANGED);
    });

    it('is rejected although it has sent its last statement', async () => {
      const { isReached, release } = blockHook('afterInsert', 10);
      const committed = app.dataSource.transaction(async (manager) => {
        forget(manager.save(Card, { id: 10 }));
        await isReached;
      });
      await expect(committed).rejects.toMatchObject({ code: 'WRITES_UNFINISHED' });
      release();
      expect(await outcomes()).toEqual(['TRANSACTION_ENDED']);
      expect(await rows()).toEqual(UNCHANGED);
    });

    it('is rejected and sends no further statement if it continues before the ROLLBACK of the refused COMMIT', async () => {
      const { isReached, release } = blockHook('beforeInsert', 10);
      const subscriber: EntitySubscriberInterface = {
        async beforeTransactionRollback() {
          release();
          await Promise.allSettled(late);
        },
      };
      added.push(subscriber);
      app.dataSource.subscribers.push(subscriber);
      const committed = app.dataSource.transaction(async (manager) => {
        forget(manager.save(Card, { id: 10 }));
        await isReached;
      });
      await expect(committed).rejects.toMatchObject({ code: 'WRITES_UNFINISHED' });
      expect(await outcomes()).toEqual(['TRANSACTION_ENDED']);
      expect(await rows()).toEqual(UNCHANGED);
    });

    it('is rejected and sends no further statement after a ROLLBACK TO SAVEPOINT', async () => {
      const { isReached, release } = blockHook('beforeInsert', 10);
      await app.dataSource.transaction(async (manager) => {
        await manager.insert(Card, { id: 9 });
        const nested = manager.transaction(async (inner) => {
          forget(inner.save(Card, { id: 10, notes: [{ id: 1 }] }));
          await isReached;
          throw new Error('no');
        });
        await expect(nested).rejects.toThrow('no');
        release();
        expect(await outcomes()).toEqual(['TRANSACTION_ENDED']);
      });
      expect(await capturedEvents()).toEqual(['card.created 9']);
      expect(await rows()).toEqual([...UNCHANGED, '9 new']);
    });

    if (database.name !== 'sqlite') {
      it('delays the COMMIT as long as one of its statements is under way', async () => {
        const blocker = app.dataSource.createQueryRunner();
        await blocker.startTransaction();
        await blocker.query('UPDATE unawaited_card SET title = title WHERE id = 1');
        const committed = app.dataSource.transaction(async (manager) => {
          forget(manager.update(Card, 1, { title: 'x' }));
        });
        await othersWork(2 * TIMEOUT_MS);
        await blocker.rollbackTransaction();
        await blocker.release();
        await committed;
        expect(await capturedEvents()).toEqual(['card.updated 1']);
      });
    }
  });

  it('does not delay the COMMIT if it is a read', async () => {
    const { isReached, release } = blockHook('afterLoad', 1);
    await app.dataSource.transaction(async (manager) => {
      forget(manager.find(Card));
      await isReached;
      await manager.insert(Card, { id: 10 });
    });
    expect(await capturedEvents()).toEqual(['card.created 10']);
    release();
    expect(await outcomes()).toEqual(['fulfilled']);
  });

  it('is committed with its event if several transactions are started concurrently on one query runner', async () => {
    const runner = app.dataSource.createQueryRunner();
    const { manager } = runner;
    const [first, second] = await Promise.allSettled([
      manager.transaction(async (inner) => {
        await inner.insert(Card, { id: 10 });
        forget(inner.insert(Card, { id: 11 }));
      }),
      manager.transaction((inner) => inner.insert(Card, { id: 12 })),
    ]);
    await Promise.allSettled(late);
    await runner.release();
    expect([first.status, second.status]).toEqual(['fulfilled', 'fulfilled']);
    expect((await capturedEvents()).toSorted()).toEqual(['card.created 10', 'card.created 11', 'card.created 12']);
    expect(await rows()).toHaveLength(6);
  });

  it('is emitted to handlers only after the COMMIT', async () => {
    const { isReached, release } = blockHook('afterInsert', 77);
    const emitted: unknown[] = [];
    const { EventEmitter2 } = await import('@nestjs/event-emitter');
    const emitter = app.app.get(EventEmitter2);
    const note = ({ data }: { data: { id: number } }) => void (data.id === 77 && emitted.push(data.id));
    emitter.on('webhooks.event.card.created', note);
    const committed = app.dataSource.transaction(async (manager) => {
      forget(manager.save(Card, { id: 77 }));
      await isReached;
    });
    await othersWork();
    expect(emitted).toEqual([]);
    release();
    await committed;
    await vi.waitFor(() => expect(emitted).toEqual([77]));
    emitter.off('webhooks.event.card.created', note);
  });
});
