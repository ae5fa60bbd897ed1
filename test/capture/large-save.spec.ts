import { Column, Entity, PrimaryColumn, PrimaryGeneratedColumn, type Logger } from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

const ROWS = 1_000;
/** 1,000 rows by the numbers that capture works with: one read for all of them, 100 events an insert. What was inserted whole is not read. */
const READS = 1;
const INSERTS = 10;
/** A key of two parts is read by TypeORM's query builder, 500 rows at once. */
const READS_OF_TWO_PARTS = 2;
/** TypeORM's own statements for more rows than this are too deep for SQLite; all chunks are in one transaction. */
const IN_CHUNKS = { chunk: 400 };
const CHUNKS = 3;

@Webhook()
@Entity('parcel')
class Parcel {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'int' })
  number: number;
}

@Webhook()
@Entity('slot')
class Slot {
  @PrimaryColumn({ type: 'int' })
  shelf: number;

  @PrimaryColumn({ type: 'varchar', length: 10 })
  place: string;

  @Column({ type: 'int' })
  number: number;
}

/** How often `when` of a late row still throws. */
let refusals = 0;

@Webhook({
  when: ({ number }: Picky) => {
    if (number === ROWS - 1 && refusals-- > 0) throw new Error('not yet');
    return true;
  },
})
@Entity('picky')
class Picky {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'int' })
  number: number;
}

/** Counts what capture asks of the writer's connection. */
class Counter implements Partial<Logger> {
  reads = 0;
  inserts = 0;

  logQuery(query: string): void {
    if (/^SELECT\b.*\bFROM\s+\S*(?:parcel|slot)\S*\s+.e.\s/is.test(query)) this.reads++;
    if (/^insert into\b.*webhook_events/is.test(query)) this.inserts++;
  }

  logQueryError(): void {}
  logQuerySlow(): void {}
  logSchemaBuild(): void {}
  logMigration(): void {}
  log(): void {}
}

describeDatabases('a thousand rows in one transaction', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let counter: Counter;

  beforeEach(async () => {
    fresh = await database.create();
    counter = new Counter();
    app = await startApp({
      database: { ...fresh.options, logging: ['query'], logger: counter as Logger } as typeof fresh.options,
      entities: [Parcel, Slot, Picky],
    });
  });
  afterEach(async () => {
    await app.close();
    await fresh.drop();
  });

  const numbers = Array.from({ length: ROWS }, (_, number) => number);
  const told = async (from = 0) => {
    const events = (await storedEvents(app)).slice(from);
    return { types: [...new Set(events.map(({ type }) => type))], numbers: events.map(({ data }) => data.number) };
  };
  const counted = () => ({ reads: counter.reads, inserts: counter.inserts });

  it('make a thousand events in their order, in a bounded number of statements: created, updated, deleted', async () => {
    const parcels = app.dataSource.getRepository(Parcel);
    const rows = await parcels.save(numbers.map((number) => ({ number })));
    expect(await told()).toEqual({ types: ['parcel.created'], numbers });
    expect(counted()).toEqual({ reads: 0, inserts: INSERTS });

    await parcels.save(rows.map(({ id, number }) => ({ id, number: number + ROWS })));
    expect(await told(ROWS)).toEqual({ types: ['parcel.updated'], numbers: numbers.map((number) => number + ROWS) });
    // All are locked by one statement, and read after it by another.
    expect(counted()).toEqual({ reads: 2 * READS, inserts: 2 * INSERTS });

    await parcels.remove(await parcels.find({ order: { id: 'ASC' } }), IN_CHUNKS);
    expect(await told(2 * ROWS)).toEqual({
      types: ['parcel.deleted'],
      numbers: numbers.map((number) => number + ROWS),
    });
    // What is removed is locked, and not read again.
    expect(counted()).toEqual({ reads: 2 * READS + CHUNKS, inserts: 3 * INSERTS });
  });

  it('are locked one by one, and read together at the commit, when each is saved by a call of its own', async () => {
    const parcels = await app.dataSource.getRepository(Parcel).save(numbers.map((number) => ({ number })));
    Object.assign(counter, { reads: 0, inserts: 0 });
    await app.dataSource.transaction(async (manager) => {
      for (const { id, number } of parcels) await manager.save(Parcel, { id, number: number + ROWS });
      // Each call locks its row.
      expect(counted()).toEqual({ reads: ROWS, inserts: 0 });
    });
    expect(await told(ROWS)).toEqual({ types: ['parcel.updated'], numbers: numbers.map((number) => number + ROWS) });
    // PostgreSQL returns a row with the statement that writes it.
    const readsAfter = database.name === 'postgres' ? 0 : READS;
    expect(counted()).toEqual({ reads: ROWS + readsAfter, inserts: INSERTS });
  });

  it('cost the same when their key has two parts', async () => {
    const slots = numbers.map((number) => ({ shelf: 1, place: `p${number}`, number }));
    await app.dataSource.getRepository(Slot).save(slots, IN_CHUNKS);
    expect(await told()).toEqual({ types: ['slot.created'], numbers });
    await app.dataSource.getRepository(Slot).save(
      slots.map((slot) => ({ ...slot, number: slot.number + ROWS })),
      IN_CHUNKS,
    );
    expect(await told(ROWS)).toEqual({ types: ['slot.updated'], numbers: numbers.map((number) => number + ROWS) });
    expect(counted()).toEqual({ reads: CHUNKS + READS_OF_TWO_PARTS, inserts: 2 * INSERTS });
  });

  it('are each told once when a COMMIT fails half way through them and is tried again', async () => {
    refusals = 1;
    const runner = app.dataSource.createQueryRunner();
    try {
      await runner.startTransaction();
      const rows = runner.manager.create(
        Picky,
        numbers.map((number) => ({ number })),
      );
      await runner.manager.save(rows);
      await expect(runner.commitTransaction()).rejects.toMatchObject({ code: 'WHEN_FAILED' });
      await runner.commitTransaction();
    } finally {
      await runner.release();
    }
    expect(await told()).toEqual({ types: ['picky.created'], numbers });
  });

  it('leave no event when the transaction rolls back', async () => {
    const failing = app.dataSource.transaction(async (manager) => {
      await manager.save(
        Parcel,
        numbers.map((number) => ({ number })),
      );
      throw new Error('no');
    });
    await expect(failing).rejects.toThrow('no');
    expect(await storedEvents(app)).toEqual([]);
    expect(await app.dataSource.getRepository(Parcel).count()).toBe(0);
  });
});
