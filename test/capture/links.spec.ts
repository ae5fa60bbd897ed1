import {
  ChildEntity,
  Column,
  Entity,
  JoinTable,
  ManyToMany,
  PrimaryColumn,
  PrimaryGeneratedColumn,
  TableInheritance,
  type Relation,
} from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { databases, describeDatabases, type FreshDatabase, type TestDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

@Entity()
class Tag {
  @PrimaryColumn({ type: 'varchar', length: 20 })
  name: string;

  @ManyToMany(() => Album, (album) => album.tags)
  albums: Relation<Album>[];
}

/** Its functions see the whole row. */
@Webhook({ when: ({ title }: Post) => title !== 'draft', owner: ({ id }: Post) => `owner ${id}` })
@Entity()
class Post {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 20 })
  title: string;

  @ManyToMany(() => Tag)
  @JoinTable()
  tags: Tag[];
}

/** A key of two columns: its rows are read by a query builder. */
@Webhook()
@Entity()
class Page {
  @PrimaryColumn({ type: 'varchar', length: 20 })
  book: string;

  @PrimaryColumn({ type: 'int' })
  number: number;

  @Column({ type: 'varchar', length: 20 })
  title: string;

  @ManyToMany(() => Tag)
  @JoinTable()
  tags: Tag[];
}

describeDatabases('a row whose links are in a junction', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  beforeEach(async () => {
    fresh = await database.reuse();
    app = await startApp({ database: fresh.options, entities: [Post, Page], others: [Tag, Album, Folder, Box] });
    await app.dataSource.manager.insert(Tag, [{ name: 'new' }, { name: 'old' }]);
  });
  afterEach(async () => {
    await app?.close();
    await fresh?.drop();
  });

  const capturedEvents = async () => (await storedEvents(app)).map(({ type, data }) => `${type} ${String(data.title)}`);

  it.each([
    ['is captured if functions see the whole row', Post, { title: 'first' }],
    ['is captured if its key has several columns', Page, { book: 'b', number: 1, title: 'first' }],
  ])('%s', async (_, entity, values) => {
    const rows = app.dataSource.getRepository<Post | Page>(entity);
    const row = await rows.save(rows.create({ ...values, tags: [{ name: 'new' }] }));
    row.title = 'second';
    row.tags = [{ name: 'old' } as Tag];
    await rows.save(row);
    await rows.update({ title: 'second' }, { title: 'third' });
    await rows.remove(row);
    await rows.insert({ ...values, title: 'fourth' });
    await rows.delete({ title: 'fourth' });
    const name = entity.name.toLowerCase();
    expect(await capturedEvents()).toEqual([
      `${name}.created first`,
      `${name}.updated second`,
      `${name}.updated third`,
      `${name}.deleted third`,
      `${name}.created fourth`,
      `${name}.deleted fourth`,
    ]);
  });
});

@Webhook({ fields: ['id', 'tags'] })
@Entity()
class Album {
  @PrimaryColumn({ type: 'bigint' })
  id: string;

  @ManyToMany(() => Tag, (tag) => tag.albums)
  @JoinTable({
    name: 'album_tags',
    joinColumn: { name: 'album' },
    inverseJoinColumn: { name: 'tag' },
  })
  tags: Relation<Tag>[];
}

/** The junction as an entity. */
@Webhook({ name: 'album_tag' })
@Entity('album_tags')
class AlbumTag {
  @PrimaryColumn({ type: 'bigint' })
  album: string;

  @PrimaryColumn({ type: 'varchar', length: 20 })
  tag: string;
}

@Webhook({ fields: ['id', 'inside'] })
@Entity()
@TableInheritance({ column: { type: 'varchar', name: 'kind' } })
class Folder {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @ManyToMany(() => Folder)
  @JoinTable({ name: 'folder_inside', joinColumn: { name: 'outer' }, inverseJoinColumn: { name: 'inner' } })
  inside: Relation<Folder>[];
}

@ChildEntity()
class Box extends Folder {}

/** One event for each transaction. */
@Webhook({ name: 'shelf', fields: ['id', 'tags'], coalesce: true })
@Entity()
class Shelf {
  @PrimaryGeneratedColumn('uuid')
  id: string;

  @ManyToMany(() => Tag)
  @JoinTable()
  tags: Relation<Tag>[];
}

@Webhook({ name: 'quiet', fields: ['id', 'title', 'tags'], ignore: ['tags'] })
@Entity()
class Quiet {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20, default: 'a' })
  title: string;

  @ManyToMany(() => Tag)
  @JoinTable()
  tags: Relation<Tag>[];
}

