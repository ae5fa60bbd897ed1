import {
  Column,
  DeleteDateColumn,
  Entity,
  PrimaryColumn,
  PrimaryGeneratedColumn,
  type EntityTarget,
  type ObjectLiteral,
} from 'typeorm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Webhook } from 'nestjs-entity-webhooks';
import { EventWitness } from 'nestjs-entity-webhooks/testing';

import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { familyOf, type DatabaseFamily } from './every-kind.js';
import { storedEvents } from './shop.js';

/** It can be found by its key, its code and its badge. */
@Webhook()
@Entity('upm_card')
class Card {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20, nullable: true, unique: true })
  code: string | null;

  @Column({ type: 'varchar', length: 20, nullable: true, unique: true })
  badge: string | null;

  @Column({ type: 'int', default: 0 })
  size: number;

  @DeleteDateColumn()
  deletedAt: Date | null;
}

/** Its key has two columns. */
@Webhook()
@Entity('upm_seat')
class Seat {
  @PrimaryColumn({ type: 'varchar', length: 20 })
  room: string;

  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20, nullable: true, unique: true })
  code: string | null;
}

/** The database generates its key. */
@Webhook()
@Entity('upm_number')
class Numbered {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 20, nullable: true, unique: true })
  code: string | null;

  @Column({ type: 'int', default: 7 })
  size: number;
}

/** The database gives its key a default. */
@Webhook()
@Entity('upm_default')
class Defaulted {
  @PrimaryColumn({ type: 'int', default: 1 })
  id: number;

  @Column({ type: 'varchar', length: 20, nullable: true, unique: true })
  code: string | null;

  @Column({ type: 'int', default: 7 })
  size: number;
}

interface CaseData {
  readonly given: ObjectLiteral[];
  readonly rows: ObjectLiteral[];
}

interface Case extends CaseData {
  readonly title: string;
  readonly entity?: EntityTarget<ObjectLiteral>;
  /** The column of the conflict. */
  readonly by: string;
  /** The events, in order if one row gets the key of another: the action, the key, and the old values of an update. */
  readonly events: readonly (readonly [string, unknown, ObjectLiteral?])[];
  /** On PostgreSQL one call may not write a row twice. On SQLite and PostgreSQL rows conflict by one index only. */
  readonly on?: readonly DatabaseFamily[];
  readonly inAnyOrder?: boolean;
}

const X = { id: 1, code: 'X' };
const Y = { id: 2, code: 'Y' };

