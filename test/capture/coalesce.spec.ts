import { EventEmitter2 } from '@nestjs/event-emitter';
import {
  Column,
  DataSource,
  DeleteDateColumn,
  Entity,
  In,
  MoreThan,
  PrimaryColumn,
  UpdateDateColumn,
  type DataSourceOptions,
  type EntityManager,
} from 'typeorm';
import { ownerFromRow, Webhook, type WebhookEvent } from 'nestjs-entity-webhooks';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { databases, type FreshDatabase, type TestDatabase } from '../support/databases.js';
import { listenToLog } from '../support/said.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import type { CaptureModeName } from './operations/index.js';

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

const functions: { owner: () => string } = { owner: () => 'acme' };

@Webhook({ name: 'owned', coalesce: true, fields: ['id', 'status'], owner: ownerFromRow(() => functions.owner()) })
@Entity('owned')
class Owned extends TicketColumns {}

for (const database of databases) {
  for (const mode of ['orm', 'trigger'] as const) {
    describe(`coalesce by ${mode} (${database.name})`, () => describeCoalesce(database, mode));
  }
}

function describeCoalesce(database: TestDatabase, mode: CaptureModeName): void {
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({ database: fresh.options, entities: [Merged, Few, Owned], webhooks: { capture: mode } });
  });
  beforeEach(async () => {
    for (const table of ['merged', 'few', 'owned']) await app.dataSource.query(`DELETE FROM ${table}`);
    await forget();
  });
  afterEach(() => vi.restoreAllMocks());
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  const merged = () => app.dataSource.getRepository(Merged);
  const converted = () => (mode === 'trigger' ? app.dispatcher.drain() : Promise.resolve());
  const capturedEvents = async () => {
    await converted();
    const rows = await app.dataSource.query<{ payload: string; owner: string | null }[]>(
      'SELECT payload, owner FROM webhook_events ORDER BY seq',
    );
    return rows.map(({ payload, owner }) => {
      const { type, data, previous } = JSON.parse(payload) as { type: string; data: { id: number }; previous?: object };
      return { type, data, ...(previous ? { previous } : {}), owner };
    });
  };
  const byId = (a: { data: { id: number } }, b: { data: { id: number } }) => a.data.id - b.data.id;
  const forget = async () => {
    await converted();
    await app.dataSource.query('DELETE FROM webhook_events');
  };
  const updated = (values: Partial<TicketColumns>, previous: object) => ({
    type: 'merged.updated',
    data: row(values),
    previous,
    owner: 'acme',
  });
  const row = (values: Partial<TicketColumns>) => ({ id: 1, status: 'new', seen: 0, customerId: 'acme', ...values });

  it('makes one event of several updates in one transaction: the first previous and the last data', async () => {
    await merged().save({ id: 1 });
    await forget();
    await app.dataSource.transaction(async (manager) => {
      await manager.save(Merged, { id: 1, status: 'a' });
      await manager.save(Merged, { id: 1, status: 'b', seen: 1 });
      await manager.save(Merged, { id: 1, status: 'c', seen: 2 });
    });
    expect(await capturedEvents()).toEqual([
      {
        type: 'merged.updated',
        data: row({ status: 'c', seen: 2 }),
        previous: { status: 'new', seen: 0 },
        owner: 'acme',
      },
    ]);
  });

  it('makes no event of updates that undo each other', async () => {
    await merged().save({ id: 1 });
    await forget();
    await app.dataSource.transaction(async (manager) => {
      await manager.save(Merged, { id: 1, status: 'a' });
      await manager.save(Merged, { id: 1, status: 'new' });
    });
    expect(await capturedEvents()).toEqual([]);
  });

  it('makes a created of a row that was created and changed, and no event of a row that was created and removed', async () => {
    await app.dataSource.transaction(async (manager) => {
      await manager.save(Merged, { id: 1 });
      await manager.save(Merged, { id: 2 });
      await manager.save(Merged, { id: 1, status: 'a' });
      await manager.remove(Merged, await manager.findOneByOrFail(Merged, { id: 2 }));
    });
    expect(await capturedEvents()).toEqual([{ type: 'merged.created', data: row({ status: 'a' }), owner: 'acme' }]);
  });

  it('makes a deleted of a row that was changed and removed, and of a row that was soft-deleted and then removed', async () => {
    await merged().save([{ id: 1 }, { id: 2 }]);
    await forget();
    await app.dataSource.transaction(async (manager) => {
      await manager.save(Merged, { id: 1, status: 'a' });
      const one = await manager.findOneByOrFail(Merged, { id: 1 });
      const two = await manager.findOneByOrFail(Merged, { id: 2 });
      await manager.softRemove(two);
      await manager.remove([one, two]);
    });
    expect(await capturedEvents()).toEqual([
      { type: 'merged.deleted', data: row({ status: 'a' }), owner: 'acme' },
      { type: 'merged.deleted', data: row({ id: 2 }), owner: 'acme' },
    ]);
  });

  it('makes a deleted with the last row, for the previous owner, of a row that was soft-deleted and then changed', async () => {
    await merged().save([{ id: 1 }, { id: 2 }]);
    await forget();
    await app.dataSource.transaction(async (manager) => {
      await manager.softDelete(Merged, { id: In([1, 2]) });
      await manager.update(Merged, 1, { seen: 5 });
      await manager.update(Merged, 2, { customerId: 'globex', status: 'secret' });
    });
    expect(await capturedEvents()).toEqual([
      { type: 'merged.deleted', data: row({ seen: 5 }), owner: 'acme' },
      { type: 'merged.deleted', data: row({ id: 2 }), owner: 'acme' },
    ]);
  });

  it('makes an updated of a row that was deleted and came back changed, and no event if it came back unchanged', async () => {
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
    expect(await capturedEvents()).toEqual([
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

  it('makes a restored of a soft-deleted row that was removed and created again', async () => {
    await merged().save({ id: 1 });
    await merged().softDelete(1);
    await forget();
    await app.dataSource.transaction(async (manager) => {
      await manager.delete(Merged, 1);
      await manager.save(Merged, { id: 1 });
    });
    expect(await capturedEvents()).toEqual([{ type: 'merged.restored', data: row({}), owner: 'acme' }]);
  });

  it('makes a deleted with the key alone for an owner who has lost the row, even if the next owner removed it', async () => {
    await merged().save([{ id: 1 }, { id: 2 }]);
    await forget();
    await app.dataSource.transaction(async (manager) => {
      await manager.save(Merged, { id: 1, customerId: 'globex' });
      await manager.save(Merged, { id: 1, status: 'secret' });
      await manager.save(Merged, { id: 2, customerId: 'globex', status: 'secret' });
      await manager.remove(await manager.findOneByOrFail(Merged, { id: 2 }));
    });
    expect(await capturedEvents()).toEqual([
      { type: 'merged.updated', data: row({ customerId: 'globex', status: 'secret' }), owner: 'globex' },
      { type: 'merged.deleted', data: { id: 1 }, owner: 'acme' },
      { type: 'merged.deleted', data: row({ id: 2, customerId: 'globex', status: 'secret' }), owner: 'globex' },
      { type: 'merged.deleted', data: { id: 2 }, owner: 'acme' },
    ]);
  });

  it('merges actions that make no event, too: created and removed makes no event even if deletes make none', async () => {
    await app.dataSource.transaction(async (manager) => {
      await manager.save(Few, { id: 1 });
      await manager.remove(await manager.findOneByOrFail(Few, { id: 1 }));
      await manager.save(Few, { id: 2 });
      await manager.save(Few, { id: 2, status: 'a' });
    });
    expect(await capturedEvents()).toEqual([{ type: 'few.created', data: { id: 2, status: 'a' }, owner: null }]);
  });

  /** The events that handlers in this process receive of a row that no other test uses. */
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

  describe.runIf(mode === 'orm')('savepoints', () => {
    it('divide the changes: an event for each row before, in and after a nested transaction', async () => {
      await merged().save([{ id: 1 }, { id: 2 }]);
      await forget();
      await app.dataSource.transaction(async (manager) => {
        await manager.save(Merged, { id: 1, status: 'a' });
        await manager.save(Merged, { id: 1, seen: 1 });
        await manager.transaction(async (inner) => {
          await inner.save(Merged, { id: 1, status: 'b' });
          await inner.save(Merged, { id: 1, status: 'c' });
          await inner.save(Merged, { id: 2, status: 'inner' });
        });
        await manager.save(Merged, { id: 1, seen: 2 });
        await manager.save(Merged, { id: 1, seen: 3 });
      });
      expect(await capturedEvents()).toEqual([
        updated({ status: 'a', seen: 1 }, { status: 'new', seen: 0 }),
        updated({ status: 'c', seen: 1 }, { status: 'a' }),
        updated({ id: 2, status: 'inner' }, { status: 'new' }),
        updated({ status: 'c', seen: 3 }, { seen: 1 }),
      ]);
    });

    it('divide the changes of a row that is created, removed and created again', async () => {
      await app.dataSource.transaction(async (manager) => {
        await manager.insert(Merged, { id: 1 });
        await manager.transaction(async (inner) => {
          await inner.update(Merged, 1, { status: 'a' });
          await inner.delete(Merged, 1);
        });
        await manager.insert(Merged, { id: 1, status: 'again' });
        await manager.insert(Merged, { id: 2 });
        await manager.delete(Merged, 2);
      });
      expect(await capturedEvents()).toEqual([
        { type: 'merged.created', data: row({}), owner: 'acme' },
        { type: 'merged.deleted', data: row({ status: 'a' }), owner: 'acme' },
        { type: 'merged.created', data: row({ status: 'again' }), owner: 'acme' },
      ]);
    });

    it('remove the changes after them if they are rolled back', async () => {
      await merged().save({ id: 77 });
      await forget();
      const emitted = emittedOf(77);
      await app.dataSource.transaction(async (manager) => {
        await manager.save(Merged, { id: 77, status: 'a' });
        await undone(manager, async (inner) => {
          await inner.save(Merged, { id: 77, status: 'lost', customerId: 'globex' });
          await inner.transaction((innermost) => innermost.save(Merged, { id: 77, seen: 99 }));
          await inner.delete(Merged, { id: 77 });
        });
        await manager.save(Merged, { id: 77, seen: 1 });
        await manager.save(Merged, { id: 77, seen: 2 });
      });
      expect(await capturedEvents()).toEqual([
        updated({ id: 77, status: 'a' }, { status: 'new' }),
        updated({ id: 77, status: 'a', seen: 2 }, { seen: 0 }),
      ]);
      await vi.waitFor(() => expect(emitted).toEqual(['a', 'a']));
    });

    it('in raw SQL may be set again under one name', async () => {
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
      expect(await capturedEvents()).toEqual([
        updated({ status: 'a' }, { status: 'new' }),
        updated({ status: 'b' }, { status: 'a' }),
        updated({ status: 'b', seen: 1 }, { seen: 0 }),
      ]);
    });

    it('are part of a statement on more rows than a batch, so its events are not merged', async () => {
      const ids = Array.from({ length: 1_500 }, (_, n) => n + 1);
      await app.dataSource.transaction(async (manager) => {
        for (const some of [ids.slice(0, 750), ids.slice(750)])
          await manager.insert(
            Merged,
            some.map((id) => ({ id })),
          );
        await manager.updateAll(Merged, { status: 'all' });
        await manager.update(Merged, 1, { status: 'one' });
        await manager.update(Merged, 1, { seen: 1 });
      });
      const events = await capturedEvents();
      expect(events.filter(({ type }) => type === 'merged.created')).toHaveLength(1_500);
      expect(events.filter(({ type }) => type === 'merged.updated')).toHaveLength(1_501);
      expect(events.at(-1)).toEqual(updated({ status: 'one', seen: 1 }, { status: 'all', seen: 0 }));
    });
  });

  it.runIf(database.name === 'sqlite' && mode === 'orm')(
    'merges changes that could not be stored the first time with later changes',
    async () => {
      await merged().save({ id: 1 });
      await forget();
      await app.dataSource.query(
        "CREATE TRIGGER refuse BEFORE INSERT ON webhook_events WHEN EXISTS (SELECT 1 FROM few) BEGIN SELECT RAISE(ABORT, 'refused'); END",
      );
      await app.dataSource.transaction(async (manager) => {
        await manager.softDelete(Merged, { id: 1 });
        await manager.restore(Merged, { id: 1 });
        await manager.update(Merged, 1, { status: 'a' });
        await manager.query('INSERT INTO few (id) VALUES (1)');
        await expect(manager.query('SAVEPOINT refused')).rejects.toThrow('refused');
        await manager.query('DELETE FROM few');
        await manager.update(Merged, 1, { seen: 1 });
      });
      await app.dataSource.query('DROP TRIGGER refuse');
      expect(await capturedEvents()).toEqual([updated({ status: 'a', seen: 1 }, { status: 'new', seen: 0 })]);
    },
  );

  describe.runIf(mode === 'trigger')('in trigger mode, nested transactions are part of the outer one', () => {
    it('makes one event of changes before, in and after a nested transaction', async () => {
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
      expect((await capturedEvents()).toSorted(byId)).toEqual([
        {
          type: 'merged.updated',
          data: row({ status: 'c', seen: 2 }),
          previous: { status: 'new', seen: 0 },
          owner: 'acme',
        },
        { type: 'merged.updated', data: row({ id: 2, status: 'inner' }), previous: { status: 'new' }, owner: 'acme' },
      ]);
    });

    it('drops only the changes of a nested transaction that was rolled back', async () => {
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
      expect(await capturedEvents()).toEqual([
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
      expect(await capturedEvents()).toEqual([expected]);
      await vi.waitFor(() => expect(emitted).toEqual(['b']));
    });

    it('merges creations, removals and returns across nested transactions', async () => {
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
      expect((await capturedEvents()).toSorted(byId)).toEqual([
        { type: 'merged.created', data: row({ id: 2, status: 'again' }), owner: 'acme' },
        { type: 'merged.created', data: row({ id: 3 }), owner: 'acme' },
        { type: 'merged.updated', data: row({ id: 9, status: 'again' }), previous: { status: 'new' }, owner: 'acme' },
      ]);
    });

    it('follows savepoints in raw SQL that are set again under one name', async () => {
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
      expect(await capturedEvents()).toEqual([
        {
          type: 'merged.updated',
          data: row({ status: 'b', seen: 1 }),
          previous: { status: 'new', seen: 0 },
          owner: 'acme',
        },
      ]);
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
      expect(await capturedEvents()).toEqual([
        { type: 'merged.created', data: row({ status: 'inner' }), owner: 'acme' },
      ]);
    });
  });

  // On the connection of the driver, bypassing TypeORM.
  it.runIf(database.name === 'postgres' && mode === 'orm')(
    'keeps the event from before a savepoint whose name is unknown',
    async () => {
      await merged().save({ id: 78 });
      await forget();
      const emitted = emittedOf(78);
      await app.dataSource.transaction(async (manager) => {
        await manager.save(Merged, { id: 78, status: 'a' });
        await manager.query('SAVEPOINT seen');
        const connection = (await manager.queryRunner?.connect()) as { query(text: string): Promise<unknown> };
        await connection.query('SAVEPOINT unseen');
        await manager.save(Merged, { id: 78, status: 'lost' });
        await manager.transaction((inner) => inner.save(Merged, { id: 78, status: 'lost, too' }));
        await manager.query('ROLLBACK TO SAVEPOINT unseen');
        await manager.save(Merged, { id: 78, seen: 1 });
      });
      expect(await capturedEvents()).toEqual([
        { type: 'merged.updated', data: row({ id: 78, status: 'a' }), previous: { status: 'new' }, owner: 'acme' },
        { type: 'merged.updated', data: row({ id: 78, status: 'a', seen: 1 }), previous: { seen: 0 }, owner: 'acme' },
      ]);
      // Which of the events after the known savepoint still exist, only the database can tell.
      await vi.waitFor(() => expect(emitted).toEqual(['a', 'a']));
    },
  );

  it('makes an event for each transaction', async () => {
    await merged().save({ id: 1 });
    await merged().save({ id: 1, status: 'a' });
    await merged().save({ id: 1, status: 'b' });
    expect((await capturedEvents()).map(({ type }) => type)).toEqual([
      'merged.created',
      'merged.updated',
      'merged.updated',
    ]);
  });

  if (mode === 'orm') return;
  describe('of images', () => {
    const images = async () =>
      Number(
        (await app.dataSource.query<{ n: unknown }[]>('SELECT count(*) AS n FROM webhook_images WHERE seq > 0'))[0]?.n,
      );
    const byHand = (text: string) => app.dataSource.query(text);

    it('merges all images of a transaction that has more images than one batch', async () => {
      const ids = Array.from({ length: 450 }, (_, n) => n + 1);
      await app.dataSource.transaction(async (manager) => {
        await manager.insert(
          Merged,
          ids.map((id) => ({ id })),
        );
        await manager.updateAll(Merged, { status: 'a' });
        await manager.updateAll(Merged, { seen: 1 });
        await manager.delete(Merged, { id: MoreThan(300) });
      });
      expect(await images()).toBe(450 * 3 + 150);
      expect((await capturedEvents()).toSorted(byId)).toEqual(
        ids
          .slice(0, 300)
          .map((id) => ({ type: 'merged.created', data: row({ id, status: 'a', seen: 1 }), owner: 'acme' })),
      );
      expect(await images()).toBe(0);
    });

    it('does not merge changes of different transactions, consecutive or concurrent', async () => {
      await merged().insert([{ id: 1 }, { id: 2 }]);
      await forget();
      const twice = (id: number, status: string) =>
        app.dataSource.transaction(async (manager) => {
          await manager.update(Merged, { id }, { status: `${status} begun` });
          await manager.update(Merged, { id }, { status });
        });
      await Promise.all([twice(1, 'a'), twice(2, 'a'), twice(1, 'a'), twice(2, 'a')]);
      await twice(1, 'b');
      const events = (await capturedEvents()).filter(({ data }) => data.id === 1);
      expect(events).toEqual([
        { type: 'merged.updated', data: row({ status: 'a' }), previous: { status: 'new' }, owner: 'acme' },
        { type: 'merged.updated', data: row({ status: 'b' }), previous: { status: 'a' }, owner: 'acme' },
      ]);
    });

    it('does not merge statements outside a transaction', async () => {
      await byHand("INSERT INTO few (id, status) VALUES (1, 'a')");
      await byHand("UPDATE few SET status = 'b'");
      await byHand("UPDATE few SET status = 'c'");
      expect((await capturedEvents()).map(({ type }) => type)).toEqual(['few.created', 'few.updated', 'few.updated']);
    });

    it('merges writes of raw SQL of this application in a transaction', async () => {
      await app.dataSource.transaction(async (manager) => {
        await manager.query("INSERT INTO few (id, status) VALUES (1, 'a'), (2, 'a')");
        await manager.query('SAVEPOINT mine');
        await manager.query("UPDATE few SET status = 'lost'");
        await manager.query('ROLLBACK TO SAVEPOINT mine');
        await manager.query("UPDATE few SET status = 'b' WHERE id = 1");
        await manager.query('DELETE FROM few WHERE id = 2');
      });
      expect(await capturedEvents()).toEqual([{ type: 'few.created', data: { id: 1, status: 'b' }, owner: null }]);
    });

    it('merges writes of another program on PostgreSQL, and makes an event of each on other databases', async () => {
      const program = await new DataSource({ ...fresh.options, entities: [] } as DataSourceOptions).initialize();
      await program.transaction(async (manager) => {
        await manager.query("INSERT INTO few (id, status) VALUES (1, 'a')");
        await manager.query("UPDATE few SET status = 'b'");
        if (database.name === 'postgres') {
          await manager.query("INSERT INTO few (id, status) VALUES (2, 'a')");
          await manager.query('TRUNCATE few');
          await manager.query("INSERT INTO few (id, status) VALUES (1, 'c')");
        }
      });
      await program.destroy();
      expect((await capturedEvents()).map(({ type, data }) => [type, data])).toEqual(
        database.name === 'postgres'
          ? [['few.created', { id: 1, status: 'c' }]]
          : [
              ['few.created', { id: 1, status: 'a' }],
              ['few.updated', { id: 1, status: 'b' }],
            ],
      );
    });

    it('marks all images of a row as damaged if no event can be made of them, and makes one event once it can', async () => {
      const log = listenToLog();
      functions.owner = () => {
        throw new Error('no owner today');
      };
      await app.dataSource.transaction(async (manager) => {
        await manager.insert(Owned, { id: 1, status: 'a' });
        await manager.update(Owned, { id: 1 }, { status: 'b' });
        await manager.insert(Few, { id: 1, status: 'good' });
      });
      expect((await capturedEvents()).map(({ type }) => type)).toEqual(['few.created']);
      expect(await images()).toBe(2);
      expect(log.errors.filter((line) => line.includes('The `owner` function of Owned threw'))).toHaveLength(2);
      functions.owner = () => 'acme';
      await app.dataSource.query('UPDATE webhook_images SET reason = NULL');
      expect((await capturedEvents()).slice(1)).toEqual([
        { type: 'owned.created', data: { id: 1, status: 'b' }, owner: 'acme' },
      ]);
    });

    // A DO block of PostgreSQL writes ten thousand images of one row.
    it.runIf(database.name === 'postgres')(
      'makes a few events of one row that changed ten thousand times',
      async () => {
        await merged().insert({ id: 1 });
        await forget();
        await byHand('DO $$ BEGIN FOR i IN 1..10500 LOOP UPDATE merged SET seen = i WHERE id = 1; END LOOP; END $$');
        const events = await capturedEvents();
        expect(events).toEqual([
          { type: 'merged.updated', data: row({ seen: 10_001 }), previous: { seen: 0 }, owner: 'acme' },
          { type: 'merged.updated', data: row({ seen: 10_500 }), previous: { seen: 10_001 }, owner: 'acme' },
        ]);
      },
    );
  });
}
