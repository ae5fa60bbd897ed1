import { Column, Entity, ManyToOne, OneToMany, PrimaryColumn, type EntityManager, type Relation } from 'typeorm';
import type { EntitySubscriberInterface } from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

@Webhook()
@Entity('half_parent')
class Parent {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 10, nullable: true, unique: true })
  code: string | null;

  @OneToMany(() => Child, ({ parent }) => parent, { cascade: true })
  children: Relation<Child>[];
}

@Webhook()
@Entity('half_child')
class Child {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 10, nullable: true, unique: true })
  code: string | null;

  @ManyToOne(() => Parent, ({ children }) => children)
  parent: Relation<Parent> | null;
}

const HOOKS = ['afterInsert', 'afterUpdate', 'afterRemove'] as const;

describeDatabases('a write that fails half-way and whose error is swallowed', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let manager: EntityManager;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({ database: fresh.options, entities: [Parent, Child] });
    ({ manager } = app.dataSource);
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });
  beforeEach(async () => {
    await manager.query('DELETE FROM half_child');
    await manager.query('DELETE FROM half_parent');
    await manager.save(Parent, { id: 9, code: 'taken', children: [{ id: 9, code: 'taken' }] });
    await manager.query('DELETE FROM webhook_events');
  });

  /** PostgreSQL refuses every statement after a failed one until a rollback to a savepoint, so a caller who swallows an error needs a savepoint. */
  const isStopped = database.name === 'postgres';
  /** The events that the transaction of the caller commits, without those of its own preparation. */
  const swallowing = async (write: (inner: EntityManager) => Promise<unknown>) => {
    let isRefused = false;
    await manager.transaction(async (inner) => {
      const attempt = isStopped ? inner.transaction((nested) => write(nested)) : write(inner);
      await attempt.catch(() => {
        isRefused = true;
      });
    });
    expect(isRefused).toBe(true);
    const events = await storedEvents(app);
    return events.map(({ type, data }) => `${type} ${String(data.id)}`);
  };

  it('has events of the rows that were inserted before', async () => {
    const events = await swallowing((inner) => inner.save(Parent, { id: 1, children: [{ id: 1, code: 'taken' }] }));
    expect(events).toEqual(isStopped ? [] : ['parent.created 1']);
    expect(await manager.countBy(Parent, { id: 1 })).toBe(events.length);
  });

  // On MySQL and MariaDB, TRUNCATE commits by itself, so clear() is not captured.
  it.skipIf(['mariadb', 'mysql2'].includes(database.name))('has no events of a clear() that failed', async () => {
    expect(await swallowing((inner) => inner.clear(Parent))).toEqual([]);
    expect(await manager.count(Parent)).toBe(1);
  });

  it('has events of the rows that were updated before, and sends no statement after', async () => {
    await manager.save(Parent, [{ id: 1 }, { id: 2 }, { id: 3 }]);
    await manager.query('DELETE FROM webhook_events');
    const events = await swallowing((inner) =>
      inner.save(Parent, [
        { id: 1, code: 'a' },
        { id: 2, code: 'taken' },
        { id: 3, code: 'c' },
      ]),
    );
    expect(events).toEqual(isStopped ? [] : ['parent.updated 1']);
    const rows = await manager.find(Parent, { order: { id: 'ASC' } });
    expect(rows.map(({ code }) => code)).toEqual([isStopped ? null : 'a', null, null, 'taken']);
  });

  it('has events of the rows that were removed before', async () => {
    await manager.save(Child, { id: 1 });
    await manager.query('DELETE FROM webhook_events');
    const events = await swallowing(async (inner) => {
      const [parent, child] = [
        await inner.findOneByOrFail(Parent, { id: 9 }),
        await inner.findOneByOrFail(Child, { id: 1 }),
      ];
      await inner.remove([child, parent]);
    });
    const isGone = (await manager.countBy(Child, { id: 1 })) === 0;
    expect(events).toEqual(isGone ? ['child.deleted 1'] : []);
    expect(await manager.countBy(Parent, { id: 9 })).toBe(1);
  });

  it('has no events, and does not stop the COMMIT, when no statement succeeded', async () => {
    expect(await swallowing((inner) => inner.save(Parent, { id: 1, code: 'taken' }))).toEqual([]);
    expect(await swallowing((inner) => inner.insert(Parent, { id: 1, code: 'taken' }))).toEqual([]);
    expect(await manager.count(Parent)).toBe(1);
  });

  describe('by a hook of another subscriber', () => {
    const throwing = async (how: 'at once' | 'later', write: (inner: EntityManager) => Promise<unknown>) => {
      const fail = () => {
        if (how === 'at once') throw new Error('a hook');
        return Promise.reject(new Error('a hook'));
      };
      const subscriber: EntitySubscriberInterface = Object.fromEntries(HOOKS.map((hook) => [hook, fail]));
      app.dataSource.subscribers.unshift(subscriber);
      try {
        await manager.transaction(async (inner) => {
          await expect(write(inner)).rejects.toThrow('a hook');
        });
      } finally {
        app.dataSource.subscribers.splice(app.dataSource.subscribers.indexOf(subscriber), 1);
      }
      return (await storedEvents(app)).map(({ type, data }) => `${type} ${String(data.id)}`);
    };

    it.each(['at once', 'later'] as const)('that throws %s has its events', async (how) => {
      expect(await throwing(how, (inner) => inner.save(Parent, { id: 1 }))).toEqual(['parent.created 1']);
      expect(await throwing(how, (inner) => inner.save(Parent, { id: 1, code: 'a' }))).toEqual([
        'parent.created 1',
        'parent.updated 1',
      ]);
      expect(await throwing(how, (inner) => inner.insert(Parent, { id: 2 }))).toEqual([
        'parent.created 1',
        'parent.updated 1',
        'parent.created 2',
      ]);
    });
  });

  it('makes the COMMIT fail if the rows of a statement could not be read', async () => {
    // On PostgreSQL the statement returns the images.
    if (database.name === 'postgres') return;
    let hasFailed = false;
    const subscriber: EntitySubscriberInterface = {
      beforeQuery({ query, queryRunner }) {
        const isReadAfter = /^SELECT.*half_parent/s.test(query) && queryRunner.isTransactionActive && reads++ > 0;
        if (!isReadAfter || hasFailed) return;
        hasFailed = true;
        throw new Error('no answer');
      },
    };
    let reads = 0;
    app.dataSource.subscribers.push(subscriber);
    const runner = app.dataSource.createQueryRunner();
    try {
      await runner.startTransaction();
      await runner.manager.update(Parent, { id: 9 }, { code: 'other' }).catch(() => {});
      expect(hasFailed).toBe(true);
      await expect(runner.commitTransaction()).rejects.toMatchObject({ code: 'ROWS_UNKNOWN' });
      await runner.rollbackTransaction();
    } finally {
      await runner.release();
      app.dataSource.subscribers.splice(app.dataSource.subscribers.indexOf(subscriber), 1);
    }
    expect(await manager.countBy(Parent, { code: 'taken' })).toBe(1);
    expect(await storedEvents(app)).toEqual([]);
  });
});
