import fc from 'fast-check';
import sql, { raw } from 'sql-template-tag';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { storeEvents } from '../../libs/webhooks/src/store/outbox/event-rows.js';
import { allowanceOf, type RateLimit } from '../../libs/webhooks/src/health/rate-limit.js';
import { claimDeliveries } from '../../libs/webhooks/src/store/queue/claim-deliveries.js';
import type { ClaimedDelivery } from '../../libs/webhooks/src/store/queue/claimed-delivery.js';
import { readOutlook } from '../../libs/webhooks/src/store/queue/read-outlook.js';
import { reclaimExpired } from '../../libs/webhooks/src/store/queue/reclaim-expired.js';
import type { Database } from '../../libs/webhooks/src/store/database/database.js';
import {
  countDeliveries,
  listDeliveries,
  readAttempts,
  readDelivery,
  rearmDelivery,
  type DeliveryRow,
} from '../../libs/webhooks/src/store/queue/delivery-rows.js';
import { fanOut, type FanOutOptions } from '../../libs/webhooks/src/store/queue/fan-out.js';
import { listListeners } from '../../libs/webhooks/src/store/listeners/listed-listeners.js';
import {
  disableListener,
  discardDue,
  lockListener,
  readListener,
  removeListener,
  resumeListener,
  updateListener,
  type ListenerRow,
} from '../../libs/webhooks/src/store/listeners/listener-rows.js';
import { settleLeases } from '../../libs/webhooks/src/store/outbox/outbox-rows.js';
import { typed } from '../../libs/webhooks/src/store/database/dialect-sql.js';
import { publishOnce } from '../../libs/webhooks/src/store/outbox/published-events.js';
import { recordAttempts } from '../../libs/webhooks/src/store/queue/record-attempts.js';
import { releaseDeliveries } from '../../libs/webhooks/src/store/queue/release-deliveries.js';
import type { TableName } from '../../libs/webhooks/src/store/database/tables.js';
import { storeTestEvent } from '../../libs/webhooks/src/store/queue/test-event.js';
import { routesOf } from '../../libs/webhooks/src/routing/route-key.js';
import type { FreshDatabase } from '../support/databases.js';
import {
  addEvents,
  addListener,
  anEvent,
  attemptOf,
  CIRCUIT,
  deliveriesOf,
  failureOf,
  LEASE_MS,
  NO_ROOM,
  openStore,
  outboxOf,
  OWN_TEXT,
  roomFor,
  rowsOf,
  run,
  type OpenStore,
} from './support.js';

export const START = 1_800_000_000_000;
const MIB = 1024 * 1024;

/**
 * The promises of every store, one statement family after the other.
 *
 * @param create creates a database of this kind; its `options` may connect through a pooler
 */
