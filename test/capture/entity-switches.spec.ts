import {
  Column,
  DeleteDateColumn,
  Entity,
  PrimaryColumn,
  UpdateDateColumn,
  type EntitySubscriberInterface,
} from 'typeorm';
import { Webhook, type EntityProperty } from 'nestjs-entity-webhooks';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

class TicketColumns {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50, default: 'new' })
  status: string;

  @Column({ type: 'int', default: 0 })
  seen: number;

  @Column({ type: 'varchar', length: 50, default: 'acme' })
  customerId: string;

  @DeleteDateColumn()
  deletedAt: Date | null;
}

@Webhook({ name: 'merged', coalesce: true, owner: 'customerId', fields: ['id', 'status', 'seen', 'customerId'] })
@Entity('merged')
class Merged extends TicketColumns {
  @UpdateDateColumn()
  updatedAt: Date;
}

@Webhook({ name: 'few', coalesce: true, on: ['created', 'updated'], fields: ['id', 'status'] })
@Entity('few')
class Few extends TicketColumns {}

@Webhook({ name: 'noisy', ignore: ['seen'], fields: ['id', 'status', 'seen'] })
@Entity('noisy')
class Noisy extends TicketColumns {}

@Webhook({ name: 'exact', exactPrevious: true, fields: ['id', 'status', 'seen'] })
@Entity('exact')
class Exact extends TicketColumns {}

