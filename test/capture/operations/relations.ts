import { Article, Basket, Booking } from '../conformance-entities.js';
import type { Operation } from './operation.js';
import { created, updated } from './expected-events.js';

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
