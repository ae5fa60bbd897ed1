import { expect } from 'vitest';

import { Basket, BasketLine, Item, Numbered } from '../conformance-entities.js';
import { item, row, STANDING, THREE, threeItems, TWO } from './items.js';
import type { Operation } from './operation.js';
import { created, deleted, restored, TIME, updated } from './expected-events.js';

export const SAVES: readonly Operation[] = [
  {
    name: 'save() of a new row',
    run: ({ manager }) => manager.save(Item, row(1, { secret: 'x' })),
    expects: [created('item', item(1))],
    rows: [[Item, [{ id: 1, name: 'item 1', amount: 0 }]]],
  },
  {
    name: 'save() of a new row whose key the database generates',
    run: ({ manager }) => manager.save(Numbered, { name: 'a' }),
    expects: [created('numbered', { id: expect.any(Number) as number, name: 'a', filled: 'filled' })],
    rows: [[Numbered, [{ name: 'a', filled: 'filled' }]]],
  },
  {
    name: 'save() of a loaded and changed row',
    given: threeItems,
    async run({ manager }) {
      const two = await manager.findOneByOrFail(Item, { id: 2 });
      two.name = 'changed';
      two.amount = 6;
      await manager.save(two);
    },
    expects: [updated('item', item(2, { name: 'changed', amount: 6 }), { name: 'item 2', amount: 5 })],
    rows: [[Item, [{ id: 1 }, { id: 2, name: 'changed', amount: 6 }, { id: 3 }]]],
  },
  {
    name: 'save() of a loaded and unchanged row',
    given: threeItems,
    run: async ({ manager }) => manager.save(await manager.findOneByOrFail(Item, { id: 2 })),
    expects: [],
    rows: [[Item, STANDING]],
  },
  {
    name: 'save() of a partial object with an id',
    given: threeItems,
    run: ({ manager }) => manager.save(Item, { id: 3, name: 'changed' }),
    expects: [updated('item', item(3, { name: 'changed', code: 'three' }), { name: 'item 3' })],
  },
  {
    name: 'save() of a column outside the payload',
    given: threeItems,
    run: ({ manager }) => manager.save(Item, { id: 3, secret: 'changed' }),
    expects: [],
  },
  {
    name: 'save() of an array, new and old',
    given: ({ manager }) => manager.save(Item, row(1)),
    run: ({ manager }) => manager.save(Item, [row(1, { amount: 2 }), row(2), row(3)]),
    expects: [
      [created('item', item(2)), created('item', item(3)), updated('item', item(1, { amount: 2 }), { amount: 0 })],
    ],
    rows: [[Item, [{ id: 1, amount: 2 }, { id: 2 }, { id: 3 }]]],
  },
  {
    name: 'save() of 1,000 rows',
    run: ({ manager }) =>
      manager.save(
        Item,
        Array.from({ length: 1_000 }, (_, n) => row(n + 1)),
      ),
    expects: [Array.from({ length: 1_000 }, (_, n) => created('item', item(n + 1)))],
  },
  {
    name: 'save() that cascades to new rows',
    run: ({ manager }) => manager.save(Basket, { id: 1, label: 'a', lines: [{ id: 1, article: 'pen' }] }),
    expects: [[created('basket', { id: 1, label: 'a' }), created('basket_line', { id: 1, article: 'pen', basket: 1 })]],
    rows: [
      [Basket, [{ id: 1 }]],
      [BasketLine, [{ id: 1 }]],
    ],
  },
  {
    name: 'save() that cascades to a changed row',
    given: ({ manager }) => manager.save(Basket, { id: 1, label: 'a', lines: [{ id: 1, article: 'pen' }] }),
    async run({ manager }) {
      const basket = await manager.findOneOrFail(Basket, { where: { id: 1 }, relations: { lines: true } });
      (basket.lines[0] as BasketLine).article = 'ink';
      await manager.save(basket);
    },
    expects: [updated('basket_line', { id: 1, article: 'ink', basket: 1 }, { article: 'pen' })],
  },
  {
    name: 'save() that leaves an orphan without its foreign key',
    given: ({ manager }) =>
      manager.save(Basket, {
        id: 1,
        label: 'a',
        lines: [
          { id: 1, article: 'pen' },
          { id: 2, article: 'ink' },
        ],
      }),
    async run({ manager }) {
      const basket = await manager.findOneOrFail(Basket, { where: { id: 1 }, relations: { lines: true } });
      basket.lines = basket.lines.filter((line) => line.article === 'pen');
      await manager.save(basket);
    },
    expects: [updated('basket_line', { id: 2, article: 'ink', basket: null }, { basket: 1 })],
  },
  {
    name: 'save() of a foreign key',
    given: async ({ manager }) => {
      await manager.save(Basket, [
        { id: 1, label: 'a', lines: [{ id: 1, article: 'pen' }] },
        { id: 2, label: 'b' },
      ]);
    },
    run: ({ manager }) => manager.save(BasketLine, { id: 1, basket: { id: 2 } }),
    expects: [updated('basket_line', { id: 1, article: 'pen', basket: 2 }, { basket: 1 })],
  },
  {
    name: 'remove() of one row',
    given: threeItems,
    run: async ({ manager }) => manager.remove(await manager.findOneByOrFail(Item, { id: 2 })),
    expects: [deleted('item', TWO)],
    rows: [[Item, [{ id: 1 }, { id: 3 }]]],
  },
  {
    name: 'remove() of an array',
    given: threeItems,
    run: async ({ manager }) => manager.remove(await manager.find(Item)),
    expects: [[deleted('item', item(1)), deleted('item', TWO), deleted('item', THREE)]],
    rows: [[Item, []]],
  },
  {
    name: 'softRemove()',
    given: threeItems,
    run: async ({ manager }) => manager.softRemove(await manager.findOneByOrFail(Item, { id: 2 })),
    expects: [deleted('item', { ...TWO, deletedAt: TIME })],
    rows: [
      [
        Item,
        [
          { id: 1, deletedAt: null },
          { id: 2, deletedAt: expect.any(Date) },
          { id: 3, deletedAt: null },
        ],
      ],
    ],
  },
  {
    name: 'recover()',
    async given(context) {
      await threeItems(context);
      await context.manager.softDelete(Item, { id: 2 });
    },
    run: async ({ manager }) =>
      manager.recover(await manager.findOneOrFail(Item, { where: { id: 2 }, withDeleted: true })),
    expects: [restored('item', TWO)],
    rows: [[Item, [{ deletedAt: null }, { deletedAt: null }, { deletedAt: null }]]],
  },
];