describeDatabases('a switch of an entity', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({ database: fresh.options, entities: [Merged, Few, Noisy, Exact] });
  });
  beforeEach(async () => {
    await app.listeners.list().then(({ items }) => Promise.all(items.map(({ id }) => app.listeners.remove(id))));
    for (const table of ['webhook_events', 'merged', 'few', 'noisy', 'exact']) {
      await app.dataSource.query(`DELETE FROM ${table}`);
    }
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  const merged = () => app.dataSource.getRepository(Merged);
  const told = async () => {
    const rows = await app.dataSource.query<{ payload: string; audience: string; owner: string | null }[]>(
      'SELECT payload, audience, owner FROM webhook_events ORDER BY seq',
    );
    return rows.map(({ payload, owner }) => {
      const { type, data, previous } = JSON.parse(payload) as Record<'type' | 'data' | 'previous', object>;
      return { type, data, ...(previous ? { previous } : {}), owner };
    });
  };
  const forget = () => app.dataSource.query('DELETE FROM webhook_events');
  const row = (values: Partial<TicketColumns>) => ({ id: 1, status: 'new', seen: 0, customerId: 'acme', ...values });

  describe('coalesce', () => {
    it('makes one event of several updates in one transaction: the first previous and the last data', async () => {
      await merged().save({ id: 1 });
      await forget();
      await app.dataSource.transaction(async (manager) => {
        await manager.save(Merged, { id: 1, status: 'a' });
        await manager.save(Merged, { id: 1, status: 'b', seen: 1 });
        await manager.save(Merged, { id: 1, status: 'c', seen: 2 });
      });
      expect(await told()).toEqual([
        {
          type: 'merged.updated',
          data: row({ status: 'c', seen: 2 }),
          previous: { status: 'new', seen: 0 },
          owner: 'acme',
        },
      ]);
    });

    it('makes none of updates that take each other back', async () => {
      await merged().save({ id: 1 });
      await forget();
      await app.dataSource.transaction(async (manager) => {
        await manager.save(Merged, { id: 1, status: 'a' });
        await manager.save(Merged, { id: 1, status: 'new' });
      });
      expect(await told()).toEqual([]);
    });

    it('makes a created of what was created and changed, and nothing of what was created and removed', async () => {
      await app.dataSource.transaction(async (manager) => {
        await manager.save(Merged, { id: 1 });
        await manager.save(Merged, { id: 2 });
        await manager.save(Merged, { id: 1, status: 'a' });
        await manager.remove(Merged, await manager.findOneByOrFail(Merged, { id: 2 }));
      });
      expect(await told()).toEqual([{ type: 'merged.created', data: row({ status: 'a' }), owner: 'acme' }]);
    });

    it('makes a deleted of what was changed and removed, and of what was deleted softly and then for good', async () => {
      await merged().save([{ id: 1 }, { id: 2 }]);
      await forget();
      await app.dataSource.transaction(async (manager) => {
        await manager.save(Merged, { id: 1, status: 'a' });
        const one = await manager.findOneByOrFail(Merged, { id: 1 });
        const two = await manager.findOneByOrFail(Merged, { id: 2 });
        await manager.softRemove(two);
        await manager.remove([one, two]);
      });
      expect(await told()).toEqual([
        { type: 'merged.deleted', data: row({ status: 'a' }), owner: 'acme' },
        { type: 'merged.deleted', data: row({ id: 2 }), owner: 'acme' },
      ]);
    });

    it('makes an updated of what was deleted and came back otherwise, and nothing of what came back as it was', async () => {
      await merged().save([{ id: 1 }, { id: 2 }, { id: 3 }]);
      await forget();
      await app.dataSource.transaction(async (manager) => {
        const all = await manager.find(Merged, { order: { id: 'ASC' } });
        await manager.softRemove(all[0] as Merged);
        await manager.recover(all[0] as Merged);
        await manager.softRemove(all[1] as Merged);
        await manager.recover(all[1] as Merged);
        await manager.save(Merged, { id: 2, status: 'back' });
        await manager.remove(all[2] as Merged);
        await manager.save(Merged, { id: 3, status: 'again' });
      });
      expect(await told()).toEqual([
        {
          type: 'merged.updated',
          data: row({ id: 2, status: 'back' }),
          previous: { status: 'new' },
          owner: 'acme',
        },
        {
          type: 'merged.updated',
          data: row({ id: 3, status: 'again' }),
          previous: { status: 'new' },
          owner: 'acme',
        },
      ]);
    });

    it('tells an owner who has lost the row, also when it was removed by the next one, and nothing of that one', async () => {
      await merged().save([{ id: 1 }, { id: 2 }]);
      await forget();
      await app.dataSource.transaction(async (manager) => {
        await manager.save(Merged, { id: 1, customerId: 'globex' });
        await manager.save(Merged, { id: 1, status: 'secret' });
        await manager.save(Merged, { id: 2, customerId: 'globex', status: 'secret' });
        await manager.remove(await manager.findOneByOrFail(Merged, { id: 2 }));
      });
      expect(await told()).toEqual([
        { type: 'merged.updated', data: row({ customerId: 'globex', status: 'secret' }), owner: 'globex' },
        { type: 'merged.deleted', data: { id: 1 }, owner: 'acme' },
        { type: 'merged.deleted', data: row({ id: 2, customerId: 'globex', status: 'secret' }), owner: 'globex' },
        { type: 'merged.deleted', data: { id: 2 }, owner: 'acme' },
      ]);
    });

    it('looks at what it does not tell of, too: created and removed is nothing where deletes make no event', async () => {
      await app.dataSource.transaction(async (manager) => {
        await manager.save(Few, { id: 1 });
        await manager.remove(await manager.findOneByOrFail(Few, { id: 1 }));
        await manager.save(Few, { id: 2 });
        await manager.save(Few, { id: 2, status: 'a' });
      });
      expect(await told()).toEqual([{ type: 'few.created', data: { id: 2, status: 'a' }, owner: null }]);
    });

    it('forgets a change that a savepoint took back, and merges what stands between two savepoints', async () => {
      await merged().save({ id: 1 });
      await forget();
      await app.dataSource.transaction(async (manager) => {
        await manager.save(Merged, { id: 1, status: 'a' });
        await manager.save(Merged, { id: 1, status: 'b' });
        await manager
          .transaction(async (inner) => {
            await inner.save(Merged, { id: 1, status: 'lost' });
            throw new Error('inner');
          })
          .catch(() => undefined);
        await manager.save(Merged, { id: 1, seen: 1 });
        await manager.save(Merged, { id: 1, seen: 2 });
      });
      expect(await told()).toEqual([
        { type: 'merged.updated', data: row({ status: 'b' }), previous: { status: 'new' }, owner: 'acme' },
        {
          type: 'merged.updated',
          data: row({ status: 'b', seen: 2 }),
          previous: { seen: 0 },
          owner: 'acme',
        },
      ]);
    });

    it('makes an event for each transaction', async () => {
      await merged().save({ id: 1 });
      await merged().save({ id: 1, status: 'a' });
      await merged().save({ id: 1, status: 'b' });
      expect((await told()).map(({ type }) => type)).toEqual(['merged.created', 'merged.updated', 'merged.updated']);
    });
  });

  describe('ignore', () => {
    it('makes no event of a change of these alone, and tells of it beside another one', async () => {
      const noisy = app.dataSource.getRepository(Noisy);
      await noisy.save({ id: 1 });
      await noisy.save({ id: 1, seen: 1 });
      await noisy.save({ id: 1, seen: 2, status: 'a' });
      expect(await storedEvents(app)).toEqual([
        { type: 'noisy.created', data: { id: 1, status: 'new', seen: 0 } },
        { type: 'noisy.updated', data: { id: 1, status: 'a', seen: 2 }, previous: { status: 'new', seen: 1 } },
      ]);
    });

    it('leaves filters on such a property to work where there is an event', async () => {
      await app.listeners.create({ entity: Noisy, where: { seen: { changedTo: 2 } }, url: app.receiver.url });
      const noisy = app.dataSource.getRepository(Noisy);
      await noisy.save({ id: 1 });
      await noisy.save({ id: 1, seen: 1, status: 'a' });
      await noisy.save({ id: 1, seen: 2, status: 'b' });
      await noisy.save({ id: 1, status: 'c' });
      app.receiver.clear();
      await app.dispatcher.drain();
      expect(app.receiver.requests.map(({ json }) => (json as { data: object }).data)).toEqual([
        { id: 1, status: 'b', seen: 2 },
      ]);
    });
  });

  describe('exactPrevious', () => {
    /** Another writer changes the row when TypeORM has loaded it to compare, and has written nothing yet. */
    const meanwhile = async (change: string, write: () => Promise<unknown>) => {
      const { subscribers } = app.dataSource;
      let isDone = false;
      const other: EntitySubscriberInterface<Exact> = {
        listenTo: () => Exact,
        async afterLoad() {
          if (isDone) return;
          isDone = true;
          await app.dataSource.query(change);
        },
      };
      subscribers.push(other);
      try {
        await write();
      } finally {
        subscribers.splice(subscribers.indexOf(other), 1);
      }
      expect(isDone).toBe(true);
    };
    const exact = () => app.dataSource.getRepository(Exact);

    it('tells what the row was, although another writer changed it after it was loaded', async () => {
      await exact().save({ id: 1, status: 'loaded' });
      await forget();
      await meanwhile("UPDATE exact SET status = 'theirs' WHERE id = 1", () =>
        exact().save({ id: 1, status: 'ours', seen: 1 }),
      );
      expect(await storedEvents(app)).toEqual([
        {
          type: 'exact.updated',
          data: { id: 1, status: 'ours', seen: 1 },
          previous: { status: 'theirs', seen: 0 },
        },
      ]);
    });

    it('tells what was removed', async () => {
      await exact().save({ id: 1, status: 'loaded' });
      const loaded = await exact().findOneByOrFail({ id: 1 });
      await forget();
      await meanwhile("UPDATE exact SET status = 'theirs' WHERE id = 1", () => exact().remove(loaded));
      expect(await storedEvents(app)).toEqual([{ type: 'exact.deleted', data: { id: 1, status: 'theirs', seen: 0 } }]);
    });

    it('holds the row from the read on: of two writers each tells what the other left', async () => {
      await exact().save({ id: 1, seen: 0 });
      await forget();
      await Promise.all(
        Array.from({ length: 10 }, (_, n) =>
          app.dataSource.transaction((manager) => manager.save(Exact, { id: 1, seen: n + 1 })),
        ),
      );
      let seen: unknown = 0;
      for (const { data, previous } of await storedEvents(app)) {
        expect(previous).toEqual({ seen });
        ({ seen } = data);
      }
      expect(seen).toBe((await exact().findOneByOrFail({ id: 1 })).seen);
    });

    it('tells the same as without it where nobody else writes', async () => {
      await exact().save({ id: 1 });
      await exact().save({ id: 1, status: 'a' });
      await exact().remove(await exact().findOneByOrFail({ id: 1 }));
      expect(await storedEvents(app)).toEqual([
        { type: 'exact.created', data: { id: 1, status: 'new', seen: 0 } },
        { type: 'exact.updated', data: { id: 1, status: 'a', seen: 0 }, previous: { status: 'new' } },
        { type: 'exact.deleted', data: { id: 1, status: 'a', seen: 0 } },
      ]);
    });
  });

  it('that is wrong stops the bootstrap with its name', async () => {
    const wrong = [
      [{ ignore: ['sen'] }, 'ignore'],
      [{ ignore: 'seen' }, 'ignore'],
      [{ coalesce: 'yes' }, 'coalesce'],
      [{ exactPrevious: 1 }, 'exactPrevious'],
    ] as const;
    for (const [options, option] of wrong) {
      const starting = startApp({
        database: fresh.options,
        entities: [{ entity: Noisy, ...(options as { ignore?: EntityProperty<Noisy>[] }) }],
      });
      await expect(starting).rejects.toMatchObject({ code: 'INVALID_WEBHOOK_OPTIONS', details: { option } });
    }
  });
});
