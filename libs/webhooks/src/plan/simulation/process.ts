import { ExpectedWork } from '../../dispatcher/expected-work.js';
import { Lanes, type LanedDelivery } from '../../dispatcher/lanes.js';
import { RoomLeft } from '../../store/queue/room.js';
import type { ResolvedWebhooksOptions } from '../../options/resolve-options.js';
import { SECOND } from '../../time.js';
import type { ProcessContext } from './process-context.js';
import { answerOf } from './receiver.js';
import { SimulatedRecorder } from './recorder.js';
import type { SimulatedDelivery } from './store.js';

type DispatcherOptions = ResolvedWebhooksOptions['dispatcher'];

/** Batches of events that one process routes at the same time, as in the router of the library. */
const MAX_BATCHES = 2;
/** A lease must last longer than the attempt by this time, as in the claims of the library. */
const LEASE_MARGIN_MS = SECOND;

interface ProcessParts extends ProcessContext {
  readonly options: DispatcherOptions;
  /** CPU time of one request. */
  readonly sendUs: number;
  /** The deliveries of an event. */
  readonly fanOut: (eventAt: number) => SimulatedDelivery[];
  /** Lets the receiver of a listener work, if it shares the cores. */
  readonly receive: (done: () => void) => void;
}

/**
 * A process with a dispatcher. Its lanes, its pace, and its decisions about what to do next are those of the library; the process replaces
 * its transactions and requests by their costs.
 */
export class SimulatedProcess {
  private readonly lanes: Lanes<SimulatedDelivery>;
  private readonly expected: ExpectedWork;
  private readonly recorder: SimulatedRecorder;
  private inFlight = 0;
  private isClaiming = false;
  /** When the next search begins. Later searches are planned again after it. */
  private searchAt = Infinity;

  constructor(private readonly parts: ProcessParts) {
    const { time, options } = parts;
    const { eventsPerBatch, pollIntervalMs } = options;
    this.lanes = new Lanes({
      ...options,
      now: () => time.now,
      waiting: { fresh: 3 * eventsPerBatch, backlog: eventsPerBatch },
      send: (laned, free) => this.send(laned, free),
      expired: (laned) => this.release([laned]),
      hasRoomAgain: () => this.wake(() => this.expected.expectReady(0)),
    });
    const clock = { now: () => time.now };
    this.expected = new ExpectedWork({
      ...{ clock, now: clock.now, lanes: this.lanes, pollIntervalMs, engine: null, maxBatches: MAX_BATCHES },
    });
    this.recorder = new SimulatedRecorder({
      process: parts,
      eventsPerBatch,
      expect: (at) => this.wake(() => this.expected.expectReady(at)),
      stopped: (listener) => this.release(this.lanes.evict(listener.id)),
      recorded: () => this.wake(),
    });
  }

  /** Number of requests in flight. */
  get sending(): number {
    return this.lanes.sending;
  }

  /** Whether this process has a delivery in memory or an attempt to record. */
  get isIdle(): boolean {
    return this.lanes.isEmpty && this.inFlight === 0;
  }

  /** Call this method when events were committed. */
  notice(): void {
    this.wake(() => this.expected.expectEvents());
  }

  private wake(change?: () => void): void {
    change?.();
    this.searchWithin(0);
  }

  private searchWithin(ms: number): void {
    const at = this.parts.time.now + ms;
    if (at >= this.searchAt) return;
    this.searchAt = at;
    this.parts.time.at(at, () => {
      if (this.searchAt === at) this.search();
    });
  }

  private search(): void {
    const { expected } = this;
    this.searchAt = Infinity;
    // The loop of the library waits for its claim, too.
    if (this.isClaiming) return;
    if (expected.mayPoll) this.poll();
    if (expected.mayRoute) this.route();
    if (expected.mayClaim) this.claim();
    else this.searchWithin(Math.max(1, expected.sleepMs));
  }

  private poll(): void {
    const { store } = this.parts;
    this.expected.beginPoll();
    if (store.outbox.size) this.expected.expectEvents();
    const readyAt = store.nextReadyAt;
    if (readyAt !== null) this.expected.expectReady(readyAt);
  }

