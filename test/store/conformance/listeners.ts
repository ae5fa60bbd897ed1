import { beforeAll, describe, expect, it } from 'vitest';
import type { Database } from '../../../libs/webhooks/src/store/database/database.js';
import { countDeliveries } from '../../../libs/webhooks/src/store/queue/delivery-rows.js';
import { listListeners } from '../../../libs/webhooks/src/store/listeners/listed-listeners.js';
import {
  disableListener,
  discardDue,
  readListener,
  resumeListener,
  updateListener,
} from '../../../libs/webhooks/src/store/listeners/listener-rows.js';
import { routesOf } from '../../../libs/webhooks/src/routing/route-key.js';
import { addEvents, addListener, deliveriesOf } from '../support.js';
import { START, type StoreSuite } from './store-suite.js';

export function describeListeners(suite: StoreSuite): void {
  const { fan, claim } = suite;
  let database: Database;
  beforeAll(() => {
    database = suite.database;
  });

  describe('a listener', () => {
    it('is read, changed and listed; its routes follow', async () => {
      const id = await addListener(database, START, { owner: 'acme' });
      const other = await addListener(database, START + 1, { owner: 'globex' });
      const routes = routesOf({ owner: 'acme', patterns: ['user.created'], filter: [] });
      await database.transaction(() =>
        updateListener(database, id, { patterns: '["user.created"]', description: '' }, routes, START + 2),
      );
      const row = await database.transaction(() => readListener(database, id, 'acme'));
      expect(row).toMatchObject({ description: '', rateLimit: null });
      expect(await database.transaction(() => readListener(database, id, 'globex'))).toBeUndefined();
      const list = (options: { scope?: string; state?: string }) =>
        database.transaction(() =>
          listListeners(database, { scope: options.scope, after: null, limit: 10, ...options }),
        );
      expect((await list({})).map((listener) => listener.id)).toEqual([other, id]);
      expect((await list({ scope: 'acme' })).map((listener) => listener.id)).toEqual([id]);
      await database.transaction(() => disableListener(database, other, 'no more', START));
      expect((await list({ state: 'disabled' })).map((listener) => listener.id)).toEqual([other]);
      expect((await list({ state: 'active' })).map((listener) => listener.id)).toEqual([id]);
      await addEvents(database, 1, { owner: 'acme' });
      await addEvents(database, 1, { owner: 'acme', type: 'user.created' });
      await fan();
      expect(await deliveriesOf(database)).toMatchObject([{ listenerId: id }]);
    });

    it('that was disabled gets the held deliveries, or they are discarded', async () => {
      const id = await addListener(database, START);
      await database.transaction(() => disableListener(database, id, 'no more', START));
      await addEvents(database, 3);
      await fan();
      const counts = () => database.transaction(() => countDeliveries(database, { scope: undefined }));
      expect((await counts()).map(({ state, count }) => [state, Number(count)])).toEqual([['held', 3]]);
      expect(await database.transaction(() => discardDue(database, id, { now: START, limit: 1 }))).toBe(1);
      await database.transaction(function* () {
        yield* updateListener(database, id, { state: 'active' }, null, START);
        yield* resumeListener(database, id);
      });
      expect((await claim(START)).deliveries).toHaveLength(2);
    });
  });
}
