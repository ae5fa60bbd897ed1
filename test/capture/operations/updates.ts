import { expect } from 'vitest';

import { Basket, BasketLine, Item, Plain } from '../conformance-entities.js';
import { item, STANDING, threeItems } from './items.js';
import type { Operation } from './operation.js';
import { TIME, updated } from './expected-events.js';

export const UPDATES: readonly Operation[] = [
  {
    name: 'update(criteria) of no row',
    given: threeItems,
    run: ({ manager }) => manager.update(Item, { id: 99 }, { name: 'changed' }),
    expects: [],
    rows: [[Item, STANDING]],
  },
  {
    name: 'update(criteria) of one row',
    given: threeItems,
    run: ({ manager }) => manager.update(Item, { id: 2 }, { name: 'changed' }),
    expects: [updated('item', item(2, { name: 'changed', amount: 5 }), { name: 'item 2' })],
    rows: [[Item, [{ name: 'item 1' }, { name: 'changed' }, { name: 'item 3' }]]],
  },
  {
    name: 'update(id)',
    given: threeItems,
    run: ({ manager }) => manager.update(Item, 2, { name: 'changed' }),
    expects: [updated('item', item(2, { name: 'changed', amount: 5 }), { name: 'item 2' })],
  },
  {
    name: 'update(ids)',
    given: threeItems,
    run: ({ manager }) => manager.update(Item, [1, 3], { name: 'changed' }),
    expects: [
      [
        updated('item', item(1, { name: 'changed' }), { name: 'item 1' }),
        updated('item', item(3, { name: 'changed', code: 'three' }), { name: 'item 3' }),
      ],
    ],
  },
  {
    name: 'update(criteria) of many rows, some of which have the value already',
    given: threeItems,
    run: ({ manager }) => manager.updateAll(Item, { amount: 5 }),
    expects: [
      [
        updated('item', item(1, { amount: 5 }), { amount: 0 }),
        updated('item', item(3, { amount: 5, code: 'three' }), { amount: 0 }),
      ],
    ],
    rows: [[Item, [{ amount: 5 }, { amount: 5 }, { amount: 5 }]]],
  },
  {
    name: 'update(criteria) whose criteria the update changes',
    given: threeItems,
    run: ({ manager }) => manager.update(Item, { amount: 0 }, { amount: 1 }),
    expects: [
      [
        updated('item', item(1, { amount: 1 }), { amount: 0 }),
        updated('item', item(3, { amount: 1, code: 'three' }), { amount: 0 }),
      ],
    ],
  },
  {
    name: 'update() with a raw expression',
    given: threeItems,
    run: ({ manager }) => manager.update(Item, { id: 2 }, { amount: () => 'amount * 2' }),
    expects: [updated('item', item(2, { amount: 10 }), { amount: 5 })],
  },
  {
    name: 'update() with a subquery in its value',
    given: async (context) => {
      await threeItems(context);
      await context.manager.insert(Plain, { id: 1, name: 'from plain' });
    },
    run: ({ manager }) => manager.update(Item, { id: 2 }, { name: () => '(SELECT name FROM conf_plain WHERE id = 1)' }),
    expects: [updated('item', item(2, { name: 'from plain', amount: 5 }), { name: 'item 2' })],
  },
  {
    name: 'update() of the primary key',
    given: threeItems,
    run: ({ manager }) => manager.update(Item, { id: 2 }, { id: 22, name: 'moved' }),
    expects: [updated('item', item(22, { name: 'moved', amount: 5 }), { id: 2, name: 'item 2' })],
    rows: [[Item, [{ id: 1 }, { id: 3 }, { id: 22 }]]],
  },
  {
    name: 'update() of the primary key by an expression',
    given: threeItems,
    async run({ manager, mode, database }) {
      const update = manager.update(Item, { id: 2 }, { id: () => 'id + 20' });
      const isRefused = mode === 'orm' && database !== 'postgres';
      if (isRefused) await expect(update).rejects.toMatchObject({ code: 'KEY_UNKNOWN' });
      else await update;
    },
    expects: [updated('item', item(22, { name: 'item 2', amount: 5 }), { id: 2 })],
    differs: {
      orm: {
        on: ['sqlite', 'mariadb', 'mysql2'],
        why: 'The update fails with `KEY_UNKNOWN`, because the row could not be found after it.',
        expects: [],
      },
    },
  },
  {
    name: 'update() of a column outside the payload',
    given: threeItems,
    run: ({ manager }) => manager.update(Item, { id: 2 }, { secret: 'changed' }),
    expects: [],
  },
  {
    name: 'update() that passes a row to another owner',
    given: threeItems,
    run: ({ manager }) => manager.update(Item, { id: 2 }, { customer: 'globex' }),
    expects: [
      { type: 'item.updated', data: item(2, { amount: 5, customer: 'globex' }) },
      { type: 'item.deleted', data: { id: 2 } },
    ],
  },
  {
    name: 'update() of a soft-deleted row',
    given: async (context) => {
      await threeItems(context);
      await context.manager.softDelete(Item, 2);
    },
    run: ({ manager }) => manager.update(Item, { id: 2 }, { name: 'changed' }),
    expects: [updated('item', item(2, { name: 'changed', amount: 5, deletedAt: TIME }), { name: 'item 2' })],
  },
  {
    name: 'increment()',
    given: threeItems,
    run: ({ manager }) => manager.increment(Item, { id: 2 }, 'amount', 3),
    expects: [updated('item', item(2, { amount: 8 }), { amount: 5 })],
  },
  {
    name: 'decrement()',
    given: threeItems,
    run: ({ manager }) => manager.decrement(Item, { customer: 'acme' }, 'amount', 1),
    expects: [
      [
        updated('item', item(1, { amount: -1 }), { amount: 0 }),
        updated('item', item(2, { amount: 4 }), { amount: 5 }),
        updated('item', item(3, { amount: -1, code: 'three' }), { amount: 0 }),
      ],
    ],
  },
  {
    name: 'update query builder with an alias, parameters and or',
    given: threeItems,
    run: ({ manager }) =>
      manager
        .createQueryBuilder(Item, 'i')
        .update()
        .set({ name: 'changed' })
        .where('id = :one', { one: 1 })
        .orWhere('(code = :code AND amount < :amount)', { code: 'three', amount: 5 })
        .execute(),
    expects: [
      [
        updated('item', item(1, { name: 'changed' }), { name: 'item 1' }),
        updated('item', item(3, { name: 'changed', code: 'three' }), { name: 'item 3' }),
      ],
    ],
  },
  {
    name: 'update query builder with a subquery in its criteria',
    given: async (context) => {
      await threeItems(context);
      await context.manager.insert(Plain, { id: 3, name: 'three' });
    },
    run({ manager }) {
      const plain = manager.createQueryBuilder(Plain, 'p').select('p.id').where('p.name = :name', { name: 'three' });
      const update = manager.createQueryBuilder().update(Item).set({ amount: 1 });
      return update.where(`id IN (${plain.getQuery()})`, plain.getParameters()).execute();
    },
    expects: [updated('item', item(3, { amount: 1, code: 'three' }), { amount: 0 })],
  },
  {
    name: 'update query builder with callListeners(false)',
    given: threeItems,
    run: ({ manager }) =>
      manager.createQueryBuilder().update(Item).set({ amount: 1 }).where({ id: 2 }).callListeners(false).execute(),
    expects: [updated('item', item(2, { amount: 1 }), { amount: 5 })],
  },
  {
    name: 'update query builder with whereEntity()',
    given: threeItems,
    run: async ({ manager }) => {
      const two = await manager.findOneByOrFail(Item, { id: 2 });
      await manager.createQueryBuilder().update(Item).set({ amount: 1 }).whereEntity(two).execute();
    },
    expects: [updated('item', item(2, { amount: 1 }), { amount: 5 })],
  },
  {
    name: 'update query builder with ORDER BY and LIMIT',
    on: ['mariadb', 'mysql2'],
    given: threeItems,
    run: ({ manager }) =>
      manager.createQueryBuilder().update(Item).set({ name: 'last' }).orderBy('id', 'DESC').limit(1).execute(),
    expects: [updated('item', item(3, { name: 'last', code: 'three' }), { name: 'item 3' })],
    rows: [[Item, [{ name: 'item 1' }, { name: 'item 2' }, { name: 'last' }]]],
  },
  {
    name: 'update query builder with a common table expression',
    on: ['postgres', 'sqlite'],
    given: threeItems,
    run: ({ dataSource }) =>
      dataSource
        .createQueryBuilder()
        .update(Item)
        .addCommonTableExpression('SELECT 2 AS wanted', 'chosen')
        .set({ name: 'chosen' })
        .where('id IN (SELECT wanted FROM chosen)')
        .execute(),
    expects: [updated('item', item(2, { name: 'chosen', amount: 5 }), { name: 'item 2' })],
  },
  {
    name: 'relation query builder that sets a foreign key',
    given: ({ manager }) =>
      manager.save(Basket, [
        { id: 1, label: 'a', lines: [{ id: 1, article: 'pen' }] },
        { id: 2, label: 'b' },
      ]),
    run: ({ manager }) => manager.createQueryBuilder().relation(BasketLine, 'basket').of(1).set(2),
    expects: [updated('basket_line', { id: 1, article: 'pen', basket: 2 }, { basket: 1 })],
  },
  {
    name: 'relation query builder that adds to the other side',
    given: ({ manager }) =>
      manager.save(Basket, [
        { id: 1, label: 'a', lines: [{ id: 1, article: 'pen' }] },
        { id: 2, label: 'b' },
      ]),
    run: ({ manager }) => manager.createQueryBuilder().relation(Basket, 'lines').of(2).add(1),
    expects: [updated('basket_line', { id: 1, article: 'pen', basket: 2 }, { basket: 1 })],
  },
];
