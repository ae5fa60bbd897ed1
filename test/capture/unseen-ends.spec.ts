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

/** An entity without webhooks. */
@Entity('unseen_plain')
class Plain {
  @PrimaryColumn({ type: 'int' })
  id: number;
}

describeDatabases('a transaction that ends without a separate statement', (database) => {
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
  const createdEvents = async () =>
    (await storedEvents(app)).map(({ type, data }) => `${type} ${String(data.id)}`).toSorted();
  const expectCreated = async (...ids: number[]) => {
    const cards = await app.dataSource.manager.find(Card, { order: { id: 'ASC' } });
    expect(cards.map(({ id }) => id)).toEqual(ids);
    expect(await createdEvents()).toEqual(ids.map((id) => `card.created ${id}`).toSorted());
  };
  /** Ends the application's transaction, if it is still open. */
  const end = () => runner.query('ROLLBACK').catch(() => undefined);

  if (database.name !== 'sqlite') {
    describe('in a text of several statements', () => {
      it('keeps the events of the writes that such a text commits', async () => {
        await runner.startTransaction();
        await insert(1);
        await runner.query('SELECT 1; COMMIT; SELECT 2');
        await expectCreated(1);
        await insert(2);
        await expectCreated(1, 2);
        await end();
        await expectCreated(1, 2);
      });

      it('begins and ends in such texts', async () => {
        await runner.query('SELECT 1; BEGIN');
        await insert(1);
        expect(await createdEvents()).toEqual([]);
        await runner.query('ROLLBACK; BEGIN');
        await insert(2);
        await runner.query('COMMIT; BEGIN');
        await insert(3);
        await runner.query('ROLLBACK; SELECT 1');
        await expectCreated(2);
      });

      it('follows savepoints in such a text', async () => {
        await runner.startTransaction();
        await insert(1);
        await runner.query('SELECT 1; SAVEPOINT mine');
        await insert(2);
        await runner.query("SELECT 'a; ''b'; ROLLBACK TO SAVEPOINT mine; SELECT 2");
        await insert(3);
        await runner.commitTransaction();
        await expectCreated(1, 3);
      });

      it('finds no statement in a string, a name or a comment', async () => {
        await runner.startTransaction();
        await insert(1);
        await runner.query("SELECT 'x; COMMIT; y' /* ; COMMIT */; SELECT 2 -- ; COMMIT\n");
        await insert(2);
        await runner.rollbackTransaction();
        await expectCreated();
      });

      it('asks the server after such a text has failed half-way', async () => {
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

      it('is rolled back by commitTransaction(), which throws TRANSACTION_ABORTED', async () => {
        await runner.startTransaction();
        await insert(1);
        await fail();
        await expect(runner.commitTransaction()).rejects.toMatchObject({ code: 'TRANSACTION_ABORTED' });
        expect(runner.isTransactionActive).toBe(false);
        await insert(2);
        await expectCreated(2);
      });

      it('is rolled back by a COMMIT statement, as without events', async () => {
        await runner.query('BEGIN');
        await insert(1);
        await fail();
        await runner.query('COMMIT');
        await insert(2);
        await expectCreated(2);
      });

      it(
        'stays open after a COMMIT in a text of several statements, which PostgreSQL refuses',
        { timeout: 1_000 },
        async () => {
          await runner.query('BEGIN; SELECT 1');
          await insert(1);
          await fail();
          await expect(runner.query('SELECT 1; COMMIT')).rejects.toMatchObject({ code: '25P02' });
          await runner.query('ROLLBACK');
          await insert(2);
          await expectCreated(2);
        },
      );

      it('continues from a savepoint', async () => {
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

      it('keeps the events of the writes that it commits', async () => {
        await runner.startTransaction();
        await insert(1);
        await runner.query('CALL unseen_commits()');
        await insert(2);
        await end();
        await expectCreated(1, 2);
      });

      it('keeps no events of the writes that it rolls back', async () => {
        await runner.startTransaction();
        await insert(1);
        await runner.query('CALL unseen_rolls_back()');
        await insert(2);
        await end();
        await expectCreated(2);
      });

      it('begins in a procedure', async () => {
        await runner.query('CALL unseen_begins()');
        await insert(1);
        expect(await createdEvents()).toEqual([]);
        await runner.query('ROLLBACK');
        await insert(2);
        await expectCreated(2);
      });

      it('continues after a procedure that does not end it', async () => {
        await runner.startTransaction();
        await insert(1);
        await runner.query('CALL unseen_does_nothing()');
        await insert(2);
        await runner.rollbackTransaction();
        await expectCreated();
      });
    });

    it('is over when its connection is lost', { timeout: 1_000 }, async () => {
      await runner.startTransaction();
      await insert(1);
      const [{ id }] = (await runner.query('SELECT connection_id() AS id')) as [{ id: number }];
      await app.dataSource.query(`KILL ${id}`);
      await expect(insert(2)).rejects.toThrow();
      await expect(runner.query('COMMIT')).rejects.toThrow();
      await runner.release();
      await app.dataSource.manager.insert(Card, { id: 3 });
      await expectCreated(3);
    });

    it('keeps its events when a statement commits implicitly', async () => {
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
      expect(await createdEvents()).toEqual([]);
      await runner.query('ROLLBACK');
      await insert(2);
      await runner.query('COMMIT');
      await insert(3);
      await runner.query('SET autocommit = 1');
      await insert(4);
      await expectCreated(2, 3, 4);
    });

    it('is not ended by SET autocommit = 1 while autocommit is on', async () => {
      await runner.startTransaction();
      await insert(1);
      await runner.query('SET SESSION autocommit = 1');
      await insert(2);
      await runner.rollbackTransaction();
      await expectCreated();
    });

    it('keeps the events of the writes that a prepared statement commits', async () => {
      await runner.startTransaction();
      await insert(1);
      await runner.query("PREPARE done FROM 'COMMIT'");
      await runner.query('EXECUTE done');
      await insert(2);
      await end();
      await expectCreated(1, 2);
    });

    describe('by an error after which the server rolls back', () => {
      /** Another connection changes a row that this connection has read. */
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

      it('keeps no events of rolled back writes (error 1020 of MariaDB)', async ({ skip }) => {
        if (!(await snapshot())) return skip();
        await expect(conflict()).rejects.toMatchObject({ errno: 1020 });
        await runner.commitTransaction();
        await expectCreated();
      });

      it('keeps the events of writes that were sent at the same time as the failing statement', async ({ skip }) => {
        if (!(await snapshot())) return skip();
        const outcomes = await Promise.allSettled([insert(2), conflict(), insert(3), manager.save(Card, { id: 4 })]);
        expect(outcomes[1]).toMatchObject({ status: 'rejected', reason: { errno: 1020 } });
        await runner.commitTransaction();
        const ids = (await app.dataSource.manager.find(Card)).map(({ id }) => id);
        expect(ids).not.toContain(1);
        await expectCreated(...ids.toSorted());
      });

      it.each([
        ['that is under way send no more statements', 'beforeInsert'],
        ['fail whose statement was answered before', 'afterQuery'],
      ])('makes a write %s (error 1213)', async (_, hook) => {
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
          // This hook swallows the error of the deadlock.
          [hook]: (event: { query?: string }) => {
            const isMeant = hook === 'beforeInsert' || /^insert into .unseen_card/i.test(event.query ?? '');
            return isMeant ? lock(runner, 2).catch((error: unknown) => error) : undefined;
          },
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

      it('continues after an error that rolls back only its statement', async () => {
        await app.dataSource.manager.insert(Card, { id: 5 });
        await app.dataSource.query('DELETE FROM webhook_events');
        await runner.startTransaction();
        await insert(1);
        await expect(insert(5)).rejects.toThrow(/Duplicate/);
        await insert(2);
        await runner.commitTransaction();
        expect(await createdEvents()).toEqual(['card.created 1', 'card.created 2']);
      });
    });
  }

  if (database.name === 'sqlite') {
    describe('and that a BEGIN statement of the application has begun', () => {
      it('is still open after save() could not begin a transaction', async () => {
        await runner.query('BEGIN');
        await insert(1);
        await expect(manager.save(Card, { id: 2 })).rejects.toMatchObject({ code: 'TRANSACTION_OPEN' });
        await expect(manager.transaction(() => insert(3))).rejects.toMatchObject({ code: 'TRANSACTION_OPEN' });
        await insert(4);
        await runner.query('COMMIT');
        await expectCreated(1, 4);
      });

      it('is rolled back with all its writes', async () => {
        await runner.query('BEGIN');
        await manager.save(Card, { id: 1 }).catch(() => undefined);
        await insert(2);
        await runner.query('ROLLBACK');
        await insert(3);
        await manager.save(Card, { id: 4 });
        await expectCreated(3, 4);
      });
    });

    it('is begun and committed by a savepoint outside a transaction', async () => {
      await runner.query('SAVEPOINT mine');
      await insert(1);
      await runner.query('ROLLBACK TO mine');
      await insert(2);
      expect(await createdEvents()).toEqual([]);
      await runner.query('RELEASE mine');
      await expectCreated(2);
    });

    it('makes no events when a trigger rolls it back', async () => {
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
    it('is rolled back, and one warning is logged', async () => {
      const warn = vi.spyOn((await import('@nestjs/common')).Logger.prototype, 'warn').mockImplementation(() => {});
      for (const id of [1, 2]) {
        const one = app.dataSource.createQueryRunner();
        await one.startTransaction();
        await one.manager.insert(Card, { id });
        await one.release();
      }
      await app.dataSource.transaction((inner) => inner.insert(Card, { id: 3 }));
      await expectCreated(3);
      const log = warn.mock.calls.map(([text]) => String(text)).filter((text) => text.includes('RELEASED_IN_'));
      expect(log).toHaveLength(1);
    });
  });

  /** Sends a statement over the connection of the driver, which TypeORM and capture do not see. */
  const pastTypeorm = async (text: string) => {
    const connection = (await runner.connect()) as Record<'query' | 'exec', (text: string) => unknown> & {
      promise?(): { query(text: string): unknown };
    };
    if (database.name === 'sqlite') connection.exec(text);
    else await (connection.promise?.() ?? connection).query(text);
  };

  if (database.name !== 'sqlite') {
    it('takes the event and its outbox row with it, if it begins and is rolled back past TypeORM', async () => {
      await app.dataSource.query('DELETE FROM webhook_outbox');
      await pastTypeorm('BEGIN');
      await manager.save(Card, { id: 1 }, { transaction: false });
      await pastTypeorm('ROLLBACK');
      await expectCreated();
      expect(await app.dataSource.query('SELECT seq FROM webhook_outbox')).toEqual([]);
    });
  }

  it('makes its write fail, and logs one error with the changes without events, if it ends past TypeORM', async () => {
    const log = listenToLog();
    const subscriber = {
      listenTo: () => Card,
      async afterInsert({ entity }: { entity: Card }) {
        if (entity.id !== 2) return;
        await pastTypeorm('COMMIT');
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
    const errors = log.errors.filter((text) => text.includes('EVENTS_LOST'));
    expect(errors).toHaveLength(1);
    expect(errors[0]).toContain('Card');
  });
});