export function describeStore(title: string, create: () => Promise<FreshDatabase>): void {
  describe(`${title}`, () => {
    let fresh: FreshDatabase;
    let store: OpenStore;
    let database: Database;

    beforeAll(async () => {
      fresh = await create();
      store = await openStore(fresh.options);
      database = store.database;
    });
    afterAll(async () => {
      await store?.close();
      await fresh?.drop();
    });
    beforeEach(() => empty(database));

    const fan = (options: Partial<FanOutOptions> = {}, by = database) =>
      by.transaction(() =>
        fanOut(by, {
          now: START,
          limit: 250,
          room: NO_ROOM,
          leaseMs: LEASE_MS,
          circuit: CIRCUIT,
          bodyOf: OWN_TEXT,
          ...options,
        }),
      );
    const claim = (now: number, total = 250, each = total, by = database) =>
      by.transaction(() =>
        claimDeliveries(by, { now, leaseMs: LEASE_MS, room: roomFor(total, each), circuit: CIRCUIT, handshakes: 0 }),
      );
    const record = (records: Parameters<typeof recordAttempts>[1], now: number) =>
      database.transaction(() => recordAttempts(database, records, { now, circuit: CIRCUIT }));
    const states = async () => (await deliveriesOf(database)).map(({ state }) => state);
    const ids = async () => (await deliveriesOf(database)).map(({ id }) => id);

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
        expect(await outboxOf(database)).toEqual([]);
      });

      it('stores only what the worker has no slots for, and leases the events of the others', async () => {
        await addListener(database, START);
        await addEvents(database, 5);
        const { leased, hasDue } = await fan({ room: roomFor(3) });
        expect([leased.length, hasDue]).toEqual([3, true]);
        expect(await states()).toEqual(['due', 'due']);
        const outbox = await outboxOf(database);
        expect(outbox.map(({ claims, leaseUntil }) => [claims, leaseUntil])).toEqual(
          Array.from({ length: 3 }, () => [1, START + LEASE_MS]),
        );
        expect(leased.map(({ seq, event }) => [seq, event.seq])).toEqual(outbox.map(({ seq }) => [null, seq]));
      });

      it('stores a delivery with a body of its own before it is sent', async () => {
        await addListener(database, START);
        await addEvents(database, 1);
        const { leased } = await fan({ room: roomFor(3), bodyOf: () => 'its own' });
        expect(await deliveriesOf(database)).toMatchObject([
          { id: leased[0]?.id, seq: leased[0]?.seq, state: 'leased', body: 'its own', leaseUntil: START + LEASE_MS },
        ]);
        expect(await outboxOf(database)).toEqual([]);
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
        expect(await outboxOf(database)).toEqual([]);
      });

      it('drops the outbox rows of deleted events', async () => {
        await addEvents(database, 2);
        const { events: e } = database.tables;
        await run(database, sql`delete from ${e.sql}`);
        expect(await fan()).toMatchObject({ leased: [], damaged: [] });
        expect(await outboxOf(database)).toEqual([]);
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
        expect([...moved]).toEqual([delivery.id]);
        expect(await deliveriesOf(database)).toMatchObject([
          { id: delivery.id, state: 'succeeded', attempts: 1, leaseToken: null, leaseUntil: null },
        ]);
        expect(await outboxOf(database)).toEqual([]);
        const attempts = await database.transaction(() => readAttempts(database, delivery.id));
        expect(attempts).toMatchObject([{ outcome: 'accepted', response: 'ok' }]);
        expect(Number(attempts[0]?.superseded)).toBe(0);
        const { attempts: a } = database.tables;
        expect(await rowsOf(database, sql`select * from ${a.sql}`)).toEqual([]);
      });

      it('keeps the event in the outbox until its last delivery is on record', async () => {
        for (let n = 0; n < 3; n++) await addListener(database, START);
        await addEvents(database, 1);
        const { leased } = await fan({ room: roomFor(3) });
        const two = leased.slice(0, 2).map((delivery) => attemptOf(delivery, START));
        await record(two, START);
        settleLeases(two.map(({ delivery }) => delivery));
        expect(await outboxOf(database)).toHaveLength(1);
        await record([failureOf(leased[2] as ClaimedDelivery, START, 1_000)], START);
        expect(await states()).toEqual(['succeeded', 'succeeded', 'due']);
        expect(await outboxOf(database)).toEqual([]);
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
        expect([...moved]).toEqual([other?.id]);
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
        expect(await outboxOf(database)).toEqual([]);
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
        expect(await outboxOf(database)).toMatchObject([{ claims: 2 }]);
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
        expect(await database.transaction(() => reclaimExpired(database, late, 10))).toBe(1);
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

      it('with one stale lease changes the other deliveries', async () => {
        await addListener(database, START);
        await addEvents(database, 3);
        const { leased } = await fan({ room: roomFor(3) });
        const records = leased.map((delivery, n) =>
          attemptOf(n === 1 ? withToken(delivery, 'of another') : delivery, START),
        );
        expect((await record(records, START)).moved.size).toBe(2);
        expect(await states()).toEqual(['succeeded', 'succeeded']);
        expect(await outboxOf(database)).toMatchObject([{ seq: leased[1]?.event.seq }]);
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
        const reclaim = (now: number, limit: number) =>
          database.transaction(() => reclaimExpired(database, now, limit));
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

    it('lists deliveries newest first, page by page, and counts them', async () => {
      await addListener(database, START);
      for (const now of [START, START + 1]) {
        await addEvents(database, 3);
        await fan({ now });
      }
      const all = (await deliveriesOf(database)).map(({ id }) => id).toReversed();
      const pages: string[] = [];
      let after: { at: number; seq: string } | null = null;
      for (;;) {
        const rows: DeliveryRow[] = await database.transaction(() =>
          listDeliveries(database, { scope: undefined }, after, 2),
        );
        pages.push(...rows.map(({ id }) => id));
        const last = rows.at(-1);
        if (!last) break;
        after = { at: Number(last.createdAt), seq: String(last.seq) };
      }
      expect(pages).toEqual(all);
    });

    it('resends a finished delivery, and no delivery in flight', async () => {
      await addListener(database, START);
      await addEvents(database, 2);
      await fan();
      const leased = (await claim(START)).deliveries;
      await record([attemptOf(leased[0] as ClaimedDelivery, START)], START);
      const rearm = (n: number) =>
        database.transaction(function* () {
          const row = yield* readDelivery(database, leased[n]?.id ?? '', undefined);
          return yield* rearmDelivery(database, row as DeliveryRow, START + 1, undefined);
        });
      expect([await rearm(0), await rearm(1)]).toEqual([true, false]);
      expect((await claim(START + 1)).deliveries).toMatchObject([{ seq: leased[0]?.seq, attempts: 1, retries: 0 }]);
    });

    it('publishes once with one idempotency key', async () => {
      const key = Buffer.alloc(16, 1);
      const { events: e } = database.tables;
      const publish = () => {
        const row = anEvent();
        const values = row.values.map((value, n) => (n === DEDUPE_KEY ? key : value));
        return database.transaction(() => publishOnce(database, { ...row, values }, key));
      };
      expect(await publish()).toBeUndefined();
      const [first] = await rowsOf<{ id: string }>(database, sql`select ${e.select('e', 'id')} from ${e.sql} e`);
      expect(await publish()).toMatchObject({ id: first?.id });
      expect(await outboxOf(database)).toHaveLength(1);
      expect(await rowsOf(database, sql`select ${e.select('e', 'id')} from ${e.sql} e`)).toHaveLength(1);
    });

    it('stores a test event for one listener, and no fan-out takes it', async () => {
      const id = await addListener(database, START, { patterns: ['*'] });
      await addListener(database, START, { patterns: ['*'] });
      const listener = await database.transaction(() => readListener(database, id, undefined));
      const deliveryId = await database.transaction(() =>
        storeTestEvent(
          database,
          { listener: listener as ListenerRow, example: { type: 'order.created', data: { id: 1 } } },
          START,
          OWN_TEXT,
        ),
      );
      expect((await fan()).events).toBe(0);
      expect((await claim(START)).deliveries.map((delivery) => delivery.id)).toEqual([deliveryId]);
    });

    describe('values', () => {
      it.each([
        ['an empty text', '', ''],
        ['digits', '007', '007'],
        ['the word null', 'null', 'null'],
        ['quotes and backslashes', String.raw`"\'"\n\u0041`, String.raw`"\'"\n\u0041`],
        ['every plane', 'é漢🪝\u2028', 'é漢🪝\u2028'],
        ['a NUL', 'a\0b', 'a\ufffdb'],
        ['half of a surrogate pair', 'a\ud800b', 'a\ufffdb'],
      ])('keep %s', async (_, given, kept) => {
        await addListener(database, START);
        await addEvents(database, 1);
        const { leased } = await fan({ room: roomFor(1), bodyOf: () => given });
        await addEvents(database, 1);
        const { leased: unstored } = await fan({ room: roomFor(1) });
        const both = [...leased, ...unstored];
        await record(
          both.map((one) => attemptOf(one, START, { response: given, errorDetail: given })),
          START,
        );
        expect((await deliveriesOf(database)).map(({ body }) => body)).toEqual([kept, null]);
        for (const { id } of both) {
          const [attempt] = await database.transaction(() => readAttempts(database, id));
          expect(attempt).toMatchObject({ response: kept, errorDetail: kept, errorCode: null });
        }
      });

      it.each([
        ['are equal', () => 'acme'],
        ['are sometimes missing', (n: number) => (n % 3 ? `owner ${n}` : null)],
        ['contain separators', (n: number) => (n === 7 ? 'a\x1eb' : `a\x1f"{},\\é漢🪝'${n}`)],
      ])(
        'of many events in one insert are stored like those of single inserts, in order, if they %s',
        async (_, ownerOf) => {
          const text = String.raw`\x1e"\'{},é漢🪝` + '\x1e\n';
          const rows = Array.from({ length: 20 }, (_row, n) =>
            anEvent({
              data: { id: n, text },
              owner: ownerOf(n),
              createdAt: START + (n % 2),
              ...(n % 4 ? { row: `r${n}` } : {}),
            }),
          );
          const { events: e } = database.tables;
          const columns = ['id', 'type', 'superTypes', 'audience', 'owner', 'ownerKey', 'orderKey'] as const;
          const others = [
            'ordered',
            'dedupeKey',
            'payload',
            'thinPayload',
            'droppedFields',
            'context',
            'createdAt',
          ] as const;
          const read = () =>
            rowsOf(database, sql`select ${e.select('e', ...columns, ...others)} from ${e.sql} e order by e.${e.$.seq}`);
          const store = (some: typeof rows) => database.transaction(() => storeEvents(database, some));
          await store(rows);
          const together = await read();
          await database.transaction(function* () {
            yield sql`delete from ${e.sql}`;
          });
          for (const row of rows) await store([row]);
          expect(together).toEqual(await read());
          expect(together.map(({ id }) => id)).toEqual(rows.map(({ source }) => source.event.id));
          expect(together.map(({ owner }) => owner)).toEqual(rows.map((_row, n) => ownerOf(n)));
        },
      );

      it('of many megabytes are stored, whatever the maximum length of a statement is', async () => {
        const text = `"${'é'.repeat(2 * MIB - 100)}"`;
        await addListener(database, START);
        const rows = Array.from({ length: 5 }, () => anEvent({ data: { id: 1, text } }));
        await database.transaction(() => storeEvents(database, rows));
        const { leased } = await fan({ room: roomFor(5), bodyOf: (_format, { payload }) => payload });
        expect(leased).toHaveLength(5);
        const bodies = (await deliveriesOf(database)).map(({ body }) => body);
        expect(bodies.every((body) => body === leased[0]?.event.payload)).toBe(true);
        expect(bodies[0]?.length).toBeGreaterThan(2 * MIB - 100);
      });

      // better-sqlite3 returns integers as JavaScript numbers.
      it.skipIf(title.includes('sqlite'))('are sequences beyond 2^53, and stay distinct', async () => {
        const far = 2n ** 53n;
        const tables: TableName[] = ['events', 'deliveries', 'listenerState'];
        for (const table of tables) {
          const { metadata, sql: path } = database.tables[table];
          await store.application.query(
            database.dialect === 'mysql'
              ? `alter table ${path.sql} auto_increment = ${far}`
              : `select setval(pg_get_serial_sequence('${metadata.tablePath}', 'seq'), ${far})`,
          );
        }
        await addListener(database, START);
        await addEvents(database, 4);
        const { leased } = await fan({ room: roomFor(2) });
        const rest = (await claim(START)).deliveries;
        const all = [...leased, ...rest];
        expect(new Set(all.map(({ id }) => id)).size).toBe(4);
        expect(new Set(rest.map(({ seq }) => seq)).size).toBe(2);
        expect(rest.every(({ seq }) => BigInt(seq as string) >= far)).toBe(true);
        expect(all.every(({ event }) => BigInt(event.seq) >= far)).toBe(true);
        const { moved } = await record(
          all.map((delivery) => attemptOf(delivery, START)),
          START,
        );
        expect(moved).toEqual(new Set(all.map(({ id }) => id)));
        expect(await states()).toEqual(Array(4).fill('succeeded'));
        await addListener(database, START);
        await addEvents(database, 1);
        expect((await fan({ room: roomFor(9) })).leased).toHaveLength(2);
      });
    });

    describe('after any sequence of steps', () => {
      it('a listener is checked before a due delivery may be sent, and no delivery is forgotten', async () => {
        await fc.assert(
          fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 20 }), async (steps) => {
            await empty(database);
            const world = new World(database);
            await world.begin();
            for (const [what, n] of steps) {
              await world.do(what, n);
              await world.checkReadiness();
            }
            await world.finish();
          }),
          { numRuns: 15, endOnFailure: true },
        );
      }, 180_000);
    });

    if (title.includes('sqlite')) return;
    it('two workers that fan out and claim at the same time share the work, and miss nothing', async () => {
      const other = await openStore(fresh.options, { synchronize: false });
      try {
        for (let n = 0; n < 8; n++) await addListener(database, START);
        for (let n = 0; n < 10; n++) await addEvents(database, 20);
        const workers = [database, other.database];
        const routed = await Promise.all(
          workers.flatMap((by) => [0, 1, 2].map(() => fan({ limit: 40, room: roomFor(40) }, by))),
        );
        for (let left = 1; left > 0;) {
          const more = await fan({ room: roomFor(40) });
          routed.push(more);
          left = more.events;
        }
        expect(routed.reduce((sum, { events }) => sum + events, 0)).toBe(200);
        const seqs = routed.flatMap(({ leased }) => leased.map(({ id }) => id));
        for (let idle = 0; idle < 2;) {
          const claims = await Promise.all(workers.map((by) => claim(START + 10_000, 100, 16, by)));
          const got = claims.flatMap(({ deliveries }) => deliveries.map(({ id }) => id));
          seqs.push(...got);
          idle = got.length ? 0 : idle + 1;
        }
        expect([seqs.length, new Set(seqs).size]).toEqual([1_600, 1_600]);
      } finally {
        await other.close();
      }
    });
  });
}

