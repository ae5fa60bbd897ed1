import { ChildEntity, Column, Entity, PrimaryGeneratedColumn, TableInheritance } from 'typeorm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Webhook, WebhookHidden, type CreateListenerInput, type JsonObject, type Where } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

class Address {
  @Column({ type: 'varchar', length: 50, nullable: true })
  city: string | null;

  @Column({ type: 'varchar', length: 50, nullable: true })
  zip: string | null;
}

@Webhook()
@Entity('routing_article')
class Article {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 100, nullable: true })
  name: string | null;

  @Column({ type: 'int', default: 0 })
  stock: number;

  @Column({ type: 'boolean', default: false })
  active: boolean;

  @Column({ type: 'bigint', default: 0 })
  ean: string;

  @Column({ type: 'decimal', precision: 12, scale: 2, default: 0 })
  price: string;

  @Column({ type: 'date', nullable: true })
  since: string | null;

  @Column({ type: 'text', nullable: true })
  text: string | null;

  @Column({ type: 'simple-json', nullable: true })
  extra: JsonObject | null;

  @Column(() => Address)
  address: Address;
}

/** An entity with the same properties as Article. */
@Webhook({ name: 'article_copy' })
@Entity('routing_copy')
class ArticleCopy {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 100, nullable: true })
  name: string | null;

  @Column({ type: 'varchar', length: 20, default: '0' })
  stock: string;
}

@Webhook()
@Entity('routing_animal')
@TableInheritance({ column: { type: 'varchar', name: 'kind' } })
class Animal {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50 })
  name: string;
}

@ChildEntity()
class Dog extends Animal {
  @Column({ type: 'varchar', length: 50, nullable: true })
  breed: string | null;
}

@ChildEntity()
class Puppy extends Dog {
  @Column({ type: 'int', nullable: true })
  weeks: number | null;

  @WebhookHidden()
  @Column({ type: 'varchar', length: 50, nullable: true })
  chip: string | null;
}

@Webhook({ name: 'moggy' })
@ChildEntity()
class Cat extends Animal {
  @Column({ type: 'int', nullable: true })
  lives: number | null;
}

const TEN_KB = 'ä'.repeat(5 * 1024);

