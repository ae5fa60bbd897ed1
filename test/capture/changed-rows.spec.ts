import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Column, DeleteDateColumn, Entity, PrimaryColumn, type DataSourceOptions } from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { databases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents, stories } from './shop.js';

@Webhook()
@Entity('counted')
class Counted {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50 })
  status: string;

  @DeleteDateColumn()
  deletedAt: Date | null;
}

@Webhook()
@Entity('timed')
class Timed {
  @PrimaryColumn({ type: 'datetime', precision: 3 })
  at: Date;

  @Column({ type: 'varchar', length: 50 })
  status: string;
}

const matrix = databases
  .filter(({ name }) => name === 'mariadb' || name === 'mysql2')
  .flatMap((database) =>
    (['orm', 'trigger'] as const).flatMap((capture) =>
      (['-FOUND_ROWS', 'FOUND_ROWS'] as const).map((flag) => ({ database, name: database.name, capture, flag })),
    ),
  );

// Without such a server the file would have no test, which is an error for vitest.
it.skipIf(!matrix.length)('the flag FOUND_ROWS is tested on MariaDB or MySQL', () => {
  expect(matrix.map(({ flag }) => flag)).toContain('-FOUND_ROWS');
});

describe.each(matrix)('a client of $name with the flag $flag, with capture by $capture', (scene) => {
  const { database, capture, flag } = scene;
  let fresh: FreshDatabase;
  let app: TestApp;
  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({
      database: { ...fresh.options, flags: [flag] } as DataSourceOptions,
      entities: [Counted, Timed],
      webhooks: { capture },
    });
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });
  beforeEach(async () => {
    await app.dataSource.query('DELETE FROM counted');
    await app.dataSource.query(`INSERT INTO counted (id, status) VALUES (1, 'a'), (2, 'b'), (3, 'b')`);
    await app.dispatcher.drain();
    await app.dataSource.query('DELETE FROM webhook_events');
  });
  const rows = () => app.dataSource.getRepository(Counted);
  const made = async () => {
    await app.dispatcher.drain();
    return (await stories(app)).toSorted();
  };

  it('updates rows to the values that they have, and makes no event', async () => {
    const { affected } = await rows().update(1, { status: 'a' });
    expect(affected).toBe(flag === 'FOUND_ROWS' ? 1 : 0);
    await rows().update({ status: 'b' }, { status: 'b' });
    await rows().createQueryBuilder().update().set({ status: 'b' }).where('id > 1').execute();
    await rows().save({ id: 1, status: 'a' });
    await app.dataSource.transaction((manager) => manager.updateAll(Counted, { status: () => 'status' }));
    expect(await made()).toEqual([]);
  });

  it('updates some rows to the values that they have, and makes events of the changed rows only', async () => {
    await rows().updateAll({ status: 'b' });
    expect(await made()).toEqual(['counted.updated b']);
  });

  it('upserts, increments and deletes, and makes events of the changed rows', async () => {
    await rows().upsert({ id: 1, status: 'a' }, ['id']);
    await rows().upsert(
      [
        { id: 2, status: 'b' },
        { id: 3, status: 'c' },
        { id: 4, status: 'd' },
      ],
      ['id'],
    );
    await rows().restore(1);
    await rows().delete(1);
    expect(await made()).toEqual(['counted.created d', 'counted.deleted a', 'counted.updated c']);
  });

  it('updates thousands of rows to the values that they have, and makes no event', async () => {
    await app.webhooks.withoutCapture(() =>
      rows().insert(Array.from({ length: 2_500 }, (_, n) => ({ id: 10 + n, status: 'b' }))),
    );
    await rows().update({ status: 'b' }, { status: 'b' });
    expect(await made()).toEqual([]);
    await rows().update({ status: 'b' }, { status: 'c' });
    await app.dispatcher.drain();
    expect(await storedEvents(app)).toHaveLength(2_502);
  });

  it('refuses an update whose rows cannot be found by the keys that were read', async () => {
    if (capture === 'trigger') return;
    await app.dataSource.query('ALTER TABLE timed MODIFY at datetime(6) NOT NULL');
    await app.dataSource.query(`INSERT INTO timed VALUES ('2026-02-03 04:05:06.123456', 'a')`);
    await expect(app.dataSource.getRepository(Timed).update({ status: 'a' }, { status: 'b' })).rejects.toMatchObject({
      code: 'ROWS_MISSED',
    });
    expect(await app.dataSource.query('SELECT status FROM timed')).toEqual([{ status: 'a' }]);
    await app.dataSource.query('DELETE FROM timed');
  });
});
