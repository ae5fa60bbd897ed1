import fc from 'fast-check';
import sql from 'sql-template-tag';
import { describe, expect, it } from 'vitest';
import { allowanceOf, type RateLimit } from '../../../libs/webhooks/src/health/rate-limit.js';
import { claimDeliveries } from '../../../libs/webhooks/src/store/queue/claim-deliveries.js';
import type { ClaimedDelivery } from '../../../libs/webhooks/src/store/queue/claimed-delivery.js';
import { readOutlook } from '../../../libs/webhooks/src/store/queue/read-outlook.js';
import { endExpiredLeases } from '../../../libs/webhooks/src/store/outbox/expired-leases.js';
import { reclaimExpired } from '../../../libs/webhooks/src/store/queue/reclaim-expired.js';
import type { Database } from '../../../libs/webhooks/src/store/database/database.js';
import { readDelivery, rearmDelivery, type DeliveryRow } from '../../../libs/webhooks/src/store/queue/delivery-rows.js';
import { fanOut } from '../../../libs/webhooks/src/store/queue/fan-out.js';
import {
  disableListener,
  discardDue,
  lockListener,
  resumeListener,
  updateListener,
} from '../../../libs/webhooks/src/store/listeners/listener-rows.js';
import { recordAttempts } from '../../../libs/webhooks/src/store/queue/record-attempts.js';
import { releaseDeliveries } from '../../../libs/webhooks/src/store/queue/release-deliveries.js';
import {
  addEvents,
  addListener,
  attemptOf,
  CIRCUIT,
  deliveriesOf,
  failureOf,
  LEASE_MS,
  unfinishedOf,
  OWN_TEXT,
  roomFor,
  rowsOf,
} from '../support.js';
import { START, type StoreSuite, empty } from './store-suite.js';

export function describeRandomSteps(suite: StoreSuite): void {
  describe('after any sequence of steps', () => {
    it('a listener is checked before a due delivery may be sent, and no delivery is forgotten', async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 20 }), async (steps) => {
          await empty(suite.database);
          const world = new World(suite.database);
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
        await database.transaction(() => endExpiredLeases(database, now, 1 + n));
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
          yield* rearmDelivery(database, row as DeliveryRow, now, { trigger: 'resend', by: null }, undefined);
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
      await database.transaction(() => endExpiredLeases(database, this.now, 100));
      await database.transaction(() => reclaimExpired(database, this.now, 100));
      await this.fanOut(roomFor(5));
      await this.claim(20, 20);
      await this.record(this.held, (delivery) => attemptOf(delivery, this.now));
    }
    const left = (await deliveriesOf(database)).filter(({ state }) => state === 'due' || state === 'leased');
    expect(left).toEqual([]);
    expect(await unfinishedOf(database)).toEqual([]);
  }

  private async fanOut(room: ReturnType<typeof roomFor>): Promise<void> {
    const { database, now } = this;
    const options = { now, limit: 5, room, leaseMs: LEASE_MS, circuit: CIRCUIT, bodyOf: OWN_TEXT };
    const { leased } = await database.transaction(() => fanOut(database, options));
    this.held.push(...leased);
  }

  private async claim(total: number, each: number): Promise<void> {
    const { database, now } = this;
    const options = {
      now,
      leaseMs: LEASE_MS,
      room: roomFor(total, each),
      circuit: CIRCUIT,
      handshakes: 0,
      bodyOf: OWN_TEXT,
    };
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
