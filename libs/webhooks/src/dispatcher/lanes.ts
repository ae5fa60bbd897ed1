import type { ClaimedDelivery } from '../store/queue/claimed-delivery.js';
import { monotonicMs } from '../clock.js';
import { NO_ROOM, type Room } from '../store/queue/room.js';

/** The part of a delivery that the lanes read. */
type Addressed = Pick<ClaimedDelivery, 'owner'> & { readonly listener: { readonly id: string } };

/** A delivery that is leased to this process and that is in the memory of this process. */
export interface LanedDelivery<D = ClaimedDelivery> {
  readonly delivery: D;
  /**
   * Latest start of the attempt, on the monotonic clock. The lease must cover the attempt, and the rate limit must
   * allow the start.
   */
  readonly startBefore: number;
  /** Called once, when the attempt is recorded or the delivery is released. */
  readonly settled: (() => void) | undefined;
  /** Whether a caller waits for the record. Then it is written without delay. */
  readonly isAwaited: boolean;
  readonly source: Source;
}

/**
 * The source of a delivery: a `fresh` delivery was leased when it was created, a `backlog` delivery was pending in the database. Each
 * source has a separate limit in memory, and the sources alternate. So 100,000 deliveries of one event delay no other event.
 */
export type Source = 'fresh' | 'backlog';
const SOURCES: readonly Source[] = ['fresh', 'backlog'];

/** Deliveries that are leased to this process. */
export interface Leased {
  readonly source: Source;
  readonly leased: readonly ClaimedDelivery[];
  /**
   * A time on the monotonic clock, before the beginning of the transaction that leased the deliveries. No lease is older than this time,
   * even if the transaction took a long time.
   */
  readonly leasedAt: number;
}

export interface LanesOptions<D = ClaimedDelivery> {
  /** Maximum number of requests in flight. */
  readonly concurrency: number;
  /** Maximum number of requests in flight to one listener. */
  readonly concurrencyPerListener: number;
  /**
   * Maximum number of requests in flight to all listeners of one owner. The application's own listeners have no owner
   * and no such limit.
   */
  readonly concurrencyPerOwner: number;
  /** Maximum number of deliveries in memory that are not in flight. */
  readonly waiting: Readonly<Record<Source, number>>;
  /**
   * Makes the attempt. The promise settles when the attempt has ended, and never rejects. The slot is free when the promise settles,
   * or earlier if `send` calls `free`.
   */
  readonly send: (laned: LanedDelivery<D>, free: () => void) => Promise<void>;
  /** Called when the lease of this delivery no longer covers an attempt. */
  readonly expired: (laned: LanedDelivery<D>) => void;
  /** Called when a listener or an owner that was full at the last claim has room again. */
  readonly hasRoomAgain: () => void;
  /** The monotonic clock. Simulations have their own. @defaultValue `monotonicMs` */
  readonly now?: () => number;
}

/** Counters of one listener, or of all listeners of one owner. */
interface Load {
  running: number;
  /**
   * Whether there was no room at the call of {@link Lanes.room}. Then the claim did not search for deliveries of this
   * listener or owner.
   */
  wasFull: boolean;
  /** Numbers of attempts that ended in the current window of {@link RATE_WINDOW_MS}, and in the previous window. */
  ended: number;
  endedBefore: number;
  since: number;
}

/** The lanes of one owner. */
interface OwnerLanes<D> extends Load {
  readonly owner: string | null;
  readonly queued: Record<Source, number>;
  /**
   * Lanes that have a delivery to send and a free slot. They are grouped by the source of their first delivery,
   * and sorted by their turns.
   */
  readonly turns: Readonly<Record<Source, Set<Lane<D>>>>;
}

interface Lane<D> extends Load {
  readonly listenerId: string;
  ownerLanes: OwnerLanes<D>;
  queue: LanedDelivery<D>[];
}

const RATE_WINDOW_MS = 500;
/**
 * Share of the deliveries in memory that one owner may have. Without this limit the deliveries of other owners could
 * not be claimed.
 */
const OWNER_SHARE = 1 / 3;
/** Number of empty lanes, and of owners without deliveries, that are remembered. */
const MAX_IDLE = 1_000;

/**
 * Isolates listeners and owners from each other. A lane is the queue of one listener in the memory of this process. Each lane has a
 * maximum number of requests in flight. All lanes of one owner together have a second maximum. So a slow listener fills only its own
 * lane, and a slow owner fills only its own lanes.
 *
 * The number of deliveries that a lane holds in advance is the number that it sent in the last second, but at least
 * `concurrencyPerListener`. This number is enough until the next claim. The lane of a slow or dead receiver holds only a few deliveries, so
 * other processes can claim the rest. Owners take turns for free slots, and the lanes of one owner take turns for the slots of that owner.
 */
