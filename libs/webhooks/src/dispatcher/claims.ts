import type { LoggerService } from '@nestjs/common';
import type { InFlightDeliveries } from '../deliveries/in-flight.js';
import type { WebhookClock } from '../clock.js';
import type { Diagnostics } from '../diagnostics/diagnostics.js';
import type { WaitingListener } from '../engine.js';
import type { ResolvedWebhooksOptions } from '../options/resolve-options.js';
import { claimDeliveries } from '../store/queue/claim-deliveries.js';
import type { ClaimedDelivery, ClaimedHandshake } from '../store/queue/claimed-delivery.js';
import type { BodyOf } from '../store/queue/rendered-body.js';
import type { Waiting } from '../store/queue/render-waiting.js';
import { endExpiredLeases, LEASES_PER_BATCH } from '../store/outbox/expired-leases.js';
import { reclaimExpired } from '../store/queue/reclaim-expired.js';
import type { Database } from '../store/database/database.js';
import type { ExpectedWork } from './expected-work.js';
import type { Handshakes } from './handshakes.js';
import type { LanedDelivery, Lanes, Leased } from './lanes.js';
import type { LoopPhase } from './loop-phase.js';
import { OwnerTurns } from './owner-turns.js';
import type { Releases } from './releases.js';

export interface ClaimsParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly options: ResolvedWebhooksOptions['dispatcher'];
  readonly lanes: Lanes;
  readonly handshakes: Handshakes;
  readonly releases: Releases;
  readonly phase: LoopPhase;
  readonly expected: ExpectedWork;
  readonly diagnostics: Diagnostics;
  readonly inFlight: InFlightDeliveries;
  readonly bodyOf: BodyOf;
  readonly logger: LoggerService;
}

/** The result of one claim. */
export interface ClaimResult extends Leased {
  readonly handshakes: readonly ClaimedHandshake[];
  /** Whether the claim read every ready listener, or sending is paused. */
  readonly isExhaustive: boolean;
}

interface TakeOptions {
  readonly settledOf?: (delivery: ClaimedDelivery) => (() => void) | undefined;
  readonly isAwaited?: boolean;
}

/** Number of leased deliveries that one transaction reclaims. */
const RECLAIM_BATCH = 500;
/** A lease must last longer than the attempt by this time, because recording the attempt also takes time. */
export const LEASE_MARGIN_MS = 1_000;

/** Claims due deliveries and handshakes from the queue, and adds leased deliveries to the lanes. */
export class Claims {
  private readonly ownerTurns = new OwnerTurns();
  /** The types and versions that were logged as missing. */
  private readonly logged = new Set<string>();

  constructor(private readonly parts: ClaimsParts) {}

  /**
   * Ends expired leases: events go back to the outbox, and deliveries become due again.
   *
   * @throws errors of the database
   */
  async reclaim(): Promise<void> {
    const { database, clock, expected } = this.parts;
    for (;;) {
      const back = await database.transaction(() => endExpiredLeases(database, clock.now(), LEASES_PER_BATCH), 'work');
      if (!back) break;
      expected.expectReturned(back);
    }
    for (;;) {
      const due = await database.transaction(() => reclaimExpired(database, clock.now(), RECLAIM_BATCH), 'work');
      if (!due.length) return;
      expected.expectReady(0, due);
    }
  }

  /**
   * Claims one batch, and begins the claimed handshakes.
   *
   * @param only claims only these listeners
   * @throws errors of the database
   */
  async claim(only?: readonly string[]): Promise<ClaimResult> {
    const { bodyOf, database, clock, options, lanes, phase, expected, diagnostics } = this.parts;
    const { leaseMs, circuit } = options;
    const room = lanes.room('backlog');
    const leasedAt = performance.now();
    if (room.total < 1) {
      return { source: 'backlog', leased: [], leasedAt, handshakes: [], isExhaustive: lanes.isSuspended };
    }
    // Owners take turns only while the loop runs. A round without the loop takes the listeners that have waited
    // longest.
    const takesTurns = phase.keepsRunning && !only;
    const except = takesTurns ? this.ownerTurns.except : [];
    const script = () =>
      claimDeliveries(database, {
        now: clock.now(),
        leaseMs,
        room: { ...room, fullOwners: [...new Set([...room.fullOwners, ...except])] },
        listeners: expected.pace.portion.claim,
        circuit,
        handshakes: this.parts.handshakes.room,
        only,
        bodyOf,
      });
    const { deliveries, waiting, handshakes, isExhaustive } = await diagnostics.step('claim', () =>
      database.transaction(script, 'work'),
    );
    this.logWaiting(waiting);
    this.parts.handshakes.begin(handshakes);
    const owners = deliveries.map(({ owner }) => owner);
    const hadAll = takesTurns ? this.ownerTurns.claimed(owners, isExhaustive) : isExhaustive;
    return { source: 'backlog', leased: deliveries, leasedAt, handshakes, isExhaustive: hadAll };
  }

