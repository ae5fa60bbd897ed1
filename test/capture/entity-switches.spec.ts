import { Column, Entity, PrimaryColumn, type EntitySubscriberInterface } from 'typeorm';
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
}

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
    app = await startApp({ database: fresh.options, entities: [Noisy, Exact] });
  });
  beforeEach(async () => {
    await app.listeners.list().then(({ items }) => Promise.all(items.map(({ id }) => app.listeners.remove(id))));
    for (const table of ['webhook_events', 'noisy', 'exact']) {
      await app.dataSource.query(`DELETE FROM ${table}`);
    }
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  const forget = () => app.dataSource.query('DELETE FROM webhook_events');

  describe('ignore', () => {
    it('makes no event if only ignored properties change, and includes them in the event of another change', async () => {
      const noisy = app.dataSource.getRepository(Noisy);
      await noisy.save({ id: 1 });
      await noisy.save({ id: 1, seen: 1 });
      await noisy.save({ id: 1, seen: 2, status: 'a' });
      expect(await storedEvents(app)).toEqual([
        { type: 'noisy.created', data: { id: 1, status: 'new', seen: 0 } },
        { type: 'noisy.updated', data: { id: 1, status: 'a', seen: 2 }, previous: { status: 'new', seen: 1 } },
      ]);
    });

    it('keeps filters on such a property working if there is an event', async () => {
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
    /** Another writer changes the row after TypeORM has loaded it to compare, and before TypeORM writes. */
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

    it('gives the row before the write, although another writer changed it after it was loaded', async () => {
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

    it('gives the removed row', async () => {
      await exact().save({ id: 1, status: 'loaded' });
      const loaded = await exact().findOneByOrFail({ id: 1 });
      await forget();
      await meanwhile("UPDATE exact SET status = 'theirs' WHERE id = 1", () => exact().remove(loaded));
      expect(await storedEvents(app)).toEqual([{ type: 'exact.deleted', data: { id: 1, status: 'theirs', seen: 0 } }]);
    });

    it('locks the row from the read on: each of two writers gives the row that the other has written', async () => {
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

    it('makes the same events as without it if there is no other writer', async () => {
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

  it('with an invalid value stops the bootstrap, and the error names it', async () => {
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