export class Lanes<D extends Addressed = ClaimedDelivery> {
  private readonly lanes = new Map<string, Lane<D>>();
  private readonly owners = new Map<string | null, OwnerLanes<D>>();
  /** Owners that have such lanes and a free slot, in the order of their turns. */
  private readonly turns: Readonly<Record<Source, Set<OwnerLanes<D>>>> = { fresh: new Set(), backlog: new Set() };
  private running = 0;
  private readonly queued: Record<Source, number> = { fresh: 0, backlog: 0 };
  private nextTurn: Source = 'fresh';
  private isPaused = false;
  private isStopped = false;

  private readonly now: () => number;

  constructor(private readonly options: LanesOptions<D>) {
    this.now = options.now ?? monotonicMs;
  }

  /** Number of requests in flight. */
  get sending(): number {
    return this.running;
  }

  /** Whether {@link suspend} was called: sending is paused by an operator. */
  get isSuspended(): boolean {
    return this.isStopped;
  }

  /** Whether no delivery is in memory. */
  get isEmpty(): boolean {
    return this.running + this.queued.fresh + this.queued.backlog === 0;
  }

  /**
   * How many deliveries may be claimed now. The result is a snapshot. So if the database repeats a script after a deadlock, the script
   * makes the same decisions again.
   */
  room(source: Source): Room {
    if (this.isStopped) return NO_ROOM;
    const { concurrency, waiting } = this.options;
    const now = this.now();
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
   * Whether the queue is at most two thirds full. Then it is time to claim more deliveries. While the claim runs, the queued deliveries
   * are sent. While sending is suspended, events are routed and nothing is claimed.
   *
   * @param coming number of deliveries that are already being claimed
   */
  isLow(source: Source, coming = 0): boolean {
    if (this.isStopped) return source === 'fresh' && !this.isPaused;
    return !this.isPaused && (this.queued[source] + coming) * 3 <= this.options.waiting[source] * 2;
  }

  add(laned: readonly LanedDelivery<D>[]): void {
    for (const one of laned) {
      const lane = this.laneOf(one.delivery);
      lane.queue.push(one);
      this.queued[one.source]++;
      lane.ownerLanes.queued[one.source]++;
      this.offer(lane);
    }
    this.start();
  }

  /** Stops the start of new requests until {@link resume} is called. Requests in flight continue. */
  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    if (!this.isPaused) return;
    this.isPaused = false;
    this.start();
    this.options.hasRoomAgain();
  }

  /** Stops the start of new requests until {@link unsuspend} is called, whatever {@link pause} and {@link resume} do. */
  suspend(): void {
    this.isStopped = true;
  }

  unsuspend(): void {
    this.isStopped = false;
    this.start();
    this.options.hasRoomAgain();
  }

