import type { ClaimedDelivery } from '../store/queue/claim-deliveries.js';
import type { Room } from '../store/queue/room.js';

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
  readonly concurrencyPerListener: number;
  /** Of these to all listeners of one owner; the application's own, which have none, are not limited. */
  readonly concurrencyPerOwner: number;
  /** Deliveries that wait in memory, at most. */
  readonly waiting: Readonly<Record<Source, number>>;
  /** Makes the attempt; settles when it has ended. Its slot is free then, or when it calls `free`. Never rejects. */
  readonly send: (laned: LanedDelivery, free: () => void) => Promise<void>;
  /** Its lease no longer covers an attempt. */
  readonly expired: (laned: LanedDelivery) => void;
  /** A listener that had no room when it was last asked about has some again. */
  readonly hungry: () => void;
}

/** What is counted of a listener, and of all listeners of an owner. */
interface Load {
  running: number;
  /** It had no room when {@link Lanes.room} was called, so nobody looked for what is due to it. */
  wasFull: boolean;
  /** Attempts that ended in the current stretch of {@link RATE_WINDOW_MS}, and in the one before. */
  ended: number;
  endedBefore: number;
  since: number;
}

/** The lanes of one owner. */
interface OwnerLanes extends Load {
  readonly owner: string | null;
  readonly queued: Record<Source, number>;
  /** Lanes with something to send and a slot of their own, in the order of their turns, by the source of what is first in them. */
  readonly turns: Readonly<Record<Source, Set<Lane>>>;
}

interface Lane extends Load {
  readonly listenerId: string;
  ownerLanes: OwnerLanes;
  queue: LanedDelivery[];
}

const RATE_WINDOW_MS = 500;
/** What one owner may hold of the deliveries that wait in memory, as a part of them: nobody else could be fetched otherwise. */
const OWNERS_PART = 1 / 3;
/** Lanes, and owners, that are remembered although nothing is in them. */
const MAX_IDLE = 1_000;

/**
 * A lane for each listener, and lanes together for each owner: the bulkheads. A slow listener fills its own lane, and a slow owner
 * its own lanes.
 *
 * A lane takes in advance what it sent in the last second, and at least `concurrencyPerListener`: enough never to run dry before the next claim,
 * and of a receiver that is slow or dead no more than a handful, so that other processes can take the rest. Owners take turns for
 * free slots, and the lanes of an owner take turns for the owner's.
 */
