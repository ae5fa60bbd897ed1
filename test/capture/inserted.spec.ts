import { randomUUID } from 'node:crypto';
import {
  Column,
  CreateDateColumn,
  Entity,
  ManyToOne,
  PrimaryColumn,
  PrimaryGeneratedColumn,
  VersionColumn,
  type EntitySubscriberInterface,
  type InsertEvent,
  type Logger,
  type Relation,
} from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

@Webhook()
@Entity('depot')
class Depot {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 20 })
  town: string;
}

@Webhook()
@Entity('parcel')
class Parcel {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 20 })
  label: string;

  @Column({ type: 'int' })
  weight: number;

  @Column({ type: 'decimal', precision: 10, scale: 2 })
  price: string;

  @Column({ type: 'uuid' })
  token: string;

  @Column({ type: 'boolean' })
  fragile: boolean;

  @Column({ type: 'varchar', length: 10, default: 'new' })
  state: string;

  @Column({ type: 'varchar', length: 20, nullable: true })
  note: string | null;

  @ManyToOne(() => Depot, { cascade: ['insert'], nullable: true })
  depot: Relation<Depot> | null;

  @CreateDateColumn()
  madeAt: Date;

  @VersionColumn()
  version: number;
}

@Webhook({ readInserted: true })
@Entity('letter')
class Letter {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 20 })
  text: string;
}

/** TypeORM reads the row after the insert, because of its default. */
@Webhook()
@Entity('crate')
class Crate {
  @PrimaryColumn({ type: 'bigint' })
  id: string;

  @Column({ type: 'boolean', default: false })
  fragile: boolean;

  /** SQLite may change its digits, so the row is read for the event. */
  @Column({ type: 'decimal', precision: 20, scale: 6 })
  weight: string;
}

const isRead = (query: string) => /^SELECT\b.*\bFROM\s+\S*(?:parcel|depot|letter)\S*\s+.e.\s/is.test(query);

/** Counts the reads of capture, which use the table alias `e`. */
class Reads implements Partial<Logger> {
  queries: string[] = [];
  logQuery(query: string): void {
    if (isRead(query)) this.queries.push(query);
  }
  logQueryError(): void {}
  logQuerySlow(): void {}
  logSchemaBuild(): void {}
  logMigration(): void {}
  log(): void {}
}

