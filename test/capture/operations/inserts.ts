import { expect } from 'vitest';
import type { EntityManager, EntitySubscriberInterface } from 'typeorm';
import type { JsonObject } from 'nestjs-entity-webhooks';

import { Item, Numbered, Plain, Ticket } from '../conformance-entities.js';
import { item, row, STANDING, threeItems } from './items.js';
import type { Operation, OperationContext } from './operation.js';
import { created, updated } from './expected-events.js';

const SERVERS = ['postgres', 'mariadb', 'mysql2'] as const;
const SECOND = item(4, { name: 'second' });
const AROUND = [
  created('item', item(5)),
  updated('item', item(2, { name: 'changed', amount: 5 }), { name: 'item 2' }),
  created('item', item(6)),
];

export const INSERTS: readonly Operation[] = [
  {
    name: 'insert() of one row',
    run: ({ manager }) => manager.insert(Item, row(1)),
    expects: [created('item', item(1))],
    rows: [[Item, [{ id: 1 }]]],
  },
  {
    name: 'insert() of several rows',
    run: ({ manager }) => manager.insert(Item, [row(1, { code: 'one' }), row(2, { amount: 7 }), row(3)]),
    expects: [
      [created('item', item(1, { code: 'one' })), created('item', item(2, { amount: 7 })), created('item', item(3))],
    ],
    rows: [[Item, STANDING]],
  },
  {
    name: 'insert() of rows whose keys the database generates',
    run: ({ manager }) => manager.insert(Numbered, [{ name: 'a' }, { name: 'b', filled: 'given' }, { name: 'c' }]),
    expects: [
      [
        created('numbered', { id: expect.any(Number) as number, name: 'a', filled: 'filled' }),
        created('numbered', { id: expect.any(Number) as number, name: 'b', filled: 'given' }),
        created('numbered', { id: expect.any(Number) as number, name: 'c', filled: 'filled' }),
      ],
    ],
    rows: [[Numbered, [{ name: 'a' }, { name: 'b' }, { name: 'c' }]]],
  },
  {
    name: 'insert() of rows with and without a key',
    on: ['sqlite', 'mariadb', 'mysql2'],
    run: ({ manager }) => manager.insert(Numbered, [{ id: 1_000_000, name: 'a' }, { name: 'b' }]),
    expects: [
      [
        created('numbered', { id: 1_000_000, name: 'a', filled: 'filled' }),
        created('numbered', { id: expect.any(Number) as number, name: 'b', filled: 'filled' }),
      ],
    ],
  },
  {
    name: 'insert() of a row whose uuid is generated',
    run: ({ manager }) => manager.insert(Ticket, { title: 'a', code: 'A' }),
    expects: [created('ticket', { id: expect.stringMatching(/^[\da-f-]{36}$/) as string, title: 'a', code: 'A' })],
    rows: [[Ticket, [{ title: 'a' }]]],
  },
  {
    name: 'insert() that breaks a constraint',
    given: threeItems,
    run: async ({ manager }) => expect(manager.insert(Item, [row(4), row(1)])).rejects.toThrow(),
    expects: [],
    rows: [[Item, STANDING]],
  },
  {
    name: 'insert query builder with an expression',
    run: ({ manager }) =>
      manager
        .createQueryBuilder()
        .insert()
        .into(Item)
        .values({ id: 1, name: () => "UPPER('shouted')", amount: () => '1 + 1' })
        .execute(),
    expects: [created('item', item(1, { name: 'SHOUTED', amount: 2 }))],
  },
  {
    name: 'insert query builder with callListeners(false)',
    run: ({ manager }) =>
      manager.createQueryBuilder().insert().into(Item).values(row(1)).callListeners(false).execute(),
    expects: [created('item', item(1))],
  },
  {
    name: 'insert query builder with updateEntity(false)',
    run: ({ manager }) =>
      manager
        .createQueryBuilder()
        .insert()
        .into(Numbered)
        .values([{ name: 'a' }, { name: 'b' }])
        .updateEntity(false)
        .execute(),
    expects: [
      [
        created('numbered', { id: expect.any(Number) as number, name: 'a', filled: 'filled' }),
        created('numbered', { id: expect.any(Number) as number, name: 'b', filled: 'filled' }),
      ],
    ],
  },
  {
    name: 'insert … select by query builder',
    given: ({ manager }) =>
      manager.insert(Plain, [
        { id: 1, name: 'a' },
        { id: 2, name: 'b' },
        { id: 3, name: 'c' },
      ]),
    run: ({ manager }) =>
      manager
        .createQueryBuilder()
        .insert()
        .into(Item, ['id', 'name'])
        .valuesFromSelect((select) =>
          select.select(['p.id', 'p.name']).from(Plain, 'p').where('p.id < :limit', { limit: 3 }),
        )
        .execute(),
    expects: [[created('item', item(1, { name: 'a' })), created('item', item(2, { name: 'b' }))]],
    rows: [[Item, [{ id: 1 }, { id: 2 }]]],
    differs: {
      orm: {
        on: ['mysql2'],
        why: "It makes no events, because TypeORM's type `mysql` returns no inserted rows. `INSERT_SELECT_NOT_CAPTURED` is logged.",
        expects: [],
      },
    },
  },
  {
    name: 'insert … orIgnore() of new and existing rows',
    given: threeItems,
    run: ({ manager }) =>
      manager
        .createQueryBuilder()
        .insert()
        .into(Item)
        .values([row(4), row(1, { name: 'ignored' }), row(5, { code: 'three' }), row(6)])
        .orIgnore()
        .execute(),
    expects: [[created('item', item(4)), created('item', item(6))]],
    rows: [[Item, [{ id: 1, name: 'item 1' }, { id: 2 }, { id: 3 }, { id: 4 }, { id: 6 }]]],
  },
  {
    name: 'insert … orIgnore() of old rows only',
    given: threeItems,
    run: ({ manager }) =>
      manager
        .createQueryBuilder()
        .insert()
        .into(Item)
        .values(row(1, { name: 'ignored' }))
        .orIgnore()
        .execute(),
    expects: [],
    rows: [[Item, [{ name: 'item 1' }, {}, {}]]],
  },
  {
    name: 'upsert() that inserts',
    run: ({ manager }) => manager.upsert(Item, row(1, { code: 'one' }), ['id']),
    expects: [created('item', item(1, { code: 'one' }))],
    rows: [[Item, [{ id: 1, code: 'one' }]]],
  },
  {
    name: 'upsert() that updates',
    given: threeItems,
    run: ({ manager }) => manager.upsert(Item, row(2, { name: 'changed' }), ['id']),
    expects: [updated('item', item(2, { name: 'changed', amount: 5 }), { name: 'item 2' })],
    rows: [[Item, [{ id: 1 }, { id: 2, name: 'changed', amount: 5 }, { id: 3 }]]],
  },
  {
    name: 'upsert() that changes nothing',
    given: threeItems,
    run: ({ manager }) => manager.upsert(Item, row(2), ['id']),
    expects: [],
  },
  {
    name: 'upsert() that inserts and updates',
    given: threeItems,
    run: ({ manager }) => manager.upsert(Item, [row(2, { name: 'changed' }), row(4), row(1), row(5)], ['id']),
    expects: [
      [
        updated('item', item(2, { name: 'changed', amount: 5 }), { name: 'item 2' }),
        created('item', item(4)),
        created('item', item(5)),
      ],
    ],
    rows: [[Item, [{ id: 1 }, { id: 2, name: 'changed' }, { id: 3 }, { id: 4 }, { id: 5 }]]],
  },
  {
    name: 'upsert() by another unique column than the key',
    given: ({ manager }) => manager.save(Ticket, { title: 'old', code: 'A' }),
    run: ({ manager }) =>
      manager.upsert(
        Ticket,
        [
          { title: 'new', code: 'A' },
          { title: 'other', code: 'B' },
        ],
        ['code'],
      ),
    expects: [
      [
        updated(
          'ticket',
          { id: expect.stringMatching(/^[\da-f-]{36}$/) as string, title: 'new', code: 'A' },
          // If TypeORM names the generated uuid in the statement, the upsert overwrites the old uuid with it.
          expect.objectContaining({ title: 'old' }) as unknown as JsonObject,
        ),
        created('ticket', { id: expect.stringMatching(/^[\da-f-]{36}$/) as string, title: 'other', code: 'B' }),
      ],
    ],
  },
  {
    name: 'insert … orUpdate() of some columns',
    given: threeItems,
    run: ({ manager }) =>
      manager
        .createQueryBuilder()
        .insert()
        .into(Item)
        .values([row(2, { name: 'kept as it was', amount: 9 }), row(4, { amount: 4 })])
        .orUpdate(['amount'], ['id'])
        .execute(),
    expects: [[updated('item', item(2, { amount: 9 }), { amount: 5 }), created('item', item(4, { amount: 4 }))]],
  },
  {
    name: 'upsert() of a row that another writer inserts meanwhile',
    on: SERVERS,
    given: threeItems,
    run: (context) => raced(context, (manager) => manager.upsert(Item, row(4, { name: 'second' }), ['id'])),
    expects: [created('item', item(4, { name: 'first' })), updated('item', SECOND, { name: 'first' })],
    rows: [[Item, [{}, {}, {}, { id: 4, name: 'second' }]]],
  },
  {
    name: 'upsert() while another writer inserts one of the rows',
    on: SERVERS,
    given: threeItems,
    run: (context) =>
      raced(context, (manager) =>
        manager.upsert(Item, [row(5), row(4, { name: 'second' }), row(2, { name: 'changed' }), row(6)], ['id']),
      ),
    expects: [created('item', item(4, { name: 'first' })), [...AROUND, updated('item', SECOND, { name: 'first' })]],
    rows: [[Item, [{}, { name: 'changed' }, {}, { name: 'second' }, { id: 5 }, { id: 6 }]]],
  },
  {
    name: 'upsert() of a row that another writer inserts meanwhile, with the same values',
    on: SERVERS,
    given: threeItems,
    run: (context) => raced(context, (manager) => manager.upsert(Item, row(4, { name: 'first' }), ['id'])),
    expects: [created('item', item(4, { name: 'first' }))],
    rows: [[Item, [{}, {}, {}, { id: 4 }]]],
  },
  {
    name: 'insert … orIgnore() of a row that another writer inserts meanwhile',
    on: SERVERS,
    given: threeItems,
    run: (context) =>
      raced(context, (manager) => manager.createQueryBuilder().insert().into(Item).values(row(4)).orIgnore().execute()),
    expects: [created('item', item(4, { name: 'first' }))],
    rows: [[Item, [{}, {}, {}, { id: 4, name: 'first' }]]],
  },
  {
    name: 'insert … orIgnore() while another writer inserts one of the rows',
    on: SERVERS,
    given: threeItems,
    async run(context) {
      const inserting = raced(context, (manager) =>
        manager
          .createQueryBuilder()
          .insert()
          .into(Item)
          .values([row(4), row(1), row(5)])
          .orIgnore()
          .execute(),
      );
      const isRefused = context.database === 'mysql2' && context.mode === 'orm';
      if (isRefused) await expect(inserting).rejects.toMatchObject({ code: 'ROWS_MISSED' });
      else await inserting;
    },
    expects: [created('item', item(4, { name: 'first' })), created('item', item(5))],
    differs: {
      orm: {
        on: ['mysql2'],
        why: 'It fails with `ROWS_MISSED`, because the driver does not report which rows were inserted. Run it again.',
        expects: [created('item', item(4, { name: 'first' }))],
      },
    },
  },
];

/** Another writer inserts item 4 and commits, after a write has looked for conflicting rows and before its statement is sent. */
async function raced(
  { dataSource }: OperationContext,
  write: (manager: EntityManager) => Promise<unknown>,
): Promise<void> {
  const other = dataSource.createQueryRunner();
  let isDone = false;
  const racing: EntitySubscriberInterface = {
    async beforeQuery({ query, queryRunner }: { query: string; queryRunner: unknown }) {
      if (isDone || queryRunner === other || !/^INSERT\b.* INTO .conf_item/.test(query)) return;
      isDone = true;
      await other.manager.insert(Item, row(4, { name: 'first' }));
    },
  };
  const { subscribers } = dataSource;
  subscribers.push(racing);
  try {
    await write(dataSource.manager);
  } finally {
    subscribers.splice(subscribers.indexOf(racing), 1);
    await other.release();
  }
  expect(isDone).toBe(true);
}