export class Lanes {
  private readonly lanes = new Map<string, Lane>();
  private readonly owners = new Map<string | null, OwnerLanes>();
  /** Owners with such lanes and a slot of their own, in the order of their turns. */
  private readonly turns: Readonly<Record<Source, Set<OwnerLanes>>> = { fresh: new Set(), backlog: new Set() };
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
    const fullOwners = [...this.owners.values()].filter(
      (ownerLanes) => this.roomOfOwner(ownerLanes.owner, source, now) < 1,
    );
    for (const load of [...full, ...fullOwners]) load.wasFull = true;
    return {
      total: Math.max(0, concurrency - this.running) + Math.max(0, waiting[source] - this.queued[source]),
      ofListener: (listenerId) => this.roomOf(this.lanes.get(listenerId), now),
      ofOwner: (owner) => this.roomOfOwner(owner, source, now),
      full: full.map((lane) => lane.listenerId),
      fullOwners: fullOwners.flatMap(({ owner }) => (owner === null ? [] : [owner])),
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
      const lane = this.laneOf(one.delivery);
      lane.queue.push(one);
      this.queued[one.source]++;
      lane.ownerLanes.queued[one.source]++;
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
      for (const { source } of lane.queue) {
        this.queued[source]--;
        lane.ownerLanes.queued[source]--;
      }
      lane.queue = [];
      for (const source of SOURCES) this.leaveTurns(lane, source);
      this.forget(lane);
    }
    return evicted;
  }

  private laneOf({ listener: { id }, owner }: ClaimedDelivery): Lane {
    let lane = this.lanes.get(id);
    if (!lane) {
      lane = { listenerId: id, ownerLanes: this.ownerLanes(owner), queue: [], ...noLoad() };
      this.lanes.set(id, lane);
    }
    // Its owner may have been forgotten since.
    if (!lane.running && !lane.queue.length) lane.ownerLanes = this.ownerLanes(owner);
    return lane;
  }

  private ownerLanes(owner: string | null): OwnerLanes {
    let lanes = this.owners.get(owner);
    if (!lanes) {
      const turns = { fresh: new Set<Lane>(), backlog: new Set<Lane>() };
      lanes = { owner, queued: { fresh: 0, backlog: 0 }, turns, ...noLoad() };
      this.owners.set(owner, lanes);
    }
    return lanes;
  }

  private roomOf(lane: Lane | undefined, now: number): number {
    const { concurrencyPerListener, waiting } = this.options;
    if (!lane) return 2 * concurrencyPerListener;
    turnWindow(lane, now);
    const ahead = Math.min(waiting.fresh, Math.max(concurrencyPerListener, 2 * Math.max(lane.ended, lane.endedBefore)));
    return Math.max(0, concurrencyPerListener - lane.running) + ahead - lane.queue.length;
  }

  /** As {@link roomOf}, of all listeners of an owner together; in either source no more than its part. */
  private roomOfOwner(owner: string | null, source: Source, now: number): number {
    if (owner === null) return Infinity;
    const { concurrencyPerOwner, waiting } = this.options;
    const part = Math.max(1, Math.floor(waiting[source] * OWNERS_PART));
    const lanes = this.owners.get(owner);
    if (!lanes) return concurrencyPerOwner + Math.min(part, concurrencyPerOwner);
    turnWindow(lanes, now);
    const ahead = Math.min(part, Math.max(concurrencyPerOwner, 2 * Math.max(lanes.ended, lanes.endedBefore)));
    return Math.max(0, concurrencyPerOwner - lanes.running) + ahead - lanes.queued[source];
  }

  private slotsOf({ owner }: OwnerLanes): number {
    return owner === null ? Infinity : this.options.concurrencyPerOwner;
  }

  private offer(lane: Lane): void {
    const [first] = lane.queue;
    if (!first || lane.running >= this.options.concurrencyPerListener) return;
    lane.ownerLanes.turns[first.source].add(lane);
    this.offerOwner(lane.ownerLanes);
  }

  private offerOwner(lanes: OwnerLanes): void {
    const hasSlot = lanes.running < this.slotsOf(lanes);
    for (const source of SOURCES) {
      if (hasSlot && lanes.turns[source].size) this.turns[source].add(lanes);
      else this.turns[source].delete(lanes);
    }
  }

  private leaveTurns(lane: Lane, source: Source): void {
    lane.ownerLanes.turns[source].delete(lane);
    if (!lane.ownerLanes.turns[source].size) this.turns[source].delete(lane.ownerLanes);
  }

  /** The lane whose turn it is: one with something fresh, then one with backlog, as long as there are both. */
  private takeTurn(): Lane | undefined {
    const other: Source = this.nextTurn === 'fresh' ? 'backlog' : 'fresh';
    const source = this.turns[this.nextTurn].size ? this.nextTurn : other;
    this.nextTurn = source === 'fresh' ? 'backlog' : 'fresh';
    const [owner] = this.turns[source];
    const [lane] = owner?.turns[source] ?? [];
    if (!owner || !lane) return undefined;
    owner.turns[source].delete(lane);
    // Behind the others, when it is offered again.
    this.turns[source].delete(owner);
    return lane;
  }

  private start(): void {
    while (!this.isHeld && this.running < this.options.concurrency) {
      const lane = this.takeTurn();
      if (!lane) return;
      const laned = lane.queue.shift();
      if (!laned) continue;
      this.queued[laned.source]--;
      lane.ownerLanes.queued[laned.source]--;
      if (performance.now() > laned.startBefore) {
        this.offer(lane);
        this.offerOwner(lane.ownerLanes);
        this.options.expired(laned);
        continue;
      }
      this.begin(lane, laned);
    }
  }

  private begin(lane: Lane, laned: LanedDelivery): void {
    lane.running++;
    lane.ownerLanes.running++;
    this.running++;
    this.offer(lane);
    this.offerOwner(lane.ownerLanes);
    let hasSlot = true;
    const free = (): void => {
      if (!hasSlot) return;
      hasSlot = false;
      this.ended(lane);
    };
    void this.options.send(laned, free).then(free);
  }

  private ended(lane: Lane): void {
    const now = performance.now();
    for (const load of [lane, lane.ownerLanes]) {
      turnWindow(load, now);
      load.ended++;
      load.running--;
    }
    this.running--;
    this.offer(lane);
    this.offerOwner(lane.ownerLanes);
    this.forget(lane);
    this.start();
    this.lookForMore(lane);
  }

  /** Half empty, so that not every request that ends makes a claim. */
  private lookForMore(lane: Lane): void {
    const { concurrencyPerListener, concurrencyPerOwner } = this.options;
    const { queued } = lane.ownerLanes;
    const isLaneLow = lane.wasFull && lane.queue.length * 2 <= concurrencyPerListener;
    const isOwnerLow = lane.ownerLanes.wasFull && (queued.fresh + queued.backlog) * 2 <= concurrencyPerOwner;
    if (isLaneLow) lane.wasFull = false;
    if (isOwnerLow) lane.ownerLanes.wasFull = false;
    if (isLaneLow || isOwnerLow) this.options.hungry();
  }

  /** Lanes come and go with their deliveries: a million listeners leave nothing behind. */
  private forget(lane: Lane): void {
    if (lane.running || lane.queue.length) return;
    if (this.lanes.size > MAX_IDLE) this.lanes.delete(lane.listenerId);
    const { owner, running, queued } = lane.ownerLanes;
    if (running || queued.fresh || queued.backlog || this.owners.size <= MAX_IDLE) return;
    this.owners.delete(owner);
  }
}

function noLoad(): Load {
  return { running: 0, wasFull: false, ended: 0, endedBefore: 0, since: performance.now() };
}

function turnWindow(load: Load, now: number): void {
  const passed = now - load.since;
  if (passed < RATE_WINDOW_MS) return;
  load.endedBefore = passed < 2 * RATE_WINDOW_MS ? load.ended : 0;
  load.ended = 0;
  load.since = now;
}