describeDatabases('routing', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({
      database: fresh.options,
      entities: [Article, ArticleCopy, Animal],
      others: [Dog, Puppy, Cat],
      webhooks: { publishedTypes: ['invoice.overdue', { type: 'invoice.paid', fields: ['total', 'customer'] }] },
    });
  });
  afterEach(async () => {
    const { items } = await app.listeners.list({ limit: 500 });
    for (const { id } of items) await app.listeners.remove(id);
    await app.dispatcher.drain();
    app.receiver.clear();
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  const listen = (input: Partial<CreateListenerInput>) => app.listeners.create({ ...input, url: app.receiver.url });
  const save = (article: Omit<Partial<Article>, 'address'> & { address?: Partial<Address> }) =>
    app.dataSource.manager.save(Article, article as Article);
  /** Types and ids of the requests since the last call. */
  const sent = async () => {
    await app.dispatcher.drain();
    const stories = app.receiver.requests.map(({ json }) => {
      const { type, data } = json as { type: string; data: JsonObject };
      return `${type} ${String(data.name ?? data.id)}`;
    });
    app.receiver.clear();
    return stories.toSorted();
  };

  describe('a filter', () => {
    const yes = { name: 'yes' };
    const no = { name: 'no' };
    const cases: [what: string, where: Where, matching: object, others: object[]][] = [
      ['a text', { name: 'yes' }, yes, [{ name: 'YES' }, { name: 'yes ' }, { name: 'yés' }, { name: null }]],
      ['a text with separators', { name: 'a:b|c,d' }, { name: 'a:b|c,d' }, [{ name: 'a:b|c' }, { name: 'a' }]],
      ['an int', { stock: 7 }, { ...yes, stock: 7 }, [{ ...no, stock: 70 }]],
      ['an int given as text', { stock: '7.0' }, { ...yes, stock: 7 }, [{ ...no, stock: 70 }]],
      ['a boolean', { active: true }, { ...yes, active: true }, [{ ...no, active: false }]],
      ['false', { active: false }, { ...yes, active: false }, [{ ...no, active: true }]],
      [
        'a bigint beyond 2^53',
        { ean: 9007199254740993n },
        { ...yes, ean: '9007199254740993' },
        [
          { ...no, ean: '9007199254740992' },
          { ...no, ean: '9007199254740994' },
        ],
      ],
      ['a decimal by its value', { price: 10.5 }, { ...yes, price: '10.50' }, [{ ...no, price: '10.05' }]],
      ['a date', { since: '2024-02-29' }, { ...yes, since: '2024-02-29' }, [{ ...no, since: '2024-03-01' }, no]],
      ['null', { since: null }, yes, [{ ...no, since: '2024-03-01' }]],
      [
        'null, of a text',
        { text: null },
        yes,
        [
          { ...no, text: 'null' },
          { ...no, text: '' },
        ],
      ],
      [
        'an embedded, by dots',
        { 'address.city': 'Lyon' },
        { ...yes, address: { city: 'Lyon' } },
        [{ ...no, address: { city: 'lyon' } }, no],
      ],
      [
        'an embedded, nested',
        { address: { city: 'Lyon', zip: '69001' } },
        { ...yes, address: { city: 'Lyon', zip: '69001' } },
        [{ ...no, address: { city: 'Lyon' } }],
      ],
      [
        'a path inside JSON',
        { 'extra.a.b': 1 },
        { ...yes, extra: { a: { b: 1 } } },
        [{ ...no, extra: { a: { b: 2 } } }, { ...no, extra: { a: 1 } }, no],
      ],
      ['one of several texts', { name: { in: ['yes', 'or', null] } }, yes, [no, { name: 'YES' }]],
      ['one of several numbers', { price: { in: [1, '2.00', 3] } }, { ...yes, price: '2' }, [{ ...no, price: '4' }]],
      [
        'a range of numbers',
        { stock: { gt: 1, lte: 10 } },
        { ...yes, stock: 10 },
        [
          { ...no, stock: 1 },
          { ...no, stock: 11 },
        ],
      ],
      [
        'a range of decimals',
        { price: { gte: '9.99', lt: 10 } },
        { ...yes, price: '9.99' },
        [
          { ...no, price: '10.00' },
          { ...no, price: '9.98' },
        ],
      ],
      [
        'a range of bigints',
        { ean: { gt: 9007199254740992n } },
        { ...yes, ean: '9007199254740993' },
        [{ ...no, ean: '9007199254740992' }],
      ],
      [
        'a range of dates',
        { since: { gte: '2024-01-01' } },
        { ...yes, since: '2024-01-01' },
        [{ ...no, since: '2023-12-31' }, no],
      ],
      ['what is there', { text: { exists: true } }, { ...yes, text: 'x' }, [no]],
      ['what is not there', { text: { exists: false } }, yes, [{ ...no, text: '' }]],
      ['what it is not', { name: { ne: 'no' } }, yes, [no]],
      [
        'several properties',
        { name: 'yes', stock: 7 },
        { ...yes, stock: 7 },
        [
          { ...yes, stock: 8 },
          { ...no, stock: 7 },
        ],
      ],
      ['a value of 10 KB', { text: TEN_KB }, { ...yes, text: TEN_KB }, [{ ...no, text: `${TEN_KB.slice(0, -1)}a` }]],
    ];

    it.each(cases)('finds %s, and nothing like it', async (_, where, matching, others) => {
      const { id } = await listen({ events: ['article.*'], where });
      for (const other of others) await save(other);
      expect(await sent()).toEqual([]);
      const row = await save(matching);
      expect(await sent()).toEqual([`article.created ${row.name ?? ''}`]);
      // Compare the filter as it was given, and after it was read from the database.
      await app.listeners.update(id, { where: (await app.listeners.get(id)).where });
      for (const other of others) await save(other);
      expect(await sent()).toEqual([]);
      await app.dataSource.manager.remove(Article, row);
      expect(await sent()).toEqual([`article.deleted ${row.name ?? ''}`]);
    });

    it('finds changes of any kind, from a value, and to a value', async () => {
      const url = (label: string) => `${app.receiver.url}?l=${label}`;
      const conditions: Record<string, Where> = {
        changed: { stock: { changed: true } },
        unchanged: { stock: { changed: false } },
        from: { stock: { changedFrom: 1 } },
        to: { stock: { changedTo: '2' } },
        both: { price: { changedFrom: '1.00', changedTo: 2 } },
        embedded: { 'address.city': { changedTo: 'Lyon' } },
        cleared: { since: { changedTo: null } },
      };
      const row = await save({ ...yes, stock: 1, price: '1', since: '2024-01-01' });
      await sent();
      for (const [label, where] of Object.entries(conditions)) {
        await app.listeners.create({ events: ['article.*'], where, url: url(label) });
      }
      const listenersOf = async (change: object) => {
        await save({ id: row.id, ...change });
        await app.dispatcher.drain();
        const received = app.receiver.requests.map((request) => request.url.split('l=')[1]).toSorted();
        app.receiver.clear();
        return received;
      };
      expect(await listenersOf({ stock: 2 })).toEqual(['changed', 'from', 'to']);
      expect(await listenersOf({ name: 'still 2' })).toEqual(['unchanged']);
      expect(await listenersOf({ stock: 3 })).toEqual(['changed']);
      expect(await listenersOf({ price: '2.00' })).toEqual(['both', 'unchanged']);
      expect(await listenersOf({ address: { city: 'Lyon' } })).toEqual(['embedded', 'unchanged']);
      expect(await listenersOf({ since: null })).toEqual(['cleared', 'unchanged']);
      await save({ name: 'new', stock: 2 });
      await app.dispatcher.drain();
      expect(app.receiver.requests.map((request) => request.url.split('l=')[1])).toEqual(['unchanged']);
    });

    it('on one type never matches another with the same property', async () => {
      await listen({ events: ['article.*'], where: { name: 'yes', stock: 7 } });
      await app.dataSource.manager.save(ArticleCopy, { name: 'yes', stock: '7' });
      expect(await sent()).toEqual([]);
      await save({ ...yes, stock: 7 });
      expect(await sent()).toEqual(['article.created yes']);
    });

    it('on types that store a property differently compares each type with its own values', async () => {
      await listen({ events: ['article.created', 'article_copy.created'], where: { name: 'yes' } });
      await save(yes);
      await app.dataSource.manager.save(ArticleCopy, yes);
      await app.dataSource.manager.save(Animal, yes);
      expect(await sent()).toEqual(['article.created yes', 'article_copy.created yes']);
    });
  });

  describe('the short form { entity, property, value }', () => {
    it('matches every event of rows that have the value', async () => {
      await listen({ entity: Article, property: 'name', value: 'john' });
      const john = await save({ name: 'john' });
      await save({ name: 'John' });
      await save({ name: 'jane' });
      expect(await sent()).toEqual(['article.created john']);
      await save({ id: john.id, stock: 1 });
      await app.dataSource.manager.remove(Article, john);
      expect(await sent()).toEqual(['article.deleted john', 'article.updated john']);
    });

    it.each([{}, { property: '' }, { property: '', value: '' }])(
      'without a property it is every instance: %j',
      async (form) => {
        await listen({ entity: 'Article', ...form });
        await save({ name: 'a' });
        await save({ name: 'b' });
        await app.dataSource.manager.save(ArticleCopy, { name: 'c' });
        expect(await sent()).toEqual(['article.created a', 'article.created b']);
      },
    );

    it('accepts an entity as class, class name or event name', async () => {
      for (const entity of [ArticleCopy, 'ArticleCopy', 'article_copy']) {
        expect((await listen({ entity })).events).toEqual(['article_copy.*']);
      }
    });
  });

  it('a prefix matches every type below it and no other; * matches all', async () => {
    await listen({ events: ['article.*'] });
    await save({ name: 'a' });
    await app.dataSource.manager.save(ArticleCopy, { name: 'c' });
    expect(await sent()).toEqual(['article.created a']);
    await listen({ events: ['*'] });
    await app.webhooks.publish('invoice.overdue', { name: 'i' });
    await app.dataSource.manager.save(ArticleCopy, { name: 'c' });
    expect(await sent()).toEqual(['article_copy.created c', 'invoice.overdue i']);
  });

  it('filters published events by declared properties, or by any property if none are declared', async () => {
    await listen({ events: ['invoice.paid'], where: { 'customer.name': 'acme' } });
    await listen({ events: ['invoice.paid'], where: { total: 5 } });
    await listen({ events: ['invoice.overdue'], where: { 'any.thing': { gte: 2 } } });
    await expect(listen({ events: ['invoice.paid'], where: { nothing: 1 } })).rejects.toMatchObject({
      code: 'UNKNOWN_PROPERTY',
    });
    await app.webhooks.publish('invoice.paid', { name: 'a', customer: { name: 'acme' }, total: 1 });
    await app.webhooks.publish('invoice.paid', { name: 'b', customer: 'acme', total: 5 });
    await app.webhooks.publish('invoice.paid', { name: 'c', total: 50 });
    await app.webhooks.publish('invoice.overdue', { name: 'd', any: { thing: 2 } });
    await app.webhooks.publish('invoice.overdue', { name: 'e', any: { thing: '3' } });
    expect(await sent()).toEqual(['invoice.overdue d', 'invoice.paid a', 'invoice.paid b']);
  });

  describe('single-table inheritance', () => {
    it('a child has its own event name, and a listener for the parent receives its events, too', async () => {
      const url = (label: string) => `${app.receiver.url}?l=${label}`;
      for (const entity of [Animal, Dog, Puppy, Cat]) await app.listeners.create({ entity, url: url(entity.name) });
      await app.listeners.create({ entity: Animal, where: { breed: 'collie' }, url: url('collies') });
      await app.listeners.create({ events: ['animal.created'], where: { name: 'Tom' }, url: url('Toms') });
      await app.listeners.create({ events: ['dog.*', 'animal.*', '*'], url: url('all') });
      const { manager } = app.dataSource;
      await manager.save(Animal, { name: 'Nemo' });
      await manager.save(Dog, { name: 'Lassie', breed: 'collie' });
      await manager.save(Puppy, { name: 'Rex', weeks: 8, chip: 'secret' });
      await manager.save(Cat, { name: 'Tom', lives: 9 });
      await app.dispatcher.drain();
      const received: Record<string, string[]> = {};
      for (const { url: target, json } of app.receiver.requests) {
        (received[target.split('l=')[1] ?? ''] ??= []).push((json as { type: string }).type);
      }
      for (const types of Object.values(received)) types.sort();
      expect(received).toEqual({
        Animal: ['animal.created', 'dog.created', 'moggy.created', 'puppy.created'],
        Dog: ['dog.created', 'puppy.created'],
        Puppy: ['puppy.created'],
        Cat: ['moggy.created'],
        collies: ['dog.created'],
        Toms: ['moggy.created'],
        all: ['animal.created', 'dog.created', 'moggy.created', 'puppy.created'],
      });
    });

    it('the payload has the properties of the entity and its parents, never those of its children', async () => {
      await listen({ entity: Animal });
      const { manager } = app.dataSource;
      await manager.save(Animal, { name: 'Nemo' });
      const { id } = await manager.save(Puppy, { name: 'Rex', weeks: 8, chip: 'secret' });
      // Written through the parent: the discriminator of the row names the entity, whose hidden properties apply.
      await manager.save(Animal, { id, name: 'Max' });
      await app.dispatcher.drain();
      const bodies = app.receiver.requests.map(({ json }) => json as { type: string; data: JsonObject });
      expect(bodies.map(({ type, data }) => [type, Object.keys(data)])).toEqual([
        ['animal.created', ['id', 'name']],
        ['puppy.created', ['id', 'name', 'breed', 'weeks']],
        ['puppy.updated', ['id', 'name', 'breed', 'weeks']],
      ]);
    });
  });

  describe('a listener that changes', () => {
    it('receives by its new filter and patterns immediately, and no longer by the old ones', async () => {
      const { id } = await listen({ events: ['article.created'], where: { name: 'a' } });
      await app.listeners.update(id, { where: { name: 'b' } });
      await save({ name: 'a' });
      await save({ name: 'b' });
      expect(await sent()).toEqual(['article.created b']);
      await app.listeners.update(id, { events: ['article_copy.*'] });
      await save({ name: 'b' });
      await app.dataSource.manager.save(ArticleCopy, { name: 'b' });
      expect(await sent()).toEqual(['article_copy.created b']);
      await app.listeners.update(id, { where: {} });
      await app.dataSource.manager.save(ArticleCopy, { name: 'c' });
      expect(await sent()).toEqual(['article_copy.created c']);
    });

    it('keeps its routes if other properties change', async () => {
      const { id } = await listen({ events: ['article.created'], where: { name: 'a' } });
      await app.listeners.update(id, {
        description: 'still',
        headers: { 'x-team': 'a' },
        url: `${app.receiver.url}/new`,
      });
      await save({ name: 'a' });
      await app.dispatcher.drain();
      expect(app.receiver.requests.map((request) => [request.url, request.headers['x-team']])).toEqual([
        ['/hooks/new', 'a'],
      ]);
    });

    it('holds pending and new deliveries while it is disabled, and sends them when it is enabled', async () => {
      const { id } = await listen({ entity: Article });
      await save({ name: 'waits' });
      await app.dispatcher.runOnce();
      app.receiver.clear();
      const waiting = await save({ name: 'held' });
      app.receiver.respond([{ status: 500 }]);
      await app.dispatcher.drain();
      app.receiver.clear();
      expect(await app.listeners.disable(id, 'a pause')).toMatchObject({
        state: 'disabled',
        disabledReason: 'a pause',
      });
      await save({ id: waiting.id, name: 'meanwhile' });
      app.clock.advance(60 * 60 * 1_000);
      expect(await sent()).toEqual([]);
      expect(await app.listeners.enable(id)).toMatchObject({ state: 'active', disabledReason: null });
      expect((await sent()).toSorted()).toEqual(['article.created held', 'article.updated meanwhile']);
      await save({ name: 'next' });
      expect(await sent()).toEqual(['article.created next']);
    });

    it('gets no held delivery if it is enabled with held: discard', async () => {
      const { id } = await listen({ entity: Article });
      await app.listeners.disable(id);
      await save({ name: 'held' });
      expect(await sent()).toEqual([]);
      await app.listeners.enable(id, { held: 'discard' });
      expect(await sent()).toEqual([]);
      await save({ name: 'next' });
      expect(await sent()).toEqual(['article.created next']);
      expect(await app.deliveries.counts({ listenerId: id })).toMatchObject({ discarded: 1, succeeded: 1 });
    });

    it('gets no more requests after it is removed', async () => {
      const { id } = await listen({ entity: Article });
      await app.listeners.remove(id);
      await save({ name: 'a' });
      expect(await sent()).toEqual([]);
      await expect(app.listeners.get(id)).rejects.toMatchObject({ code: 'LISTENER_NOT_FOUND' });
      await expect(app.listeners.remove(id)).rejects.toMatchObject({ code: 'LISTENER_NOT_FOUND' });
      await expect(app.listeners.enable(id)).rejects.toMatchObject({ code: 'LISTENER_NOT_FOUND' });
    });
  });

  it('a listener that another process created just before the event receives the event', async () => {
    await listen({ entity: ArticleCopy });
    await app.dataSource.manager.save(ArticleCopy, { name: 'warm' });
    expect(await sent()).toEqual(['article_copy.created warm']);
    const other = await startApp({
      database: { ...fresh.options, synchronize: false },
      entities: [Article, ArticleCopy, Animal],
      others: [Dog, Puppy, Cat],
    });
    try {
      // No listener has used this pair of pattern and path before.
      const { id } = await other.listeners.create({
        events: ['article.created'],
        where: { 'address.zip': '1' },
        url: app.receiver.url,
      });
      await save({ name: 'a', address: { zip: '1' } });
      expect(await sent()).toEqual(['article.created a']);
      await other.listeners.update(id, { where: { 'address.zip': '2' } });
      await save({ name: 'a', address: { zip: '1' } });
      await save({ name: 'b', address: { zip: '2' } });
      expect(await sent()).toEqual(['article.created b']);
      await other.listeners.disable(id);
      await save({ name: 'b', address: { zip: '2' } });
      expect(await sent()).toEqual([]);
    } finally {
      await other.close();
    }
  });
});