/** The delivery as a worker has it that lost its lease. */
function withToken(delivery: ClaimedDelivery, token: string): ClaimedDelivery {
  const { lease } = delivery;
  return { ...delivery, leaseToken: token, lease: lease && { ...lease, token } };
}

/** Puts every event back into the outbox, as an operator does with a damaged event, or under a lease. */
function putBack(database: Database, token: string | null = null): Promise<void> {
  const { outbox: o, events: e } = database.tables;
  return database.transaction(function* () {
    yield sql`delete from ${o.sql}`;
    yield sql`insert into ${o.sql} (${o.$.seq}, ${o.$.eventAt}, ${o.$.orderKey}, ${o.$.claims}, ${o.$.leaseUntil}, ${o.$.leaseToken}) select e.${e.$.seq}, e.${e.$.createdAt}, e.${e.$.orderKey}, 1, ${raw(token === null ? '0' : String(START + LEASE_MS))}, ${typed(database.dialect, 'text', token)} from ${e.sql} e`;
  });
}

/** The position of the idempotency key in the values of `eventRow`. */
const DEDUPE_KEY = 8;

async function empty(database: Database): Promise<void> {
  for (const { sql: path } of Object.values(database.tables)) await run(database, sql`delete from ${path}`);
}

type Step =
  | 'event'
  | 'fanOut'
  | 'claim'
  | 'succeed'
  | 'fail'
  | 'pace'
  | 'exhaust'
  | 'release'
  | 'wait'
  | 'reclaim'
  | 'disable'
  | 'enable'
  | 'discard'
  | 'resend';

