import { Column, Entity, PrimaryColumn, type DataSourceOptions, type EntityManager, type QueryRunner } from 'typeorm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { Webhook } from 'nestjs-entity-webhooks';
import { listenToLog } from '../support/said.js';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

@Webhook({ name: 'card' })
@Entity('unseen_card')
class Card {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50, default: 'new' })
  title: string;
}

/** Has no webhooks. */
@Entity('unseen_plain')
class Plain {
  @PrimaryColumn({ type: 'int' })
  id: number;
}

describeDatabases('a transaction that ends where no statement of its own says so', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let runner: QueryRunner;
  let manager: EntityManager;

  beforeAll(async () => {
    fresh = await database.create();
    const options = { ...fresh.options, extra: { multipleStatements: true } } as DataSourceOptions;
    app = await startApp({
      database: fresh.options.type === 'mariadb' || fresh.options.type === 'mysql' ? options : fresh.options,
      entities: [Card],
      others: [Plain],
    });
  });
  beforeEach(async () => {
    for (const table of ['unseen_card', 'unseen_plain', 'webhook_events']) {
      await app.dataSource.query(`DELETE FROM ${table}`);
    }
    runner = app.dataSource.createQueryRunner();
    ({ manager } = runner);
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await runner.release();
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  const insert = (id: number) => manager.insert(Card, { id });
  const told = async () => (await storedEvents(app)).map(({ type, data }) => `${type} ${String(data.id)}`).toSorted();
  const expectCreated = async (...ids: number[]) => {
    const cards = await app.dataSource.manager.find(Card, { order: { id: 'ASC' } });
    expect(cards.map(({ id }) => id)).toEqual(ids);
    expect(await told()).toEqual(ids.map((id) => `card.created ${id}`).toSorted());
  };
  /** For whatever is left of a transaction of the application's own. */
  const end = () => runner.query('ROLLBACK').catch(() => undefined);

  if (database.name !== 'sqlite') {
    describe('in a text of several statements', () => {
      it('keeps the events of what such a text commits', async () => {
        await runner.startTransaction();
        await insert(1);
        await runner.query('SELECT 1; COMMIT; SELECT 2');
        await expectCreated(1);
        await insert(2);
        await expectCreated(1, 2);
        await end();
        await expectCreated(1, 2);
      });

      it('begins in one, and ends in one', async () => {
        await runner.query('SELECT 1; BEGIN');
        await insert(1);
        expect(await told()).toEqual([]);
        await runner.query('ROLLBACK; BEGIN');
        await insert(2);
        await runner.query('COMMIT; BEGIN');
        await insert(3);
        await runner.query('ROLLBACK; SELECT 1');
        await expectCreated(2);
      });

      it('follows savepoints in one', async () => {
        await runner.startTransaction();
        await insert(1);
        await runner.query('SELECT 1; SAVEPOINT mine');
        await insert(2);
        await runner.query("SELECT 'a; ''b'; ROLLBACK TO SAVEPOINT mine; SELECT 2");
        await insert(3);
        await runner.commitTransaction();
        await expectCreated(1, 3);
      });

      it('sees no statement in a text, a name or a comment', async () => {
        await runner.startTransaction();
        await insert(1);
        await runner.query("SELECT 'x; COMMIT; y' /* ; COMMIT */; SELECT 2 -- ; COMMIT\n");
        await insert(2);
        await runner.rollbackTransaction();
        await expectCreated();
      });

      it('knows nothing of one that fails half-way, and asks the server', async () => {
        await runner.startTransaction();
        await insert(1);
        await expect(runner.query('COMMIT; SELECT * FROM nothing')).rejects.toThrow();
        await insert(2);
        await end();
        await expectCreated(1, 2);
      });
    });
  }

  if (database.name === 'postgres') {
    describe('after an error that was swallowed', () => {
      const fail = () => runner.query('SELECT nonsense').catch(() => undefined);

      it('is rolled back by commitTransaction(), which says so', async () => {
        await runner.startTransaction();
        await insert(1);
        await fail();
        await expect(runner.commitTransaction()).rejects.toMatchObject({ code: 'TRANSACTION_ABORTED' });
        expect(runner.isTransactionActive).toBe(false);
        await insert(2);
        await expectCreated(2);
      });

      it('is rolled back by a COMMIT of the application, as without events', async () => {
        await runner.query('BEGIN');
        await insert(1);
        await fail();
        await runner.query('COMMIT');
        await insert(2);
        await expectCreated(2);
      });

      it('goes on from a savepoint', async () => {
        await runner.startTransaction();
        await insert(1);
        await manager
          .transaction(async (inner) => {
            await inner.insert(Card, { id: 2 });
            await inner.query('SELECT nonsense');
          })
          .catch(() => undefined);
        await insert(3);
        await runner.commitTransaction();
        await expectCreated(1, 3);
      });
    });

    it('is not ended by a procedure or a block, which PostgreSQL refuses', async () => {
      await runner.startTransaction();
      await insert(1);
      await expect(runner.query('DO $$ BEGIN COMMIT; END $$')).rejects.toThrow(/invalid transaction termination/);
      await runner.rollbackTransaction();
      await expectCreated();
    });
  }

  if (database.name === 'mariadb' || database.name === 'mysql2') {
    describe('in a procedure', () => {
      beforeAll(async () => {
        for (const [name, body] of [
          ['commits', 'COMMIT'],
          ['rolls_back', 'ROLLBACK'],
          ['begins', 'START TRANSACTION'],
          ['does_nothing', 'SELECT 1'],
        ]) {
          await app.dataSource.query(`CREATE PROCEDURE unseen_${name}() BEGIN ${body}; END`);
        }
      });

      it('keeps the events of what it commits', async () => {
        await runner.startTransaction();
        await insert(1);
        await runner.query('CALL unseen_commits()');
        await insert(2);
        await end();
        await expectCreated(1, 2);
      });

      it('keeps no events of what it rolls back', async () => {
        await runner.startTransaction();
        await insert(1);
        await runner.query('CALL unseen_rolls_back()');
        await insert(2);
        await end();
        await expectCreated(2);
      });

      it('begins in it', async () => {
        await runner.query('CALL unseen_begins()');
        await insert(1);
        expect(await told()).toEqual([]);
        await runner.query('ROLLBACK');
        await insert(2);
        await expectCreated(2);
      });

      it('goes on after one that does nothing to it', async () => {
        await runner.startTransaction();
        await insert(1);
        await runner.query('CALL unseen_does_nothing()');
        await insert(2);
        await runner.rollbackTransaction();
        await expectCreated();
      });
    });

    it('keeps its events where a statement commits by itself', async () => {
      await runner.startTransaction();
      await insert(1);
      await runner.query('CREATE TABLE IF NOT EXISTS unseen_other (id int)');
      await insert(2);
      await end();
      await expectCreated(1, 2);
    });

    it('is open at all times while autocommit is off', async () => {
      await runner.query('SET autocommit = 0');
      await insert(1);
      expect(await told()).toEqual([]);
      await runner.query('ROLLBACK');
      await insert(2);
      await runner.query('COMMIT');
      await insert(3);
      await runner.query('SET autocommit = 1');
      await insert(4);
      await expectCreated(2, 3, 4);
    });

    it('is not ended by SET autocommit = 1 where that is on', async () => {
      await runner.startTransaction();
      await insert(1);
      await runner.query('SET SESSION autocommit = 1');
      await insert(2);
      await runner.rollbackTransaction();
      await expectCreated();
    });

    it('keeps the events of what a prepared statement commits', async () => {
      await runner.startTransaction();
      await insert(1);
      await runner.query("PREPARE done FROM 'COMMIT'");
      await runner.query('EXECUTE done');
      await insert(2);
      await end();
      await expectCreated(1, 2);
    });

    describe('by an error after which the server has rolled back', () => {
      /** Another connection changes a row that this one has seen. */
      async function snapshot(): Promise<boolean> {
        const [variable] = (await runner.query("SHOW VARIABLES LIKE 'innodb_snapshot_isolation'")) as unknown[];
        if (!variable) return false;
        await app.dataSource.manager.insert(Plain, { id: 1 });
        await runner.query('SET innodb_snapshot_isolation = ON');
        await runner.startTransaction('REPEATABLE READ');
        await manager.find(Plain);
        await insert(1);
        await app.dataSource.query('UPDATE unseen_plain SET id = 2');
        return true;
      }
      const conflict = () => manager.query('UPDATE unseen_plain SET id = 3 WHERE id = 1');

      it('keeps no events of what is gone (1020 of MariaDB)', async ({ skip }) => {
        if (!(await snapshot())) return skip();
        await expect(conflict()).rejects.toMatchObject({ errno: 1020 });
        await runner.commitTransaction();
        await expectCreated();
      });

      it('keeps those of writes that were sent at once with what fails', async ({ skip }) => {
        if (!(await snapshot())) return skip();
        const outcomes = await Promise.allSettled([insert(2), conflict(), insert(3), manager.save(Card, { id: 4 })]);
        expect(outcomes[1]).toMatchObject({ status: 'rejected', reason: { errno: 1020 } });
        await runner.commitTransaction();
        const ids = (await app.dataSource.manager.find(Card)).map(({ id }) => id);
        expect(ids).not.toContain(1);
        await expectCreated(...ids.toSorted());
      });

      it('lets a write that is under way send nothing more (1213)', async () => {
        await app.dataSource.manager.insert(Plain, [{ id: 1 }, { id: 2 }]);
        const lock = (one: QueryRunner, id: number) =>
          one.query('SELECT id FROM unseen_plain WHERE id = ? FOR UPDATE', [id]);
        const winner = app.dataSource.createQueryRunner();
        await runner.startTransaction();
        await winner.startTransaction();
        await winner.query(`INSERT INTO unseen_plain VALUES ${[10, 11, 12, 13, 14, 15].map((n) => `(${n})`).join()}`);
        await lock(runner, 1);
        await lock(winner, 2);
        const won = lock(winner, 1);
        const subscriber = {
          listenTo: () => Card,
          // A hook that swallows the error.
          beforeInsert: () => lock(runner, 2).catch((error: unknown) => error),
        };
        app.dataSource.subscribers.push(subscriber as never);
        const saved = manager.save(Card, { id: 1 });
        await expect(saved).rejects.toMatchObject({ code: 'TRANSACTION_ENDED' });
        app.dataSource.subscribers.splice(app.dataSource.subscribers.indexOf(subscriber as never), 1);
        await won;
        await winner.commitTransaction();
        await winner.release();
        await runner.rollbackTransaction();
        await expectCreated();
      });

      it('goes on after one that takes back its statement alone', async () => {
        await app.dataSource.manager.insert(Card, { id: 5 });
        await app.dataSource.query('DELETE FROM webhook_events');
        await runner.startTransaction();
        await insert(1);
        await expect(insert(5)).rejects.toThrow(/Duplicate/);
        await insert(2);
        await runner.commitTransaction();
        expect(await told()).toEqual(['card.created 1', 'card.created 2']);
      });
    });
  }

  if (database.name === 'sqlite') {
    describe('and that a BEGIN of the application has begun', () => {
      it('is still open when save() could not begin its own', async () => {
        await runner.query('BEGIN');
        await insert(1);
        await expect(manager.save(Card, { id: 2 })).rejects.toMatchObject({ code: 'TRANSACTION_OPEN' });
        await expect(manager.transaction(() => insert(3))).rejects.toMatchObject({ code: 'TRANSACTION_OPEN' });
        await insert(4);
        await runner.query('COMMIT');
        await expectCreated(1, 4);
      });

      it('takes everything with it', async () => {
        await runner.query('BEGIN');
        await manager.save(Card, { id: 1 }).catch(() => undefined);
        await insert(2);
        await runner.query('ROLLBACK');
        await insert(3);
        await manager.save(Card, { id: 4 });
        await expectCreated(3, 4);
      });
    });

    it('is begun and committed by a savepoint outside of one', async () => {
      await runner.query('SAVEPOINT mine');
      await insert(1);
      await runner.query('ROLLBACK TO mine');
      await insert(2);
      expect(await told()).toEqual([]);
      await runner.query('RELEASE mine');
      await expectCreated(2);
    });

    it('is rolled back by a trigger: nothing of it is told', async () => {
      await app.dataSource.query(
        "CREATE TRIGGER refuses BEFORE INSERT ON unseen_plain BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
      );
      await runner.startTransaction();
      await insert(1);
      await expect(manager.insert(Plain, { id: 1 })).rejects.toThrow('no');
      await expect(runner.commitTransaction()).rejects.toThrow();
      await end();
      await app.dataSource.query('DROP TRIGGER refuses');
      await expectCreated();
    });
  }

  describe('by release()', () => {
    it('is rolled back, and one warning says so', async () => {
      const warn = vi.spyOn((await import('@nestjs/common')).Logger.prototype, 'warn').mockImplementation(() => {});
      for (const id of [1, 2]) {
        const one = app.dataSource.createQueryRunner();
        await one.startTransaction();
        await one.manager.insert(Card, { id });
        await one.release();
      }
      await app.dataSource.transaction((inner) => inner.insert(Card, { id: 3 }));
      await expectCreated(3);
      const said = warn.mock.calls.map(([text]) => String(text)).filter((text) => text.includes('RELEASED_IN_'));
      expect(said).toHaveLength(1);
    });
  });

  it('past TypeORM: changes without events are named in one error, and their own write fails', async () => {
    const said = listenToLog();
    const commit = async () => {
      const connection = (await runner.connect()) as Record<'query' | 'exec', (text: string) => unknown> & {
        promise?(): { query(text: string): unknown };
      };
      if (database.name === 'sqlite') connection.exec('COMMIT');
      else await (connection.promise?.() ?? connection).query('COMMIT');
    };
    const subscriber = {
      listenTo: () => Card,
      async afterInsert({ entity }: { entity: Card }) {
        if (entity.id !== 2) return;
        await commit();
        // The next answer of the server says that there is no transaction.
        await manager.query('DELETE FROM unseen_plain');
      },
    };
    app.dataSource.subscribers.push(subscriber as never);
    await runner.startTransaction();
    await insert(1);
    await expect(manager.save(Card, { id: 2 })).rejects.toMatchObject({ code: 'TRANSACTION_ENDED' });
    app.dataSource.subscribers.splice(app.dataSource.subscribers.indexOf(subscriber as never), 1);
    await end();
    const errors = said.errors.filter((text) => text.includes('EVENTS_LOST'));
    expect(errors).toHaveLength(1);
    expect(errors[0]).toContain('Card');
  });
});
