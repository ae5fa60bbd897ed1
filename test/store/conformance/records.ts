import sql from 'sql-template-tag';
import { beforeAll, describe, expect, it } from 'vitest';
import type { ClaimedDelivery } from '../../../libs/webhooks/src/store/queue/claimed-delivery.js';
import { reclaimExpired } from '../../../libs/webhooks/src/store/queue/reclaim-expired.js';
import type { Database } from '../../../libs/webhooks/src/store/database/database.js';
import { recordAttempts } from '../../../libs/webhooks/src/store/queue/record-attempts.js';
import { readAttempts } from '../../../libs/webhooks/src/store/queue/delivery-rows.js';
import { releaseDeliveries } from '../../../libs/webhooks/src/store/queue/release-deliveries.js';
import { readListener } from '../../../libs/webhooks/src/store/listeners/listener-rows.js';
import { settleLeases } from '../../../libs/webhooks/src/store/outbox/leases.js';
import {
  addEvents,
  addListener,
  attemptOf,
  CIRCUIT,
  deliveriesOf,
  failureOf,
  LEASE_MS,
  unfinishedOf,
  roomFor,
  rowsOf,
} from '../support.js';
import { START, withToken, putBack, type StoreSuite } from './store-suite.js';

type Pair = [ClaimedDelivery, ClaimedDelivery];

