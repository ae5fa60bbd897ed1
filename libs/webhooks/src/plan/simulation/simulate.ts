import type { RetrySchedule } from '../../health/retry-schedule.js';
import type { ListenerState } from '../../health/listener-state.js';
import type { ResolvedWebhooksOptions } from '../../options/resolve-options.js';
import { Cores, Thread } from './cores.js';
import type { EngineCosts } from './costs.js';
import { Measurements, quantile } from './measurements.js';
import { SimulatedProcess } from './process.js';
import { Transactions } from './process-context.js';
import type { Receiver } from './receiver.js';
import { SimulatedListener, SimulatedStore, type SimulatedDelivery } from './store.js';
import { VirtualTime } from './virtual-time.js';

/** The processor cores of a simulation. */
interface Machine {
  /** Cores of the database, and of everything else if they are shared. */
  readonly databaseCores: number;
  /**
   * Whether senders and receivers run on the cores of the database, as in our benchmark. Otherwise each process has its own core, and
   * receivers have their own machines.
   */
  readonly isShared: boolean;
  /** Share of the cores that the simulation may use. @defaultValue 1 */
  readonly speed?: number;
}

/** The events of a simulation. Times are in ms. */
interface Arrivals {
  /** Events that are in the outbox at the start. */
  readonly backlog: number;
  readonly perSecond: number;
  readonly forMs: number;
  /** Time between two events, for a mean of 1. @defaultValue always 1 */
  readonly gap?: () => number;
}

/** What to simulate. */
export interface Simulation {
  readonly processes: number;
  readonly machine: Machine;
  readonly costs: EngineCosts;
  readonly options: ResolvedWebhooksOptions['dispatcher'];
  readonly retrySchedule: RetrySchedule;
  readonly arrivals: Arrivals;
  /** The receiver of each listener. */
  readonly receivers: readonly Receiver[];
  /** For each listener that has failed before the start: its health. By its place in {@link receivers}. */
  readonly health?: ReadonlyMap<number, Partial<ListenerState>>;
  /** Deliveries that are due at the start: the places of their listeners. Their events are as old as the simulation. */
  readonly dueAtStart?: readonly number[];
  /** The listeners of the n-th event, by their places in {@link receivers}. */
  readonly route: (n: number) => readonly number[];
  /** How long a commit takes to reach the dispatchers, in ms. 0 if the writing process dispatches. */
  readonly noticeMs: number;
  /** The simulation ends at this time, or earlier when everything succeeded or is exhausted. */
  readonly untilMs: number;
  /** Time between two entries of {@link Simulated.backlog}. @defaultValue 1,000 */
  readonly sampleMs?: number;
}

/** What a simulation observed. CPU times are in microseconds, other times in ms. */
export interface Simulated {
  readonly endedAt: number;
  readonly events: number;
  readonly deliveries: number;
  readonly attempts: number;
  readonly storedAttempts: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly exhausted: number;
  readonly lastSuccessAt: number;
  readonly senderCpuUs: number;
  readonly databaseCpuUs: number;
  readonly batches: Readonly<Record<'route' | 'claim' | 'record', number>>;
  /** From the commit to the first attempt. */
  readonly delay: { readonly p50: number; readonly p99: number };
  /** Slots in use, on average, of all processes. */
  readonly slots: number;
  /** Unfinished deliveries and events over time: one entry for each `sampleMs`. */
  readonly backlog: readonly number[];
}

const SECOND = 1_000;

/** Simulates the engine event by event. */
export function simulate(simulation: Simulation): Simulated {
  return new Run(simulation).run();
}

class Run {
  private readonly time = new VirtualTime();
  private readonly measured = new Measurements();
  private readonly store: SimulatedStore;
  private readonly listeners: readonly SimulatedListener[];
  private readonly server: Cores;
  private readonly threads: Thread[] = [];
  private readonly receiver: Thread;
  private readonly processes: readonly SimulatedProcess[];
  private readonly backlog: number[] = [];
  private databaseUs = 0;
  private arrived = 0;
  private routed = 0;
  private deliveries = 0;
  private hasNotice = false;
  private hasArrivals = true;