const step = fc.tuple(
  fc.oneof(
    { weight: 5, arbitrary: fc.constantFrom<Step>('event', 'fanOut', 'claim') },
    { weight: 4, arbitrary: fc.constantFrom<Step>('succeed', 'fail', 'wait', 'reclaim') },
    {
      weight: 2,
      arbitrary: fc.constantFrom<Step>('pace', 'exhaust', 'release', 'disable', 'enable', 'discard', 'resend'),
    },
  ),
  fc.integer({ min: 0, max: 11 }),
);

const RATE: RateLimit = { limit: 3, perSeconds: 2 };

/** A store with three listeners (plain, ordered, with a rate limit), and a worker that performs any sequence of steps. */
class World {
  private now = START;
  private readonly listeners: string[] = [];
  private held: ClaimedDelivery[] = [];

  constructor(private readonly database: Database) {}

  async begin(): Promise<void> {
    for (const options of [{}, { ordering: 'entity' as const }, { rateLimit: RATE }]) {
      this.listeners.push(await addListener(this.database, this.now, options));
    }
  }

  async do(what: Step, n: number): Promise<void> {
    const { database, now } = this;
    const listener = this.listeners[n % 3] as string;
    const some = this.held.slice(0, 1 + (n % 4));
    switch (what) {
      case 'event':
        await addEvents(database, 1 + (n % 3), { row: `row ${n % 2}` });
        return;
      case 'fanOut':
        await this.fanOut(roomFor(n % 5));
        return;
      case 'claim':
        await this.claim(1 + n, 1 + (n % 3));
        return;
      case 'succeed':
        return this.record(some, (delivery) => attemptOf(delivery, now));
      case 'fail':
        return this.record(some, (delivery) => failureOf(delivery, now, n * 1_000));
      case 'pace':
        return this.record(some, (delivery) => ({
          ...failureOf(delivery, now, n * 1_000),
          status: 429,
          retryAfterMs: n * 2_000,
        }));
      case 'exhaust':
        return this.record(some, (delivery) => ({
          ...failureOf(delivery, now, 0),
          next: { state: 'exhausted', at: now },
        }));
      case 'release':
        this.held = this.held.slice(some.length);
        return database.transaction(() => releaseDeliveries(database, some, now));
      case 'wait':
        this.now += n * n * 700;
        return;
      case 'reclaim':
        await database.transaction(() => reclaimExpired(database, now, 1 + n));
        return;
      case 'disable':
        await database.transaction(() => disableListener(database, listener, 'a test', now));
        return;
      case 'enable':
        return this.enable(listener);
      case 'discard':
        await database.transaction(() => discardDue(database, listener, { now, limit: n }));
        return;
      case 'resend': {
        const rows = await deliveriesOf(database);
        const chosen = rows[n % (rows.length || 1)];
        if (!chosen) return;
        await database.transaction(function* () {
          const row = yield* readDelivery(database, chosen.id, undefined);
          yield* rearmDelivery(database, row as DeliveryRow, now, undefined);
        });
      }
    }
  }

