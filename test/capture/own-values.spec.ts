import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DataSource, type DataSourceOptions } from 'typeorm';
import type { Json } from 'nestjs-entity-webhooks';
import { databases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { familyOf } from './every-kind.js';
import { OWN_KINDS, ownEntity } from './own-kinds.js';
import { storedEvents } from './shop.js';

/** Settings of a session that change the texts of values. */
const ODD_SESSION =
  '-c intervalstyle=sql_standard -c timezone=Asia/Kolkata -c lc_monetary=C -c bytea_output=escape -c extra_float_digits=0';

const sessions = databases.flatMap((database) => [
  { database, session: 'usual', settings: {} },
  ...(database.name === 'postgres'
    ? [{ database, session: 'odd', settings: { extra: { options: ODD_SESSION } } }]
    : []),
]);

describe.each(
  sessions.flatMap((one) =>
    (['orm', 'trigger'] as const).map((capture) => ({ ...one, name: one.database.name, capture })),
  ),
)('a value of a type that $name has, captured by $capture in a session that is $session', (scene) => {
  const { database, settings, capture } = scene;
  const kinds = OWN_KINDS[familyOf(database)];
  const Own = ownEntity(familyOf(database));
  const shown = (at: 0 | 1) => Object.fromEntries(kinds.map((kind) => [kind.name, kind.shown[at]]));
  const written = (at: 0 | 1) => Object.fromEntries(kinds.map((kind) => [kind.name, kind.written[at]]));
  let fresh: FreshDatabase;
  let app: TestApp;
  let events: { type: string; data: Record<string, Json>; previous?: Record<string, Json> }[];

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({
      database: { ...fresh.options, ...settings } as DataSourceOptions,
      entities: [Own],
      webhooks: { capture },
    });
    const rows = app.dataSource.getRepository(Own);
    await rows.save({ id: 1, ...written(0) });
    await rows.save({ id: 1, ...written(1) });
    await rows.update(1, written(0) as never);
    await rows.remove(await rows.findOneByOrFail({ id: 1 }));
    await rows.insert({ id: 2 });
    await rows.insert({ id: 3, ...written(1) });
    await rows.delete(3);
    await app.dispatcher.drain();
    events = (await storedEvents(app)) as typeof events;
  });
  afterAll(async () => {
    await app?.close();
    await fresh?.drop();
  });

  it.each(kinds.map(({ name }) => name))('is the same for every way to write it: %s', (name) => {
    const [first, second] = [shown(0)[name], shown(1)[name]];
    expect(events.map(({ type, data, previous }) => [type, data[name], previous?.[name]])).toEqual([
      ['own_kinds.created', first, undefined],
      ['own_kinds.updated', second, first],
      ['own_kinds.updated', first, second],
      ['own_kinds.deleted', first, undefined],
      ['own_kinds.created', null, undefined],
      ['own_kinds.created', second, undefined],
      ['own_kinds.deleted', second, undefined],
    ]);
  });
});

describe.runIf(databases.some(({ name }) => name === 'postgres'))(
  'a session whose settings change the texts of values',
  () => {
    it('writes images that another session reads as the same values', async () => {
      const database = databases.find(({ name }) => name === 'postgres')!;
      const fresh = await database.create();
      const Own = ownEntity('postgres');
      const app = await startApp({ database: fresh.options, entities: [Own], webhooks: { capture: 'trigger' } });
      const other = await new DataSource({
        ...fresh.options,
        entities: [],
        extra: { options: `${ODD_SESSION} -c datestyle=SQL,DMY -c search_path=pg_catalog,public` },
      } as DataSourceOptions).initialize();
      try {
        const rows = app.dataSource.getRepository(Own);
        const kinds = OWN_KINDS.postgres;
        await rows.insert({ id: 1, ...Object.fromEntries(kinds.map(({ name, written }) => [name, written[0]])) });
        await other.query('UPDATE own_kind SET id = 2');
        await other.query('DELETE FROM own_kind');
        await app.dispatcher.drain();
        const shown = Object.fromEntries(kinds.map(({ name, shown: [first] }) => [name, first]));
        expect(await storedEvents(app)).toEqual([
          { type: 'own_kinds.created', data: { id: 1, ...shown } },
          { type: 'own_kinds.updated', data: { id: 2, ...shown }, previous: { id: 1 } },
          { type: 'own_kinds.deleted', data: { id: 2, ...shown } },
        ]);
      } finally {
        await other.destroy();
        await app.close();
        await fresh.drop();
      }
    });
  },
);