const CASES: readonly Case[] = [
  {
    title: 'inserts the key that a row has left',
    given: [X],
    rows: [{ id: 3, code: 'X' }, { id: 1 }],
    by: 'code',
    events: [
      ['updated', 3, { id: 1 }],
      ['created', 1],
    ],
  },
  {
    title: 'inserts the key that a soft-deleted row has left',
    given: [{ ...X, deletedAt: new Date('2026-01-01T00:00:00Z') }],
    rows: [{ id: 3, code: 'X' }, { id: 1 }],
    by: 'code',
    events: [
      ['updated', 3, { id: 1 }],
      ['created', 1],
    ],
  },
  {
    title: 'moves a row to the key that another row has left',
    given: [X, Y],
    rows: [
      { id: 3, code: 'X' },
      { id: 1, code: 'Y' },
    ],
    by: 'code',
    events: [
      ['updated', 3, { id: 1 }],
      ['updated', 1, { id: 2 }],
    ],
  },
  {
    title: 'swaps the keys of two rows',
    inAnyOrder: true,
    on: ['sqlite', 'mysql'],
    given: [X, Y],
    rows: [
      { id: 3, code: 'X' },
      { id: 1, code: 'Y' },
      { id: 2, code: 'X' },
    ],
    by: 'code',
    events: [
      ['updated', 1, { id: 2 }],
      ['updated', 2, { id: 1 }],
    ],
  },
  {
    title: 'moves a row away and back',
    on: ['sqlite', 'mysql'],
    given: [X],
    rows: [
      { id: 3, code: 'X', size: 1 },
      { id: 1, code: 'X', size: 2 },
    ],
    by: 'code',
    events: [['updated', 1, { size: 0 }]],
  },
  {
    title: 'inserts the key that a row has left, and moves the new row',
    on: ['sqlite', 'mysql'],
    given: [X],
    rows: [
      { id: 3, code: 'X' },
      { id: 1, code: 'N' },
      { id: 4, code: 'N' },
    ],
    by: 'code',
    events: [
      ['updated', 3, { id: 1 }],
      ['created', 4],
    ],
  },
  {
    title: 'inserts the key that a row has left, and updates the new row by that key',
    on: ['mysql'],
    given: [X],
    rows: [
      { id: 3, code: 'X' },
      { id: 1, code: 'N' },
      { id: 1, code: 'M', size: 5 },
    ],
    by: 'code',
    events: [
      ['updated', 3, { id: 1 }],
      ['created', 1],
    ],
  },
  {
    title: 'moves a new row to the key that an old row has left',
    on: ['sqlite', 'mysql'],
    given: [X],
    rows: [
      { id: 2, code: 'N' },
      { id: 5, code: 'X' },
      { id: 1, code: 'N' },
    ],
    by: 'code',
    events: [
      ['updated', 5, { id: 1 }],
      ['created', 1],
    ],
  },
  {
    title: 'inserts the code that a row has left',
    inAnyOrder: true,
    given: [X],
    rows: [
      { id: 1, code: 'N' },
      { id: 2, code: 'X' },
    ],
    by: 'id',
    events: [
      ['updated', 1, { code: 'X' }],
      ['created', 2],
    ],
  },
  {
    title: 'swaps the codes of two rows',
    inAnyOrder: true,
    on: ['sqlite', 'mysql'],
    given: [X, Y],
    rows: [
      { id: 1, code: null },
      { id: 2, code: 'X' },
      { id: 1, code: 'Y' },
    ],
    by: 'id',
    events: [
      ['updated', 1, { code: 'X' }],
      ['updated', 2, { code: 'Y' }],
    ],
  },
  {
    title: 'meets one row by its key and then by the code that the row has got',
    on: ['mysql'],
    given: [X],
    rows: [
      { id: 1, code: 'N', badge: 'b' },
      { id: 2, code: 'N' },
    ],
    by: 'badge',
    events: [['updated', 2, { id: 1, code: 'X' }]],
  },
  {
    title: 'inserts the composite key that a row has left',
    entity: Seat,
    given: [{ room: 'a', ...X }],
    rows: [
      { room: 'b', id: 1, code: 'X' },
      { room: 'a', id: 1, code: null },
    ],
    by: 'code',
    events: [
      ['updated', 'b1', { room: 'a' }],
      ['created', 'a1'],
    ],
  },
  {
    title: 'inserts the generated key that a row has left',
    // On PostgreSQL TypeORM leaves the key to the database, although it is given.
    on: ['sqlite', 'mysql'],
    entity: Numbered,
    given: [X],
    rows: [
      { id: 3, code: 'X' },
      { id: 1, code: 'N' },
    ],
    by: 'code',
    events: [
      ['updated', 3, { id: 1 }],
      ['created', 1],
    ],
  },
  {
    title: 'inserts the default key that a row has left',
    entity: Defaulted,
    given: [X],
    rows: [{ id: 3, code: 'X' }, { size: 2 }],
    by: 'code',
    events: [
      ['updated', 3, { id: 1 }],
      ['created', 1],
    ],
  },
];

const dataOf = ({ given, rows }: Case): CaseData => ({ given, rows });

