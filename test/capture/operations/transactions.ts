import { expect } from 'vitest';

import { waitInTheDatabase } from '../../support/waits-for-lock.js';
import { Draft, Item } from '../conformance-entities.js';
import { item, row, STANDING, threeItems } from './items.js';
import type { Operation } from './operation.js';
import { created, deleted, updated } from './expected-events.js';

const TOO_LATE =
  'It fails with `TRANSACTION_ENDED`, and it sends no statement: await every write before its transaction ends.';

export const TRANSACTIONS: readonly Operation[] = [
  {
    name: 'several changes of one row in one transaction',
    run: ({ dataSource }) =>
      dataSource.transaction(async (manager) => {
        await manager.insert(Item, row(1));
        await manager.update(Item, { id: 1 }, { name: 'two' });
        const loaded = await manager.findOneByOrFail(Item, { id: 1 });
        loaded.name = 'three';
        await manager.save(loaded);
        await manager.increment(Item, { id: 1 }, 'amount', 1);
        await manager.delete(Item, { id: 1 });
      }),
    expects: [
      created('item', item(1)),
      updated('item', item(1, { name: 'two' }), { name: 'item 1' }),
      updated('item', item(1, { name: 'three' }), { name: 'two' }),
      updated('item', item(1, { name: 'three', amount: 1 }), { amount: 0 }),
      deleted('item', item(1, { name: 'three', amount: 1 })),
    ],
    rows: [[Item, []]],
  },
  {
    name: 'save() and then update() of other rows in one transaction',
    given: threeItems,
    run: ({ dataSource }) =>
      dataSource.transaction(async (manager) => {
        await manager.save(Item, { id: 1, name: 'saved' });
        await manager.update(Item, { customer: 'acme' }, { amount: 9 });
      }),
    expects: [
      updated('item', item(1, { name: 'saved' }), { name: 'item 1' }),
      [
        updated('item', item(1, { name: 'saved', amount: 9 }), { amount: 0 }),
        updated('item', item(2, { amount: 9 }), { amount: 5 }),
        updated('item', item(3, { code: 'three', amount: 9 }), { amount: 0 }),
      ],
    ],
  },
  {
    name: 'bulk writes in a transaction that rolls back',
    given: threeItems,
    run: ({ dataSource }) =>
      expect(
        dataSource.transaction(async (manager) => {
          await manager.insert(Item, row(4));
          await manager.update(Item, { id: 1 }, { name: 'changed' });
          await manager.delete(Item, { id: 2 });
          await manager.softDelete(Item, { id: 3 });
          throw new Error('rolled back');
        }),
      ).rejects.toThrow('rolled back'),
    expects: [],
    rows: [[Item, [{ id: 1, name: 'item 1' }, { id: 2 }, { id: 3, deletedAt: null }]]],
  },
  {
    name: 'nested transactions, one of which rolls back alone',
    given: threeItems,
    run: ({ dataSource }) =>
      dataSource.transaction(async (manager) => {
        await manager.update(Item, { id: 1 }, { name: 'outer' });
        await manager
          .transaction(async (nested) => {
            await nested.update(Item, { id: 1 }, { name: 'inner' });
            await nested.delete(Item, { id: 2 });
            throw new Error('inner only');
          })
          .catch(() => undefined);
        await manager.transaction((nested) => nested.update(Item, { id: 3 }, { name: 'kept' }));
      }),
    expects: [
      updated('item', item(1, { name: 'outer' }), { name: 'item 1' }),
      updated('item', item(3, { name: 'kept', code: 'three' }), { name: 'item 3' }),
    ],
    rows: [[Item, [{ name: 'outer' }, { name: 'item 2' }, { name: 'kept' }]]],
  },
  {
    name: 'an error in the middle, after which a savepoint is rolled back',
    given: threeItems,
    run: ({ dataSource }) =>
      dataSource.transaction(async (manager) => {
        await manager.update(Item, { id: 1 }, { name: 'before' });
        await manager.transaction((nested) => nested.insert(Item, row(1))).catch(() => undefined);
        await manager.update(Item, { id: 2 }, { name: 'after' });
      }),
    expects: [
      updated('item', item(1, { name: 'before' }), { name: 'item 1' }),
      updated('item', item(2, { name: 'after', amount: 5 }), { name: 'item 2' }),
    ],
  },
  {
    name: 'all bulk writes in a transaction of the caller, without a matching row',
    given: threeItems,
    run: ({ dataSource }) =>
      dataSource.transaction(async (manager) => {
        await manager.update(Item, { id: 99 }, { name: 'x' });
        await manager.increment(Item, { id: 99 }, 'amount', 1);
        await manager.decrement(Item, { id: 99 }, 'amount', 1);
        await manager.delete(Item, { id: 99 });
        await manager.softDelete(Item, { id: 99 });
        await manager.restore(Item, { id: 99 });
        await manager.createQueryBuilder().insert().into(Item).values(row(1)).orIgnore().execute();
        await manager.insert(Item, []);
      }),
    expects: [],
    rows: [[Item, STANDING]],
  },
  {
    name: 'a query runner that the caller manages',
    given: threeItems,
    async run({ dataSource }) {
      const runner = dataSource.createQueryRunner();
      try {
        await runner.startTransaction();
        await runner.manager.update(Item, { id: 1 }, { name: 'kept' });
        await runner.commitTransaction();
        await runner.startTransaction();
        await dataSource.createQueryBuilder(runner).delete().from(Item).where({ id: 2 }).execute();
        await runner.rollbackTransaction();
        await runner.manager.update(Item, { id: 3 }, { name: 'without a transaction' });
      } finally {
        await runner.release();
      }
    },
    expects: [
      updated('item', item(1, { name: 'kept' }), { name: 'item 1' }),
      updated('item', item(3, { name: 'without a transaction', code: 'three' }), { name: 'item 3' }),
    ],
    rows: [[Item, STANDING]],
  },
  {
    name: 'writes that nobody awaits when their transaction commits',
    given: threeItems,
    run: ({ dataSource }) =>
      dataSource.transaction(async (manager) => {
        void manager.update(Item, { id: 1 }, { name: 'late' });
        void manager.save(Item, { id: 2, name: 'late' });
        void manager.delete(Item, { id: 3 });
      }),
    expects: [
      [
        updated('item', item(1, { name: 'late' }), { name: 'item 1' }),
        updated('item', item(2, { name: 'late', amount: 5 }), { name: 'item 2' }),
        deleted('item', item(3, { code: 'three' })),
      ],
    ],
    rows: [[Item, [{ name: 'late' }, { name: 'late' }]]],
  },
  {
    name: 'a write that nobody awaits, called while its transaction commits',
    given: threeItems,
    async run({ dataSource }) {
      const runner = dataSource.createQueryRunner();
      await runner.startTransaction();
      await runner.manager.update(Item, { id: 1 }, { name: 'in time' });
      const committed = runner.commitTransaction();
      const late = runner.manager.update(Item, { id: 2 }, { name: 'late' });
      await expect(late).rejects.toMatchObject({ code: 'TRANSACTION_ENDED' });
      await committed;
      await runner.release();
    },
    expects: [updated('item', item(1, { name: 'in time' }), { name: 'item 1' })],
    rows: [[Item, [{ name: 'in time' }, { name: 'item 2' }, { name: 'item 3' }]]],
    differs: {
      orm: { why: TOO_LATE, expects: [updated('item', item(1, { name: 'in time' }), { name: 'item 1' })] },
      trigger: { why: TOO_LATE, expects: [updated('item', item(1, { name: 'in time' }), { name: 'item 1' })] },
    },
  },
  {
    name: 'two writers racing on different columns of one row',
    given: threeItems,
    async run({ dataSource }) {
      const first = dataSource.createQueryRunner();
      await first.startTransaction();
      await first.manager.update(Item, { id: 2 }, { name: 'first' });
      const second = dataSource.transaction((manager) => manager.update(Item, { id: 2 }, { amount: 6 }));
      // The second writer waits for the lock of the first one. On SQLite it waits because there is one writer at a time.
      await waitInTheDatabase(dataSource, 1);
      await first.commitTransaction();
      await first.release();
      await second;
    },
    expects: [
      updated('item', item(2, { name: 'first', amount: 5 }), { name: 'item 2' }),
      updated('item', item(2, { name: 'first', amount: 6 }), { amount: 5 }),
    ],
    rows: [[Item, [{}, { name: 'first', amount: 6 }, {}]]],
  },
  {
    name: 'several changes of one row with `coalesce`, across nested transactions',
    given: ({ manager }) =>
      manager.insert(Draft, [
        { id: 1, name: 'one' },
        { id: 2, name: 'two' },
      ]),
    run: ({ dataSource }) =>
      dataSource.transaction(async (manager) => {
        await manager.update(Draft, { id: 1 }, { name: 'outer' });
        await manager.transaction((nested) => nested.update(Draft, { id: 1 }, { pages: 1 }));
        await manager
          .transaction(async (nested) => {
            await nested.update(Draft, { id: 1 }, { name: 'undone', pages: 9 });
            await nested.delete(Draft, { id: 2 });
            throw new Error('inner only');
          })
          .catch(() => undefined);
        await manager.save(Draft, { id: 1, name: 'last' });
        await manager.insert(Draft, { id: 3, name: 'brief' });
        await manager.transaction((nested) => nested.delete(Draft, { id: 3 }));
      }),
    expects: [updated('draft', { id: 1, name: 'last', pages: 1 }, { name: 'one', pages: 0 })],
    differs: {
      orm: {
        why: 'Each part between savepoints makes its own events.',
        expects: [
          updated('draft', { id: 1, name: 'outer', pages: 0 }, { name: 'one' }),
          updated('draft', { id: 1, name: 'outer', pages: 1 }, { pages: 0 }),
          updated('draft', { id: 1, name: 'last', pages: 1 }, { name: 'outer' }),
          created('draft', { id: 3, name: 'brief', pages: 0 }),
          deleted('draft', { id: 3, name: 'brief', pages: 0 }),
        ],
      },
    },
    rows: [
      [
        Draft,
        [
          { id: 1, name: 'last', pages: 1 },
          { id: 2, name: 'two' },
        ],
      ],
    ],
  },
];
