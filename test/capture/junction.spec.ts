import { Column, Entity, JoinTable, ManyToMany, PrimaryColumn, PrimaryGeneratedColumn } from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

@Entity()
class Tag {
  @PrimaryColumn({ type: 'varchar', length: 20 })
  name: string;
}

/** Its functions are shown the whole row. */
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

/** A key of two parts, by which rows are read through a query builder. */
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

describeDatabases('a row whose links stand in a junction', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  beforeEach(async () => {
    fresh = await database.create();
    app = await startApp({ database: fresh.options, entities: [Post, Page], others: [Tag] });
    await app.dataSource.manager.insert(Tag, [{ name: 'new' }, { name: 'old' }]);
  });
  afterEach(async () => {
    await app?.close();
    await fresh?.drop();
  });

  const told = async () => (await storedEvents(app)).map(({ type, data }) => `${type} ${String(data.title)}`);

  it.each([
    ['is told of where functions see all of it', Post, { title: 'first' }],
    ['is told of where its key has several parts', Page, { book: 'b', number: 1, title: 'first' }],
  ])('%s', async (_, entity, values) => {
    const rows = app.dataSource.getRepository<Post | Page>(entity);
    const row = await rows.save(rows.create({ ...values, tags: [{ name: 'new' }] }));
    row.title = 'second';
    row.tags = [{ name: 'old' }];
    await rows.save(row);
    await rows.update({ title: 'second' }, { title: 'third' });
    await rows.remove(row);
    await rows.insert({ ...values, title: 'fourth' });
    await rows.delete({ title: 'fourth' });
    const name = entity.name.toLowerCase();
    expect(await told()).toEqual([
      `${name}.created first`,
      `${name}.updated second`,
      `${name}.updated third`,
      `${name}.deleted third`,
      `${name}.created fourth`,
      `${name}.deleted fourth`,
    ]);
  });
});