  /** Checks the invariant of `ListenerState`, and that no ordered delivery is leased while an earlier one of its row is unfinished. */
  async checkReadiness(): Promise<void> {
    const { database } = this;
    const { deliveries: d, listeners: l, listenerState: s } = database.tables;
    const states = await rowsOf<Record<string, unknown> & { listenerId: string }>(
      database,
      sql`select ${s.select('s', 'listenerId', 'readyAt', 'pausedUntil', 'rateTaken')}, ${l.select('l', 'rateLimit')} from ${s.sql} s join ${l.sql} l on l.${l.$.id} = s.${s.$.listenerId} where l.${l.$.state} = 'active'`,
    );
    const unfinished = await rowsOf<Record<string, unknown> & { orderKey: Uint8Array | null }>(
      database,
      sql`select ${d.select('d', 'listenerId', 'state', 'nextAt', 'orderKey', 'eventSeq')} from ${d.sql} d where d.${d.$.state} in ('due', 'leased') order by d.${d.$.eventSeq}`,
    );
    for (const state of states) {
      const before = new Set<string>();
      for (const delivery of unfinished.filter(({ listenerId }) => listenerId === state.listenerId)) {
        const key = delivery.orderKey && Buffer.from(delivery.orderKey).toString('hex');
        const isBlocked = key !== null && before.has(key);
        if (key !== null) before.add(key);
        if (delivery.state === 'leased') {
          expect(isBlocked, 'an ordered delivery is leased beside an earlier one').toBe(false);
        } else if (!isBlocked) {
          const rate = state.rateLimit === null ? null : allowanceOf(RATE, state.rateTaken as string | null, this.now);
          const sendableAt = Math.max(
            Number(delivery.nextAt),
            Number(state.pausedUntil ?? 0),
            rate && rate.allowed < 1 ? rate.nextAt(0) : 0,
          );
          expect(state.readyAt, 'a delivery is due, and its listener is not in the queue').not.toBeNull();
          // A claim moves listeners that have waited to its own time, after the others.
          expect(Number(state.readyAt)).toBeLessThanOrEqual(Math.max(sendableAt, this.now));
        }
      }
    }
  }