  constructor(private readonly simulation: Simulation) {
    const { machine, options, receivers, processes } = simulation;
    const { time } = this;
    this.store = new SimulatedStore(time, options.circuit, options.leaseMs);
    this.listeners = receivers.map(
      (receiver, n) => new SimulatedListener(String(n), receiver, simulation.health?.get(n)),
    );
    this.server = new Cores(time, machine.databaseCores, machine.speed);
    this.receiver = new Thread(this.server);
    this.processes = Array.from({ length: processes }, () => this.process());
  }

  run(): Simulated {
    const { arrivals, untilMs } = this.simulation;
    for (let n = 0; n < arrivals.backlog; n++) this.commit();
    for (const place of this.simulation.dueAtStart ?? []) this.addDue(place);
    this.arrive(0);
    this.sample();
    this.time.run(untilMs, () => this.isDone);
    return this.result();
  }

  private process(): SimulatedProcess {
    const { costs, machine, options, retrySchedule } = this.simulation;
    const { time, store, measured } = this;
    const thread = new Thread(machine.isShared ? this.server : new Cores(time, 1));
    this.threads.push(thread);
    const server = { run: (us: number, done: () => void) => this.query(us, done) };
    const database = new Transactions(time, thread, server, costs);
    return new SimulatedProcess({
      ...{ time, store, measured, thread, database, retrySchedule, options, maxAgeMs: options.maxAgeMs },
      sendUs: costs.sender.send,
      fanOut: (eventAt) => this.fanOut(eventAt),
      receive: (done) => (machine.isShared ? this.receiver.run(costs.receiverUs, done) : done()),
    });
  }

  private query(us: number, done: () => void): void {
    this.databaseUs += us;
    this.server.run(us, done);
  }

  private fanOut(eventAt: number): SimulatedDelivery[] {
    const places = this.simulation.route(this.routed++);
    this.deliveries += places.length;
    return places.map((place) => ({
      ...{ listener: this.listeners[place] as SimulatedListener, owner: null, eventAt, retries: 0, isStored: false },
    }));
  }

  private addDue(place: number): void {
    const listener = this.listeners[place] as SimulatedListener;
    this.deliveries++;
    this.store.addDue({ listener, owner: null, eventAt: 0, retries: 0, isStored: true }, 0);
  }

  /** Plans the next event. @param planned when it would come at a steady rate */
  private arrive(planned: number): void {
    const { perSecond, forMs, gap = () => 1 } = this.simulation.arrivals;
    const at = perSecond > 0 ? planned + (gap() * SECOND) / perSecond : Infinity;
    if (at > forMs) {
      this.time.at(Math.min(forMs, planned), () => (this.hasArrivals = false));
      return;
    }
    this.time.at(at, () => {
      this.commit();
      this.arrive(at);
    });
  }

  private commit(): void {
    this.arrived++;
    this.store.outbox.add(this.time.now);
    if (this.hasNotice) return;
    this.hasNotice = true;
    this.time.after(this.simulation.noticeMs, () => {
      this.hasNotice = false;
      for (const process of this.processes) process.notice();
    });
  }

  private sample(): void {
    this.backlog.push(this.unfinished);
    this.time.after(this.simulation.sampleMs ?? SECOND, () => this.sample());
  }

  private get unfinished(): number {
    const { succeeded, exhausted } = this.measured;
    return this.store.outbox.size + this.deliveries - succeeded - exhausted;
  }

  private get isDone(): boolean {
    return !this.hasArrivals && this.unfinished === 0;
  }

  private result(): Simulated {
    const { delays, slotMs, batches, attempts, storedAttempts, succeeded, failed, exhausted, lastSuccessAt } =
      this.measured;
    const endedAt = this.time.now;
    return {
      ...{ endedAt, batches, attempts, storedAttempts, succeeded, failed, exhausted, lastSuccessAt },
      events: this.arrived,
      deliveries: this.deliveries,
      senderCpuUs: this.threads.reduce((sum, { usedUs }) => sum + usedUs, 0),
      databaseCpuUs: this.databaseUs,
      delay: { p50: quantile(delays, 0.5), p99: quantile(delays, 0.99) },
      slots: slotMs / Math.max(1, endedAt),
      backlog: this.backlog,
    };
  }
}