  private route(): void {
    const { store, options, fanOut, database, measured, time } = this.parts;
    const { expected, lanes } = this;
    const limit = Math.max(1, Math.min(options.eventsPerBatch, lanes.room('fresh').total - expected.beingRouted));
    const look = expected.cursor.look(!expected.isRouting);
    expected.beginBatch();
    const events = store.takeEvents(limit);
    // What a search costs that finds nothing is not known, and is left out.
    if (!events.length) {
      expected.batchClaimed(false);
      expected.cursor.found(look, null);
      return;
    }
    measured.batches.route++;
    const deliveries = events.flatMap(fanOut);
    const { direct, stored } = this.divide(deliveries);
    // The library knows a batch by the promise of its end.
    const batch = new Promise<void>(() => undefined);
    expected.addBatch(batch, limit);
    const leasedAt = time.now;
    const claimed = () => {
      expected.cursor.found(look, null);
      expected.batchClaimed(events.length >= limit);
      this.wake();
    };
    const done = () => {
      expected.routedAt = time.now;
      for (const delivery of stored) store.addDue(delivery, time.now);
      if (stored.length) expected.expectReady(0);
      this.add('fresh', direct, leasedAt);
      expected.endBatch(batch, true);
      this.wake();
    };
    database.run({ kind: 'route', direct: direct.length, stored: stored.length }, done, claimed);
  }

  /** Divides new deliveries into those that this process sends now, and those that wait for a claim. */
  private divide(deliveries: readonly SimulatedDelivery[]) {
    const { store } = this.parts;
    const left = new RoomLeft(this.lanes.room('fresh'));
    const direct: SimulatedDelivery[] = [];
    const stored: SimulatedDelivery[] = [];
    for (const delivery of deliveries) {
      const target = { id: delivery.listener.id, owner: null };
      const fits = store.isFree(delivery.listener) && left.ofListener(target) >= 1;
      if (fits) left.take(target);
      (fits ? direct : stored).push(delivery);
    }
    return { direct, stored };
  }

  private claim(): void {
    const { store, database, measured, time } = this.parts;
    const { expected, lanes } = this;
    expected.beginClaim();
    const began = time.now;
    const { deliveries, isExhaustive } = store.claim(lanes.room('backlog'), expected.pace.portion.claim);
    measured.batches.claim++;
    this.isClaiming = true;
    database.run({ kind: 'claim', direct: 0, stored: deliveries.length }, () => {
      this.isClaiming = false;
      expected.pace.ended(began, !isExhaustive);
      this.add('backlog', deliveries, began);
      if (!isExhaustive || deliveries.length) expected.expectReady(0);
      this.wake();
    });
  }

  private add(source: 'fresh' | 'backlog', deliveries: readonly SimulatedDelivery[], leasedAt: number): void {
    const { leaseMs, timeoutMs } = this.parts.options;
    const startBefore = leasedAt + leaseMs - timeoutMs - LEASE_MARGIN_MS;
    this.lanes.add(
      deliveries.map((delivery) => ({ delivery, source, startBefore, settled: undefined, isAwaited: false })),
    );
  }

  private release(evicted: readonly LanedDelivery<SimulatedDelivery>[]): void {
    const { store, time } = this.parts;
    for (const { delivery } of evicted) store.addDue(delivery, time.now);
    if (evicted.length) this.wake(() => this.expected.expectReady(0));
  }

  private send(laned: LanedDelivery<SimulatedDelivery>, free: () => void): Promise<void> {
    const { thread, time, measured, sendUs, receive, options } = this.parts;
    const { delivery } = laned;
    const startedAt = time.now;
    const wasFailing = delivery.listener.state.failuresInARow > 0;
    this.inFlight++;
    thread.run(sendUs, () => {
      measured.attempts++;
      if (delivery.retries === 0) measured.delays.push(time.now - delivery.eventAt);
      if (delivery.isStored) measured.storedAttempts++;
      const { outcome, afterMs } = answerOf(delivery.listener.receiver, time.now, options.timeoutMs);
      const ended = () => {
        this.inFlight--;
        measured.slotMs += time.now - startedAt;
        this.recorder.add({ laned, outcome, startedAt, wasFailing }, { isLast: this.inFlight === 0, free });
        if (this.expected.mayRoute || this.expected.mayClaim) this.wake();
      };
      if (outcome.kind === 'unreachable') time.after(afterMs, ended);
      else receive(() => time.after(afterMs, ended));
    });
    // The slot is freed by `free`. A promise that never settles frees nothing.
    return new Promise(() => undefined);
  }
}
