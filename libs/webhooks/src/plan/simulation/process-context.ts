import type { RetrySchedule } from '../../health/retry-schedule.js';
import type { Cores, Thread } from './cores.js';
import type { EngineCosts, StepCosts } from './costs.js';
import type { Measurements } from './measurements.js';
import type { SimulatedStore } from './store.js';
import type { VirtualTime } from './virtual-time.js';

/** The parts that a simulated process and its recorder use. */
export interface ProcessContext {
  readonly time: VirtualTime;
  readonly store: SimulatedStore;
  readonly measured: Measurements;
  readonly thread: Thread;
  readonly database: Transactions;
  readonly retrySchedule: RetrySchedule;
  readonly maxAgeMs: number;
}

/** One transaction of the engine. */
export interface Transaction {
  readonly kind: 'route' | 'claim' | 'record';
  /** Number of deliveries that are sent without a claim. */
  readonly direct: number;
  /** Number of deliveries with a row. */
  readonly stored: number;
}

/** Runs transactions: CPU time of the process, round trips, and CPU time of the database. */
export class Transactions {
  constructor(
    private readonly time: VirtualTime,
    private readonly thread: Thread,
    private readonly server: Pick<Cores, 'run'>,
    private readonly costs: EngineCosts,
  ) {}

  /** @param half called when half of the transaction is over: then a fan-out has claimed its events */
  run(transaction: Transaction, done: () => void, half: () => void = () => undefined): void {
    this.runHalf(transaction, () => {
      half();
      this.runHalf(transaction, done);
    });
  }

  private runHalf(transaction: Transaction, done: () => void): void {
    const { sender, database, roundTrips, roundTripMs } = this.costs;
    const waitMs = (roundTrips[transaction.kind] * roundTripMs) / 2;
    this.thread.run(costOf(sender, transaction) / 2, () =>
      this.time.after(waitMs, () => this.server.run(costOf(database, transaction) / 2, done)),
    );
  }
}

function costOf(costs: StepCosts, { kind, direct, stored }: Transaction): number {
  if (kind === 'route') return costs.routeBatch + direct * costs.route + stored * costs.routeStored;
  if (kind === 'claim') return costs.claimBatch + stored * costs.claim;
  return costs.recordBatch + direct * costs.record + stored * costs.recordStored;
}
