import sql from 'sql-template-tag';
import { beforeAll, describe, expect, it } from 'vitest';
import type { ClaimedDelivery } from '../../../libs/webhooks/src/store/queue/claimed-delivery.js';
import { readOutlook } from '../../../libs/webhooks/src/store/queue/read-outlook.js';
import { reclaimExpired } from '../../../libs/webhooks/src/store/queue/reclaim-expired.js';
import type { ReadyListener, ReadyPage } from '../../../libs/webhooks/src/engine.js';
import { takeTurn } from '../../../libs/webhooks/src/store/database/chores.js';
import { readReadyAt, readReadyListeners } from '../../../libs/webhooks/src/store/listeners/ready-listeners.js';
import type { Database } from '../../../libs/webhooks/src/store/database/database.js';
import { releaseDeliveries } from '../../../libs/webhooks/src/store/queue/release-deliveries.js';
import { endExpiredLeases } from '../../../libs/webhooks/src/store/outbox/expired-leases.js';
import { lockUnfinished, settleLeases } from '../../../libs/webhooks/src/store/outbox/leases.js';
import {
  addEvents,
  addListener,
  attemptOf,
  deliveriesOf,
  failureOf,
  LEASE_MS,
  unfinishedOf,
  roomFor,
  run,
} from '../support.js';
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
      expect(await unfinishedOf(database)).toEqual([]);
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
      expect(await reclaim(START + LEASE_MS - 1, 10)).toHaveLength(0);
      expect(await reclaim(START + LEASE_MS, 2)).toHaveLength(2);
      expect(await reclaim(START + LEASE_MS, 2)).toHaveLength(1);
      expect((await claim(START + LEASE_MS)).deliveries).toHaveLength(3);
    });
  });

  describe('a lease of events', () => {
    const end = (now: number, limit = 10) => database.transaction(() => endExpiredLeases(database, now, limit));

    it('names the events that are not on record, and no other', async () => {
      await addListener(database, START);
      await addEvents(database, 4);
      const { leased } = await fan({ room: roomFor(4) });
      const [first, second, third, fourth] = leased as [
        ...[ClaimedDelivery, ClaimedDelivery],
        ...[ClaimedDelivery, ClaimedDelivery],
      ];
      const left = async () => (await unfinishedOf(database)).map(({ seq }) => seq);
      for (const [done, others] of [
        [second, [first, third, fourth]],
        [first, [third, fourth]],
        [fourth, [third]],
        [third, []],
      ] as const) {
        await record([attemptOf(done, START)], START);
        settleLeases([done]);
        expect(await left()).toEqual(others.map(({ event }) => event.seq));
      }
    });

    it('ends when it has expired, not earlier: its events are back in the outbox, with one claim more', async () => {
      await addListener(database, START);
      await addEvents(database, 3);
      await fan({ room: roomFor(3) });
      const leased = await unfinishedOf(database);
      expect(leased.map(({ claims, leaseUntil }) => [claims, leaseUntil])).toEqual(
        leased.map(() => [1, START + LEASE_MS]),
      );
      expect(await end(START + LEASE_MS - 1)).toBeNull();
      expect(await end(START + LEASE_MS)).toEqual(leased.map(({ seq }) => seq));
      expect(await unfinishedOf(database)).toEqual(leased.map(({ seq }) => ({ seq, claims: 1, leaseUntil: 0 })));
      expect(await end(START + LEASE_MS)).toBeNull();
    });

    it('counts the claims of each event, also if the events of a batch were claimed a different number of times', async () => {
      await addListener(database, START);
      await addEvents(database, 1);
      await fan({ room: roomFor(1) });
      await addEvents(database, 1);
      await fan({ room: roomFor(2), now: START + LEASE_MS });
      const unfinished = await unfinishedOf(database);
      expect(unfinished.map(({ claims }) => claims)).toEqual([2, 1]);
      await end(START + 2 * LEASE_MS);
      expect((await unfinishedOf(database)).map(({ claims, leaseUntil }) => [claims, leaseUntil])).toEqual([
        [2, 0],
        [1, 0],
      ]);
    });

    it('gives back no event that was deleted by hand', async () => {
      await addListener(database, START);
      await addEvents(database, 2);
      const { leased } = await fan({ room: roomFor(2) });
      const [gone, kept] = leased.map(({ event }) => event.seq);
      const { events: e } = database.tables;
      await run(database, sql`delete from ${e.sql} where ${e.$.seq} = ${gone}`);
      expect(await end(START + LEASE_MS)).toEqual([kept]);
      expect(await unfinishedOf(database)).toMatchObject([{ seq: kept }]);
    });

    it('is ended once by two processes that find it expired', async () => {
      await addListener(database, START);
      await addEvents(database, 3);
      await fan({ room: roomFor(3) });
      const both = await Promise.all([end(START + LEASE_MS), end(START + LEASE_MS)]);
      expect(both.filter((back) => back !== null)).toHaveLength(1);
      expect(await unfinishedOf(database)).toHaveLength(3);
    });

    it('is locked with its event, whether the event is in the outbox or under the lease', async () => {
      await addListener(database, START);
      await addEvents(database, 2);
      const [, second] = await unfinishedOf(database);
      await fan({ room: roomFor(1), limit: 1 });
      const [first] = await unfinishedOf(database);
      const seqs = [first?.seq, second?.seq];
      const sent = await database.transaction(() => lockUnfinished(database, seqs));
      expect([...sent]).toEqual([first?.seq]);
      expect([...(await database.transaction(() => lockUnfinished(database, [second?.seq])))]).toEqual([]);
    });
  });

  describe('an event of a process that gives its unsent deliveries back', () => {
    const release = async (...given: ClaimedDelivery[]) => {
      await database.transaction(() => releaseDeliveries(database, given, START));
      settleLeases(given);
    };
    const ofTwoListeners = async () => {
      await addListener(database, START);
      await addListener(database, START);
      await addEvents(database, 1);
      return (await fan({ room: roomFor(2) })).leased as [ClaimedDelivery, ClaimedDelivery];
    };
    const idsOf = (deliveries: readonly ClaimedDelivery[]) => deliveries.map(({ id }) => id).toSorted();

    it('has no lease any more if none of its requests has begun: another process claims all of them at once', async () => {
      const both = await ofTwoListeners();
      await release(...both);
      expect(await unfinishedOf(database)).toEqual([]);
      const { deliveries } = await claim(START);
      expect(idsOf(deliveries)).toEqual(idsOf(both));
      expect(await fan({ room: roomFor(2), now: START + LEASE_MS })).toMatchObject({ events: 0, leased: [] });
    });

    it('has no lease any more if they are given back one after the other', async () => {
      const [first, second] = await ofTwoListeners();
      await release(first);
      expect(await unfinishedOf(database)).toHaveLength(1);
      await release(second);
      expect(await unfinishedOf(database)).toEqual([]);
      expect((await claim(START)).deliveries).toHaveLength(2);
    });

    it('keeps its lease while one of its requests is under way: another process claims only the others', async () => {
      const [begun, unsent] = await ofTwoListeners();
      await release(unsent);
      expect(await fan({ room: roomFor(2), now: START + LEASE_MS - 1 })).toMatchObject({ events: 0, leased: [] });
      expect(idsOf((await claim(START)).deliveries)).toEqual([unsent.id]);
      const { moved } = await record([attemptOf(begun, START)], START);
      expect(idsOf([...moved])).toEqual([begun.id]);
      expect(await unfinishedOf(database)).toEqual([]);
    });

    it('is routed again when that lease expires without a record: only the request under way is repeated', async () => {
      const [begun, unsent] = await ofTwoListeners();
      await release(unsent);
      const { leased } = await fan({ room: roomFor(2), now: START + LEASE_MS });
      expect(idsOf(leased)).toEqual([begun.id]);
    });
  });

  it('pages through the listeners with pending work, also if they are ready at the same time', async () => {
    const ids: string[] = [];
    for (let n = 0; n < 5; n++) ids.push(await addListener(database, START));
    await addListener(database, START, { patterns: ['other.*'] });
    await addEvents(database, 1);
    await fan({ room: roomFor(0) });
    const page = (options: ReadyPage) => database.single(() => readReadyListeners(database, options));
    const first = await page({ limit: 2 });
    const second = await page({ limit: 2, after: first.at(-1) as ReadyListener });
    const third = await page({ limit: 2, after: second.at(-1) as ReadyListener });
    expect([...first, ...second, ...third].map(({ id }) => id).toSorted()).toEqual(ids.toSorted());
    expect(await page({ limit: 10, until: START - 1 })).toEqual([]);
    const backwards = await page({ limit: 10, until: START, isNewestFirst: true });
    expect(backwards.toReversed()).toEqual([...first, ...second, ...third]);
    const [one = ''] = ids;
    const times = await database.single(() => readReadyAt(database, [one, 'lst_unknown']));
    expect([...times]).toEqual([[one, START]]);
  });

  it('gives one turn in an interval, whoever asks', async () => {
    const turn = (now: number) => database.transaction(() => takeTurn(database, 'turns', { now, everyMs: 1_000 }));
    const both = await Promise.all([turn(START), turn(START)]);
    expect(both.toSorted()).toEqual([false, true]);
    expect(await turn(START + 999)).toBe(false);
    expect(await turn(START + 1_000)).toBe(true);
    // The clock of the database was set back by an hour.
    expect(await turn(START - 3_600_000)).toBe(true);
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
