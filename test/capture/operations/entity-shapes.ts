import { Animal, Booking, Category, Dog } from '../conformance-entities.js';
import type { Operation } from './operation.js';
import { created, deleted, updated } from './expected-events.js';

/** Operations on rows with an unusual key, in a single table, or in a tree. */
export const ENTITY_SHAPES: readonly Operation[] = [
  {
    name: 'update() and delete() by a composite key',
    given: ({ manager }) =>
      manager.insert(Booking, [
        { room: 'a', day: 1 },
        { room: 'a', day: 2 },
        { room: 'b', day: 1 },
      ]),
    async run({ manager }) {
      await manager.update(Booking, { room: 'a', day: 2 }, { seats: 4 });
      await manager.delete(Booking, { room: 'a' });
    },
    expects: [
      updated('booking', { room: 'a', day: 2, seats: 4 }, { seats: 1 }),
      [deleted('booking', { room: 'a', day: 1, seats: 1 }), deleted('booking', { room: 'a', day: 2, seats: 4 })],
    ],
    rows: [[Booking, [{ room: 'b', day: 1 }]]],
  },
  {
    name: 'upsert() by a composite key',
    given: ({ manager }) => manager.insert(Booking, [{ room: 'a', day: 1 }]),
    run: ({ manager }) =>
      manager.upsert(
        Booking,
        [
          { room: 'a', day: 1, seats: 3 },
          { room: 'a', day: 2 },
        ],
        ['room', 'day'],
      ),
    expects: [
      [
        updated('booking', { room: 'a', day: 1, seats: 3 }, { seats: 1 }),
        created('booking', { room: 'a', day: 2, seats: 1 }),
      ],
    ],
  },
  {
    name: 'writes of a single table of several entities, through the parent',
    given: async ({ manager }) => {
      await manager.save(Dog, { id: 1, name: 'rex', trick: 'roll' });
      await manager.save(Animal, { id: 2, name: 'cat' });
    },
    async run({ manager }) {
      await manager.update(Animal, { id: 1 }, { name: 'max' });
      await manager.update(Dog, { name: 'max' }, { trick: 'sit' });
      await manager.update(Dog, { id: 2 }, { name: 'no dog' });
      await manager.deleteAll(Animal);
    },
    expects: [
      updated('dog', { id: 1, name: 'max', trick: 'roll' }, { name: 'rex' }),
      updated('dog', { id: 1, name: 'max', trick: 'sit' }, { trick: 'roll' }),
      [deleted('dog', { id: 1, name: 'max', trick: 'sit' }), deleted('animal', { id: 2, name: 'cat' })],
    ],
    rows: [[Animal, []]],
  },
  {
    name: 'update() that changes the entity of a row of a single table',
    given: async ({ manager }) => {
      await manager.save(Dog, { id: 1, name: 'rex', trick: 'roll' });
      await manager.save(Animal, { id: 2, name: 'cat' });
    },
    async run({ manager }) {
      await manager.update(Animal, { id: 1 }, { kind: 'Animal', name: 'max' });
      await manager.update(Animal, { id: 2 }, { kind: 'Dog', name: 'tom' });
      await manager.update(Dog, { id: 2 }, { kind: 'Animal', name: 'cat' });
    },
    expects: [
      updated('animal', { id: 1, name: 'max' }, { name: 'rex' }),
      updated('dog', { id: 2, name: 'tom', trick: null }, { name: 'cat' }),
      updated('animal', { id: 2, name: 'cat' }, { name: 'tom' }),
    ],
  },
  {
    name: 'insert() of a child of a single table',
    run: ({ manager }) => manager.insert(Dog, { id: 1, name: 'rex', trick: 'roll' }),
    expects: [created('dog', { id: 1, name: 'rex', trick: 'roll' })],
  },
  {
    name: 'save() and update() of a tree',
    async run({ manager }) {
      const root = await manager.save(Category, { id: 1, name: 'root' } as Category);
      await manager.save(Category, { id: 2, name: 'leaf', parent: root } as Category);
      await manager.update(Category, { id: 2 }, { name: 'moved', parent: null });
    },
    expects: [
      created('category', { id: 1, name: 'root', parent: null }),
      created('category', { id: 2, name: 'leaf', parent: 1 }),
      updated('category', { id: 2, name: 'moved', parent: null }, { name: 'leaf', parent: 1 }),
    ],
  },
];
