import type { ClaimedDelivery, Room } from '../store/claim-deliveries.js';

/** A delivery in the memory of this process, leased to it. */
export interface LanedDelivery {
  readonly delivery: ClaimedDelivery;
  /** Until when an attempt may start, on the monotonic clock: its lease must cover the attempt, and its rate limit its start. */
  readonly startBefore: number;
  /** Called once, when its attempt is recorded or it was given back. */
  readonly settled: (() => void) | undefined;
  readonly source: Source;
}

/**
 * Where a delivery came from: `fresh` ones were leased as they were made, `backlog` ones had to wait in the database. Each has room of
 * its own, and they take turns, so that a hundred thousand deliveries of one event delay nobody's next one.
 */
export type Source = 'fresh' | 'backlog';
const SOURCES: readonly Source[] = ['fresh', 'backlog'];

/** Deliveries leased to this process. */
export interface Leased {
  readonly source: Source;
  readonly leased: readonly ClaimedDelivery[];
  /** Before the transaction that leased them began, on the monotonic clock: however long it took, no lease is older. */
  readonly leasedAt: number;
}

export interface LanesOptions {
  /** Requests under way at once. */
  readonly concurrency: number;
  /** Of these to one listener. */
  readonly perListener: number;
  /** Deliveries that wait in memory, at most. */
  readonly waiting: Readonly<Record<Source, number>>;
  /** Makes the attempt; settles when its slot is free again. Never rejects. */
  readonly send: (laned: LanedDelivery) => Promise<void>;
  /** Its lease no longer covers an attempt. */
  readonly expired: (laned: LanedDelivery) => void;
  /** A listener that had no room when it was last asked about has some again. */
  readonly hungry: () => void;
}

interface Lane {
  readonly listenerId: string;
  queue: LanedDelivery[];
  running: number;
  /** It had no room when {@link Lanes.room} was called, so nobody looked for what is due to it. */
  wasFull: boolean;
  /** Attempts that ended in the current stretch of {@link RATE_WINDOW_MS}, and in the one before. */
  ended: number;
  endedBefore: number;
  since: number;
}

const RATE_WINDOW_MS = 500;

/**
 * A lane for each listener: the bulkhead. What one listener is slow at fills its own lane, and nothing else.
 *
 * A lane takes in advance what it sent in the last second, and at least `perListener`: enough never to run dry before the next claim,
 * and of a receiver that is slow or dead no more than a handful, so that other processes can take the rest. Lanes take
 * turns for free slots.
 */
export class Lanes {
  private readonly lanes = new Map<string, Lane>();
  /** Lanes with something to send and a slot of their own, in the order of their turns, by the source of what is first in them. */
  private readonly turns: Readonly<Record<Source, Set<Lane>>> = { fresh: new Set(), backlog: new Set() };
  private running = 0;
  private readonly queued: Record<Source, number> = { fresh: 0, backlog: 0 };
  private nextTurn: Source = 'fresh';
  private isHeld = false;

  constructor(private readonly options: LanesOptions) {}

  /** Deliveries that are being sent. */
  get sending(): number {
    return this.running;
  }

  /** Nothing is in memory. */
  get isEmpty(): boolean {
    return this.running + this.queued.fresh + this.queued.backlog === 0;
  }

  /** What may be taken now, seen at once: a script that runs again after a deadlock decides the same. */
  room(source: Source): Room {
    const { concurrency, waiting } = this.options;
    const now = performance.now();
    const full = [...this.lanes.values()].filter((lane) => this.roomOf(lane, now) < 1);
    for (const lane of full) lane.wasFull = true;
    return {
      total: Math.max(0, concurrency - this.running) + Math.max(0, waiting[source] - this.queued[source]),
      of: (listenerId) => this.roomOf(this.lanes.get(listenerId), now),
      full: full.map((lane) => lane.listenerId),
    };
  }

  /**
   * Whether so few wait that it is time to take more: while these are fetched, the others are sent.
   *
   * @param coming how many are being fetched already
   */
  isThirsty(source: Source, coming = 0): boolean {
    return !this.isHeld && (this.queued[source] + coming) * 3 <= this.options.waiting[source] * 2;
  }

