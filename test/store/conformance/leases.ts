import { beforeAll, describe, expect, it } from 'vitest';
import type { ClaimedDelivery } from '../../../libs/webhooks/src/store/queue/claimed-delivery.js';
import { readOutlook } from '../../../libs/webhooks/src/store/queue/read-outlook.js';
import { reclaimExpired } from '../../../libs/webhooks/src/store/queue/reclaim-expired.js';
import type { Database } from '../../../libs/webhooks/src/store/database/database.js';
import { releaseDeliveries } from '../../../libs/webhooks/src/store/queue/release-deliveries.js';
import { addEvents, addListener, deliveriesOf, failureOf, LEASE_MS, outboxOf, roomFor } from '../support.js';
import { START, withToken, type StoreSuite } from './store-suite.js';

export function describeLeases(suite: StoreSuite): void {
  const { fan, claim, record, states } = suite;
  let database: Database;
  beforeAll(() => {
    database = suite.database;
  });

  describe('a lease', () => {
    it('is released only with its token', async () => {
      await addListener(database, START);
      await addEvents(database, 1);
      const { leased } = await fan({ room: roomFor(1) });
      const [mine] = leased as [ClaimedDelivery];
      const release = (one: ClaimedDelivery) => database.transaction(() => releaseDeliveries(database, [one], START));
      await release(withToken(mine, 'of another'));
      expect(await states()).toEqual([]);
      await release(mine);
      expect(await deliveriesOf(database)).toMatchObject([{ id: mine.id, state: 'due', leaseToken: null }]);
      expect(await outboxOf(database)).toEqual([]);
      const [stored] = (await claim(START)).deliveries as [ClaimedDelivery];
      expect(stored.id).toBe(mine.id);
      await release(withToken(stored, 'of another'));
      expect(await states()).toEqual(['leased']);
      await release(stored);
      expect(await deliveriesOf(database)).toMatchObject([{ state: 'due', leaseToken: null, leaseUntil: null }]);
      expect((await claim(START)).deliveries.map(({ seq }) => seq)).toEqual([stored.seq]);
    });

    it('is reclaimed when it has expired, and not earlier', async () => {
      await addListener(database, START);
      await addEvents(database, 3);
      await fan();
      await claim(START);
      const reclaim = (now: number, limit: number) => database.transaction(() => reclaimExpired(database, now, limit));
      expect(await reclaim(START + LEASE_MS - 1, 10)).toBe(0);
      expect(await reclaim(START + LEASE_MS, 2)).toBe(2);
      expect(await reclaim(START + LEASE_MS, 2)).toBe(1);
      expect((await claim(START + LEASE_MS)).deliveries).toHaveLength(3);
    });
  });

  it('reports the pending work: events, the first listener that is ready, the first lease to expire', async () => {
    const outlook = () => database.single(() => readOutlook(database, START));
    expect(await outlook()).toMatchObject({ hasEvents: false, readyAt: null, leaseUntil: null });
    await addListener(database, START);
    await addEvents(database, 2);
    expect(await outlook()).toMatchObject({ hasEvents: true, readyAt: null });
    const { leased } = await fan({ room: roomFor(1) });
    expect(await outlook()).toMatchObject({ hasEvents: false, readyAt: START, leaseUntil: START + LEASE_MS });
    await claim(START);
    await record([failureOf(leased[0] as ClaimedDelivery, START, 5_000)], START);
    expect(await outlook()).toMatchObject({ readyAt: START + 5_000 });
  });
}