describeDatabases('an inserted row', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let reads: Reads;
  beforeEach(async () => {
    fresh = await database.reuse();
    reads = new Reads();
    app = await startApp({
      database: { ...fresh.options, logger: reads as Logger, logging: ['query'] },
      entities: [Depot, Parcel, Letter, Crate],
    });
  });
  afterEach(async () => {
    await app.close();
    await fresh.drop();
  });

  const complete = (): Partial<Parcel> => ({
    label: 'book',
    weight: 7,
    price: '12.5',
    token: randomUUID(),
    fragile: false,
    state: 'new',
    note: null,
    depot: null,
  });
  const save = (parcel: Partial<Parcel>) => app.dataSource.manager.save(app.dataSource.manager.create(Parcel, parcel));
  const capturedEvents = async () => (await storedEvents(app)).map(({ data }) => data);

  /** The payload, and the payload that a read of the row would give. */
  async function expectTruth(event: Record<string, unknown> | undefined, row: Parcel): Promise<void> {
    const found = await app.dataSource.manager.findOneOrFail(Parcel, {
      where: { id: row.id },
      relations: { depot: true },
    });
    expect(event).toEqual({
      ...found,
      price: Number(found.price).toFixed(2),
      depot: found.depot?.id ?? null,
      madeAt: found.madeAt.toISOString(),
    });
  }

  it('is not read again if all values of the event were sent, or fetched by TypeORM', async () => {
    const parcel = await save(complete());
    const [event] = await capturedEvents();
    expect(reads.queries).toEqual([]);
    await expectTruth(event, parcel);
  });

  it('has its event if its key has more digits than a number, and TypeORM reads it', async () => {
    const { manager } = app.dataSource;
    await manager.save(manager.create(Crate, { id: '9007199254740993', weight: '0.500000' }));
    expect(await capturedEvents()).toEqual([{ id: '9007199254740993', fragile: false, weight: '0.500000' }]);
  });

  it('is not read again for rows of an array, nor for the id of a related row', async () => {
    const depot = app.dataSource.manager.create(Depot, { town: 'Bern' });
    const parcels = [complete(), { ...complete(), label: 'lamp', depot }].map((parcel) =>
      app.dataSource.manager.create(Parcel, parcel),
    );
    await app.dataSource.manager.save(parcels);
    expect(reads.queries).toEqual([]);
    const events = await capturedEvents();
    for (const parcel of parcels) {
      await expectTruth(
        events.find(({ label }) => label === parcel.label),
        parcel,
      );
    }
    expect(events.find(({ label }) => label === 'lamp')?.depot).toBe(parcels[1]?.depot?.id);
  });

  it.each<[string, Partial<Parcel>]>([
    ['leaves a column to the database', { note: undefined as never }],
    ['writes a decimal with more digits than are kept', { price: '12.345' }],
    ['writes a decimal as a number', { price: 12.5 as never }],
    ['writes a number as text', { weight: '7' as never }],
    ['writes a uuid in capitals', { token: '6F9619FF-8B86-4D01-B42D-00CF4FC964FF' }],
    ['writes half of a surrogate pair', { label: 'half \ud83d' }],
  ])('is read again when the writer %s', async (_, part) => {
    // SQLite stores some of these values unchanged. Only the payload matters here.
    const parcel = await save({ ...complete(), ...part });
    const [event] = await capturedEvents();
    const found = await app.dataSource.manager.findOneByOrFail(Parcel, { id: parcel.id });
    expect(reads.queries).toHaveLength(1);
    expect(event).toMatchObject({ weight: found.weight, token: found.token, note: found.note, label: found.label });
    expect(event?.price).toBe(database.name === 'sqlite' ? event?.price : found.price);
  });

  it('has the value of a default that only the table knows', async () => {
    const { driver } = app.dataSource;
    const [table, column] = [driver.escape('parcel'), driver.escape('note')];
    if (database.name === 'sqlite') {
      await app.dataSource.query(`ALTER TABLE ${table} DROP COLUMN ${column}`);
      await app.dataSource.query(`ALTER TABLE ${table} ADD COLUMN ${column} varchar(20) DEFAULT 'from the table'`);
    } else await app.dataSource.query(`ALTER TABLE ${table} ALTER COLUMN ${column} SET DEFAULT 'from the table'`);
    await save({ ...complete(), note: undefined as never });
    // On SQLite, TypeORM writes NULL instead of the keyword DEFAULT.
    expect(await capturedEvents()).toMatchObject([{ note: database.name === 'sqlite' ? null : 'from the table' }]);
  });

  it('has the stored values if a subscriber changes the entity before the insert and back after it', async () => {
    const later = () => new Promise<void>((resolve) => setImmediate(resolve));
    const sealing: EntitySubscriberInterface<Parcel> = {
      listenTo: () => Parcel,
      async beforeInsert({ entity }: InsertEvent<Parcel>) {
        await later();
        entity.label = 'sealed';
      },
      afterInsert({ entity }: InsertEvent<Parcel>) {
        entity.label = 'book';
      },
    };
    (app.dataSource.subscribers as EntitySubscriberInterface[]).unshift(sealing);
    await save(complete());
    expect(await capturedEvents()).toMatchObject([{ label: 'sealed' }]);
  });

  it('keeps its image if the row changes again in the same transaction', async () => {
    await app.dataSource.transaction(async (manager) => {
      const parcel = await manager.save(manager.create(Parcel, complete()));
      await manager.save(Parcel, { ...parcel, label: 'lamp' });
    });
    expect(await capturedEvents()).toMatchObject([{ label: 'book' }, { label: 'lamp' }]);
  });

  describe('of a table whose trigger changes inserted values', () => {
    beforeEach(async () => {
      const statements = {
        sqlite: [
          `CREATE TRIGGER shout AFTER INSERT ON letter BEGIN UPDATE letter SET text = upper(NEW.text) WHERE id = NEW.id; END`,
        ],
        postgres: [
          `CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.text = upper(NEW.text); RETURN NEW; END $$`,
          `CREATE TRIGGER shout BEFORE INSERT ON letter FOR EACH ROW EXECUTE FUNCTION shout()`,
        ],
        mysql: [`CREATE TRIGGER shout BEFORE INSERT ON letter FOR EACH ROW SET NEW.text = upper(NEW.text)`],
      };
      const family = database.name === 'sqlite' || database.name === 'postgres' ? database.name : 'mysql';
      for (const statement of statements[family]) await app.dataSource.query(statement);
    });

    it('is read again with `readInserted`', async () => {
      await app.dataSource.manager.save(Letter, { text: 'hello' });
      expect(await capturedEvents()).toMatchObject([{ text: 'HELLO' }]);
      expect(reads.queries).toHaveLength(1);
    });
  });
});
