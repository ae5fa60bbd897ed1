import { EntitySchema, type EntitySchemaColumnOptions } from 'typeorm';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { WebhookOptions } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

interface Reading {
  at: Date;
  sensor: number;
  value: number;
  seen: Date | null;
}

describeDatabases('a time with microseconds', (database) => {
  let fresh: FreshDatabase;

  beforeAll(async () => {
    fresh = await database.create();
  });
  afterAll(() => fresh.drop());

  /** PostgreSQL stores microseconds by default, MySQL and MariaDB only with `precision: 6`. */
  const time = (precision?: 3): EntitySchemaColumnOptions => ({
    type: database.name === 'postgres' ? 'timestamptz' : 'datetime',
    ...(precision ? { precision } : database.name === 'postgres' ? {} : { precision: 6 }),
  });
  const readings = (name: string, at: EntitySchemaColumnOptions) =>
    new EntitySchema<Reading>({
      name,
      tableName: name,
      columns: {
        at: { ...at, primary: true },
        sensor: { type: 'int', primary: true },
        value: { type: 'int', default: 0 },
        seen: { ...time(), nullable: true },
      },
    });
  const start = (entity: EntitySchema<Reading>, options: WebhookOptions<Reading>) =>
    startApp({ database: fresh.options, entities: [{ entity, ...options }] });
  /** Two consecutive values share a millisecond. */
  const insertReadings = async ({ dataSource }: TestApp, table: string, count: number) => {
    const rows = Array.from({ length: count }, (_, n) => {
      const micros = String(Math.floor(n / 2) * 1_000 + (n % 2)).padStart(6, '0');
      return `('2026-01-02 03:04:05.${micros}', 1)`;
    });
    const at = dataSource.driver.escape('at');
    await dataSource.query(`INSERT INTO ${table} (${at}, sensor) VALUES ${rows.join(', ')}`);
  };

  it.runIf(database.name !== 'sqlite')(
    'cannot be a primary key in ORM mode, because such rows cannot be distinguished',
    async () => {
      const starting = start(readings('micro_refused', time()), { capture: 'orm' });
      await expect(starting).rejects.toMatchObject({
        code: 'KEY_NOT_EXACT',
        details: { entity: 'micro_refused', column: 'at' },
      });
      await expect(starting).rejects.toThrow('precision: 3');
    },
  );

  it('may be a primary key in trigger mode, which captures each row', async () => {
    const app = await start(readings('micro_triggers', time()), { capture: 'trigger' });
    await insertReadings(app, 'micro_triggers', 1_200);
    await app.dispatcher.drain();
    await app.dataSource.query('DELETE FROM webhook_events');
    await app.dataSource.getRepository<Reading>('micro_triggers').update({ sensor: 1 }, { value: 7 });
    await app.dispatcher.drain();
    const events = await storedEvents(app);
    expect(events).toHaveLength(1_200);
    expect(new Set(events.map(({ type, previous }) => `${type} ${JSON.stringify(previous)}`))).toEqual(
      new Set(['micro_triggers.updated {"value":0}']),
    );
    await app.close();
  });

  it('may be a primary key in ORM mode if it has milliseconds only', async () => {
    const app = await start(readings('milli', time(3)), { capture: 'orm' });
    const at = (n: number) => new Date(Date.UTC(2026, 0, 2, 3, 4, 5, n));
    const rows = Array.from({ length: 1_200 }, (_, n) => ({ at: at(n % 600), sensor: Math.floor(n / 600) }));
    const repository = app.dataSource.getRepository<Reading>('milli');
    await repository.insert(rows.slice(0, 600));
    await repository.insert(rows.slice(600));
    await app.dataSource.query('DELETE FROM webhook_events');
    await repository.updateAll({ value: 7 });
    const events = await storedEvents(app);
    expect(new Set(events.map(({ data }) => `${String(data.at)} ${String(data.sensor)}`))).toEqual(
      new Set(rows.map((row) => `${row.at.toISOString()} ${row.sensor}`)),
    );
    await repository.delete({ at: at(5), sensor: 1 });
    expect((await storedEvents(app)).at(-1)).toMatchObject({
      type: 'milli.deleted',
      data: { at: at(5).toISOString() },
    });
    await app.close();
  });

  it.runIf(database.name !== 'sqlite').each(['orm', 'trigger'] as const)(
    'is in the payload in milliseconds, truncated and not rounded, and a smaller change makes no event (%s)',
    async (capture) => {
      const name = `micro_${capture}`;
      const app = await start(readings(name, time(3)), { capture });
      const repository = app.dataSource.getRepository<Reading>(name);
      const seen = (text: string) =>
        repository
          .createQueryBuilder()
          .update()
          .set({ seen: () => `'${text}'` })
          .execute();
      await repository.insert({ at: new Date(0), sensor: 1 });
      await app.dispatcher.drain();
      await app.dataSource.query('DELETE FROM webhook_events');
      const zone = database.name === 'postgres' ? '+00' : '';
      await seen(`2026-01-02 03:04:05.123999${zone}`);
      await seen(`2026-01-02 03:04:05.123001${zone}`);
      await app.dispatcher.drain();
      expect(await storedEvents(app)).toEqual([
        {
          type: `${name}.updated`,
          data: {
            at: new Date(0).toISOString(),
            sensor: 1,
            value: 0,
            seen: expect.stringMatching(/:05\.123Z$/) as string,
          },
          previous: { seen: null },
        },
      ]);
      await app.close();
    },
  );
});
