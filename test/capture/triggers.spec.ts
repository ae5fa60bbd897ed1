import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import type { ObjectLiteral } from 'typeorm';
import type { Json } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { entitiesFor, familyOf, KINDS } from './every-kind.js';
import { storedEvents } from './shop.js';

const ID = '0190163d-8694-739b-aea5-966c26f8ad00';

function shownAt(at: 0 | 1): Record<string, Json> {
  return Object.fromEntries(KINDS.map((kind) => [kind.name, kind.shown[at]]));
}

function written(at: 0 | 1): Record<string, unknown> {
  return Object.fromEntries(KINDS.map((kind) => [kind.name, kind.written[at]]));
}

describeDatabases('a value that a trigger captured', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  const { EveryKind, KindOwner } = entitiesFor(familyOf(database));

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({
      database: fresh.options,
      entities: [EveryKind, KindOwner],
      webhooks: { capture: 'trigger' },
    });
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });
  beforeEach(async () => {
    await app.dataSource.query('DELETE FROM webhook_events');
  });

  const repository = <E extends ObjectLiteral>(entity: new () => E) => app.dataSource.getRepository(entity);

  it('has the same form when created, updated, before the update and deleted, for every type', async () => {
    const [first, second] = await repository(KindOwner).save([{ id: '9007199254740993' }, { id: '2' }]);
    const rows = repository(EveryKind);
    const row = rows.create({ id: ID, ...written(0), address: { city: 'Köln', fee: '1.5' }, second: null } as never);
    Object.assign(row, { parent: first, lazy: Promise.resolve(first) });
    await rows.save(row);
    const loaded = await rows.findOneByOrFail({ id: ID });
    Object.assign(loaded, written(1), {
      address: { city: null, fee: null },
      second: { city: 'x', fee: '0' },
      parent: second,
    });
    await rows.save(loaded);
    await rows.remove(await rows.findOneOrFail({ where: { id: ID }, relations: { parent: true } }));
    await rows.save({ id: ID } as never);
    await app.dispatcher.drain();

    const events = (await storedEvents(app)).filter(({ type }) => type.startsWith('every_kind.'));
    const rest = (at: 0 | 1) =>
      at === 0 ? { parent: '9007199254740993', lazy: '9007199254740993' } : { parent: '2', lazy: '9007199254740993' };
    const addresses = [
      { address: { city: 'Köln', fee: '1.50' }, second: { city: null, fee: null } },
      { address: { city: null, fee: null }, second: { city: 'x', fee: '0.00' } },
    ] as const;
    const nothing = Object.fromEntries(KINDS.map(({ name }) => [name, null]));
    expect(events).toEqual([
      { type: 'every_kind.created', data: { id: ID, version: 1, ...addresses[0], ...shownAt(0), ...rest(0) } },
      {
        type: 'every_kind.updated',
        data: { id: ID, version: 2, ...addresses[1], ...shownAt(1), ...rest(1) },
        previous: { version: 1, ...addresses[0], ...shownAt(0), parent: '9007199254740993' },
      },
      { type: 'every_kind.deleted', data: { id: ID, version: 2, ...addresses[1], ...shownAt(1), ...rest(1) } },
      {
        type: 'every_kind.created',
        data: {
          id: ID,
          version: 1,
          ...addresses[0],
          address: addresses[1].address,
          second: addresses[0].second,
          ...nothing,
          parent: null,
          lazy: null,
        },
      },
    ]);
  });
});