  private logWaiting(waiting: readonly Waiting[]): void {
    for (const { listenerId, type, version } of waiting) {
      const key = `${type} ${version}`;
      if (this.logged.has(key)) continue;
      this.logged.add(key);
      this.parts.logger.error(
        `UNKNOWN_VERSION: Listener ${listenerId} has version ${version} of '${type}', which this process does not offer. Its deliveries, and those of every other listener with this version, stay pending until a process offers the version, or until the listener gets another version. Declare versions[${version}] of '${type}' again, register its entity in this process, or change \`versions\` of the listeners.`,
      );
    }
  }

  /**
   * Claims the listeners that the engine gave to this process, and adds their deliveries to the lanes. A listener ends when half of its
   * deliveries are recorded or released: then it has room again.
   *
   * @returns the number of deliveries
   * @throws errors of the database
   */
  async claimGiven(given: readonly WaitingListener[]): Promise<number> {
    // Two shards of a listener may come together. The first one takes the deliveries.
    const firstOf = new Map(given.toReversed().map((one) => [one.listenerId, one]));
    let claimed: ClaimResult;
    try {
      claimed = await this.claim([...firstOf.keys()]);
    } catch (error) {
      for (const one of given) one.end(0);
      throw error;
    }
    const counts = new Map<string, number>();
    for (const { listener } of claimed.leased) counts.set(listener.id, (counts.get(listener.id) ?? 0) + 1);
    const settledOf = new Map<string, () => void>();
    for (const one of given) {
      const count = firstOf.get(one.listenerId) === one ? (counts.get(one.listenerId) ?? 0) : 0;
      if (count)
        settledOf.set(
          one.listenerId,
          afterCalls(Math.ceil(count / 2), () => one.end(count)),
        );
      else one.end(0);
    }
    this.take(claimed, { settledOf: ({ listener }) => settledOf.get(listener.id) });
    return claimed.leased.length;
  }

  /**
   * Adds leased deliveries to the lanes.
   * @param options `settledOf`: returns the function that is called when the delivery is recorded or released; `isAwaited`: whether to
   * record the deliveries without delay
   */
  take({ source, leased, leasedAt }: Leased, { settledOf, isAwaited = false }: TakeOptions = {}): void {
    const { options, lanes, phase, releases, inFlight } = this.parts;
    inFlight.add(leased);
    const { leaseMs, timeoutMs } = options;
    const margin = Math.min(LEASE_MARGIN_MS, (leaseMs - timeoutMs) / 2);
    const withinMs = leaseMs - timeoutMs - margin;
    const laned = leased.map((delivery): LanedDelivery => {
      const startBefore = leasedAt + Math.min(withinMs, delivery.startWithinMs ?? Infinity);
      return { delivery, source, startBefore, settled: settledOf?.(delivery), isAwaited };
    });
    if (phase.isStopping || lanes.isSuspended) releases.add(laned);
    else lanes.add(laned);
  }

  /** Like {@link take}, but settles when every delivery is recorded or released. */
  async takeAndWait(leased: Leased): Promise<void> {
    if (!leased.leased.length) return;
    await new Promise<void>((resolve) => {
      const settled = afterCalls(leased.leased.length, resolve);
      this.take(leased, { settledOf: () => settled, isAwaited: true });
    });
  }
}

/** A function that calls `done` when it is called for the n-th time. */
function afterCalls(n: number, done: () => void): () => void {
  let left = n;
  return () => {
    if (--left === 0) done();
  };
}
