import { afterAttempts, isOpen, type CircuitPolicy, type HealthSign } from '../../health/circuit.js';
import type { ListenerState } from '../../health/listener-state.js';
import { readyFrom } from '../../store/listeners/listener-state.js';
import { divideSlots, RoomLeft, type Room } from '../../store/queue/room.js';
import { SECOND } from '../../time.js';
import type { Receiver } from './receiver.js';
import { Fifo, SmallestFirst, type VirtualTime } from './virtual-time.js';

/** A delivery that was routed. */
export interface SimulatedDelivery {
  readonly listener: SimulatedListener;
  /** The module has no limit for listeners without an owner. */
  readonly owner: null;
  /** When its event was committed. */
  readonly eventAt: number;
  retries: number;
  /** Whether its row exists: then its record updates the row instead of inserting it. */
  isStored: boolean;
}

interface Due {
  readonly at: number;
  readonly order: number;
  readonly delivery: SimulatedDelivery;
}

/** The row of a listener, its due deliveries, and its receiver. */
export class SimulatedListener {
  state: ListenerState;
  /** Its entry in the queue of listeners. */
  queued: Ready | null = null;
  readonly due = new SmallestFirst<Due>((a, b) => a.at < b.at || (a.at === b.at && a.order < b.order));

  constructor(
    readonly id: string,
    readonly receiver: Receiver,
    health: Partial<ListenerState> = {},
  ) {
    this.state = {
      ...{ seq: id, listenerId: id, readyAt: null, rateTaken: null, handshakeAt: null, handshakeFrom: null },
      ...{ failuresInARow: 0, failingSince: null, failuresCountFrom: null, pausedUntil: null, handshakeTries: 0 },
      ...health,
    };
  }
}

/** A listener in the queue of listeners. The entry is out of date if the listener has another entry now. */
interface Ready {
  readonly at: number;
  readonly listener: SimulatedListener;
}

/** What a claim found. */
interface Claimed {
  readonly deliveries: SimulatedDelivery[];
  readonly isExhaustive: boolean;
}

/** How long after a claim a listener is checked again that had fewer due deliveries than the claim had slots for. */
const RECHECK_MS = SECOND;

/**
 * The tables: the outbox, the due deliveries and the queue of listeners. Health, slots and retries are decided by the code of the library;
 * only the SQL statements are replaced.
 */
export class SimulatedStore {
  /** Times of the events that are not routed. */
  readonly outbox = new Fifo<number>();
  /** Number of due deliveries. */
  due = 0;
  private order = 0;
  private readonly ready = new SmallestFirst<Ready>((a, b) => a.at < b.at);

  constructor(
    private readonly time: VirtualTime,
    private readonly circuit: CircuitPolicy,
    private readonly leaseMs: number,
  ) {}

  /** Takes the oldest events of the outbox. @returns the times of their commits */
  takeEvents(limit: number): number[] {
    const events: number[] = [];
    for (let at = this.outbox.take(); at !== undefined; at = events.length < limit ? this.outbox.take() : undefined) {
      events.push(at);
    }
    return events;
  }

  /** Whether a new delivery may be sent without a claim: `leaseWhatFits` of the fan-out has the same conditions. */
  isFree({ state }: SimulatedListener): boolean {
    const { now } = this.time;
    const isNext = state.readyAt === null || state.readyAt > now;
    return isNext && (state.pausedUntil ?? 0) <= now && !isOpen(state.failuresInARow, this.circuit);
  }

  /** Stores a delivery that becomes due at a time. */
  addDue(delivery: SimulatedDelivery, at: number): void {
    const { listener } = delivery;
    delivery.isStored = true;
    this.due++;
    listener.due.add({ at, order: this.order++, delivery });
    const readyAt = Math.max(at, listener.state.pausedUntil ?? 0);
    if (listener.state.readyAt === null || listener.state.readyAt > readyAt)
      this.write(listener, { ...listener.state, readyAt });
  }

  /** When the next listener is ready; `null` if no delivery is due, now or later. */
  get nextReadyAt(): number | null {
    for (let { first } = this.ready; first; { first } = this.ready) {
      if (first === first.listener.queued) return first.at;
      this.ready.take();
    }
    return null;
  }

  /** Claims due deliveries, like `claimDeliveries`. @param listeners how many listeners are read */
  claim(room: Room, listeners: number): Claimed {
    const limit = Math.min(room.total, listeners);
    const found = this.takeReady(limit, new Set(room.full));
    const shares = found.flatMap((listener) => this.shareOf(listener));
    divideSlots(shares, new RoomLeft(room));
    const deliveries = shares.flatMap(({ target, allowed }) => this.takeDue(target, allowed));
    return { deliveries, isExhaustive: found.length < limit };
  }

  /** Changes the health of a listener after attempts. @returns whether nothing more may be sent to it now */
  judge(listener: SimulatedListener, signs: readonly HealthSign[]): boolean {
    const { now } = this.time;
    const { state } = afterAttempts(listener.state, signs, now, this.circuit);
    this.write(listener, { ...state, readyAt: readyFrom(listener.due.first?.at, state.pausedUntil) });
    return (state.pausedUntil ?? 0) > now;
  }

  private takeReady(limit: number, full: ReadonlySet<string>): SimulatedListener[] {
    const found: SimulatedListener[] = [];
    const skipped: Ready[] = [];
    while (found.length < limit && (this.nextReadyAt ?? Infinity) <= this.time.now) {
      const entry = this.ready.take() as Ready;
      if (full.has(entry.listener.id)) skipped.push(entry);
      else found.push(entry.listener);
      entry.listener.queued = null;
    }
    for (const entry of skipped) this.enqueue(entry);
    return found;
  }

  /** A listener that is paused gets no share, and is ready at the end of its pause. */
  private shareOf(listener: SimulatedListener) {
    const { state } = listener;
    if ((state.pausedUntil ?? 0) > this.time.now) {
      this.write(listener, { ...state, readyAt: state.pausedUntil });
      return [];
    }
    const isProbe = isOpen(state.failuresInARow, this.circuit);
    return [{ target: listener, owner: null, allowed: isProbe ? 1 : Infinity }];
  }

  private takeDue(listener: SimulatedListener, allowed: number): SimulatedDelivery[] {
    const { now } = this.time;
    const { due, state } = listener;
    const taken: SimulatedDelivery[] = [];
    while (taken.length < allowed && due.first && due.first.at <= now) taken.push((due.take() as Due).delivery);
    this.due -= taken.length;
    const isProbe = isOpen(state.failuresInARow, this.circuit) && taken.length > 0;
    const pausedUntil = isProbe ? now + this.leaseMs : state.pausedUntil;
    const next = due.first?.at;
    const notBefore = Math.max(now, pausedUntil ?? 0, taken.length < allowed ? now + RECHECK_MS : 0);
    const readyAt = next === undefined || next > now ? readyFrom(next, pausedUntil) : notBefore;
    this.write(listener, { ...state, pausedUntil, readyAt });
    return taken;
  }

  private write(listener: SimulatedListener, state: ListenerState): void {
    const { readyAt: at } = state;
    listener.state = state;
    if (at === null) listener.queued = null;
    else if (listener.queued?.at !== at) this.enqueue({ at, listener });
  }

  private enqueue(entry: Ready): void {
    entry.listener.queued = entry;
    this.ready.add(entry);
  }
}
