import type { EntityManager } from 'typeorm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import {
  Animal,
  Booking,
  Cart,
  Dog,
  Drawn,
  Given,
  Gone,
  Hidden,
  Kept,
  Lazy,
  Line,
  Node,
  Note,
  Route,
  SAVED_ENTITIES,
  SAVED_TABLES,
  Slip,
  Unique,
} from './saved-entities.js';
import { storedEvents, type StoredEvent } from './shop.js';

describeDatabases('a write by save() or a similar call', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let manager: EntityManager;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({ database: fresh.options, entities: SAVED_ENTITIES });
    ({ manager } = app.dataSource);
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });
  beforeEach(async () => {
    await manager.query('UPDATE node SET "parentId" = NULL'.replaceAll('"', database.name.startsWith('m') ? '`' : '"'));
    for (const table of SAVED_TABLES) await manager.query(`DELETE FROM ${table}`);
  });

  /** The events of some work, without events of earlier writes. */
  const eventsOf = async (work: () => Promise<unknown>): Promise<StoredEvent[]> => {
    await manager.query('DELETE FROM webhook_events');
    await work();
    return storedEvents(app);
  };
  const changes = (events: readonly StoredEvent[]) =>
    events.map(({ type, data, previous }) => (previous ? [type, data.id, previous] : [type, data.id]));

  describe('with reload: false', () => {
    it('makes an event of a new row with a given key', async () => {
      expect(await eventsOf(() => manager.save(Given, { id: 1, name: 'a' }, { reload: false }))).toEqual([
        { type: 'given.created', data: { id: 1, name: 'a', code: null, deletedAt: null } },
      ]);
    });

    it('makes an event of each new row whose key the database generates', async () => {
      const events = await eventsOf(() =>
        manager.save(
          Drawn,
          [{ name: 'a' }, { name: 'b' }, {}].map((row) => ({ ...row })),
          { reload: false },
        ),
      );
      const rows = await manager.find(Drawn, { order: { id: 'ASC' } });
      expect(events).toEqual(rows.map(({ id, name }) => ({ type: 'drawn.created', data: { id, name } })));
      expect(rows).toHaveLength(3);
    });

    it('makes an event of a new row with a uuid, also in chunks', async () => {
      const events = await eventsOf(() =>
        manager.save(Unique, [{ name: 'a' }, { name: 'b' }], { reload: false, chunk: 1 }),
      );
      const rows = await manager.find(Unique, { order: { name: 'ASC' } });
      expect(events).toEqual(rows.map(({ id, name }) => ({ type: 'unique.created', data: { id, name } })));
    });

    it('makes events of updates', async () => {
      await manager.save(Given, { id: 1 });
      const events = await eventsOf(() => manager.save(Given, { id: 1, name: 'b' }, { reload: false }));
      expect(changes(events)).toEqual([['given.updated', 1, { name: 'usual' }]]);
    });

    it('gives the caller the same values as TypeORM', async () => {
      const row = manager.create(Given, { id: 3 });
      await manager.save(row, { reload: false });
      expect(row.name).toBeUndefined();
    });
  });

  describe('children of a saved parent', () => {
    beforeEach(async () => {
      await manager.save(Cart, [
        { id: 1, lines: [{ id: 1 }, { id: 2 }], slip: { id: 1 } },
        { id: 2, lines: [] },
      ]);
    });
    const cart = (id: number) => manager.findOneOrFail(Cart, { where: { id }, relations: { lines: true, slip: true } });

    it('that move to it make an update with the key of the previous parent', async () => {
      const two = await cart(2);
      two.lines.push(await manager.findOneByOrFail(Line, { id: 1 }));
      expect(await eventsOf(() => manager.save(two))).toEqual([
        { type: 'line.updated', data: { id: 1, name: 'child', cart: 2 }, previous: { cart: 1 } },
      ]);
    });

    it('that move and change in one call make one update', async () => {
      const two = await cart(2);
      two.lines = [{ ...(await manager.findOneByOrFail(Line, { id: 2 })), name: 'renamed' } as Line];
      expect(changes(await eventsOf(() => manager.save(two)))).toEqual([
        ['line.updated', 2, { name: 'child', cart: 1 }],
      ]);
    });

    it('that move from one saved parent to another make an update for each step, in order', async () => {
      const [one, two] = [await cart(1), await cart(2)];
      two.lines = [one.lines.find(({ id }) => id === 2) as Line];
      one.lines = one.lines.filter(({ id }) => id === 1);
      const events = await eventsOf(() => manager.save([one, two]));
      const values = events.map(({ data, previous }) => [previous?.cart, data.cart]);
      // Each before image is the after image of the previous update.
      expect(values[0]?.[0]).toBe(1);
      expect(values.slice(1).map(([before]) => before)).toEqual(values.slice(0, -1).map(([, after]) => after));
      const row = await manager.findOneOrFail(Line, { where: { id: 2 }, loadRelationIds: true });
      expect(events.at(-1)?.data.cart ?? null).toEqual(row.cart);
    });

    it('that are removed from it lose its key', async () => {
      const one = await cart(1);
      one.lines = one.lines.filter(({ id }) => id === 1);
      expect(changes(await eventsOf(() => manager.save(one)))).toEqual([['line.updated', 2, { cart: 1 }]]);
    });

    it('that it names only by id get its key', async () => {
      await manager.save(Note, { id: 5, cart: { id: 1 } });
      const events = await eventsOf(() => manager.save(Cart, { id: 2, notes: [{ id: 5 }] }));
      expect(changes(events)).toEqual([['note.updated', 5, { cart: 1 }]]);
    });

    it('that it names by id and that do not exist make no event', async () => {
      expect(await eventsOf(() => manager.save(Cart, { id: 2, notes: [{ id: 6 }] }))).toEqual([]);
    });

    it('are deleted, soft-deleted or left alone as orphanedRowAction demands', async () => {
      for (const entity of [Gone, Hidden, Kept]) await manager.save(entity, { id: 7, cart: { id: 1 } });
      const events = await eventsOf(() => manager.save(Cart, { id: 1, gone: [], hidden: [], kept: [] }));
      expect(changes(events)).toEqual([
        ['gone.deleted', 7],
        ['hidden.deleted', 7],
      ]);
    });

    it('are moved by the inverse side of a one-to-one relation', async () => {
      const events = await eventsOf(() => manager.save(Cart, { id: 2, slip: { id: 1 } }));
      expect(changes(events)).toEqual([['slip.updated', 1, { cart: 1 }]]);
    });

    it('are released by the inverse side of a one-to-one relation', async () => {
      const events = await eventsOf(() => manager.save(Cart, { id: 1, slip: null }));
      expect(changes(events)).toEqual([['slip.updated', 1, { cart: 1 }]]);
    });

    it('of the same entity move like others', async () => {
      await manager.save(Node, [{ id: 1, children: [{ id: 3 }] }, { id: 2 }]);
      const events = await eventsOf(() => manager.save(Node, { id: 2, children: [{ id: 3 }] }));
      expect(events).toEqual([{ type: 'node.updated', data: { id: 3, parent: 2 }, previous: { parent: 1 } }]);
    });

    it('behind a lazy relation move like others', async () => {
      await manager.save(manager.create(Lazy, { id: 1, cart: manager.create(Cart, { id: 1 }) }));
      const lazy = await manager.findOneByOrFail(Lazy, { id: 1 });
      lazy.cart = manager.create(Cart, { id: 2 });
      expect(changes(await eventsOf(() => manager.save(lazy)))).toEqual([['lazy.updated', 1, { cart: 1 }]]);
    });
  });

  describe('rows with a key of several columns', () => {
    it('make events with embedded columns and the version that TypeORM counts', async () => {
      await manager.save(Booking, { room: 'red', day: 1 });
      const events = await eventsOf(async () => {
        await manager.save(Booking, { room: 'red', day: 1, amount: 3, address: { city: 'there' } });
        await manager.remove(await manager.findOneByOrFail(Booking, { room: 'red' }));
      });
      const after = { room: 'red', day: 1, amount: 3, version: 2, address: { city: 'there' } };
      expect(events).toEqual([
        {
          type: 'booking.updated',
          data: after,
          previous: { amount: 0, version: 1, address: { city: 'here' } },
        },
        { type: 'booking.deleted', data: after },
      ]);
    });

    it('that link two other rows make an event each', async () => {
      await manager.save(Cart, [{ id: 1 }, { id: 2 }, { id: 3 }]);
      const events = await eventsOf(async () => {
        await manager.save(Route, [
          { fromId: 1, toId: 2 },
          { fromId: 1, toId: 3 },
        ]);
        await manager.save(Route, [
          { fromId: 1, toId: 3, amount: 2 },
          { fromId: 1, toId: 2, amount: 1 },
        ]);
        await manager.remove(await manager.find(Route));
      });
      const summary = events.map(({ type, data, previous }) => [type, data.toId, data.amount, previous?.amount]);
      expect(summary.slice(0, 4)).toEqual([
        ['route.created', 2, 0, undefined],
        ['route.created', 3, 0, undefined],
        ['route.updated', 3, 2, 0],
        ['route.updated', 2, 1, 0],
      ]);
      expect(summary.slice(4).toSorted()).toEqual([
        ['route.deleted', 2, 1, undefined],
        ['route.deleted', 3, 2, undefined],
      ]);
    });
  });

  describe('rows of a single table', () => {
    it('make the events of their own entity, whichever class saves them', async () => {
      const events = await eventsOf(async () => {
        await manager.save(manager.create(Dog, { id: 1, tricks: 1 }));
        await manager.save(manager.create(Dog, { id: 1, tricks: 2 }));
        await manager.save(Animal, { id: 1, name: 'rex' });
        await manager.save(Animal, { id: 2, name: 'fish' });
        await manager.remove(await manager.findOneByOrFail(Animal, { id: 1 }));
      });
      expect(changes(events)).toEqual([
        ['dog.created', 1],
        ['dog.updated', 1, { tricks: 1 }],
        ['dog.updated', 1, { name: 'nobody' }],
        ['animal.created', 2],
        ['dog.deleted', 1],
      ]);
    });
  });

  describe('one row more than once', () => {
    it('by two objects in one call makes an event for each statement, with the row before it', async () => {
      await manager.save(Given, { id: 1, name: 'a' });
      const events = await eventsOf(() =>
        manager.save(Given, [
          { id: 1, name: 'b' },
          { id: 1, code: 'c' },
        ]),
      );
      expect(changes(events)).toEqual([
        ['given.updated', 1, { name: 'a' }],
        ['given.updated', 1, { code: null }],
      ]);
      expect(events.map(({ data }) => [data.name, data.code])).toEqual([
        ['b', null],
        ['b', 'c'],
      ]);
    });

    it('by an insert and an update of its foreign key in one call makes both events', async () => {
      const one = manager.create(Node, { id: 1 });
      const two = manager.create(Node, { id: 2, parent: one });
      one.parent = two;
      const events = await eventsOf(() => manager.save([one, two])).catch(() => []);
      const last = new Map(events.map(({ data }) => [data.id, data.parent]));
      for (const row of await manager.find(Node, { loadRelationIds: true })) {
        expect(last.get(row.id)).toEqual(row.parent);
      }
    });

    it('by two calls in one transaction makes an event for each', async () => {
      await manager.save(Given, { id: 1, name: 'a' });
      const events = await eventsOf(() =>
        manager.transaction(async (inner) => {
          await inner.save(Given, { id: 1, name: 'b' });
          await inner.transaction((nested) => nested.save(Given, { id: 1, name: 'c' }));
          await inner
            .transaction((nested) =>
              nested.save(Given, { id: 1, name: 'no' }).then(() => Promise.reject(new Error('no'))),
            )
            .catch(() => {});
          await inner.remove(await inner.findOneByOrFail(Given, { id: 1 }));
        }),
      );
      expect(changes(events)).toEqual([
        ['given.updated', 1, { name: 'a' }],
        ['given.updated', 1, { name: 'b' }],
        ['given.deleted', 1],
      ]);
      expect(events.at(-1)?.data.name).toBe('c');
    });

    it('by two concurrent calls in one transaction makes an event for each, with the row before it', async () => {
      await manager.save(Booking, { room: 'red', day: 1, amount: 4 });
      const events = await eventsOf(() =>
        manager.transaction((inner) =>
          Promise.all([3, 1].map((amount) => inner.save(Booking, { room: 'red', day: 1, amount }))),
        ),
      );
      const amounts = events.map(({ data, previous }) => [previous?.amount, data.amount]);
      expect(amounts[0]?.[0]).toBe(4);
      expect(amounts[1]?.[0]).toBe(amounts[0]?.[1]);
      const { amount } = await manager.findOneByOrFail(Booking, { room: 'red' });
      expect(amounts[1]?.[1]).toBe(amount);
    });
  });

  describe('a call that changes no row', () => {
    const row = async () => {
      await manager.save(Given, { id: 1 });
      return manager.findOneByOrFail(Given, { id: 1 });
    };

    it('makes no event if it restores a live row', async () => {
      const live = await row();
      expect(await eventsOf(() => manager.recover(live))).toEqual([]);
    });

    it('makes no event if it soft-deletes a deleted row', async () => {
      const live = await row();
      await manager.softDelete(Given, 1);
      expect(await eventsOf(() => manager.softRemove(live))).toEqual([]);
    });

    it.each(['remove', 'softRemove'] as const)('makes no event if it is %s() of a deleted row', async (call) => {
      const live = await row();
      await manager.delete(Given, 1);
      expect(await eventsOf(() => (call === 'remove' ? manager.remove(live) : manager.softRemove(live)))).toEqual([]);
    });
  });

  it('makes no event with listeners: false', async () => {
    await manager.save(Given, { id: 1 });
    const events = await eventsOf(async () => {
      await manager.save(Given, { id: 1, name: 'b' }, { listeners: false });
      await manager.remove(await manager.findOneByOrFail(Given, { id: 1 }), { listeners: false });
    });
    expect(events).toEqual([]);
  });

  it('has its events in the order of the writes with transaction: false', async () => {
    const rows = Array.from({ length: 20 }, (_, id) => ({ id, name: 'a' }));
    await manager.save(Given, rows);
    const events = await eventsOf(() =>
      manager.save(
        Given,
        rows.map((row) => ({ ...row, name: 'b' })),
        { transaction: false },
      ),
    );
    expect(changes(events)).toEqual(rows.map(({ id }) => ['given.updated', id, { name: 'a' }]));
  });

  it('leaves a Slip without a cart if it never had one', async () => {
    const events = await eventsOf(() => manager.save(Slip, { id: 9 }));
    expect(events).toEqual([{ type: 'slip.created', data: { id: 9, cart: null } }]);
  });
});
