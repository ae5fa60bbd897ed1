import type { EntityManager } from 'typeorm';
import type { JsonObject } from 'nestjs-entity-webhooks';
import { Booking, Course, Pupil } from '../conformance-entities.js';
import type { Operation } from './operation.js';
import { created, deleted, updated } from './expected-events.js';

const course = (pupils: number[], others: { title?: string; bookings?: JsonObject[] } = {}) => ({
  ...{ id: 1, title: 'a', bookings: [], pupils },
  ...others,
});

/** Inserts three pupils, a booking, and a course with the first pupil. */
async function given({ manager }: { manager: EntityManager }): Promise<void> {
  await manager.insert(Pupil, [{ id: 9 }, { id: 10 }, { id: 100 }]);
  await manager.insert(Booking, { room: 'r', day: 1 });
  await manager.save(Course, { id: 1, title: 'a', pupils: [{ id: 9 }] });
}

const loaded = (manager: EntityManager) =>
  manager.findOneOrFail(Course, { where: { id: 1 }, relations: { pupils: true, bookings: true } });
const links = (manager: EntityManager) => manager.createQueryBuilder().relation(Course, 'pupils').of(1);

export const LINKS: readonly Operation[] = [
  {
    name: 'save() of a new row with links (`@JoinTable` in `fields`)',
    given: ({ manager }) => manager.insert(Pupil, [{ id: 9 }, { id: 10 }]),
    run: ({ manager }) => manager.save(Course, { id: 1, title: 'a', pupils: [{ id: 9 }, { id: 10 }] }),
    expects: [created('course', course([9, 10]))],
  },
  {
    name: 'save() that adds a link and removes another: one event',
    given,
    run: ({ manager }) => manager.save(Course, { id: 1, pupils: [{ id: 10 }, { id: 100 }] }),
    expects: [updated('course', course([10, 100]), { pupils: [9] })],
  },
  {
    name: 'save() that changes a column and links: one event',
    given,
    async run({ manager }) {
      const row = await loaded(manager);
      await manager.save(Object.assign(row, { title: 'b', pupils: [], bookings: [{ room: 'r', day: 1 }] }));
    },
    expects: [
      updated('course', course([], { title: 'b', bookings: [{ day: 1, room: 'r' }] }), {
        ...{ title: 'a', pupils: [9], bookings: [] },
      }),
    ],
  },
  {
    name: 'save() of a column of a row with links',
    given,
    run: ({ manager }) => manager.save(Course, { id: 1, title: 'b' }),
    expects: [updated('course', course([9], { title: 'b' }), { title: 'a' })],
  },
  {
    name: 'save() of a row whose links are unchanged',
    given,
    run: async ({ manager }) => manager.save(await loaded(manager)),
    expects: [],
  },
  {
    name: 'save() that inserts the linked row by a cascade',
    given,
    run: ({ manager }) => manager.save(Course, { id: 1, pupils: [{ id: 9 }, { id: 11, name: 'new' }] }),
    expects: [updated('course', course([9, 11]), { pupils: [9] })],
  },
  {
    name: 'save() of links from the other side',
    given: async (context) => {
      await given(context);
      await context.manager.save(Course, { id: 2, title: 'b' });
    },
    run: ({ manager }) => manager.save(Pupil, { id: 10, courses: [{ id: 1 }, { id: 2 }] }),
    expects: [
      [
        updated('course', course([9, 10]), { pupils: [9] }),
        updated('course', { ...course([10], { title: 'b' }), id: 2 }, { pupils: [] }),
      ],
    ],
  },
  {
    name: 'remove() of a row with links',
    given,
    run: async ({ manager }) => manager.remove(await loaded(manager)),
    expects: [deleted('course', course([9]))],
  },
  {
    name: 'remove() of a linked row, loaded with its links',
    given,
    run: async ({ manager }) =>
      manager.remove(await manager.findOneOrFail(Pupil, { where: { id: 9 }, relations: { courses: true } })),
    expects: [updated('course', course([]), { pupils: [9] })],
  },
  {
    name: "a link that a foreign key's ON DELETE CASCADE removes",
    given,
    run: ({ manager }) => manager.delete(Pupil, { id: 9 }),
    expects: [updated('course', course([]), { pupils: [9] })],
    differs: {
      orm: { why: 'It makes no event: capture does not see rows that the database deletes by itself.', expects: [] },
      trigger: {
        why: "Links in `fields` are refused with `capture: 'trigger'`. Such an entity uses `orm`, as above.",
        expects: [],
      },
    },
  },
  {
    name: 'relation builder: add, remove, addAndRemove, and add() of no row',
    given,
    async run({ manager }) {
      await links(manager).add([10, 100]);
      await links(manager).remove(9);
      await links(manager).addAndRemove(9, 10);
      await links(manager).add([]);
    },
    expects: [
      updated('course', course([9, 10, 100]), { pupils: [9] }),
      updated('course', course([10, 100]), { pupils: [9, 10, 100] }),
      updated('course', course([100]), { pupils: [10, 100] }),
      updated('course', course([9, 100]), { pupils: [100] }),
    ],
  },
  {
    name: 'insert(), update() and delete() of a junction by its name',
    given: async (context) => {
      await given(context);
      await context.manager.save(Course, { id: 2, title: 'b' });
    },
    async run({ manager, dataSource }) {
      const [course, pupil] = dataSource.getMetadata('conf_course_pupils').columns.map((one) => one.propertyName);
      await manager.insert('conf_course_pupils', { [course as string]: 1, [pupil as string]: 10 });
      await manager.update('conf_course_pupils', { [pupil as string]: 10 }, { [course as string]: 2 });
      await manager.delete('conf_course_pupils', { [course as string]: 2 });
    },
    expects: [
      updated('course', course([9, 10]), { pupils: [9] }),
      [
        updated('course', course([9]), { pupils: [9, 10] }),
        updated('course', { ...course([10], { title: 'b' }), id: 2 }, { pupils: [] }),
      ],
      updated('course', { ...course([], { title: 'b' }), id: 2 }, { pupils: [10] }),
    ],
  },
  {
    name: 'a row and its links by several calls in one transaction',
    given,
    run: ({ manager }) =>
      manager.transaction(async (own) => {
        await own.update(Course, { id: 1 }, { title: 'b' });
        await links(own).add(10);
        await own.save(Course, { id: 1, pupils: [] });
        await own.delete(Course, { id: 1 });
      }),
    expects: [
      updated('course', course([9], { title: 'b' }), { title: 'a' }),
      updated('course', course([9, 10], { title: 'b' }), { pupils: [9] }),
      updated('course', course([], { title: 'b' }), { pupils: [9, 10] }),
      deleted('course', course([], { title: 'b' })),
    ],
  },
  {
    name: 'links added to a row that was saved in the same transaction',
    given: ({ manager }) => manager.insert(Pupil, { id: 9 }),
    run: ({ manager }) =>
      manager.transaction(async (own) => {
        await own.save(Course, { id: 1, title: 'a' });
        await links(own).add(9);
      }),
    expects: [created('course', course([])), updated('course', course([9]), { pupils: [] })],
  },
  {
    name: 'links of a transaction that is rolled back',
    given,
    run: ({ manager }) =>
      manager
        .transaction(async (own) => {
          await own.save(Course, { id: 1, pupils: [] });
          await links(own).add(10);
          throw new Error('on purpose');
        })
        .catch(() => undefined),
    expects: [],
  },
  {
    name: 'insert(), update() and delete() of rows that have links',
    given,
    async run({ manager }) {
      await manager.insert(Course, { id: 2, title: 'b' });
      await manager.update(Course, { id: 1 }, { title: 'c' });
      await manager.delete(Course, { id: 1 });
    },
    expects: [
      created('course', { ...course([], { title: 'b' }), id: 2 }),
      updated('course', course([9], { title: 'c' }), { title: 'a' }),
      deleted('course', course([9], { title: 'c' })),
    ],
  },
];
