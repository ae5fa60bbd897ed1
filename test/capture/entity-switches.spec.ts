import {
  Column,
  DeleteDateColumn,
  Entity,
  In,
  MoreThan,
  PrimaryColumn,
  UpdateDateColumn,
  type EntityManager,
  type EntitySubscriberInterface,
} from 'typeorm';
import { EventEmitter2 } from '@nestjs/event-emitter';
import { Webhook, type EntityProperty, type WebhookEvent } from 'nestjs-entity-webhooks';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
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

    /** What handlers in this process are given of a row that no other test has. */
    const emittedOf = (id: number) => {
      const emitted: string[] = [];
      const note = ({ data }: WebhookEvent) => void (data.id === id && emitted.push(String(data.status)));
      app.app.get(EventEmitter2).on('webhooks.event.merged.updated', note);
      return emitted;
    };
    const undone = (manager: EntityManager, work: (inner: EntityManager) => Promise<unknown>) =>
      expect(
        manager.transaction(async (inner) => {
          await work(inner);
          throw new Error('undone');
        }),
      ).rejects.toThrow('undone');

    it('makes one event of what stands before, in and after a nested transaction', async () => {
      await merged().save([{ id: 1 }, { id: 2 }]);
      await forget();
      await app.dataSource.transaction(async (manager) => {
        await manager.save(Merged, { id: 1, status: 'a' });
        await manager.transaction(async (inner) => {
          await inner.save(Merged, { id: 1, status: 'b', seen: 1 });
          await inner.transaction((innermost) => innermost.update(Merged, { id: 1 }, { seen: 2 }));
          await inner.save(Merged, { id: 2, status: 'inner' });
        });
        await manager.save(Merged, { id: 1, status: 'c' });
      });
      expect(await told()).toEqual([
        { type: 'merged.updated', data: row({ id: 2, status: 'inner' }), previous: { status: 'new' }, owner: 'acme' },
        {
          type: 'merged.updated',
          data: row({ status: 'c', seen: 2 }),
          previous: { status: 'new', seen: 0 },
          owner: 'acme',
        },
      ]);
    });

    it('loses the part of a nested transaction that rolled back alone, and keeps the rest', async () => {
      await merged().save({ id: 1 });
      await forget();
      await app.dataSource.transaction(async (manager) => {
        await manager.save(Merged, { id: 1, status: 'a' });
        await undone(manager, (inner) => inner.save(Merged, { id: 1, status: 'lost', customerId: 'globex' }));
        await manager.transaction((inner) => inner.save(Merged, { id: 1, seen: 1 }));
        await undone(manager, async (inner) => {
          await inner.transaction((innermost) => innermost.save(Merged, { id: 1, seen: 99 }));
          await inner.delete(Merged, { id: 1 });
        });
        await manager.save(Merged, { id: 1, seen: 2 });
      });
      expect(await told()).toEqual([
        {
          type: 'merged.updated',
          data: row({ status: 'a', seen: 2 }),
          previous: { status: 'new', seen: 0 },
          owner: 'acme',
        },
      ]);
    });

    it('leaves the event as it was when the nested transaction that changed it last is rolled back', async () => {
      await merged().save({ id: 77 });
      await forget();
      const emitted = emittedOf(77);
      await app.dataSource.transaction(async (manager) => {
        await manager.save(Merged, { id: 77, status: 'a' });
        await manager.transaction((inner) => inner.save(Merged, { id: 77, status: 'b' }));
        await undone(manager, async (inner) => {
          await inner.save(Merged, { id: 77, status: 'lost' });
          await inner.transaction(() => Promise.resolve());
        });
      });
      const expected = {
        type: 'merged.updated',
        data: row({ id: 77, status: 'b' }),
        previous: { status: 'new' },
        owner: 'acme',
      };
      expect(await told()).toEqual([expected]);
      await vi.waitFor(() => expect(emitted).toEqual(['b']));
    });

    it('knows across nested transactions what was created and removed, and what came back', async () => {
      await merged().save({ id: 9 });
      await forget();
      await app.dataSource.transaction(async (manager) => {
        await manager.insert(Merged, [{ id: 1 }, { id: 2 }, { id: 3 }]);
        await manager.transaction((inner) => inner.delete(Merged, { id: In([1, 2, 9]) }));
        await undone(manager, (inner) => inner.delete(Merged, { id: 3 }));
        await manager.insert(Merged, [
          { id: 2, status: 'again' },
          { id: 9, status: 'again' },
        ]);
      });
      expect(await told()).toEqual([
        { type: 'merged.created', data: row({ id: 3 }), owner: 'acme' },
        { type: 'merged.created', data: row({ id: 2, status: 'again' }), owner: 'acme' },
        { type: 'merged.updated', data: row({ id: 9, status: 'again' }), previous: { status: 'new' }, owner: 'acme' },
      ]);
    });

    it('follows savepoints that are written by hand, and set again under one name', async () => {
      await merged().save({ id: 1 });
      await forget();
      await app.dataSource.transaction(async (manager) => {
        await manager.save(Merged, { id: 1, status: 'a' });
        await manager.query('SAVEPOINT mine');
        await manager.save(Merged, { id: 1, status: 'b' });
        await manager.query('SAVEPOINT mine');
        await manager.save(Merged, { id: 1, status: 'c' });
        await manager.query('ROLLBACK TO SAVEPOINT mine');
        await manager.save(Merged, { id: 1, seen: 1 });
        await manager.query('RELEASE SAVEPOINT mine');
      });
      expect(await told()).toEqual([
        {
          type: 'merged.updated',
          data: row({ status: 'b', seen: 1 }),
          previous: { status: 'new', seen: 0 },
          owner: 'acme',
        },
      ]);
    });

    // Other drivers take one statement in a text.
    it.runIf(database.name === 'postgres')('merges nothing across a savepoint whose name passed unseen', async () => {
      await merged().save({ id: 78 });
      await forget();
      const emitted = emittedOf(78);
      await app.dataSource.transaction(async (manager) => {
        await manager.save(Merged, { id: 78, status: 'a' });
        await manager.query('SELECT 1; SAVEPOINT unseen');
        await manager.save(Merged, { id: 78, status: 'lost' });
        await manager.transaction((inner) => inner.save(Merged, { id: 78, status: 'lost, too' }));
        await manager.query('ROLLBACK TO SAVEPOINT unseen');
        await manager.save(Merged, { id: 78, seen: 1 });
      });
      expect(await told()).toEqual([
        { type: 'merged.updated', data: row({ id: 78, status: 'a' }), previous: { status: 'new' }, owner: 'acme' },
        { type: 'merged.updated', data: row({ id: 78, status: 'a', seen: 1 }), previous: { seen: 0 }, owner: 'acme' },
      ]);
      // The event that was withdrawn after the savepoint stands again.
      await vi.waitFor(() => expect(emitted).toEqual(['a', 'a']));
    });

    it('merges more rows than a batch across a nested transaction', async () => {
      const ids = Array.from({ length: 2_500 }, (_, n) => n + 1);
      await app.dataSource.transaction(async (manager) => {
        for (let start = 0; start < ids.length; start += 500) {
          await manager.insert(
            Merged,
            ids.slice(start, start + 500).map((id) => ({ id })),
          );
        }
        await manager.transaction((inner) => inner.updateAll(Merged, { status: 'inner' }));
        await manager.delete(Merged, { id: MoreThan(1) });
      });
      expect(await told()).toEqual([{ type: 'merged.created', data: row({ status: 'inner' }), owner: 'acme' }]);
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
