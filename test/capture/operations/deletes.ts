import { expect } from 'vitest';

import { Article, Basket, BasketLine, Item } from '../conformance-entities.js';
import { item, STANDING, THREE, threeItems, TWO } from './items.js';
import type { Operation } from './operation.js';
import { deleted, restored, TIME } from './expected-events.js';

export const DELETES: readonly Operation[] = [
  {
    name: 'delete(criteria) of no row',
    given: threeItems,
    run: ({ manager }) => manager.delete(Item, { id: 99 }),
    expects: [],
    rows: [[Item, STANDING]],
  },
  {
    name: 'delete(criteria) of one row',
    given: threeItems,
    run: ({ manager }) => manager.delete(Item, { code: 'three' }),
    expects: [deleted('item', THREE)],
    rows: [[Item, [{ id: 1 }, { id: 2 }]]],
  },
  {
    name: 'delete(ids) of many rows',
    given: threeItems,
    run: ({ manager }) => manager.delete(Item, [1, 2]),
    expects: [[deleted('item', item(1)), deleted('item', TWO)]],
    rows: [[Item, [{ id: 3 }]]],
  },
  {
    name: 'delete(criteria) of a soft-deleted row',
    given: async (context) => {
      await threeItems(context);
      await context.manager.softDelete(Item, 2);
    },
    run: ({ manager }) => manager.delete(Item, { id: 2 }),
    expects: [deleted('item', { ...TWO, deletedAt: TIME })],
  },
  {
    name: 'delete query builder',
    given: threeItems,
    run: ({ manager }) =>
      manager.createQueryBuilder().delete().from(Item).where('amount > :least', { least: 1 }).execute(),
    expects: [deleted('item', TWO)],
    rows: [[Item, [{ id: 1 }, { id: 3 }]]],
  },
  {
    name: 'delete query builder with callListeners(false)',
    given: threeItems,
    run: ({ manager }) =>
      manager.createQueryBuilder().delete().from(Item).where({ id: 2 }).callListeners(false).execute(),
    expects: [deleted('item', TWO)],
  },
  {
    name: 'delete query builder without criteria',
    given: threeItems,
    run: ({ manager }) => manager.deleteAll(Item),
    expects: [[deleted('item', item(1)), deleted('item', TWO), deleted('item', THREE)]],
    rows: [[Item, []]],
  },
  {
    name: 'delete that breaks a constraint',
    given: async ({ manager }) => {
      await manager.save(Basket, { id: 1, label: 'a' });
      await manager.insert(Article, { id: 1, title: 'a', basket: { id: 1 } as never });
    },
    run: ({ manager }) => expect(manager.delete(Basket, { id: 1 })).rejects.toThrow(),
    expects: [],
    rows: [[Basket, [{ id: 1 }]]],
  },
  {
    name: 'clear()',
    given: threeItems,
    run: ({ manager }) => manager.clear(Item),
    expects: [[deleted('item', item(1)), deleted('item', TWO), deleted('item', THREE)]],
    rows: [[Item, []]],
    differs: {
      orm: {
        on: ['mariadb', 'mysql2'],
        why: 'It makes no events, because TRUNCATE commits by itself there. `CLEAR_NOT_CAPTURED` is logged. `deleteAll()` is captured.',
        expects: [],
      },
      trigger: { on: ['mariadb', 'mysql2'], why: 'It makes no events: TRUNCATE fires no triggers there.', expects: [] },
    },
  },
  {
    name: 'softDelete(criteria)',
    given: threeItems,
    run: ({ manager }) => manager.softDelete(Item, { id: 2 }),
    expects: [deleted('item', { ...TWO, deletedAt: TIME })],
    rows: [[Item, [{ deletedAt: null }, { deletedAt: expect.any(Date) }, { deletedAt: null }]]],
  },
  {
    name: 'softDelete(criteria) of rows, one of which is deleted already',
    given: async (context) => {
      await threeItems(context);
      await context.manager.softDelete(Item, 2);
    },
    run: ({ manager }) => manager.softDelete(Item, { customer: 'acme' }),
    expects: [[deleted('item', item(1, { deletedAt: TIME })), deleted('item', { ...THREE, deletedAt: TIME })]],
  },
  {
    name: 'restore(criteria)',
    given: async (context) => {
      await threeItems(context);
      await context.manager.softDelete(Item, [2, 3]);
    },
    run: ({ manager }) => manager.restore(Item, { customer: 'acme' }),
    expects: [[restored('item', TWO), restored('item', THREE)]],
    rows: [[Item, [{ deletedAt: null }, { deletedAt: null }, { deletedAt: null }]]],
  },
  {
    name: 'soft-delete query builder with callListeners(false)',
    given: threeItems,
    run: ({ manager }) =>
      manager.createQueryBuilder().softDelete().from(Item).where('id = 2').callListeners(false).execute(),
    expects: [deleted('item', { ...TWO, deletedAt: TIME })],
  },
  {
    name: 'restore query builder',
    given: async (context) => {
      await threeItems(context);
      await context.manager.softDelete(Item, 2);
    },
    run: ({ manager }) => manager.createQueryBuilder().restore().from(Item).where('id = :id', { id: 2 }).execute(),
    expects: [restored('item', TWO)],
  },
  {
    name: "a foreign key's ON DELETE CASCADE",
    given: ({ manager }) =>
      manager.save(Basket, {
        id: 1,
        label: 'a',
        lines: [
          { id: 1, article: 'pen' },
          { id: 2, article: 'ink' },
        ],
      }),
    run: ({ manager }) => manager.delete(Basket, { id: 1 }),
    expects: [
      [
        deleted('basket', { id: 1, label: 'a' }),
        deleted('basket_line', { id: 1, article: 'pen', basket: 1 }),
        deleted('basket_line', { id: 2, article: 'ink', basket: 1 }),
      ],
    ],
    rows: [[BasketLine, []]],
    differs: {
      orm: {
        why: 'Only the row that the statement names makes an event: capture does not see rows that the database deletes by itself.',
        expects: [deleted('basket', { id: 1, label: 'a' })],
      },
      trigger: {
        on: ['mariadb', 'mysql2'],
        why: 'Only the row that the statement names makes an event: InnoDB fires no triggers for rows that a foreign key deletes.',
        expects: [deleted('basket', { id: 1, label: 'a' })],
      },
    },
  },
];
