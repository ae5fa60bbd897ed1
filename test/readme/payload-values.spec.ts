import { EntitySchema } from 'typeorm';
import { afterAll, beforeAll, expect, it } from 'vitest';

import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { codeBlock } from '../support/scratch-project.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

interface Specimen {
  id: string;
  [column: string]: unknown;
}

const INSTANT = new Date('2026-02-03T04:05:06.789Z');

describeDatabases('the values of docs/payload.md', (db) => {
  const isPostgres = db.name === 'postgres';
  const isMysql = db.name === 'mariadb' || db.name === 'mysql2';
  const specimen = new EntitySchema<Specimen>({
    name: 'Specimen',
    columns: {
      id: { type: 'bigint', primary: true },
      big: { type: 'bigint' },
      integer: { type: 'int' },
      float: { type: isPostgres ? 'float8' : 'double' },
      decimal: { type: 'decimal', precision: 12, scale: 2 },
      boolean: { type: 'boolean' },
      varchar: { type: 'varchar' },
      text: { type: 'text' },
      uuid: { type: isMysql ? 'varchar' : isPostgres ? 'uuid' : 'varchar' },
      enum: { type: db.name === 'sqlite' ? 'simple-enum' : 'enum', enum: ['low', 'high'] },
      date: { type: 'date' },
      instant: { type: isPostgres ? 'timestamptz' : 'datetime', ...(db.name === 'sqlite' ? {} : { precision: 3 }) },
      json: { type: 'simple-json' },
      list: { type: 'simple-array' },
      bytes: { type: isPostgres ? 'bytea' : 'blob' },
      transformed: {
        type: 'varchar',
        transformer: {
          to: (value: { cents: number }) => String(value.cents),
          from: (cents: string) => ({ cents: Number(cents) }),
        },
      },
      absent: { type: 'varchar', nullable: true },
    },
  });
  const values: Omit<Specimen, 'id'> = {
    big: '9007199254740993',
    integer: 42,
    float: 0.1,
    decimal: '1234.5',
    boolean: true,
    varchar: 'Grüße 🦜',
    text: 'a "quoted"\nline',
    uuid: '0190163d-8694-739b-aea5-966c26f8ad91',
    enum: 'high',
    date: '2026-02-03',
    instant: INSTANT,
    json: { b: 1, a: [true, null] },
    list: ['x', 'y'],
    bytes: Buffer.from('bytes'),
    transformed: { cents: 250 },
  };

  let database: FreshDatabase;
  let app: TestApp;

  beforeAll(async () => {
    database = await db.create();
    app = await startApp({
      database: database.options,
      entities: [{ entity: specimen, on: ['created', 'deleted'] } as never],
    });
  });

  afterAll(async () => {
    await app.close();
    await database.drop();
  });

  it('are written the same here', async () => {
    const repository = app.dataSource.getRepository(specimen);
    await app.listeners.create({ events: ['specimen.*'], url: app.receiver.url });
    const row = { id: '1234567', ...values };
    await repository.save(row);
    const loaded = await repository.findOneByOrFail({ integer: 42 });
    await repository.remove(loaded);
    await app.dispatcher.drain();

    const shown: unknown = JSON.parse(await codeBlock('docs/payload.md', 'values'));
    const sent = Object.fromEntries(
      app.receiver.requests.map(({ json }) => {
        const { type, data } = json as { type: string; data: unknown };
        return [type, data];
      }),
    );
    expect(sent['specimen.created']).toEqual(shown);
    expect(sent['specimen.deleted']).toEqual(shown);
  });
});