describeDatabases('an upsert that changes which row the next row of the call meets', (database) => {
  const family = familyOf(database);
  let fresh: FreshDatabase;
  let app: TestApp;
  let witness: EventWitness;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({ database: fresh.options, entities: [Card, Seat, Numbered, Defaulted] });
    witness = await EventWitness.install(app.app);
  });

  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  beforeEach(async () => {
    for (const entity of [Card, Seat, Numbered, Defaulted]) await app.dataSource.manager.deleteAll(entity);
    await forget();
  });

  async function forget(): Promise<void> {
    await app.dataSource.query('DELETE FROM webhook_events');
    await witness.forget();
  }

  const events = async () =>
    (await storedEvents(app)).map(({ type, data, previous }) => {
      const key = typeof data['room'] === 'string' ? `${data['room']}${String(data['id'])}` : data['id'];
      return [type.split('.')[1], key, ...(previous ? [previous] : [])];
    });

  const here = CASES.filter(({ on }) => !on || on.includes(family));

  const insert = (entity: EntityTarget<ObjectLiteral>, rows: ObjectLiteral[]) =>
    app.dataSource.manager.createQueryBuilder().insert().into(entity).values(rows);

  /** Without a key TypeORM could not read the row again. */
  const withoutReading = (
    entity: EntityTarget<ObjectLiteral>,
    rows: ObjectLiteral[],
    overwrite: string[],
    by: string[],
  ) => insert(entity, rows).orUpdate(overwrite, by).updateEntity(false).execute();

  const sorted = (list: readonly unknown[]) => list.map((one) => JSON.stringify(one)).toSorted();

  it.each(here)('makes the events of a call that $title', async (one) => {
    // TypeORM changes the objects.
    const { entity = Card, given, rows, by, events: wanted, inAnyOrder } = { ...one, ...structuredClone(dataOf(one)) };
    const { manager } = app.dataSource;
    await manager.insert(entity, given);
    await forget();
    if (entity === Defaulted) await withoutReading(entity, rows, ['id', 'size'], [by]);
    else await manager.upsert(entity, rows, [by]);
    const stored = await events();
    if (inAnyOrder) expect(sorted(stored)).toEqual(sorted(wanted));
    else expect(stored).toEqual(wanted);
    expect(await witness.expectEveryEvent({ mayMerge: true })).toBeGreaterThan(0);
  });

  // On PostgreSQL TypeORM leaves the key to the database, although it is given.
  it.runIf(family !== 'postgres')(
    'makes the event of a new row with a generated key, in the same call as a row with a given key',
    async () => {
      const { manager } = app.dataSource;
      await manager.insert(Numbered, [{ ...X }]);
      await forget();
      await manager.upsert(Numbered, [{ id: 30, code: 'X' }, { code: 'N' }], ['code']);
      const { id } = await manager.findOneByOrFail(Numbered, { code: 'N' });
      expect(await events()).toEqual([
        ['updated', 30, { id: 1 }],
        ['created', id],
      ]);
      await witness.expectEveryEvent({ mayMerge: true });
    },
  );

  describe.runIf(family === 'mysql')('and that ignores conflicts with a third row', () => {
    const given = [
      { ...X, badge: 'a' },
      { ...Y, badge: 'b' },
    ];
    // With RETURNING on MariaDB capture takes the rows from the statement. Otherwise it reads the rows after the statement.
    const answers = database.name === 'mariadb' ? ['no rows', 'rows'] : ['no rows'];
    const upsert = async (rows: ObjectLiteral[], answer: string) => {
      const statement = insert(Card, rows).orIgnore().orUpdate(['id', 'badge']).updateEntity(false);
      await (answer === 'rows' ? statement.returning(['id']) : statement).execute();
    };

    it.each(answers)('makes no event of a row that it leaves as it is (the statement returns %s)', async (answer) => {
      await app.dataSource.manager.insert(Card, structuredClone(given));
      await forget();
      await upsert(
        [
          { id: 3, code: 'X', badge: 'b' },
          { id: 9, code: 'N', badge: 'n' },
          { id: 4, code: 'Y', badge: 'a' },
        ],
        answer,
      );
      expect(await events()).toEqual([['created', 9]]);
      expect(await witness.expectEveryEvent({ mayMerge: true })).toBe(1);
    });

    it.each(answers)(
      'makes the event of the row once a later row moves it (the statement returns %s)',
      async (answer) => {
        await app.dataSource.manager.insert(Card, structuredClone(given));
        await forget();
        await upsert(
          [
            { id: 3, code: 'X', badge: 'b' },
            { id: 4, code: 'X', badge: 'd' },
            { id: 1, code: 'N', badge: 'a' },
          ],
          answer,
        );
        expect(await events()).toEqual([
          ['updated', 4, { id: 1, badge: 'a' }],
          ['created', 1],
        ]);
        expect(await witness.expectEveryEvent({ mayMerge: true })).toBe(2);
      },
    );
  });
});
