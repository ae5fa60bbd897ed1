import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { newId, deliveryId } from '../../libs/webhooks/src/ids.js';
import type { Database } from '../../libs/webhooks/src/store/database/database.js';
import { timeInId } from '../../libs/webhooks/src/store/database/event-times.js';
import type { Script } from '../../libs/webhooks/src/store/database/script.js';
import { readListedEvent, listEvents } from '../../libs/webhooks/src/store/outbox/listed-events.js';
import { storeEvents } from '../../libs/webhooks/src/store/outbox/event-rows.js';
import { claimDeliveries } from '../../libs/webhooks/src/store/queue/claim-deliveries.js';
import type { ClaimedDelivery } from '../../libs/webhooks/src/store/queue/claimed-delivery.js';
import { readOutlook } from '../../libs/webhooks/src/store/queue/read-outlook.js';
import { reclaimExpired } from '../../libs/webhooks/src/store/queue/reclaim-expired.js';
import {
  listDeliveries,
  readAttempts,
  readBodyOf,
  readContextOf,
  readDelivery,
  readErasedAt,
  readEventOf,
  rearmDelivery,
  type DeliveryRow,
} from '../../libs/webhooks/src/store/queue/delivery-rows.js';
import { fanOut } from '../../libs/webhooks/src/store/queue/fan-out.js';
import { prune, readOldEvents } from '../../libs/webhooks/src/store/queue/old-events.js';
import { recordAttempts } from '../../libs/webhooks/src/store/queue/record-attempts.js';
import { releaseDeliveries } from '../../libs/webhooks/src/store/queue/release-deliveries.js';
import { readSentDeliveries, readSentEvent } from '../../libs/webhooks/src/store/queue/sent-deliveries.js';
import { describeOn, type FreshDatabase } from '../support/databases.js';
import { createPartitioned, makeDay } from '../support/partitioned.js';
import { measure } from './measured.js';
import {
  addEvents,
  addListener,
  anEvent,
  attemptOf,
  CIRCUIT,
  failureOf,
  LEASE_MS,
  NO_ROOM,
  openStore,
  OWN_TEXT,
  roomFor,
  type OpenStore,
} from './support.js';

const DAY = 86_400_000;
/** In the middle of a day. */
const NOW = Math.floor(1_800_000_000_000 / DAY) * DAY + DAY / 2;
const DAYS = 12;
/** The most partitions of one table that a statement may read. Two, because a batch may pass midnight. */
const MOST = 2;

describe('the time in a public id', () => {
  it.each([0, 1, NOW, NOW + 1, 2 ** 48 - 1])('is the time of the event: %i', (at) => {
    const id = newId('evt', at);
    expect(timeInId(id)).toBe(at);
    expect(timeInId(deliveryId({ id, createdAt: at }, 'lst_1'))).toBe(at);
  });

  it('is unknown for another form of id', () => {
    for (const id of [
      '',
      'evt_1',
      'lst_01a22f1f-976d-7ceb-a339-e5d6912362f8',
      'evt_01a22f1f-976d-4ceb-a339-e5d6912362f8',
    ])
      expect(timeInId(id)).toBeNull();
  });
});

