import { afterEach, expect, it, vi } from 'vitest';
import { Column, DataSource, Entity, PrimaryColumn, type DataSourceOptions } from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { installTriggers, webhookMigrations } from 'nestjs-entity-webhooks/migrations';
import { describeDatabases, describeOn, type FreshDatabase } from '../support/databases.js';
import { listenToLog } from '../support/said.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

@Webhook({ capture: 'trigger', coalesce: true })
@Entity('100% Táble $1')
class Unusual {
  @PrimaryColumn({ type: 'int', name: 'Key of it' })
  id: number;

  @Column({ type: 'varchar', length: 50, name: 'select %s $$', default: 'x' })
  status: string;

  @Column({ type: 'int', name: 'GROUP', default: 0 })
  group: number;
}

describeDatabases('a table with unusual names of table and columns', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp | undefined;
  afterEach(async () => {
    await app?.close();
    await fresh.drop();
    vi.restoreAllMocks();
  });

  it('is captured by its triggers like any other table', async () => {
    const log = listenToLog();
    fresh = await database.create();
    app = await startApp({ database: fresh.options, entities: [Unusual] });
    const { manager } = app.dataSource;
    await manager.insert(Unusual, { id: 1, status: 'a' });
    await manager.transaction(async (inner) => {
      await inner.update(Unusual, 1, { status: 'b' });
      await inner.update(Unusual, 1, { status: 'c', group: 2 });
    });
    await app.webhooks.withoutCapture(() => manager.update(Unusual, 1, { status: 'd' }));
    await manager.delete(Unusual, 1);
    await app.dispatcher.drain();
    expect(log.errors).toEqual([]);
    expect(await storedEvents(app)).toEqual([
      { type: 'unusual.created', data: { id: 1, status: 'a', group: 0 } },
      { type: 'unusual.updated', data: { id: 1, status: 'c', group: 2 }, previous: { status: 'a', group: 0 } },
      { type: 'unusual.deleted', data: { id: 1, status: 'd', group: 2 } },
    ]);
  });
});

@Webhook({ capture: 'trigger' })
@Entity('measured')
class Measured {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @PrimaryColumn({ type: 'varchar' })
  region: string;

  @Column({ type: 'int' })
  n: number;

  @Column({ type: 'int', asExpression: 'n * 2', generatedType: 'STORED', select: true, insert: false, update: false })
  doubled: number;
}

describeOn('postgres', 'a partitioned table of PostgreSQL', (postgres) => {
  let fresh: FreshDatabase;
  let app: TestApp | undefined;
  afterEach(async () => {
    await app?.close();
    await fresh.drop();
    vi.restoreAllMocks();
  });

  it('is captured for every partition that a statement names, and a row that moves is deleted and created', async () => {
    const log = listenToLog();
    fresh = await postgres.create();
    const source = await new DataSource({
      ...fresh.options,
      entities: [Measured],
      migrations: webhookMigrations(),
    } as DataSourceOptions).initialize();
    await source.query(`CREATE TABLE measured (id int, region varchar, n int, doubled int GENERATED ALWAYS AS (n * 2) STORED, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
      CREATE TABLE measured_a PARTITION OF measured FOR VALUES IN ('a')`);
    await source.runMigrations();
    const runner = source.createQueryRunner();
    await installTriggers(runner);
    // This partition is attached after the triggers were installed, with its columns in another order.
    await source.query(`CREATE TABLE measured_b (n int, doubled int GENERATED ALWAYS AS (n * 2) STORED, gone int, region varchar NOT NULL, id int NOT NULL);
      ALTER TABLE measured_b DROP COLUMN gone;
      ALTER TABLE measured ATTACH PARTITION measured_b FOR VALUES IN ('b')`);
    expect(await installTriggers(runner)).toEqual([]);
    await runner.release();
    app = await startApp({
      database: { ...fresh.options, synchronize: false } as DataSourceOptions,
      entities: [Measured],
    });
    await source.query(`INSERT INTO measured (id, region, n) VALUES (1, 'a', 1)`);
    await source.query(`INSERT INTO measured_b (id, region, n) VALUES (2, 'b', 2)`);
    await source.query(`UPDATE measured SET n = 3 WHERE id = 2`);
    await source.query(`UPDATE measured SET region = 'b' WHERE id = 1`);
    await source.query(`DELETE FROM measured_b WHERE id = 1`);
    await source.query('TRUNCATE measured');
    await source.destroy();
    await app.dispatcher.drain();
    expect(log.errors).toEqual([]);
    expect(await storedEvents(app)).toEqual([
      { type: 'measured.created', data: { id: 1, region: 'a', n: 1, doubled: 2 } },
      { type: 'measured.created', data: { id: 2, region: 'b', n: 2, doubled: 4 } },
      {
        type: 'measured.updated',
        data: { id: 2, region: 'b', n: 3, doubled: 6 },
        previous: { n: 2, doubled: 4 },
      },
      { type: 'measured.deleted', data: { id: 1, region: 'a', n: 1, doubled: 2 } },
      { type: 'measured.created', data: { id: 1, region: 'b', n: 1, doubled: 2 } },
      { type: 'measured.deleted', data: { id: 1, region: 'b', n: 1, doubled: 2 } },
      { type: 'measured.deleted', data: { id: 2, region: 'b', n: 3, doubled: 6 } },
    ]);
  });
});
