import { EntitySchema, type EntitySchemaColumnOptions } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { codeBlock } from '../support/scratch-project.js';
import { PayloadSchemas } from '../support/payload-schemas.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

interface Specimen {
  id: string;
  [column: string]: unknown;
}

type OwnColumns = Record<string, { column: EntitySchemaColumnOptions; written: unknown }>;

const ON_POSTGRES: OwnColumns = {
  interval: { column: { type: 'interval' }, written: '1 year 2 mons 3 days 04:05:06.789' },
  money: { column: { type: 'money' }, written: '1234.5' },
  bit: { column: { type: 'bit', length: 3 }, written: '101' },
  hstore: { column: { type: 'hstore' }, written: '"b"=>NULL, "a"=>"1"' },
  timetz: { column: { type: 'timetz' }, written: '12:34:56.50+02' },
  point: { column: { type: 'point' }, written: '(1.5,-2)' },
  circle: { column: { type: 'circle' }, written: '<(0,0),3.5>' },
  line: { column: { type: 'line' }, written: '{1,2,3}' },
  lseg: { column: { type: 'lseg' }, written: '[(0,0),(1,1)]' },
  box: { column: { type: 'box' }, written: '(1,1),(0,0)' },
  path: { column: { type: 'path' }, written: '[(0,0),(1,1)]' },
  polygon: { column: { type: 'polygon' }, written: '((0,0),(1,1),(2,0))' },
  inet: { column: { type: 'inet' }, written: '10.0.0.1' },
  int4range: { column: { type: 'int4range' }, written: '[1,4]' },
  tstzrange: { column: { type: 'tstzrange' }, written: '[2026-01-01 02:00:00+02,)' },
  numerics: {
    column: { type: 'numeric', precision: 20, scale: 2, array: true },
    written: ['1.5', '900719925474099311.25'],
  },
};

const ON_MYSQL: OwnColumns = {
  year: { column: { type: 'year' }, written: 2026 },
  set: { column: { type: 'set', enum: ['a', 'b', 'c'] }, written: ['c', 'a'] },
  bit: { column: { type: 'bit' }, written: 1 },
  point: { column: { type: 'point' }, written: 'POINT(1.5 -2)' },
  polygon: { column: { type: 'polygon' }, written: 'POLYGON((0 0,0 1,1 1,0 0))' },
};

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

  /** Columns of types that only some databases have, with values for which docs/payload.md shows the JSON. */
  const own = isPostgres ? ON_POSTGRES : isMysql ? ON_MYSQL : {};
  const ofThisDatabase = new EntitySchema<Specimen>({
    name: 'Own',
    columns: {
      id: { type: 'bigint', primary: true },
      ...Object.fromEntries(Object.entries(own).map(([name, { column }]) => [name, column])),
    },
  });

  describe.each(['orm', 'trigger'] as const)('with capture by %s', (capture) => {
    let database: FreshDatabase;
    let app: TestApp;

    beforeAll(async () => {
      database = await db.create();
      app = await startApp({
        database: database.options,
        entities: [
          { entity: specimen, on: ['created', 'deleted'], capture } as never,
          { entity: ofThisDatabase, on: ['created', 'deleted'], capture } as never,
        ],
      });
      await app.listeners.create({ events: ['*'], url: app.receiver.url });
    });

    afterAll(async () => {
      await app.close();
      await database.drop();
    });

    /** What was sent, by type. It fits the schemas of the catalogue. */
    const sent = async () => {
      await app.dispatcher.drain();
      const schemas = await PayloadSchemas.of(app);
      const payloads = app.receiver.requests.map(({ json }) => json as { type: string; data: object });
      expect(payloads.flatMap((payload) => schemas.mistakesOf(payload))).toEqual([]);
      return Object.fromEntries(
        app.receiver.requests.map(({ json }) => {
          const { type, data } = json as { type: string; data: unknown };
          return [type, data];
        }),
      );
    };

    it('have the JSON that the page shows', async () => {
      const repository = app.dataSource.getRepository(specimen);
      await repository.save({ id: '1234567', ...values });
      await repository.remove(await repository.findOneByOrFail({ integer: 42 }));
      const shown: unknown = JSON.parse(await codeBlock('docs/payload.md', 'values'));
      const { 'specimen.created': created, 'specimen.deleted': deleted } = await sent();
      expect(created).toEqual(shown);
      expect(deleted).toEqual(shown);
    });

    it.runIf(isPostgres || isMysql)('have the JSON that the page shows for types of this database only', async () => {
      const repository = app.dataSource.getRepository(ofThisDatabase);
      const row = Object.fromEntries(Object.entries(own).map(([name, { written }]) => [name, written]));
      await repository.save({ id: '1', ...row });
      await repository.remove(await repository.findOneByOrFail({ id: '1' }));
      const block = isPostgres ? 'values-postgres' : 'values-mysql';
      const shown = { id: '1', ...(JSON.parse(await codeBlock('docs/payload.md', block)) as object) };
      const { 'own.created': created, 'own.deleted': deleted } = await sent();
      expect(created).toEqual(shown);
      expect(deleted).toEqual(shown);
    });
  });
});
