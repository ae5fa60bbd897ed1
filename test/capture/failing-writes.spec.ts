import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Column, Entity, PrimaryColumn, type EntitySubscriberInterface, type QueryRunner } from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

@Webhook({ capture: 'trigger' })
@Entity('failing_by_trigger')
class ByTrigger {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50, default: 'a' })
  name: string;
}

@Webhook({ capture: 'orm' })
@Entity('failing_by_orm')
class ByOrm {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50, default: 'a' })
  name: string;
}

/** A write that waits for an end that does not come would take ten seconds. */
/** A write that waits for itself waits for ever. Shorter than every time-out of the library and of the servers, and long on a busy machine. */
const HANG_MS = 8_000;

type Hook = 'beforeQuery' | 'afterQuery';

describeDatabases('a write that fails', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  const added: EntitySubscriberInterface[] = [];
  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({ database: fresh.options, entities: [ByTrigger, ByOrm] });
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });
  beforeEach(async () => {
    for (const { tableName } of app.dataSource.entityMetadatas) {
      if (tableName.startsWith('failing_')) await app.dataSource.query(`DELETE FROM ${tableName}`);
    }
    await app.dispatcher.drain();
    await app.dataSource.query('DELETE FROM webhook_events');
  });
  afterEach(() => {
    const { subscribers } = app.dataSource;
    for (const one of added.splice(0)) subscribers.splice(subscribers.indexOf(one), 1);
  });

  const hook = (place: 'push' | 'unshift', subscriber: EntitySubscriberInterface) => {
    added.push(subscriber);
    app.dataSource.subscribers[place](subscriber);
  };
  /** Makes a hook of the application fail for the statement that has this text, once. */
  const failAt = (place: 'push' | 'unshift', name: Hook, how: 'throws' | 'rejects', text: string) => {
    let isDone = false;
    hook(place, {
      [name]: ({ query }: { query: string }) => {
        if (isDone || !query.includes(text)) return undefined;
        isDone = true;
        if (how === 'throws') throw new Error('hook');
        return Promise.reject(new Error('hook'));
      },
    });
  };
  const silently = <T>(work: () => Promise<T>) => app.webhooks.withoutCapture(work);
  const insert = (table: string, id: number, runner?: QueryRunner) =>
    app.dataSource.query(`INSERT INTO ${table} (id, name) VALUES (${id}, 'a')`, [], runner);
  const ids = async (table: string) =>
    ((await app.dataSource.query(`SELECT id FROM ${table} ORDER BY id`)) as { id: number }[]).map(({ id }) => id);
  const events = async () => {
    await app.dispatcher.drain();
    const rows: { payload: string }[] = await app.dataSource.query('SELECT payload FROM webhook_events');
    return rows
      .map(({ payload }) => (JSON.parse(payload) as { data: { id: number } }).data.id)
      .toSorted((a, b) => a - b);
  };
  const marks = () => app.dataSource.query('SELECT seq FROM webhook_images WHERE seq < 0');
  /** More writes than the pool has connections. */
  const later = async () => {
    const written = Array.from({ length: 6 }, (_, n) => 10 + n);
    for (const id of written) await insert('failing_by_trigger', id);
    return written;
  };

  describe.each(['push', 'unshift'] as const)('because a hook fails, with the subscriber added by %s()', (place) => {
    describe.each<[Hook, 'throws' | 'rejects']>([
      ['beforeQuery', 'throws'],
      ['beforeQuery', 'rejects'],
      ['afterQuery', 'throws'],
      ['afterQuery', 'rejects'],
    ])('%s %s', (name, how) => {
      const isWritten = name === 'afterQuery';

      it('leaves no mark and no transaction on its connection', { timeout: HANG_MS }, async () => {
        failAt(place, name, how, '(1,');
        await expect(silently(() => insert('failing_by_trigger', 1))).rejects.toThrow('hook');
        expect(await marks()).toEqual([]);
        const written = await later();
        expect(await ids('failing_by_trigger')).toEqual([...(isWritten ? [1] : []), ...written]);
        expect(await events()).toEqual(written);
      });

      it('makes no other write of its transaction wait', { timeout: HANG_MS }, async () => {
        failAt(place, name, how, '(1,');
        const runner = app.dataSource.createQueryRunner();
        await runner.startTransaction();
        await expect(silently(() => insert('failing_by_trigger', 1, runner))).rejects.toThrow('hook');
        await insert('failing_by_trigger', 2, runner);
        await runner.commitTransaction();
        await runner.release();
        expect(await ids('failing_by_trigger')).toEqual(isWritten ? [1, 2] : [2]);
        expect(await events()).toEqual([2]);
      });
    });
  });

  it(
    'before its statement is sent does not make the COMMIT wait, with capture by TypeORM',
    { timeout: HANG_MS },
    async () => {
      failAt('push', 'beforeQuery', 'rejects', 'INSERT INTO');
      await app.dataSource.transaction(async ({ queryRunner }) => {
        const manager = (queryRunner as QueryRunner).manager;
        await expect(manager.insert(ByOrm, { id: 1 })).rejects.toThrow('hook');
        await manager.insert(ByOrm, { id: 2 });
        await manager.save(ByOrm, { id: 3 });
      });
      expect(await ids('failing_by_orm')).toEqual([2, 3]);
      expect(await events()).toEqual([2, 3]);
    },
  );

  it('ends its own transaction if its mark could not be set', { timeout: HANG_MS }, async () => {
    const text = { sqlite: 'delete from "webhook_images"', postgres: 'set_config' }[database.name as string];
    failAt('push', 'beforeQuery', 'throws', text ?? 'set @webhooks_skip');
    const runner = app.dataSource.createQueryRunner();
    await expect(silently(() => insert('failing_by_trigger', 1, runner))).rejects.toThrow('hook');
    await runner.startTransaction();
    await insert('failing_by_trigger', 2, runner);
    await runner.commitTransaction();
    await runner.release();
    expect(await ids('failing_by_trigger')).toEqual([2]);
    expect(await events()).toEqual([2]);
  });

  it.each<Hook>(['beforeQuery', 'afterQuery'])(
    'is no reason to wait for a hook %s that writes with another mark',
    { timeout: HANG_MS },
    async (name) => {
      let isWritten = false;
      hook('push', {
        [name]: async ({ query, queryRunner }: { query: string; queryRunner: QueryRunner }) => {
          if (isWritten || !query.includes('(1,')) return;
          isWritten = true;
          await silently(() => insert('failing_by_trigger', 2, queryRunner));
        },
      });
      await app.dataSource.transaction((manager) => manager.query(`INSERT INTO failing_by_trigger VALUES (1, 'a')`));
      expect(await ids('failing_by_trigger')).toEqual([1, 2]);
      expect(await events()).toEqual([1]);
    },
  );

  it('lets the others of its transaction go on, with capture by TypeORM', { timeout: HANG_MS }, async () => {
    const runner = app.dataSource.createQueryRunner();
    await runner.startTransaction();
    await runner.query('SAVEPOINT first');
    const { manager } = runner;
    await manager.insert(ByOrm, { id: 1 });
    const settled = await Promise.allSettled([
      manager.insert(ByOrm, { id: 2 }),
      manager.insert(ByOrm, { id: 1 }),
      manager.save(ByOrm, { id: 3 }),
    ]);
    expect(settled[1].status).toBe('rejected');
    await runner.query('ROLLBACK TO SAVEPOINT first');
    await Promise.all([manager.insert(ByOrm, { id: 4 }), manager.save(ByOrm, { id: 5 })]);
    await runner.commitTransaction();
    await runner.release();
    expect(await ids('failing_by_orm')).toEqual([4, 5]);
    expect(await events()).toEqual([4, 5]);
  });

  it('lets the others go on if a BeforeInsert hook fails before a statement', { timeout: HANG_MS }, async () => {
    hook('push', {
      beforeInsert: ({ entity }) => {
        if ((entity as ByOrm).id === 1) throw new Error('hook');
      },
    });
    await app.dataSource.transaction(async (manager) => {
      const [failed] = await Promise.allSettled([
        silently(() => manager.save(ByTrigger, { id: 1 })),
        manager.save(ByTrigger, { id: 2 }),
        silently(() => manager.save(ByTrigger, { id: 3 })),
      ]);
      expect(failed.status).toBe('rejected');
      await manager.insert(ByTrigger, { id: 4 });
    });
    expect(await ids('failing_by_trigger')).toEqual([2, 3, 4]);
    expect(await events()).toEqual([2, 4]);
  });

  it.runIf(database.name === 'postgres')(
    'and one that waits for another mark do not delay the events of a text with a COMMIT',
    { timeout: HANG_MS },
    async () => {
      const runner = app.dataSource.createQueryRunner();
      let other: Promise<unknown> | undefined;
      hook('push', {
        beforeQuery: async ({ query }) => {
          if (other || !/insert into .*webhook_events/i.test(query)) return;
          other = silently(() => insert('failing_by_trigger', 3, runner));
          // Now the other write has got its turn, or waits for it.
          await new Promise(setImmediate);
        },
      });
      await runner.startTransaction();
      await runner.manager.insert(ByOrm, { id: 1 });
      await app.webhooks.withContext({ actor: 'ann' }, () =>
        runner.query(`INSERT INTO failing_by_trigger VALUES (2, 'a'); COMMIT`),
      );
      await other;
      await runner.release();
      expect(await ids('failing_by_trigger')).toEqual([2, 3]);
      expect(await events()).toEqual([1, 2]);
    },
  );
});
