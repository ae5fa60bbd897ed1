import type { ResolvedWebhooksOptions } from '../options/resolve-options.js';
import { StandardRetrySchedule } from '../health/retry-schedule.js';
import type { ListenerState } from '../health/listener-state.js';
import { SECOND } from '../time.js';
import { engineCosts } from './engine-costs.js';
import { FIGURES } from './figures.js';
import { FAILING, SILENT, type Receiver } from './simulation/receiver.js';
import { simulate, type Simulated, type Simulation } from './simulation/simulate.js';
import { randomNumbers } from './simulation/virtual-time.js';
import type { Workload } from './workload.js';

/** More deliveries or listeners would take longer than a user waits, and change little. */
const MOST_DELIVERIES = 12_000;
const MOST_LISTENERS = 2_000;
const LONGEST_MS = 30 * SECOND;
const SEED = 1;
/** Failures after which the pause of a circuit has its longest length. */
const LONG_FAILING = 30;

/** One of several equal processes, with its part of the events and of the database. */
export interface ShareOfProcess {
  readonly workload: Workload;
  readonly options: ResolvedWebhooksOptions['dispatcher'];
  readonly processes: number;
  readonly databaseCores: number;
}

/**
 * Simulates one process with its part of the events at their peak, for some seconds. The delays of several equal processes are those of one.
 *
 * @param more changes the simulation, for example by a backlog
 */
export function simulateShare(share: ShareOfProcess, more: Partial<Simulation> = {}): Simulated {
  const { workload, options, processes, databaseCores } = share;
  const random = randomNumbers(SEED);
  const perSecond = (workload.eventsPerSecond * workload.burst) / processes;
  const forMs = Math.min(LONGEST_MS, (MOST_DELIVERIES / (perSecond * workload.fanOut)) * SECOND);
  const count = listenersOf(share);
  const receivers = receiversOf(workload, count);
  return simulate({
    ...{
      processes: 1,
      machine: { databaseCores: Math.max(1, Math.round(databaseCores / processes)), isShared: false },
    },
    ...{ costs: engineCosts(), options, retrySchedule: new StandardRetrySchedule(random) },
    arrivals: { backlog: 0, perSecond, forMs, gap: () => -Math.log(1 - random()) },
    receivers,
    health: healthOf(receivers, options.circuit.maxCooldownMs, random),
    route: () => someListeners(workload.fanOut, count, random),
    noticeMs: FIGURES.noticeMs.value,
    untilMs: forMs,
    ...more,
  });
}

/** Number of listeners in the simulation of a share. */
export function listenersOf({ workload, processes }: ShareOfProcess): number {
  return Math.max(1, Math.min(MOST_LISTENERS, Math.ceil(workload.listeners / processes)));
}

/** Every kind has its share of the listeners, in the order silent, failing, slow, fast. */
function receiversOf({ silent, failing, slow, answerMs, slowAnswerMs }: Workload, count: number): Receiver[] {
  const ends = [silent, silent + failing, silent + failing + slow].map((share) => Math.round(share * count));
  const kinds = [
    SILENT,
    { ...FAILING, answerMs },
    { answerMs: slowAnswerMs, status: 204 },
    { answerMs, status: 204 },
  ] as const;
  return Array.from({ length: count }, (_, n) => {
    const kind = ends.findIndex((end) => n < end);
    return { behavior: kinds[kind] ?? kinds[3] };
  });
}

/** Receivers that fail have failed for long: their circuits are open. */
function healthOf(
  receivers: readonly Receiver[],
  maxCooldownMs: number,
  random: () => number,
): Map<number, Partial<ListenerState>> {
  const health = new Map<number, Partial<ListenerState>>();
  for (const [n, { behavior }] of receivers.entries()) {
    const isGood = behavior.answerMs !== Infinity && behavior.status < 300;
    const pausedUntil = Math.round(random() * maxCooldownMs);
    if (!isGood) health.set(n, { failuresInARow: LONG_FAILING, failingSince: 0, pausedUntil, failuresCountFrom: 0 });
  }
  return health;
}

/** A fan-out of 1.2 is one listener, and another one for every fifth event. */
function someListeners(fanOut: number, count: number, random: () => number): number[] {
  const wanted = Math.floor(fanOut) + (random() < fanOut % 1 ? 1 : 0);
  const start = Math.floor(random() * count);
  return Array.from({ length: Math.min(wanted, count) }, (_, n) => (start + n) % count);
}
