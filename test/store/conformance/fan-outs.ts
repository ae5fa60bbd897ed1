import sql from 'sql-template-tag';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Database } from '../../../libs/webhooks/src/store/database/database.js';
import { addEvents, addListener, deliveriesOf, LEASE_MS, unfinishedOf, roomFor, rowsOf, run } from '../support.js';
import { START, putBack, type StoreSuite } from './store-suite.js';

export function describeFanOuts(suite: StoreSuite): void {
  const { fan, states, ids } = suite;
  let database: Database;
  beforeAll(() => {
    database = suite.database;
  });

  describe('a fan-out', () => {
    it('makes one delivery of an event for each listener that wants it, and takes the event from the outbox', async () => {
      const wanting = [await addListener(database, START), await addListener(database, START, { patterns: ['*'] })];
      await addListener(database, START, { patterns: ['user.created'] });
      await addEvents(database, 3);
      const result = await fan();
      expect(result).toMatchObject({ events: 3, leased: [], hasDue: true });
      const made = await deliveriesOf(database);
      expect(made.map(({ state }) => state)).toEqual(Array(6).fill('due'));
      expect(new Set(made.map(({ listenerId }) => listenerId))).toEqual(new Set(wanting));
      expect(await fan()).toMatchObject({ events: 0, leased: [] });
    });

    it('makes no second delivery of an event that is routed again', async () => {
      await addListener(database, START);
      await addEvents(database, 2);
      await fan();
      await putBack(database);
      expect(await fan({ room: roomFor(10) })).toMatchObject({ events: 2, leased: [] });
      expect(await states()).toEqual(['due', 'due']);
      expect(await unfinishedOf(database)).toEqual([]);
    });

    it('stores only what the worker has no slots for, and leases the events of the others', async () => {
      await addListener(database, START);
      await addEvents(database, 5);
      const { leased, hasDue } = await fan({ room: roomFor(3) });
      expect([leased.length, hasDue]).toEqual([3, true]);
      expect(await states()).toEqual(['due', 'due']);
      const outbox = await unfinishedOf(database);
      expect(outbox.map(({ claims, leaseUntil }) => [claims, leaseUntil])).toEqual(
        Array.from({ length: 3 }, () => [1, START + LEASE_MS]),
      );
      expect(leased.map(({ seq, event }) => [seq, event.seq])).toEqual(outbox.map(({ seq }) => [null, seq]));
    });

    it('stores a delivery with a body of its own before it is sent', async () => {
      await addListener(database, START);
      await addEvents(database, 1);
      const { leased } = await fan({
        room: roomFor(3),
        bodyOf: () => ({ body: 'its own', format: 'own', version: null }),
      });
      expect(await deliveriesOf(database)).toMatchObject([
        { id: leased[0]?.id, seq: leased[0]?.seq, state: 'leased', body: 'its own', leaseUntil: START + LEASE_MS },
      ]);
      expect(await unfinishedOf(database)).toEqual([]);
    });

    it('gives a delivery the same id when its event is routed again, and leaves out what exists', async () => {
      await addListener(database, START);
      await addListener(database, START);
      await addEvents(database, 1);
      const first = await fan({ room: roomFor(2) });
      expect(await fan({ room: roomFor(2), now: START + LEASE_MS - 1 })).toMatchObject({ events: 0 });
      const again = await fan({ room: roomFor(1), now: START + LEASE_MS });
      expect([...again.leased.map(({ id }) => id), ...(await ids())].toSorted()).toEqual(
        first.leased.map(({ id }) => id).toSorted(),
      );
      const third = await fan({ room: roomFor(2), now: START + 2 * LEASE_MS });
      expect(third.leased.map(({ id }) => id)).toEqual(again.leased.map(({ id }) => id));
    });

    it('marks an event as damaged that was claimed five times without a record', async () => {
      await addListener(database, START);
      const [id] = await addEvents(database, 1);
      for (let n = 0; n < 5; n++) {
        expect((await fan({ room: roomFor(1), now: START + n * LEASE_MS })).leased).toHaveLength(1);
      }
      const sixth = await fan({ room: roomFor(1), now: START + 5 * LEASE_MS });
      expect(sixth).toMatchObject({ leased: [], damaged: [{ id }] });
      const { damaged: x } = database.tables;
      expect(await rowsOf(database, sql`select ${x.select('x', 'reason')} from ${x.sql} x`)).toEqual([
        { reason: 'it was claimed 5 times without a record' },
      ]);
      expect(await unfinishedOf(database)).toEqual([]);
    });

    it('drops the outbox rows of deleted events', async () => {
      await addEvents(database, 2);
      const { events: e } = database.tables;
      await run(database, sql`delete from ${e.sql}`);
      expect(await fan()).toMatchObject({ leased: [], damaged: [] });
      expect(await unfinishedOf(database)).toEqual([]);
    });

    it('delivers the events of an owner only to the listeners of that owner', async () => {
      const acme = await addListener(database, START, { owner: 'acme', patterns: ['*'] });
      await addListener(database, START, { owner: 'ACME', patterns: ['*'] });
      const ours = await addListener(database, START, { patterns: ['*'] });
      await addEvents(database, 1, { owner: 'acme' });
      await fan();
      expect((await deliveriesOf(database)).map(({ listenerId }) => listenerId).toSorted()).toEqual(
        [acme, ours].toSorted(),
      );
    });
  });
}