  /** Continues like a dispatcher, but works only at the times at which the store reports work. */
  async finish(): Promise<void> {
    const { database } = this;
    for (const listener of this.listeners) await this.enable(listener);
    // The leases that a worker holds in memory are lost with the worker.
    this.held = [];
    for (let round = 0; round < 500; round++) {
      const outlook = await database.single(() => readOutlook(database, this.now));
      const { hasEvents, readyAt, leaseUntil } = outlook;
      if (!hasEvents && readyAt === null && leaseUntil === null) break;
      this.now = Math.max(this.now, hasEvents ? 0 : Math.min(readyAt ?? Infinity, leaseUntil ?? Infinity));
      await database.transaction(() => reclaimExpired(database, this.now, 100));
      await this.fanOut(roomFor(5));
      await this.claim(20, 20);
      await this.record(this.held, (delivery) => attemptOf(delivery, this.now));
    }
    const left = (await deliveriesOf(database)).filter(({ state }) => state === 'due' || state === 'leased');
    expect(left).toEqual([]);
    expect(await outboxOf(database)).toEqual([]);
  }

  private async fanOut(room: ReturnType<typeof roomFor>): Promise<void> {
    const { database, now } = this;
    const options = { now, limit: 5, room, leaseMs: LEASE_MS, circuit: CIRCUIT, bodyOf: OWN_TEXT };
    const { leased } = await database.transaction(() => fanOut(database, options));
    this.held.push(...leased);
  }

  private async claim(total: number, each: number): Promise<void> {
    const { database, now } = this;
    const options = { now, leaseMs: LEASE_MS, room: roomFor(total, each), circuit: CIRCUIT, handshakes: 0 };
    const { deliveries } = await database.transaction(() => claimDeliveries(database, options));
    this.held.push(...deliveries);
  }

  private async record(
    some: readonly ClaimedDelivery[],
    recordOf: (delivery: ClaimedDelivery) => ReturnType<typeof attemptOf>,
  ): Promise<void> {
    const { database, now } = this;
    this.held = this.held.filter((delivery) => !some.includes(delivery));
    const records = some.map(recordOf);
    if (records.length) await database.transaction(() => recordAttempts(database, records, { now, circuit: CIRCUIT }));
  }

  private enable(listener: string): Promise<void> {
    const { database, now } = this;
    return database.transaction(function* () {
      const row = yield* lockListener(database, listener, undefined);
      if (row?.state !== 'disabled') return;
      yield* updateListener(database, listener, { state: 'active', disabledReason: null }, null, now);
      yield* resumeListener(database, listener);
    });
  }
}