describeDatabases('links in a payload', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  beforeEach(async () => {
    fresh = await database.reuse();
    app = await startApp({
      database: fresh.options,
      entities: [Album, Folder, Shelf, Quiet],
      others: [Tag, Box],
    });
    await app.dataSource.manager.insert(
      Tag,
      ['a', 'b', 'c'].map((name) => ({ name })),
    );
  });
  afterEach(async () => {
    await app?.close();
    await fresh?.drop();
  });

  const forget = () => app.dataSource.query('DELETE FROM webhook_events');
  const links = (id: string) => app.dataSource.createQueryBuilder().relation(Album, 'tags').of(id);

  it('are found by keys with more digits than a number can hold', async () => {
    const id = '9007199254740993';
    await app.dataSource.manager.insert(Album, { id });
    await links(id).add(['b', 'a']);
    await links(id).remove('b');
    expect(await storedEvents(app)).toEqual([
      { type: 'album.created', data: { id, tags: [] } },
      { type: 'album.updated', data: { id, tags: ['a', 'b'] }, previous: { tags: [] } },
      { type: 'album.updated', data: { id, tags: ['a'] }, previous: { tags: ['a', 'b'] } },
    ]);
  });

  it('of an entity to itself, in a single table, are captured under the name of the child entity', async () => {
    const { manager } = app.dataSource;
    await manager.save(Folder, { id: 1 });
    await manager.save(Box, { id: 2, inside: [{ id: 1 }] });
    await forget();
    await manager.save(Box, { id: 2, inside: [] });
    await manager.createQueryBuilder().relation(Box, 'inside').of(2).add(1);
    await manager.createQueryBuilder().relation(Folder, 'inside').of([1, 2]).add(2);
    expect(await storedEvents(app)).toEqual([
      { type: 'box.updated', data: { id: 2, inside: [] }, previous: { inside: [1] } },
      { type: 'box.updated', data: { id: 2, inside: [1] }, previous: { inside: [] } },
      ...[
        { type: 'folder.updated', data: { id: 1, inside: [2] }, previous: { inside: [] } },
        { type: 'box.updated', data: { id: 2, inside: [1, 2] }, previous: { inside: [1] } },
      ],
    ]);
  });

  it('make one event in a transaction with `coalesce`', async () => {
    const { manager } = app.dataSource;
    const { id } = await manager.save(Shelf, { tags: [{ name: 'a' }] });
    await manager.transaction(async (own) => {
      await own.save(Shelf, { id, tags: [{ name: 'b' }] });
      await own.createQueryBuilder().relation(Shelf, 'tags').of(id).add('c');
    });
    expect((await storedEvents(app)).slice(1)).toEqual([
      { type: 'shelf.updated', data: { id, tags: ['b', 'c'] }, previous: { tags: ['a'] } },
    ]);
  });

  it('make no event if they are ignored, but are in the payload of another event', async () => {
    const { manager } = app.dataSource;
    await manager.save(Quiet, { id: 1, tags: [{ name: 'a' }] });
    await manager.save(Quiet, { id: 1, tags: [] });
    await manager.save(Quiet, { id: 1, title: 'b', tags: [{ name: 'b' }] });
    expect((await storedEvents(app)).slice(1)).toEqual([
      {
        type: 'quiet.updated',
        data: { id: 1, title: 'b', tags: ['b'] },
        previous: { title: 'a', tags: [] },
      },
    ]);
  });

  it("make no event without capture or without TypeORM's hooks, and make one event without a transaction", async () => {
    const { manager } = app.dataSource;
    await manager.insert(Folder, [{ id: 1 }, { id: 2 }, { id: 3 }]);
    await forget();
    const add = () => manager.createQueryBuilder().relation(Folder, 'inside').of(1).add(1);
    await app.webhooks.withoutCapture(add);
    await manager.save(Folder, { id: 1, inside: [] }, { data: { webhooks: false } });
    await manager.save(Folder, { id: 1, inside: [{ id: 2 }] }, { listeners: false });
    expect(await storedEvents(app)).toEqual([]);
    await manager.save(Folder, { id: 1, inside: [{ id: 3 }] }, { transaction: false });
    expect(await storedEvents(app)).toEqual([
      { type: 'folder.updated', data: { id: 1, inside: [3] }, previous: { inside: [2] } },
    ]);
  });

  it('reach listeners whose filter asks for a change of the links', async () => {
    const { manager } = app.dataSource;
    const { id } = await app.listeners.create({
      url: app.receiver.url,
      events: ['album.updated'],
      where: { tags: { changed: true } },
    });
    await manager.insert(Album, { id: '1' });
    await links('1').add('a');
    await app.dispatcher.drain();
    expect(app.receiver.requests.map(({ json }) => json)).toMatchObject([
      { type: 'album.updated', data: { id: '1', tags: ['a'] } },
    ]);
    await app.listeners.sendTest(id, { type: 'album.updated' });
    await app.dispatcher.drain();
    expect(app.receiver.requests.at(-1)?.json).toMatchObject({
      data: { id: '1', tags: ['tags 1'] },
      previous: { tags: ['tags 2'] },
    });
  });

  it('of thousands of rows, written by one statement, make one event for each row', async () => {
    const { manager } = app.dataSource;
    const ids = Array.from({ length: 2_300 }, (_, n) => String(n + 1));
    await app.webhooks.withoutCapture(async () => {
      await manager.insert(
        Album,
        ids.map((id) => ({ id })),
      );
      await manager.insert(
        'album_tags',
        ids.map((album) => ({ album, tag: 'a' })),
      );
    });
    await manager.delete('album_tags', { tag: 'a' });
    const capturedEvents = await storedEvents(app);
    expect(capturedEvents.map(({ data }) => data.id).toSorted()).toEqual(ids.toSorted());
    expect(new Set(capturedEvents.map(({ data, previous }) => JSON.stringify([data.tags, previous])))).toEqual(
      new Set(['[[],{"tags":["a"]}]']),
    );
  });

  it('of one row that many writers change concurrently make consecutive events', async () => {
    await app.dataSource.manager.insert(Album, { id: '1' });
    await forget();
    const names = Array.from({ length: 12 }, (_, n) => `t${n}`);
    await app.dataSource.manager.insert(
      Tag,
      names.map((name) => ({ name })),
    );
    await Promise.all(names.map((name) => links('1').add(name)));
    const capturedEvents = await storedEvents(app);
    expect(capturedEvents).toHaveLength(names.length);
    for (const [n, { previous }] of capturedEvents.entries()) {
      expect(previous).toEqual({ tags: n ? capturedEvents[n - 1]?.data.tags : [] });
    }
    expect(capturedEvents.at(-1)?.data.tags).toEqual(names.toSorted());
  });

  it.each([
    [
      'takes its values from a SELECT',
      () =>
        app.dataSource
          .createQueryBuilder()
          .insert()
          .into('album_tags', ['album', 'tag'])
          .valuesFromSelect((select) => select.select(['1', 'tag.name']).from(Tag, 'tag'))
          .execute(),
    ],
    [
      'sets the owner by an expression',
      () => app.dataSource.manager.insert('album_tags', { album: () => '1', tag: 'b' }),
    ],
    [
      'moves links by an expression',
      () =>
        app.dataSource
          .createQueryBuilder()
          .update('album_tags')
          .set({ album: () => '1' })
          .execute(),
    ],
  ])('are refused, and nothing is written, where a statement %s', async (_, write) => {
    await app.dataSource.manager.insert(Album, [{ id: '1' }, { id: '2' }]);
    await links('2').add('a');
    await forget();
    const before = await app.dataSource.query('SELECT * FROM album_tags');
    await expect(write()).rejects.toMatchObject({ code: 'LINKS_UNKNOWN' });
    expect(await app.dataSource.query('SELECT * FROM album_tags')).toEqual(before);
    expect(await storedEvents(app)).toEqual([]);
  });
});

