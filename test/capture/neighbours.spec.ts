import {
  ChildEntity,
  Column,
  Entity,
  PrimaryColumn,
  PrimaryGeneratedColumn,
  TableInheritance,
  type EntityManager,
  type EntitySubscriberInterface,
} from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

@Webhook()
@Entity()
class Vehicle {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20 })
  name: string;
}

/** Extends the other class, and has a separate table. */
@Webhook()
@Entity()
class Truck extends Vehicle {
  @Column({ type: 'int', default: 0 })
  axles: number;
}

@Webhook()
@Entity()
@TableInheritance({ column: { type: 'varchar', name: 'kind', length: 20 } })
class Animal {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 20 })
  name: string;
}

@Webhook()
@ChildEntity()
class Dog extends Animal {}

@Webhook()
@ChildEntity()
class Cat extends Animal {}

/** Its images are read when its events are written. */
@Webhook({ readInserted: true })
@Entity()
class Parcel {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20 })
  name: string;
}

@Webhook({ readInserted: true })
@Entity()
class Letter {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20 })
  name: string;
}

describeDatabases('a write beside others', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  beforeEach(async () => {
    fresh = await database.reuse();
    app = await startApp({ database: fresh.options, entities: [Vehicle, Truck, Animal, Dog, Cat, Parcel, Letter] });
  });
  afterEach(async () => {
    await app?.close();
    await fresh?.drop();
  });

  const capturedEvents = async () => (await storedEvents(app)).map(({ type, data }) => `${type} ${String(data.name)}`);

  it('that a subscriber makes while a save() sends a statement is captured, too', async () => {
    const { dataSource } = app;
    await dataSource.manager.insert(Truck, { id: 1, name: 'truck', axles: 3 });
    const replacing: EntitySubscriberInterface = {
      async beforeQuery({ query, manager }: { query: string; manager: EntityManager }) {
        if (/^insert into .vehicle/i.test(query)) await manager.delete(Truck, { id: 1 });
      },
    };
    (dataSource.subscribers as EntitySubscriberInterface[]).push(replacing);
    await dataSource.manager.save(Vehicle, { id: 1, name: 'bike' });
    expect((await capturedEvents()).toSorted()).toEqual([
      'truck.created truck',
      'truck.deleted truck',
      'vehicle.created bike',
    ]);
  });

  it.each<[string, (manager: EntityManager) => Promise<unknown>, string]>([
    ['images of another table are', (manager) => manager.insert(Letter, { id: 2, name: 'second' }), 'letter.created'],
    ['images of the same table are', (manager) => manager.insert(Parcel, { id: 2, name: 'second' }), 'parcel.created'],
    ['the image of the same row is', (manager) => manager.update(Parcel, 1, { name: 'second' }), 'parcel.updated'],
  ])('that is made while %s read has its own event', async (_, write, type) => {
    const { dataSource } = app;
    let isMade = false;
    const writing: EntitySubscriberInterface = {
      async beforeQuery({ query, manager }: { query: string; manager: EntityManager }) {
        // Reads of images have this alias.
        if (isMade || !/^select .* from .parcel. .e. /i.test(query)) return;
        isMade = true;
        await write(manager);
      },
    };
    (dataSource.subscribers as EntitySubscriberInterface[]).push(writing);
    await dataSource.transaction(async (manager) => {
      await manager.insert(Parcel, { id: 1, name: 'first' });
      // Pending events are written before a statement that may change what table names mean.
      await manager.query("SELECT 'a statement with search_path' AS text");
    });
    expect(isMade).toBe(true);
    expect((await capturedEvents()).toSorted()).toEqual(['parcel.created first', `${type} second`].toSorted());
  });

  describe('that a hook makes when its transaction ends', () => {
    /** Makes a hook insert a letter before statements that match. */
    const insertBefore = (statement: RegExp, most: number) => {
      const made: number[] = [];
      const writing: EntitySubscriberInterface = {
        async beforeQuery({ query, manager }: { query: string; manager: EntityManager }) {
          if (made.length === most || !statement.test(query)) return;
          const id = made.push(made.length);
          await manager.insert(Letter, { id, name: `letter ${id}` });
        },
      };
      (app.dataSource.subscribers as EntitySubscriberInterface[]).push(writing);
      return made;
    };

    it.each([
      ['while the events are stored', /insert into .webhook_events/i, 2],
      ['before the COMMIT is sent', /^commit/i, 1],
      ['before a SAVEPOINT is sent, although that is rolled back', /^savepoint/i, 1],
    ])('has its own event if it makes it %s', async (_, statement, count) => {
      const made = insertBefore(statement, count);
      await app.dataSource.transaction(async (manager) => {
        await manager.insert(Parcel, { id: 1, name: 'parcel' });
        const nested = manager.transaction(() => Promise.reject(new Error('undone')));
        await expect(nested).rejects.toThrow('undone');
      });
      const letters = made.map((_, n) => `letter.created letter ${n + 1}`);
      expect(letters).toHaveLength(count);
      expect((await capturedEvents()).toSorted()).toEqual([...letters, 'parcel.created parcel']);
    });

    it('has its own event if there is no other', async () => {
      insertBefore(/^commit/i, 1);
      await app.dataSource.transaction((manager) => manager.query('SELECT 1 AS one'));
      expect(await capturedEvents()).toEqual(['letter.created letter 1']);
    });

    it('makes the COMMIT fail if it makes another one each time events are stored', async () => {
      insertBefore(/insert into .webhook_events/i, Infinity);
      const { dataSource } = app;
      const committed = dataSource.transaction((manager) => manager.insert(Parcel, { id: 1, name: 'parcel' }));
      await expect(committed).rejects.toMatchObject({ code: 'WEBHOOK_LOOP' });
      expect(await dataSource.manager.count(Letter)).toBe(0);
      expect(await capturedEvents()).toEqual([]);
    });
  });

  it('of an entity makes no event of a subclass with a separate table', async () => {
    const { manager } = app.dataSource;
    await manager.insert(Vehicle, { id: 1, name: 'bike' });
    await manager.insert(Truck, { id: 1, name: 'truck', axles: 3 });
    await manager.update(Vehicle, { id: 1 }, { name: 'e-bike' });
    await manager.delete(Vehicle, { id: 1 });
    await manager.update(Truck, { id: 1 }, { axles: 4 });
    expect(await capturedEvents()).toEqual([
      'vehicle.created bike',
      'truck.created truck',
      'vehicle.updated e-bike',
      'vehicle.deleted e-bike',
      'truck.updated truck',
    ]);
  });

  it('that is not captured does not change the image of an earlier captured write', async () => {
    await app.dataSource.transaction(async (manager) => {
      const vehicle = await manager.save(Vehicle, { id: 7, name: 'new' });
      await manager.save(Vehicle, { ...vehicle, name: 'captured' });
      await app.webhooks.withoutCapture(() => manager.delete(Vehicle, { id: 7 }));
    });
    expect(await capturedEvents()).toEqual(['vehicle.created new', 'vehicle.updated captured']);
  });

  // On MySQL and MariaDB, TRUNCATE is not transactional, so clear() is not captured and logs a warning.
  it.skipIf(database.name !== 'sqlite' && database.name !== 'postgres')(
    'that empties a single table is captured for every entity in it',
    async () => {
      const { manager } = app.dataSource;
      await manager.save([manager.create(Dog, { name: 'rex' }), manager.create(Cat, { name: 'tom' })]);
      await manager.clear(Dog);
      expect((await capturedEvents()).slice(2).toSorted()).toEqual(['cat.deleted tom', 'dog.deleted rex']);
    },
  );
});