  /** Removes the queued deliveries of a listener, or of all listeners, from memory. Requests in flight continue. */
  evict(listenerId?: string): LanedDelivery<D>[] {
    const lanes = listenerId === undefined ? [...this.lanes.values()] : [this.lanes.get(listenerId)];
    const evicted: LanedDelivery<D>[] = [];
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

  private laneOf({ listener: { id }, owner }: D): Lane<D> {
    let lane = this.lanes.get(id);
    if (!lane) {
      lane = { listenerId: id, ownerLanes: this.ownerLanes(owner), queue: [], ...noLoad(this.now()) };
      this.lanes.set(id, lane);
    }
    // The owner may have been forgotten in the meantime.
    if (!lane.running && !lane.queue.length) lane.ownerLanes = this.ownerLanes(owner);
    return lane;
  }

  private ownerLanes(owner: string | null): OwnerLanes<D> {
    let lanes = this.owners.get(owner);
    if (!lanes) {
      const turns = { fresh: new Set<Lane<D>>(), backlog: new Set<Lane<D>>() };
      lanes = { owner, queued: { fresh: 0, backlog: 0 }, turns, ...noLoad(this.now()) };
      this.owners.set(owner, lanes);
    }
    return lanes;
  }

  private roomOf(lane: Lane<D> | undefined, now: number): number {
    const { concurrencyPerListener, waiting } = this.options;
    if (!lane) return 2 * concurrencyPerListener;
    advanceWindow(lane, now);
    const ahead = Math.min(waiting.fresh, Math.max(concurrencyPerListener, 2 * Math.max(lane.ended, lane.endedBefore)));
    return Math.max(0, concurrencyPerListener - lane.running) + ahead - lane.queue.length;
  }

  /** Like {@link roomOf}, but for all listeners of an owner together. The result is at most the owner's share of one source. */
  private roomOfOwner(owner: string | null, source: Source, now: number): number {
    if (owner === null) return Infinity;
    const { concurrencyPerOwner, waiting } = this.options;
    const part = Math.max(1, Math.floor(waiting[source] * OWNER_SHARE));
    const lanes = this.owners.get(owner);
    if (!lanes) return concurrencyPerOwner + Math.min(part, concurrencyPerOwner);
    advanceWindow(lanes, now);
    const ahead = Math.min(part, Math.max(concurrencyPerOwner, 2 * Math.max(lanes.ended, lanes.endedBefore)));
    return Math.max(0, concurrencyPerOwner - lanes.running) + ahead - lanes.queued[source];
  }

  private slotsOf({ owner }: OwnerLanes<D>): number {
    return owner === null ? Infinity : this.options.concurrencyPerOwner;
  }

  private offer(lane: Lane<D>): void {
    const [first] = lane.queue;
    if (!first || lane.running >= this.options.concurrencyPerListener) return;
    lane.ownerLanes.turns[first.source].add(lane);
    this.offerOwner(lane.ownerLanes);
  }

  private offerOwner(lanes: OwnerLanes<D>): void {
    const hasSlot = lanes.running < this.slotsOf(lanes);
    for (const source of SOURCES) {
      if (hasSlot && lanes.turns[source].size) this.turns[source].add(lanes);
      else this.turns[source].delete(lanes);
    }
  }

  private leaveTurns(lane: Lane<D>, source: Source): void {
    lane.ownerLanes.turns[source].delete(lane);
    if (!lane.ownerLanes.turns[source].size) this.turns[source].delete(lane.ownerLanes);
  }

  /**
   * Returns the next lane. While there are lanes with a fresh delivery and lanes with a backlog delivery, the two
   * kinds alternate.
   */
  private takeTurn(): Lane<D> | undefined {
    const other: Source = this.nextTurn === 'fresh' ? 'backlog' : 'fresh';
    const source = this.turns[this.nextTurn].size ? this.nextTurn : other;
    this.nextTurn = source === 'fresh' ? 'backlog' : 'fresh';
    const [owner] = this.turns[source];
    const [lane] = owner?.turns[source] ?? [];
    if (!owner || !lane) return undefined;
    owner.turns[source].delete(lane);
    // The owner goes to the end of the queue when it is offered again.
    this.turns[source].delete(owner);
    return lane;
  }

  private start(): void {
    while (!this.isPaused && !this.isStopped && this.running < this.options.concurrency) {
      const lane = this.takeTurn();
      if (!lane) return;
      const laned = lane.queue.shift();
      if (!laned) continue;
      this.queued[laned.source]--;
      lane.ownerLanes.queued[laned.source]--;
      if (this.now() > laned.startBefore) {
        this.offer(lane);
        this.offerOwner(lane.ownerLanes);
        this.options.expired(laned);
        continue;
      }
      this.begin(lane, laned);
    }
  }

  private begin(lane: Lane<D>, laned: LanedDelivery<D>): void {
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

  private ended(lane: Lane<D>): void {
    const now = this.now();
    for (const load of [lane, lane.ownerLanes]) {
      advanceWindow(load, now);
      load.ended++;
      load.running--;
    }
    this.running--;
    this.offer(lane);
    this.offerOwner(lane.ownerLanes);
    this.forget(lane);
    this.start();
    this.signalRoom(lane);
  }

  /** Signals room only when a full queue is half empty. Otherwise every request that ends would cause a claim. */
  private signalRoom(lane: Lane<D>): void {
    const { concurrencyPerListener, concurrencyPerOwner } = this.options;
    const { queued } = lane.ownerLanes;
    const isLaneLow = lane.wasFull && lane.queue.length * 2 <= concurrencyPerListener;
    const isOwnerLow = lane.ownerLanes.wasFull && (queued.fresh + queued.backlog) * 2 <= concurrencyPerOwner;
    if (isLaneLow) lane.wasFull = false;
    if (isOwnerLow) lane.ownerLanes.wasFull = false;
    if (isLaneLow || isOwnerLow) this.options.hasRoomAgain();
  }

  /**
   * Removes a lane without deliveries, if too many such lanes are remembered. Otherwise a million listeners would fill
   * the memory.
   */
  private forget(lane: Lane<D>): void {
    if (lane.running || lane.queue.length) return;
    if (this.lanes.size > MAX_IDLE) this.lanes.delete(lane.listenerId);
    const { owner, running, queued } = lane.ownerLanes;
    if (running || queued.fresh || queued.backlog || this.owners.size <= MAX_IDLE) return;
    this.owners.delete(owner);
  }
}

function noLoad(now: number): Load {
  return { running: 0, wasFull: false, ended: 0, endedBefore: 0, since: now };
}

function advanceWindow(load: Load, now: number): void {
  const passed = now - load.since;
  if (passed < RATE_WINDOW_MS) return;
  load.endedBefore = passed < 2 * RATE_WINDOW_MS ? load.ended : 0;
  load.ended = 0;
  load.since = now;
}