describe.each(databases.filter(({ name }) => name !== 'sqlite'))(
  'links that others have committed since a transaction began ($name)',
  (database) => {
    let fresh: FreshDatabase;
    let app: TestApp;
    beforeEach(async () => {
      fresh = await database.reuse();
      app = await startApp({ database: fresh.options, entities: [Album], others: [Tag] });
      await app.dataSource.manager.insert(Tag, [{ name: 'a' }, { name: 'b' }]);
      await app.dataSource.manager.insert(Album, [{ id: '1' }, { id: '2' }]);
    });
    afterEach(async () => {
      await app?.close();
      await fresh?.drop();
    });

    it('are captured, because they are links of the row', async () => {
      const { dataSource } = app;
      await dataSource.transaction(async (own) => {
        await own.find(Album);
        await dataSource.createQueryBuilder().relation(Album, 'tags').of('1').add('a');
        await own.createQueryBuilder().relation(Album, 'tags').of('1').add('b');
      });
      expect((await storedEvents(app)).at(-1)).toEqual({
        type: 'album.updated',
        data: { id: '1', tags: ['a', 'b'] },
        previous: { tags: ['a'] },
      });
    });

    it('are captured if they are deleted by a condition', async () => {
      const { dataSource } = app;
      await dataSource.transaction(async (own) => {
        await own.find(Album);
        await dataSource.createQueryBuilder().relation(Album, 'tags').of(['1', '2']).add('a');
        await own.delete('album_tags', { tag: 'a' });
      });
      expect((await storedEvents(app)).slice(-2)).toEqual([
        { type: 'album.updated', data: { id: '1', tags: [] }, previous: { tags: ['a'] } },
        { type: 'album.updated', data: { id: '2', tags: [] }, previous: { tags: ['a'] } },
      ]);
    });
  },
);

