import { Article, Basket, Booking, Label } from '../conformance-entities.js';
import type { Operation } from './operation.js';
import { created, deleted, updated } from './expected-events.js';

const ONLY_BASKETS = [deleted('basket', { id: 1, label: 'a' }), updated('basket', { id: 3, label: 'b' }, { id: 2 })];

export const RELATIONS: readonly Operation[] = [
  {
    name: 'insert() and update() of a lazy relation',
    given: ({ manager }) =>
      manager.insert(Basket, [
        { id: 1, label: 'a' },
        { id: 2, label: 'b' },
      ]),
    async run({ manager }) {
      await manager.insert(Article, { id: 1, title: 'a', basket: { id: 1 } as never });
      await manager.update(Article, { id: 1 }, { basket: { id: 2 } as never });
    },
    expects: [
      created('article', { id: 1, title: 'a', basket: 1 }),
      updated('article', { id: 1, title: 'a', basket: 2 }, { basket: 1 }),
    ],
  },
  {
    name: "a foreign key's ON DELETE SET NULL and ON UPDATE CASCADE",
    given: async ({ manager }) => {
      await manager.insert(Basket, [
        { id: 1, label: 'a' },
        { id: 2, label: 'b' },
      ]);
      await manager.insert(Label, [
        { id: 1, basket: { id: 1 } },
        { id: 2, basket: { id: 2 } },
      ]);
    },
    async run({ manager }) {
      await manager.delete(Basket, { id: 1 });
      await manager.update(Basket, { id: 2 }, { id: 3 });
    },
    expects: [
      [deleted('basket', { id: 1, label: 'a' }), updated('label', { id: 1, basket: null }, { basket: 1 })],
      [updated('basket', { id: 3, label: 'b' }, { id: 2 }), updated('label', { id: 2, basket: 3 }, { basket: 2 })],
    ],
    differs: {
      orm: {
        why: 'Only the row that the statement names makes an event: capture does not see what the database changes by itself.',
        expects: ONLY_BASKETS,
      },
      trigger: {
        on: ['mariadb', 'mysql2'],
        why: 'Only the row that the statement names makes an event: InnoDB fires no triggers for rows that a foreign key changes.',
        expects: ONLY_BASKETS,
      },
    },
  },
  {
    name: 'rows of a junction table',
    given: async ({ manager }) => {
      await manager.insert(Booking, { room: 'a', day: 1 });
      await manager.insert(Article, { id: 1, title: 'a' });
    },
    async run({ manager }) {
      await manager.createQueryBuilder().relation(Article, 'bookings').of(1).add({ room: 'a', day: 1 });
      await manager.createQueryBuilder().relation(Article, 'bookings').of(1).remove({ room: 'a', day: 1 });
    },
    expects: [],
  },
];
