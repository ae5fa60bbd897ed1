import { beforeAll, describe, expect, it } from 'vitest';
import type { ClaimedDelivery } from '../../../libs/webhooks/src/store/queue/claimed-delivery.js';
import type { Database } from '../../../libs/webhooks/src/store/database/database.js';
import {
  disableListener,
  lockListener,
  removeListener,
} from '../../../libs/webhooks/src/store/listeners/listener-rows.js';
import { addEvents, addListener, failureOf, roomFor } from '../support.js';
import { START, type StoreSuite } from './store-suite.js';

export function describeClaims(suite: StoreSuite): void {
  const { fan, claim, record, states } = suite;
  let database: Database;
  beforeAll(() => {
    database = suite.database;
  });

  describe('a claim', () => {
    it('divides its slots among listeners, and claims no delivery twice', async () => {
      const busy = await addListener(database, START);
      await addEvents(database, 8);
      await fan();
      const quiet = await addListener(database, START, { patterns: ['user.created'] });
      await addEvents(database, 1, { type: 'user.created' });
      await fan();
      const first = await claim(START, 4);
      // The slots that the listener with fewer deliveries leaves free are for the next claim.
      expect(first.deliveries.map(({ listener }) => listener.id).toSorted()).toEqual([quiet, busy, busy].toSorted());
      const second = await claim(START);
      const seqs = [...first.deliveries, ...second.deliveries].map(({ seq }) => seq);
      expect([seqs.length, new Set(seqs).size]).toEqual([9, 9]);
    });

    it('leaves deliveries that are due later, held or discarded', async () => {
      const later = await addListener(database, START);
      await addEvents(database, 1);
      const { leased } = await fan({ room: roomFor(1) });
      await record([failureOf(leased[0] as ClaimedDelivery, START, 60_000)], START);
      expect((await claim(START)).deliveries).toEqual([]);
      expect((await claim(START + 60_000)).deliveries).toHaveLength(1);
      await database.transaction(() => disableListener(database, later, 'no more', START));
      await addEvents(database, 1);
      await fan();
      expect((await claim(START + 120_000)).deliveries).toEqual([]);
    });

    it('discards the due deliveries of a removed listener', async () => {
      const id = await addListener(database, START);
      await addEvents(database, 3);
      await fan();
      await database.transaction(function* () {
        yield* lockListener(database, id, undefined);
        yield* removeListener(database, id, START);
      });
      expect((await claim(START)).deliveries).toEqual([]);
      expect(await states()).toEqual(['discarded', 'discarded', 'discarded']);
    });
  });
}