describe.each(databases.filter(({ name }) => name === 'postgres'))(
  'a link that another writer adds in between ($name)',
  (database) => {
    it('makes the delete fail that would remove it without an event, and the link stays', async () => {
      const fresh = await database.create();
      const app = await startApp({ database: fresh.options, entities: [Album], others: [Tag] });
      try {
        const { dataSource } = app;
        await dataSource.manager.insert(Tag, { name: 'a' });
        await dataSource.manager.insert(Album, [{ id: '1' }, { id: '2' }]);
        await dataSource.manager.insert('album_tags', { album: '1', tag: 'a' });
        const capturedEvents = await storedEvents(app);
        let hasCome = false;
        dataSource.subscribers.push({
          async beforeQuery({ query }) {
            if (hasCome || !query.startsWith('DELETE FROM "album_tags"')) return;
            hasCome = true;
            await dataSource.query(`INSERT INTO album_tags (album, tag) VALUES (2, 'a')`);
          },
        });
        await expect(dataSource.manager.delete('album_tags', { tag: 'a' })).rejects.toMatchObject({
          code: 'ROWS_MISSED',
        });
        expect(hasCome).toBe(true);
        expect(await dataSource.query('SELECT album FROM album_tags ORDER BY album')).toEqual([
          { album: '1' },
          { album: '2' },
        ]);
        expect(await storedEvents(app)).toEqual(capturedEvents);
      } finally {
        await app.close();
        await fresh.drop();
      }
    });
  },
);

describeDatabases('a junction that is an entity, too', (database) => {
  it('makes an event of its own row and one of the row that owns the link', async () => {
    const fresh = await database.create();
    const app = await startApp({ database: fresh.options, entities: [Album, AlbumTag], others: [Tag] });
    try {
      const { manager } = app.dataSource;
      await manager.insert(Tag, { name: 'a' });
      await manager.insert(Album, { id: '1' });
      await manager.save(AlbumTag, { album: '1', tag: 'a' });
      await manager.delete(AlbumTag, { tag: 'a' });
      const row = { album: '1', tag: 'a' };
      const capturedEvents = await storedEvents(app);
      expect(capturedEvents.slice(0, 1)).toEqual([{ type: 'album.created', data: { id: '1', tags: [] } }]);
      expect(capturedEvents.slice(1)).toHaveLength(4);
      expect(capturedEvents.slice(1)).toEqual(
        expect.arrayContaining([
          { type: 'album_tag.created', data: row },
          { type: 'album.updated', data: { id: '1', tags: ['a'] }, previous: { tags: [] } },
          { type: 'album_tag.deleted', data: row },
          { type: 'album.updated', data: { id: '1', tags: [] }, previous: { tags: ['a'] } },
        ]),
      );
    } finally {
      await app.close();
      await fresh.drop();
    }
  });
});

describe('links in `fields` stop the bootstrap', () => {
  @Entity()
  class Color {
    @PrimaryColumn({ type: 'int' })
    id: number;

    @Column({ type: 'varchar', length: 20, unique: true })
    code: string;

    @ManyToMany(() => Car, (car) => car.colors)
    cars: Relation<Car>[];
  }

  @Entity()
  class Car {
    @PrimaryColumn({ type: 'int' })
    id: number;

    @Column({ type: 'varchar', length: 20, unique: true })
    plate: string;

    @ManyToMany(() => Color, (color) => color.cars)
    @JoinTable()
    colors: Relation<Color>[];

    @ManyToMany(() => Color)
    @JoinTable({ name: 'other', joinColumn: { name: 'plate', referencedColumnName: 'plate' } })
    others: Relation<Color>[];
  }

  it.each([
    [
      "with capture: 'trigger'",
      { entity: Car, fields: ['id', 'colors'], capture: 'trigger' },
      'triggers do not capture',
    ],
    ['from the other side', { entity: Color, fields: ['cars'] }, "name 'colors' in @Webhook() of Car"],
    [
      'that refer to another column than the key',
      { entity: Car, fields: ['others'] },
      'must refer to the primary key and to no other column',
    ],
  ])('%s', async (_, entity, message) => {
    const fresh = await (databases[0] as TestDatabase).create();
    try {
      await expect(
        startApp({ database: fresh.options, entities: [entity as never], others: [Color, Car] }),
      ).rejects.toMatchObject({
        code: 'INVALID_WEBHOOK_OPTIONS',
        message: expect.stringContaining(message) as unknown,
      });
    } finally {
      await fresh.drop();
    }
  });
});