export function describeRecords(suite: StoreSuite): void {
  const { fan, claim, record, states } = suite;
  let database: Database;
  beforeAll(() => {
    database = suite.database;
  });

  describe('a record of attempts', () => {
    const one = async () => {
      await addListener(database, START);
      await addEvents(database, 1);
      const { leased } = await fan({ room: roomFor(1) });
      return leased[0] as ClaimedDelivery;
    };

    it('finishes a delivery, and stores the attempt', async () => {
      const delivery = await one();
      const { moved } = await record([attemptOf(delivery, START + 5)], START + 5);
      expect([...moved].map(({ id }) => id)).toEqual([delivery.id]);
      expect(await deliveriesOf(database)).toMatchObject([
        { id: delivery.id, state: 'succeeded', attempts: 1, leaseToken: null, leaseUntil: null },
      ]);
      expect(await unfinishedOf(database)).toEqual([]);
      const attempts = await database.transaction(() => readAttempts(database, delivery.id));
      expect(attempts).toMatchObject([{ outcome: 'accepted', response: 'ok' }]);
      expect(Number(attempts[0]?.superseded)).toBe(0);
      const { attempts: a } = database.tables;
      expect(await rowsOf(database, sql`select * from ${a.sql}`)).toEqual([]);
    });

    it('with details stores the attempt in a row of its own, once, even if its first transaction gave no answer', async () => {
      await addListener(database, START);
      await addEvents(database, 2);
      const [delivery, other] = (await fan({ room: roomFor(2) })).leased as Pair;
      const failed = { ...failureOf(delivery, START, 1_000), details: '{"url":"https://example.com/hooks"}' };
      const batch = [failed, attemptOf(other, START)];
      await record(batch, START);
      const again = await database.transaction(() =>
        recordAttempts(database, batch, { now: START, circuit: CIRCUIT, mayBeStored: batch }),
      );
      expect([...again.moved].map(({ id }) => id).toSorted()).toEqual([delivery.id, other.id].toSorted());
      const { attempts: a } = database.tables;
      expect(await rowsOf(database, sql`select * from ${a.sql}`)).toHaveLength(1);
      const [attempt, ...more] = await database.transaction(() => readAttempts(database, delivery.id));
      expect(more).toEqual([]);
      expect(attempt).toMatchObject({ outcome: failed.outcome, details: failed.details, trigger: null });
      expect([Number(attempt?.number), Number(attempt?.superseded)]).toEqual([1, 0]);
      expect((await states()).toSorted()).toEqual(['due', 'succeeded']);
    });

    it('leaves no lease if an earlier try has stored only some of its records', async () => {
      for (let n = 0; n < 2; n++) await addListener(database, START);
      await addEvents(database, 2);
      const { leased } = await fan({ room: roomFor(4) });
      const records = leased.map((delivery) => attemptOf(delivery, START));
      const earlier = records.slice(0, 3);
      await record(earlier, START);
      // The answer of the first COMMIT was lost: the process has not counted these records.
      await database.transaction(() =>
        recordAttempts(database, records, { now: START, circuit: CIRCUIT, mayBeStored: earlier }),
      );
      expect(await unfinishedOf(database)).toEqual([]);
      expect(await states()).toEqual(leased.map(() => 'succeeded'));
    });

    it('keeps the event under its lease until its last delivery is on record', async () => {
      for (let n = 0; n < 3; n++) await addListener(database, START);
      await addEvents(database, 1);
      const { leased } = await fan({ room: roomFor(3) });
      const two = leased.slice(0, 2).map((delivery) => attemptOf(delivery, START));
      await record(two, START);
      settleLeases(two.map(({ delivery }) => delivery));
      expect(await unfinishedOf(database)).toHaveLength(1);
      await record([failureOf(leased[2] as ClaimedDelivery, START, 1_000)], START);
      expect(await states()).toEqual(['succeeded', 'succeeded', 'due']);
      expect(await unfinishedOf(database)).toEqual([]);
    });

    it('completes a due delivery without attempts that was made meanwhile, and supersedes any other', async () => {
      await addListener(database, START);
      await addEvents(database, 2);
      const { leased } = await fan({ room: roomFor(2) });
      await putBack(database);
      await fan({ now: START });
      await putBack(database, leased[0]?.leaseToken);
      const [second] = (await claim(START, 1)).deliveries;
      const { moved } = await record(
        leased.map((delivery) => attemptOf(delivery, START)),
        START,
      );
      const other = leased.find(({ id }) => id !== second?.id);
      expect([...moved].map(({ id }) => id)).toEqual([other?.id]);
      expect((await states()).toSorted()).toEqual(['leased', 'succeeded']);
      const late = await database.transaction(() => readAttempts(database, second?.id ?? ''));
      expect(late.map(({ superseded }) => Number(superseded))).toEqual([1]);
    });

    it('is one of several chunks, and an event may have deliveries in two of them', async () => {
      for (let n = 0; n < 3; n++) await addListener(database, START);
      await addEvents(database, 200);
      const { leased } = await fan({ room: roomFor(1_000) });
      expect(leased).toHaveLength(600);
      const { moved } = await record(
        leased.map((delivery) => attemptOf(delivery, START)),
        START,
      );
      expect(moved.size).toBe(600);
      expect(await unfinishedOf(database)).toEqual([]);
    });

    it('of a worker that lost its lease changes no delivery, and is stored as superseded', async () => {
      const delivery = await one();
      const late = START + LEASE_MS;
      const [successor] = (await fan({ room: roomFor(1), now: late })).leased;
      expect(successor?.id).toBe(delivery.id);
      const before = await deliveriesOf(database);
      const { moved, paused, disabled } = await record([attemptOf(delivery, START, { status: 410 })], late);
      expect([moved.size, paused.size, disabled]).toEqual([0, 0, []]);
      expect(await deliveriesOf(database)).toEqual(before);
      expect(await unfinishedOf(database)).toMatchObject([{ claims: 2 }]);
      await record([attemptOf(successor as ClaimedDelivery, late)], late);
      const attempts = await database.transaction(() => readAttempts(database, delivery.id));
      expect(attempts.map(({ superseded }) => Number(superseded))).toEqual([1, 0]);
    });

    it('of a stored delivery whose lease was lost is stored as superseded, too', async () => {
      await addListener(database, START);
      await addEvents(database, 1);
      await fan();
      const [delivery] = (await claim(START)).deliveries as [ClaimedDelivery];
      const late = START + LEASE_MS;
      expect(await database.transaction(() => reclaimExpired(database, late, 10))).toHaveLength(1);
      const [successor] = (await claim(late)).deliveries as [ClaimedDelivery];
      expect(successor.seq).toBe(delivery.seq);
      expect((await record([attemptOf(delivery, START)], late)).moved.size).toBe(0);
      await record([failureOf(successor, late, 0)], late);
      const [third] = (await claim(late)).deliveries as [ClaimedDelivery];
      await record([attemptOf(third, late + 1)], late + 1);
      const attempts = await database.transaction(() => readAttempts(database, delivery.id));
      expect(attempts.map(({ number, superseded }) => [Number(number), Number(superseded)])).toEqual([
        [1, 1],
        [1, 0],
        [2, 0],
      ]);
      expect(await deliveriesOf(database)).toMatchObject([{ state: 'succeeded', attempts: 2 }]);
    });

    describe('of a process that lost a lease and took the next one', () => {
      const twice = async () => {
        for (let n = 0; n < 2; n++) await addListener(database, START);
        await addEvents(database, 1);
        const lost = (await fan({ room: roomFor(2) })).leased;
        const late = START + LEASE_MS;
        const next = (await fan({ room: roomFor(2), now: late })).leased;
        expect(next.map(({ id }) => id)).toEqual(lost.map(({ id }) => id));
        return { late, lost, next } as { late: number; lost: Pair; next: Pair };
      };
      const supersededOf = async ({ id }: ClaimedDelivery) =>
        (await database.transaction(() => readAttempts(database, id))).map(({ superseded }) => Number(superseded));

      it.each([
        ['first', [0, 1, 2, 3]],
        ['last', [2, 3, 0, 1]],
        ['in turns', [0, 3, 2, 1]],
      ])('counts only the attempts under the next lease, with those of the lost lease %s', async (_, order) => {
        const { late, lost, next } = await twice();
        const four = [...lost, ...next];
        const records = order.map((n) => attemptOf(four[n] as ClaimedDelivery, late));
        const { moved } = await record(records, late);
        expect([...moved].toSorted((a, b) => four.indexOf(a) - four.indexOf(b))).toEqual(next);
        expect(await states()).toEqual(['succeeded', 'succeeded']);
        expect(await unfinishedOf(database)).toEqual([]);
        for (const delivery of next) expect((await supersededOf(delivery)).toSorted()).toEqual([0, 1]);
      });

      it('inserts no delivery under the lost lease beside another delivery of the event', async () => {
        const { late, lost, next } = await twice();
        for (const order of [
          [lost[0], next[1]],
          [next[0], lost[1]],
        ]) {
          const records = order.map((delivery) => attemptOf(delivery, late));
          const { moved } = await record(records, late);
          expect([...moved]).toEqual(order.filter((delivery) => next.includes(delivery)));
          settleLeases(records.map(({ delivery }) => delivery));
        }
        expect(await states()).toEqual(['succeeded', 'succeeded']);
        expect(await unfinishedOf(database)).toEqual([]);
      });

      it('gives back only the deliveries of the next lease', async () => {
        const { late, lost, next } = await twice();
        await database.transaction(() => releaseDeliveries(database, [lost[0], next[1]], late));
        expect((await deliveriesOf(database)).map(({ id }) => id)).toEqual([next[1].id]);
        expect(await unfinishedOf(database)).toHaveLength(1);
      });

      it('does not give back a row that is being sent under the next lease', async () => {
        await addListener(database, START);
        await addEvents(database, 2);
        await fan();
        const lost = (await claim(START)).deliveries as Pair;
        const late = START + LEASE_MS;
        await database.transaction(() => reclaimExpired(database, late, 10));
        const next = (await claim(late)).deliveries as Pair;
        const other = next.find(({ id }) => id !== lost[0].id) as ClaimedDelivery;
        await database.transaction(() => releaseDeliveries(database, [lost[0], other], late));
        const rows = await deliveriesOf(database);
        const stateOf = ({ id }: ClaimedDelivery) => rows.find((row) => row.id === id)?.state;
        expect([stateOf(lost[0]), stateOf(other)]).toEqual(['leased', 'due']);
      });

      it('counts only the attempt under the next lease of a delivery that has a row', async () => {
        await addListener(database, START);
        await addEvents(database, 1);
        await fan();
        const [lost] = (await claim(START)).deliveries as [ClaimedDelivery];
        const late = START + LEASE_MS;
        await database.transaction(() => reclaimExpired(database, late, 10));
        const [next] = (await claim(late)).deliveries as [ClaimedDelivery];
        const { moved } = await record([attemptOf(lost, late), attemptOf(next, late)], late);
        expect([...moved]).toEqual([next]);
        expect(await states()).toEqual(['succeeded']);
        expect((await supersededOf(next)).toSorted()).toEqual([0, 1]);
      });
    });

    it('with one stale lease changes the other deliveries', async () => {
      await addListener(database, START);
      await addEvents(database, 3);
      const { leased } = await fan({ room: roomFor(3) });
      const records = leased.map((delivery, n) =>
        attemptOf(n === 1 ? withToken(delivery, 'of another') : delivery, START),
      );
      expect((await record(records, START)).moved.size).toBe(2);
      expect(await states()).toEqual(['succeeded', 'succeeded']);
      expect(await unfinishedOf(database)).toMatchObject([{ seq: leased[1]?.event.seq }]);
    });

    it('with a 410 disables the listener, and with failures pauses it for all workers', async () => {
      const delivery = await one();
      const gone = attemptOf(delivery, START, {
        outcome: 'rejected',
        status: 410,
        next: { state: 'exhausted', at: START },
      });
      expect((await record([gone], START)).disabled).toMatchObject([{ listenerId: delivery.listener.id }]);
      const row = await database.transaction(() => readListener(database, delivery.listener.id, undefined));
      expect(row?.state).toBe('disabled');
    });

    it('without a change of health leaves the listener: its due deliveries stay expected', async () => {
      await addListener(database, START);
      await addEvents(database, 3);
      const { leased } = await fan({ room: roomFor(2) });
      await record(
        leased.map((delivery) => attemptOf(delivery, START)),
        START,
      );
      expect((await claim(START)).deliveries).toHaveLength(1);
    });
  });
}