describeOn('postgres', 'with partitions, the plan', (target) => {
  let fresh: FreshDatabase;
  let store: OpenStore;
  let database: Database;
  let delivery: DeliveryRow;

  beforeAll(async () => {
    fresh = await target.create();
    await createPartitioned(fresh.options, {}, []);
    store = await openStore(fresh.options);
    database = store.database;
    const today = Math.floor(NOW / DAY);
    for (let day = today - DAYS / 2; day < today + DAYS / 2; day++) await makeDay(store.application, day);
    // One listener that is failing, so that a record reads its due deliveries, too.
    await addListener(database, NOW, { patterns: ['*'] });
    await addEvents(database, 20, { createdAt: NOW });
    await fan(false);
    const [first] = await database.single(() => listDeliveries(database, { scope: undefined }, null, 1));
    delivery = first as DeliveryRow;
    // Another listener, to which nothing is due: its deliveries are sent before they have rows.
    await addListener(database, NOW, { patterns: ['*'] });
    await addEvents(database, 20, { createdAt: NOW });
  });
  afterAll(async () => {
    await store?.close();
    await fresh?.drop();
  });

  const options = { now: NOW, limit: 250, leaseMs: LEASE_MS, circuit: CIRCUIT, bodyOf: OWN_TEXT };
  const fan = (isSending: boolean) =>
    database.transaction(() => fanOut(database, { ...options, room: isSending ? roomFor(250) : NO_ROOM }));
  const claim = () => claimDeliveries(database, { ...options, room: roomFor(250), handshakes: 0 });

  /** How many partitions of one table each statement reads, at most; statements that read none are left out. */
  const partitionsOf = async (script: () => Script<unknown>) => {
    const { costs } = await measure(database, script);
    return costs
      .map(({ text, plan }) => ({ text, count: mostOfOneTable(JSON.parse(plan) as PlanNode) }))
      .filter(({ count }) => count > 0);
  };
  const expectPruned = async (script: () => Script<unknown>) => {
    const found = await partitionsOf(script);
    expect(found.length).toBeGreaterThan(0);
    expect(found.filter(({ count }) => count > MOST)).toEqual([]);
  };

  const byId: Record<string, () => Script<unknown>> = {
    'a delivery': () => readDelivery(database, delivery.id, undefined),
    'the attempts of a delivery': () => readAttempts(database, delivery.id),
    'the body of a delivery': () => readBodyOf(database, delivery),
    'the context of a delivery': () => readContextOf(database, delivery),
    'the erasure of a delivery': () => readErasedAt(database, delivery),
    'the event of a delivery': () => readEventOf(database, delivery),
    'the deliveries of an event': () =>
      listDeliveries(database, { scope: undefined, eventId: delivery.eventId }, null, 51),
    'an event': () => readListedEvent(database, delivery.eventId, undefined),
    'an event for the verify view': () => readSentEvent(database, delivery.eventId, 10),
    'the sent deliveries of an event': () =>
      readSentDeliveries(database, { seq: 1, createdAt: NOW }, { bodyLength: 10, before: null, limit: 10 }),
  };
  it.each(Object.keys(byId))('of a look-up by id reads one day: %s', async (name) => {
    await expectPruned(byId[name] as () => Script<unknown>);
  });

  it('of a list of events with `since` and `until` reads the days between', async () => {
    const filter = { scope: undefined, since: NOW - DAY / 4, until: NOW + DAY / 4 };
    await expectPruned(() => listEvents(database, filter, null, 51));
  });

  it('of an insert of the application, of a claim of events, and of their record reads the days of the events', async () => {
    await expectPruned(function* () {
      yield* storeEvents(database, [anEvent({ createdAt: NOW })]);
      const { leased } = yield* fanOut(database, { ...options, room: roomFor(250) });
      expect(leased.length).toBeGreaterThan(10);
      yield* recordAttempts(
        database,
        leased.map((one: ClaimedDelivery) => attemptOf(one, NOW)),
        { now: NOW, circuit: CIRCUIT },
      );
    });
  });

  it('of retention reads the days of its batch', async () => {
    const { events } = await database.single(() => readOldEvents(database, { afterSeq: 0, before: NOW + 1 }));
    expect(events.length).toBeGreaterThan(10);
    await expectPruned(() => prune(database, events, { succeededBefore: NOW + 1, failedBefore: NOW + 1 }));
  });

  it('of a resend reads one day, except to find the next due delivery of the listener', async () => {
    const found = await partitionsOf(() =>
      rearmDelivery(database, delivery, NOW, { trigger: 'resend', by: null }, undefined),
    );
    expect(found.filter(({ count }) => count > MOST)).toEqual([]);
  });

  /** The statements that must look into each partition, because nothing tells the time of the event. docs/partitions.md has the same list. */
  it('reads each partition for these statements only', async () => {
    const everywhere = async (script: () => Script<unknown>) =>
      (await partitionsOf(script)).filter(({ count }) => count > MOST).map(({ text }) => text);
    const due = /"?state"? = 'due'/;
    const claimed = await everywhere(function* () {
      const { deliveries } = yield* claim();
      expect(deliveries.length).toBeGreaterThan(10);
      yield* recordAttempts(
        database,
        deliveries.map((one) => failureOf(one, NOW, NOW + LEASE_MS)),
        { now: NOW, circuit: CIRCUIT },
      );
    });
    expect(claimed.length).toBeGreaterThan(0);
    for (const text of claimed) expect(text).toMatch(due);
    const released = await everywhere(function* () {
      const { deliveries } = yield* claim();
      yield* releaseDeliveries(database, deliveries, NOW);
    });
    for (const text of released) expect(text).toMatch(due);
    const reclaimed = await everywhere(function* () {
      yield* claim();
      yield* reclaimExpired(database, NOW + 2 * LEASE_MS, 250);
    });
    for (const text of reclaimed) expect(text).toMatch(/"?state"? = '(due|leased)'/);
    expect(await everywhere(() => readOutlook(database, NOW, []))).toHaveLength(1);
    const list = { scope: undefined, since: NOW - DAY / 4, until: NOW + DAY / 4 };
    expect(await everywhere(() => listDeliveries(database, list, null, 51))).toHaveLength(1);
    expect(await everywhere(() => readOldEvents(database, { afterSeq: 0, before: NOW }))).toHaveLength(1);
  });
});

interface PlanNode {
  readonly 'Relation Name'?: string;
  readonly 'Actual Loops'?: number;
  readonly Plans?: readonly PlanNode[];
}

const PARTITION = /^(webhook_\w+?)_(?:p\d{8}|default)$/;

/** A partition that the executor pruned is in the plan, and has no loops. */
function mostOfOneTable(plan: PlanNode): number {
  const read = new Map<string, Set<string>>();
  const visit = (node: PlanNode) => {
    const name = node['Relation Name'];
    const [, table] = PARTITION.exec(name ?? '') ?? [];
    if (name !== undefined && table !== undefined && (node['Actual Loops'] ?? 0) > 0) {
      read.set(table, (read.get(table) ?? new Set()).add(name));
    }
    for (const child of node.Plans ?? []) visit(child);
  };
  visit(plan);
  return Math.max(0, ...[...read.values()].map(({ size }) => size));
}