  add(laned: readonly LanedDelivery[]): void {
    for (const one of laned) {
      const lane = this.laneOf(one.delivery.listener.id);
      lane.queue.push(one);
      this.queued[one.source]++;
      this.offer(lane);
    }
    this.start();
  }

  /** Sends nothing more until {@link resume}. What is being sent goes on. */
  hold(): void {
    this.isHeld = true;
  }

  resume(): void {
    if (!this.isHeld) return;
    this.isHeld = false;
    this.start();
    this.options.hungry();
  }

  /** Takes what waits for a listener out of memory, or for all of them. What is being sent goes on. */
  evict(listenerId?: string): LanedDelivery[] {
    const lanes = listenerId === undefined ? [...this.lanes.values()] : [this.lanes.get(listenerId)];
    const evicted: LanedDelivery[] = [];
    for (const lane of lanes) {
      if (!lane) continue;
      evicted.push(...lane.queue);
      for (const { source } of lane.queue) this.queued[source]--;
      lane.queue = [];
      for (const source of SOURCES) this.turns[source].delete(lane);
      this.forget(lane);
    }
    return evicted;
  }

  private laneOf(listenerId: string): Lane {
    let lane = this.lanes.get(listenerId);
    if (!lane) {
      lane = { listenerId, queue: [], running: 0, wasFull: false, ended: 0, endedBefore: 0, since: performance.now() };
      this.lanes.set(listenerId, lane);
    }
    return lane;
  }

  private roomOf(lane: Lane | undefined, now: number): number {
    const { perListener, waiting } = this.options;
    if (!lane) return 2 * perListener;
    turnWindow(lane, now);
    const ahead = Math.min(waiting.fresh, Math.max(perListener, 2 * Math.max(lane.ended, lane.endedBefore)));
    return Math.max(0, perListener - lane.running) + ahead - lane.queue.length;
  }

  private offer(lane: Lane): void {
    const [first] = lane.queue;
    if (first && lane.running < this.options.perListener) this.turns[first.source].add(lane);
  }

  /** The lane whose turn it is: one with something fresh, then one with backlog, as long as there are both. */
  private takeTurn(): Lane | undefined {
    const other: Source = this.nextTurn === 'fresh' ? 'backlog' : 'fresh';
    const source = this.turns[this.nextTurn].size ? this.nextTurn : other;
    this.nextTurn = source === 'fresh' ? 'backlog' : 'fresh';
    const [lane] = this.turns[source];
    if (lane) this.turns[source].delete(lane);
    return lane;
  }

  private start(): void {
    while (!this.isHeld && this.running < this.options.concurrency) {
      const lane = this.takeTurn();
      if (!lane) return;
      const laned = lane.queue.shift();
      if (!laned) continue;
      this.queued[laned.source]--;
      if (performance.now() > laned.startBefore) {
        this.offer(lane);
        this.options.expired(laned);
        continue;
      }
      lane.running++;
      this.running++;
      this.offer(lane);
      void this.options.send(laned).then(() => this.ended(lane));
    }
  }

  private ended(lane: Lane): void {
    turnWindow(lane, performance.now());
    lane.ended++;
    lane.running--;
    this.running--;
    this.offer(lane);
    this.forget(lane);
    this.start();
    // Half empty, so that not every request that ends makes a claim.
    if (!lane.wasFull || lane.queue.length * 2 > this.options.perListener) return;
    lane.wasFull = false;
    this.options.hungry();
  }

  /** Lanes come and go with their deliveries: a million listeners leave nothing behind. */
  private forget(lane: Lane): void {
    if (lane.running || lane.queue.length || this.lanes.size <= 1_000) return;
    this.lanes.delete(lane.listenerId);
  }
}

function turnWindow(lane: Lane, now: number): void {
  const passed = now - lane.since;
  if (passed < RATE_WINDOW_MS) return;
  lane.endedBefore = passed < 2 * RATE_WINDOW_MS ? lane.ended : 0;
  lane.ended = 0;
  lane.since = now;
}
