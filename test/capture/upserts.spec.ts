// A name. cspell:ignore fifi
import {
  ChildEntity,
  Column,
  Entity,
  Index,
  JoinColumn,
  ManyToOne,
  PrimaryColumn,
  PrimaryGeneratedColumn,
  TableInheritance,
  Unique,
  type EntityManager,
  type ObjectLiteral,
  type Relation,
} from 'typeorm';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { Webhook, type Json } from 'nestjs-entity-webhooks';

import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { waitInTheDatabase } from '../support/waits-for-lock.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { entitiesFor, familyOf, KINDS } from './every-kind.js';
import { storedEvents } from './shop.js';

/** Rows conflict by `code`, or by `region` and `sku`, whichever the database checks first. */
@Webhook()
@Entity('ups_part')
@Unique('uq_part_code', ['code'])
@Unique('uq_part_sku', ['region', 'sku'])
class Part {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 40, nullable: true })
  code: string | null;

  @Column({ type: 'varchar', length: 10, default: 'eu' })
  region: string;

  @Column({ type: 'varchar', length: 40, nullable: true })
  sku: string | null;

  @Column({ type: 'int', default: 0 })
  rev: number;

  @Column({ type: 'varchar', length: 40, nullable: true })
  note: string | null;
}

/** Its index is created in SQL, because TypeORM does not know its type. */
@Webhook()
@Entity('ups_tag')
class Tag {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 40, nullable: true })
  name: string | null;

  @Column({ type: 'int', default: 0 })
  uses: number;
}

const cents = {
  to: (value: { cents: number } | undefined) => value?.cents,
  from: (value: string | number | null) => (value === null ? null : { cents: Number(value) }),
};

class Place {
  @Column({ type: 'varchar', length: 20 })
  city: string;
}

/** Every type of key by which rows may conflict. */
@Webhook()
@Entity('ups_tariff')
@Index(['price'], { unique: true })
@Index(['day', 'place.city'], { unique: true })
class Tariff {
  @PrimaryColumn({ type: 'bigint' })
  id: string;

  @Column({ type: 'int', transformer: cents, nullable: true })
  price: { cents: number } | null;

  @Column({ type: 'date' })
  day: string;

  @Column(() => Place)
  place: Place;

  @ManyToOne(() => Part, { nullable: true })
  @JoinColumn()
  part: Relation<Part> | null;

  @Column({ type: 'int', default: 0 })
  rate: number;
}

@Webhook()
@Entity('ups_ticket')
class Ticket {
  @PrimaryGeneratedColumn('uuid')
  id: string;

  @Column({ type: 'varchar', length: 10, unique: true })
  code: string;

  @Column({ type: 'varchar', length: 10 })
  title: string;
}

@Webhook()
@Entity('ups_setting')
class Setting {
  @PrimaryColumn({ type: 'varchar', length: 20, default: 'main' })
  id: string;

  @Column({ type: 'varchar', length: 20, nullable: true, unique: true })
  name: string | null;

  @Column({ type: 'int' })
  size: number;
}

@Webhook()
@Entity('ups_source')
class Source {
  @PrimaryColumn({ type: 'varchar', length: 20 })
  code: string;

  @Column({ type: 'int' })
  rev: number;
}

@Webhook()
@Entity('ups_animal')
@TableInheritance({ column: { type: 'varchar', name: 'kind' } })
class Animal {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20, default: 'animal' })
  name: string;
}

@Webhook()
@ChildEntity()
class Dog extends Animal {
  @Column({ type: 'int', nullable: true })
  barks: number | null;
}

const builder = (manager: EntityManager, entity: new () => ObjectLiteral, values: ObjectLiteral | ObjectLiteral[]) =>
  manager.createQueryBuilder().insert().into(entity).values(values);

