import { Column, Entity, PrimaryColumn, PrimaryGeneratedColumn, type Logger } from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

const ROWS = 1_000;
/** For 1,000 rows: capture reads all of them by one statement and inserts 100 events by one statement. Completely sent rows are not read. */
const READS = 1;
const INSERTS = 10;
/** Rows with a key of two columns are read by TypeORM's query builder, 500 rows by one statement. */
const READS_OF_TWO_PARTS = 2;
/** The statements of TypeORM for more rows than this are too deep for SQLite. All chunks are in one transaction. */
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

/** How many more times `when` throws for a late row. */
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

/** Counts the statements of capture on the connection of the writer. */
class Counter implements Partial<Logger> {
  reads = 0;
  inserts = 0;

  logQuery(query: string): void {
    if (/^SELECT\b.*\bFROM\s+\S*(?:parcel|slot)\S*\s+.e.\s/is.test(query)) this.reads++;
    if (/^(?:with e as \()?insert into\b.*webhook_events/is.test(query)) this.inserts++;
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
    fresh = await database.reuse();
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
  const capturedEvents = async (from = 0) => {
    const events = (await storedEvents(app)).slice(from);
    return { types: [...new Set(events.map(({ type }) => type))], numbers: events.map(({ data }) => data.number) };
  };
  const counted = () => ({ reads: counter.reads, inserts: counter.inserts });

  it('make a thousand events in the order of the writes, by a bounded number of statements: created, updated, deleted', async () => {
    const parcels = app.dataSource.getRepository(Parcel);
    const rows = await parcels.save(numbers.map((number) => ({ number })));
    expect(await capturedEvents()).toEqual({ types: ['parcel.created'], numbers });
    expect(counted()).toEqual({ reads: 0, inserts: INSERTS });

    await parcels.save(rows.map(({ id, number }) => ({ id, number: number + ROWS })));
    expect(await capturedEvents(ROWS)).toEqual({
      types: ['parcel.updated'],
      numbers: numbers.map((number) => number + ROWS),
    });
    // All rows are locked by one statement before the update, and read by another one after it.
    expect(counted()).toEqual({ reads: 2 * READS, inserts: 2 * INSERTS });

    await parcels.remove(await parcels.find({ order: { id: 'ASC' } }), IN_CHUNKS);
    expect(await capturedEvents(2 * ROWS)).toEqual({
      types: ['parcel.deleted'],
      numbers: numbers.map((number) => number + ROWS),
    });
    // Removed rows are locked, but not read again.
    expect(counted()).toEqual({ reads: 2 * READS + CHUNKS, inserts: 3 * INSERTS });
  });

  it('are locked one by one and read together at the commit if each is saved by a separate call', async () => {
    const parcels = await app.dataSource.getRepository(Parcel).save(numbers.map((number) => ({ number })));
    Object.assign(counter, { reads: 0, inserts: 0 });
    await app.dataSource.transaction(async (manager) => {
      for (const { id, number } of parcels) await manager.save(Parcel, { id, number: number + ROWS });
      // Each call locks one row.
      expect(counted()).toEqual({ reads: ROWS, inserts: 0 });
    });
    expect(await capturedEvents(ROWS)).toEqual({
      types: ['parcel.updated'],
      numbers: numbers.map((number) => number + ROWS),
    });
    // PostgreSQL returns a row by the statement that writes it.
    const readsAfter = database.name === 'postgres' ? 0 : READS;
    expect(counted()).toEqual({ reads: ROWS + readsAfter, inserts: INSERTS });
  });

  it('take the same number of statements if their key has two columns', async () => {
    const slots = numbers.map((number) => ({ shelf: 1, place: `p${number}`, number }));
    await app.dataSource.getRepository(Slot).save(slots, IN_CHUNKS);
    expect(await capturedEvents()).toEqual({ types: ['slot.created'], numbers });
    await app.dataSource.getRepository(Slot).save(
      slots.map((slot) => ({ ...slot, number: slot.number + ROWS })),
      IN_CHUNKS,
    );
    expect(await capturedEvents(ROWS)).toEqual({
      types: ['slot.updated'],
      numbers: numbers.map((number) => number + ROWS),
    });
    expect(counted()).toEqual({ reads: CHUNKS + READS_OF_TWO_PARTS, inserts: 2 * INSERTS });
  });

  it('make one event each if a COMMIT fails half-way through them and is retried', async () => {
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
    expect(await capturedEvents()).toEqual({ types: ['picky.created'], numbers });
  });

  it('leave no event if the transaction is rolled back', async () => {
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