describeDatabases('which row an upsert wrote, and whether it existed', (database) => {
  const family = familyOf(database);
  const isServer = family !== 'sqlite';
  const { EveryKind, KindOwner } = entitiesFor(family);
  let fresh: FreshDatabase;
  let app: TestApp;
  let manager: EntityManager;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({
      database: fresh.options,
      entities: [Part, Tag, Tariff, Ticket, Setting, Source, Animal, Dog, EveryKind, KindOwner] as never,
    });
    ({ manager } = app.dataSource);
  });

  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  beforeEach(async () => {
    for (const entity of [Tariff, Part, Tag, Ticket, Setting, Source, Animal]) {
      await manager.query(`DELETE FROM ${app.dataSource.getMetadata(entity).tableName}`);
    }
    await forget();
  });

  const forget = () => app.dataSource.query('DELETE FROM webhook_events');

  const query = (text: string) => manager.query(family === 'mysql' ? text.replaceAll('"', '`') : text);

  /** Every row by its key, as a payload would show it. */
  async function rowsOf(entity: new () => ObjectLiteral): Promise<Map<Json, Record<string, Json>>> {
    const { relations } = app.dataSource.getMetadata(entity);
    const rows = await manager.find(entity, {
      withDeleted: true,
      relations: Object.fromEntries(relations.map(({ propertyName }) => [propertyName, true])),
    });
    return new Map(
      rows.map((row) => {
        const data = withoutUndefined(row);
        for (const { propertyName } of relations)
          data[propertyName] = (data[propertyName] as { id?: Json } | null)?.id ?? null;
        return [data['id'] as Json, data];
      }),
    );
  }

  /** Compares the events of a write with the table before and after it. */
  async function expectTruth(entity: new () => ObjectLiteral, write: () => Promise<unknown>) {
    const before = await rowsOf(entity);
    await write();
    const after = await rowsOf(entity);
    const { name } = app.dataSource.getMetadata(entity);
    const expected = [...after].flatMap(([id, data]) => {
      const old = before.get(id);
      // better-sqlite3 returns a bigint as a number.
      if (entity === Tariff) data['id'] = String(id);
      if (!old) return [{ type: `${name.toLowerCase()}.created`, data }];
      const changed = Object.keys(data).filter(
        (key) => key !== 'id' && JSON.stringify(data[key]) !== JSON.stringify(old[key]),
      );
      const previous = Object.fromEntries(changed.map((key) => [key, old[key] as Json]));
      return changed.length ? [{ type: `${name.toLowerCase()}.updated`, data, previous }] : [];
    });
    const stored = (await storedEvents(app)).map((event) => ({ ...event, data: withoutUndefined(event.data) }));
    const byId = (a: { data: Record<string, Json> }, b: typeof a) =>
      String(a.data['id']) < String(b.data['id']) ? -1 : 1;
    expect(stored.toSorted(byId)).toEqual(expected.toSorted(byId));
    return expected.map(({ type }) => type.split('.')[1]).toSorted();
  }

  it('is answered by the primary key', async () => {
    await manager.insert(Source, { code: 'a', rev: 1 });
    await forget();
    const rows = [
      { code: 'a', rev: 2 },
      { code: 'b', rev: 3 },
    ];
    const events = async () => (await storedEvents(app)).map(({ type, previous }) => [type, previous]);
    await manager.upsert(Source, rows, ['code']);
    expect(await events()).toEqual([
      ['source.updated', { rev: 1 }],
      ['source.created', undefined],
    ]);
  });

  it('is answered for a given number that TypeORM leaves to PostgreSQL', async () => {
    await manager.insert(Part, { code: 'a' });
    const { id } = await manager.findOneByOrFail(Part, { code: 'a' });
    await forget();
    const types = await expectTruth(Part, () => manager.upsert(Part, { id, code: 'b' }, ['id']));
    expect(types).toEqual([family === 'postgres' ? 'created' : 'updated']);
  });

  it('is answered by a unique constraint', async () => {
    await manager.insert(Part, [{ code: 'a' }, { code: 'b' }]);
    await forget();
    const rows = [{ code: 'b', rev: 2 }, { code: 'c' }, { code: 'a' }];
    expect(await expectTruth(Part, () => manager.upsert(Part, rows, ['code']))).toEqual(['created', 'updated']);
  });

  it('is answered by columns that get their default', async () => {
    await manager.insert(Part, [{ sku: 's1' }, { sku: 's2' }]);
    await forget();
    const rows = [
      { sku: 's1', rev: 4 },
      { sku: 's3', rev: 1 },
    ];
    expect(await expectTruth(Part, () => manager.upsert(Part, rows, ['region', 'sku']))).toEqual([
      'created',
      'updated',
    ]);
  });

  it('is answered by a primary key that gets its default', async () => {
    const upsert = (size: number) => () =>
      builder(manager, Setting, { size }).orUpdate(['size'], ['id']).updateEntity(false).execute();
    expect(await expectTruth(Setting, upsert(1))).toEqual(['created']);
    await forget();
    expect(await expectTruth(Setting, upsert(2))).toEqual(['updated']);
  });

  it('is answered where a unique column is NULL, which conflicts with nothing', async () => {
    await manager.insert(Part, { code: null, note: 'first' });
    await forget();
    const rows = [
      { code: null, note: 'second' },
      { code: 'x', note: 'third' },
    ];
    expect(await expectTruth(Part, () => manager.upsert(Part, rows, ['code']))).toEqual(['created', 'created']);
  });

  it('is answered by a generated key that the statement would overwrite', async () => {
    await manager.insert(Ticket, { code: 'A', title: 'old' });
    const [ticket] = await manager.find(Ticket);
    await forget();
    await manager.upsert(
      Ticket,
      [
        { code: 'A', title: 'new' },
        { code: 'B', title: 'other' },
      ],
      ['code'],
    );
    const [a, b] = await manager.find(Ticket, { order: { code: 'ASC' } });
    const events = (await storedEvents(app)).toSorted((x, y) =>
      String(x.data['code']).localeCompare(String(y.data['code'])),
    );
    const { id, ...rest } = events[0]?.previous ?? {};
    expect([undefined, ticket?.id]).toContain(id);
    expect({ ...events[0], previous: rest }).toEqual({
      type: 'ticket.updated',
      data: { ...a },
      previous: { title: 'old' },
    });
    expect(events.slice(1)).toEqual([{ type: 'ticket.created', data: { ...b } }]);
  });

  it('is answered by keys with a transformer, a date, an embedded column and a bigint', async () => {
    await manager.insert(Part, { code: 'p' });
    const part = await manager.findOneByOrFail(Part, { code: 'p' });
    await manager.insert(Tariff, [
      { id: '77', price: { cents: 100 }, day: '2024-02-29', place: { city: 'Bern' }, part },
      { id: '78', price: { cents: 200 }, day: '2024-03-01', place: { city: 'Bern' } },
    ]);
    const again = { id: '77', price: { cents: 100 }, day: '2024-02-29', place: { city: 'Bern' } };
    for (const [paths, row] of [
      [['id'], { ...again, rate: 1 }],
      [['price'], { ...again, rate: 2, part: null }],
      [['day', 'place.city'], { ...again, rate: 3, part }],
    ] as const) {
      await forget();
      const write = () =>
        manager.upsert(
          Tariff,
          [row, { ...row, id: `${row.rate}`, price: { cents: row.rate }, day: `2020-01-0${row.rate}` }],
          [...paths],
        );
      expect(await expectTruth(Tariff, write)).toEqual(['created', 'updated']);
    }
  });

  it('is answered where orIgnore() leaves rows alone', async () => {
    await manager.insert(Part, [{ code: 'a' }, { sku: 's' }]);
    await forget();
    const rows = [{ code: 'a', rev: 9 }, { code: 'b' }, { code: 'c', sku: 's', rev: 9 }, { code: null, sku: null }];
    expect(await expectTruth(Part, () => builder(manager, Part, rows).orIgnore().execute())).toEqual([
      'created',
      'created',
    ]);
  });

  it('is answered where the upsert overwrites nothing', async () => {
    await manager.insert(Part, [{ code: 'a' }]);
    await forget();
    const rows = [{ code: 'a', rev: 9 }, { code: 'b' }];
    expect(await expectTruth(Part, () => builder(manager, Part, rows).orUpdate([], ['code']).execute())).toEqual([
      'created',
    ]);
  });

  it('is answered for a value that is an expression', async () => {
    await manager.insert(Part, [{ code: 'AB' }]);
    await forget();
    const rows = [{ code: () => "UPPER('ab')", rev: 3 }, { code: 'c' }];
    const write = () => builder(manager, Part, rows).orUpdate(['rev'], ['code']).updateEntity(false).execute();
    expect(await expectTruth(Part, write)).toEqual(['created', 'updated']);
  });

  it('is answered for a thousand rows', async () => {
    await manager.insert(
      Part,
      Array.from({ length: 500 }, (_, n) => ({ code: `c${n * 2}` })),
    );
    await forget();
    const rows = Array.from({ length: 1_000 }, (_, n) => ({ code: `c${n}`, rev: n + 1 }));
    const types = await expectTruth(Part, () =>
      builder(manager, Part, rows).orUpdate(['rev'], ['code']).updateEntity(false).execute(),
    );
    expect(types.filter((type) => type === 'created')).toHaveLength(500);
    expect(types.filter((type) => type === 'updated')).toHaveLength(500);
  });

  it('is answered with the old value of every kind of column', async () => {
    const at = (n: 0 | 1) => Object.fromEntries(KINDS.map(({ name, written }) => [name, written[n]]));
    const id = '0190163d-8694-739b-aea5-966c26f8ad00';
    await manager.insert(KindOwner, [{ id: '9007199254740993' }, { id: '8' }]);
    const address = { city: 'Bern', fee: '1.50' };
    await manager.insert(EveryKind, { id, ...at(0), address, parent: { id: '9007199254740993' } } as ObjectLiteral);
    await forget();
    const row = { id, ...at(1), address: { city: null, fee: '2.00' }, parent: { id: '8' } };
    await manager.upsert(EveryKind, row as ObjectLiteral, ['id']);
    const [event] = await storedEvents(app);
    const expected = Object.fromEntries(
      KINDS.filter(({ shown: [a, b] }) => a !== b).map(({ name, shown }) => [name, shown[0]]),
    );
    expect(event?.previous).toEqual({ ...expected, address, parent: '9007199254740993' });
  });

  it('gives the caller what TypeORM gives', async () => {
    await manager.insert(Part, { id: 5, code: 'a' });
    const given = [
      { code: 'a', rev: 2 },
      { code: 'b', rev: 3 },
    ];
    const result = await manager.upsert(Part, given, ['code']);
    expect(JSON.stringify(result)).not.toContain('wh_');
    expect(JSON.stringify(given)).not.toContain('wh_');
  });

  if (family === 'sqlite') {
    it('gives the caller the number of the last inserted row, as TypeORM does, if it only updates', async () => {
      await manager.insert(Part, { id: 5, code: 'a' });
      await manager.transaction(async (inner) => {
        await inner.insert(Part, { id: 70, code: 'b' });
        const write = (rev: number) => inner.upsert(Part, { code: 'a', rev }, ['code']);
        const plain = await app.webhooks.withoutCapture(() => write(1));
        expect(plain.raw).toBe(70);
        expect((await write(2)).raw).toBe(70);
      });
    });

    it('is answered where a trigger keeps a row from being updated', async () => {
      await manager.insert(Part, [{ code: 'kept' }, { code: 'b' }]);
      await forget();
      await query(
        "CREATE TRIGGER ups_keep BEFORE UPDATE ON ups_part WHEN OLD.code = 'kept' BEGIN SELECT RAISE(IGNORE); END",
      );
      const rows = [
        { code: 'kept', rev: 1 },
        { code: 'new', rev: 2 },
        { code: 'b', rev: 3 },
      ];
      const answers = await expectTruth(Part, () => manager.upsert(Part, rows, ['code']));
      await query('DROP TRIGGER ups_keep');
      expect(answers).toEqual(['created', 'updated']);
    });
  }

  it('is answered where the statement changes the primary key', async () => {
    await manager.insert(Setting, [
      { id: 'a', name: 'one', size: 0 },
      { id: 'b', name: 'two', size: 0 },
    ]);
    await forget();
    const rows = [
      { id: 'x', name: 'one', size: 1 },
      { id: 'y', name: 'new', size: 2 },
      { id: 'z', name: 'two', size: 3 },
    ];
    await builder(manager, Setting, rows).orUpdate(['id', 'size'], ['name']).updateEntity(false).execute();
    const events = (await storedEvents(app)).map(({ type, data, previous }) => [type, data, previous]);
    expect(events.toSorted((one, other) => (JSON.stringify(one) < JSON.stringify(other) ? -1 : 1))).toEqual([
      ['setting.created', rows[1], undefined],
      ['setting.updated', rows[0], { id: 'a', size: 0 }],
      ['setting.updated', rows[2], { id: 'b', size: 0 }],
    ]);
  });

  it('is answered where a row of another entity in a single table conflicts', async () => {
    await manager.upsert(Animal, [{ id: 1 }], ['id']);
    await manager.upsert(
      Dog,
      [
        { id: 1, name: 'cid' },
        { id: 2, barks: 3 },
      ],
      ['id'],
    );
    await manager.upsert(Animal, [{ id: 2, name: 'fifi' }], ['id']);
    expect(await storedEvents(app)).toEqual([
      { type: 'animal.created', data: { id: 1, name: 'animal' } },
      { type: 'animal.updated', data: { id: 1, name: 'cid' }, previous: { name: 'animal' } },
      { type: 'dog.created', data: { id: 2, name: 'animal', barks: 3 } },
      { type: 'dog.updated', data: { id: 2, name: 'fifi', barks: 3 }, previous: { name: 'animal' } },
    ]);
  });

  it('is answered for rows of a SELECT', async () => {
    await manager.insert(Part, [{ code: 'a', rev: 1 }]);
    await manager.insert(Source, [
      { code: 'a', rev: 5 },
      { code: 'b', rev: 6 },
    ]);
    await forget();
    const select = () =>
      manager
        .createQueryBuilder()
        .insert()
        .into(Part, ['code', 'rev'])
        .valuesFromSelect((from) => from.select(['s.code', 's.rev']).from(Source, 's').where('1 = 1'))
        .orUpdate(['rev'], ['code'])
        .execute();
    if (database.name === 'mysql2') {
      await select();
      expect(await storedEvents(app)).toEqual([]);
    } else expect(await expectTruth(Part, select)).toEqual(['created', 'updated']);
  });

  if (family !== 'postgres') {
    it('is answered where a row is named twice in one call', async () => {
      await manager.insert(Part, [{ code: 'a', rev: 1 }]);
      await forget();
      const rows = [
        { code: 'a', rev: 2 },
        { code: 'n', rev: 3 },
        { code: 'n', rev: 4 },
        { code: 'a', rev: 5 },
      ];
      expect(await expectTruth(Part, () => manager.upsert(Part, rows, ['code']))).toEqual(['created', 'updated']);
    });
  }

  if (family === 'mysql') {
    it('is answered by any of several unique keys', async () => {
      await manager.insert(Part, [
        { code: 'a', sku: 's1', note: 'by code' },
        { code: 'b', sku: 's2', note: 'by sku' },
      ]);
      await forget();
      const rows = [
        { code: 'a', sku: 's2', rev: 1 },
        { code: 'x', sku: 's2', rev: 2 },
        { code: 'y', sku: 's3', rev: 3 },
      ];
      expect(await expectTruth(Part, () => builder(manager, Part, rows).orUpdate(['rev']).execute())).toEqual([
        'created',
        'updated',
      ]);
    });
  }

  if (family !== 'postgres') {
    it('is answered by a collation that ignores case', async () => {
      await query('DROP TABLE "ups_tag"');
      await query(
        family === 'mysql'
          ? 'CREATE TABLE "ups_tag" (id int PRIMARY KEY AUTO_INCREMENT, name varchar(40) UNIQUE, uses int NOT NULL DEFAULT 0) COLLATE utf8mb4_general_ci'
          : 'CREATE TABLE "ups_tag" (id integer PRIMARY KEY AUTOINCREMENT, name varchar(40) COLLATE NOCASE UNIQUE, uses int NOT NULL DEFAULT 0)',
      );
      await manager.insert(Tag, [{ name: 'Cafe' }, { name: 'two' }]);
      await forget();
      const rows = [
        { name: 'CAFE', uses: 2 },
        { name: 'three', uses: 1 },
      ];
      expect(await expectTruth(Tag, () => manager.upsert(Tag, rows, ['name']))).toEqual(['created', 'updated']);
      if (family !== 'mysql') return;
      await forget();
      const spelt = [
        { name: 'café ', uses: 9 },
        { name: 'four', uses: 1 },
      ];
      expect(await expectTruth(Tag, () => manager.upsert(Tag, spelt, ['name']))).toEqual(['created', 'updated']);
    });

    it('is answered by an index on an expression', async () => {
      await query('DROP TABLE "ups_tag"');
      await query(
        family === 'mysql'
          ? `CREATE TABLE "ups_tag" (id int PRIMARY KEY AUTO_INCREMENT, name varchar(40), uses int NOT NULL DEFAULT 0, short varchar(2) AS (LEFT(name, 2)) STORED UNIQUE)`
          : 'CREATE TABLE "ups_tag" (id integer PRIMARY KEY AUTOINCREMENT, name varchar(40), uses int NOT NULL DEFAULT 0)',
      );
      if (family !== 'mysql') await query('CREATE UNIQUE INDEX uq_short ON ups_tag (substr(name, 1, 2))');
      await manager.insert(Tag, [{ name: 'cafe' }, { name: 'two' }]);
      await forget();
      const rows = [
        { name: 'car', uses: 2 },
        { name: 'three', uses: 1 },
      ];
      const upsert = () => builder(manager, Tag, rows).orUpdate(['uses']).execute();
      expect(await expectTruth(Tag, upsert)).toEqual(['created', 'updated']);
      await forget();
      expect(
        await expectTruth(Tag, () =>
          builder(manager, Tag, [{ name: 'cat' }, { name: 'five' }])
            .orIgnore()
            .execute(),
        ),
      ).toEqual(['created']);
    });
  }

  if (isServer) {
    it('is answered with the row that another writer has committed in the meantime', async () => {
      await manager.insert(Part, { code: 'a', rev: 1 });
      await forget();
      const other = app.dataSource.createQueryRunner();
      await other.startTransaction();
      await other.manager.update(Part, { code: 'a' }, { rev: 2, note: 'theirs' });
      const upserting = manager.upsert(Part, { code: 'a', rev: 3 }, ['code']);
      await waitInTheDatabase(app.dataSource, 1);
      await other.commitTransaction();
      await other.release();
      await upserting;
      expect((await storedEvents(app)).map(({ previous }) => previous)).toEqual([{ rev: 1, note: null }, { rev: 2 }]);
    });
  }

  if (database.name === 'mysql2') {
    it('is refused if another writer has inserted one row of the call meanwhile and another row is named twice', async () => {
      let isMet = false;
      const other = {
        async beforeQuery({ query: text }: { query: string }) {
          if (isMet || !text.startsWith('INSERT INTO `ups_part`')) return;
          isMet = true;
          await app.dataSource.manager.insert(Part, { code: 'b', rev: 1 });
        },
      };
      const { subscribers } = app.dataSource;
      subscribers.unshift(other);
      const rows = [
        { code: 'a', rev: 2 },
        { code: 'b', rev: 2 },
        { code: 'a', rev: 3 },
      ];
      await expect(manager.upsert(Part, rows, ['code'])).rejects.toMatchObject({ code: 'ROWS_MISSED' });
      subscribers.splice(subscribers.indexOf(other), 1);
      expect((await storedEvents(app)).map(({ data }) => data['code'])).toEqual(['b']);
      expect(await manager.countBy(Part, { code: 'a' })).toBe(0);
    });
  }
});

function withoutUndefined(data: ObjectLiteral): Record<string, Json> {
  return JSON.parse(JSON.stringify(data)) as Record<string, Json>;
}
