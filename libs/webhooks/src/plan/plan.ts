import { resolveOptions } from '../options/resolve-options.js';
import { DAY, SECOND } from '../time.js';
import { adviceFor, type Advice } from './advice.js';
import { coresOf, demandOf, diskOf, eventsPerDay, goodShare, type Demand } from './demand.js';
import { engineFor, type EngineChoice } from './engine-choice.js';
import { FIGURES, type Figure } from './figures.js';
import { outageOf, type OutageAnswer } from './outage.js';
import { listenersOf, simulateShare, type ShareOfProcess } from './steady.js';
import type { Workload } from './workload.js';

/** What a workload needs. Bytes are bytes, times are in ms, and cores are whole cores for the peak. */
export interface Plan {
  readonly workload: Workload;
  readonly processes: number;
  /** `dispatcher.concurrency` of each process. */
  readonly concurrency: number;
  /** CPU cores that all processes use together at the peak, simulated. */
  readonly senderCores: number;
  /** CPU cores of the database that webhooks use at the peak, with the inserts of events and with retention. */
  readonly databaseCoresUsed: number;
  /** Cores of the database with room for the rest of its work. */
  readonly databaseCores: number;
  /** Databases that are needed: more than one if one would need more than the largest machine has. */
  readonly databases: number;
  readonly memoryBytes: number;
  readonly connections: number;
  readonly attemptsPerSecond: number;
  readonly rowWritesPerSecond: number;
  readonly logBytesPerSecond: number;
  readonly logBytesPerDay: number;
  readonly diskBytes: number;
  /** From a commit to the first request, at the peak, simulated. */
  readonly delayMs: { readonly p50: number; readonly p99: number };
  /** Slots in use at the peak, of all processes. */
  readonly slots: number;
  readonly outage: OutageAnswer;
  /** Whether processes search the database for due deliveries, or the engine of BullMQ hands them out. */
  readonly engine: EngineChoice;
  /** Why the workload does not fit; empty if it does. */
  readonly problems: readonly string[];
  readonly advice: readonly Advice[];
  /** The figures that the plan rests on, with the command that measured each, or that it is an assumption. */
  readonly figures: Readonly<Record<string, Figure>>;
}

/** Pool of the application's data source. */
const APPLICATION_POOL = 10;
const LISTEN_CONNECTION = 1;
const MEGABYTE = 1e6;
const TERABYTE = 1e12;
const US_PER_MS = 1_000;
/** Long enough to see how fast a backlog is sent. */
const CATCH_UP_MS = 4 * SECOND;
const CATCH_UP_DELIVERIES = 20_000;

/** Plans a workload: processes and databases by the figures, use and delays by simulation, and the outage in time steps. */
export function planFor(workload: Workload): Plan {
  const { dispatcher: usual, retention } = resolveOptions({});
  const peak = demandOf(workload, usual, workload.burst);
  const { processes, concurrency } = processesFor(peak, workload, usual.concurrency);
  const { dispatcher: options } = resolveOptions({ dispatcher: { concurrency } });
  const needed = Math.max(1, Math.ceil(coresOf(peak.databaseUs) / FIGURES.databaseShare.value));
  const databases = databasesFor(needed, peak.logBytes);
  const databaseCores = workload.databaseCores ?? Math.ceil(needed / databases);
  const share = { workload, options, processes, databaseCores: databaseCores * databases };
  const steady = simulateShare(share);
  const coresUsed = (us: number) => (us * processes) / (steady.endedAt * US_PER_MS);
  const plan = {
    ...{ workload, processes, concurrency, databaseCores, databases },
    senderCores: coresUsed(steady.senderCpuUs),
    databaseCoresUsed: coresUsed(steady.databaseCpuUs) + coresOf(peak.outsideUs),
    memoryBytes: processes * FIGURES.processMegabytes.value * MEGABYTE,
    connections: processes * (APPLICATION_POOL + options.poolSize + LISTEN_CONNECTION),
    attemptsPerSecond: peak.attempts,
    rowWritesPerSecond: peak.rowWrites,
    logBytesPerSecond: peak.logBytes,
    logBytesPerDay: (demandOf(workload, usual, 1).logBytes * DAY) / SECOND,
    diskBytes: diskOf(workload, retention === false ? Infinity : retention.failedMs),
    delayMs: steady.delay,
    slots: peak.slots,
    outage: outageOf(questionOf(share)),
    engine: engineFor(workload, processes),
  };
  const input = { ...plan, usualConcurrency: usual.concurrency, eventsPerDay: eventsPerDay(workload) };
  return { ...plan, problems: problemsOf(plan, needed, options), advice: adviceFor(input), figures: FIGURES };
}

/** First as many processes as processor time needs. Then each gets the slots that slow receivers need, as far as it can have them. */
function processesFor(peak: Demand, { concurrency: given }: Workload, usual: number) {
  const forCpu = Math.max(1, Math.ceil(coresOf(peak.senderUs) / FIGURES.senderShare.value));
  const slots = peak.slots / FIGURES.slotShare.value;
  const most = given ?? Math.max(usual, FIGURES.mostSlots.value);
  const processes = Math.max(forCpu, Math.ceil(slots / most));
  return { processes, concurrency: given ?? Math.max(usual, Math.ceil(slots / processes)) };
}

function databasesFor(needed: number, logBytes: number): number {
  const { oneDatabaseCores, oneDatabaseLogMegabytes } = FIGURES;
  const byLog = logBytes / MEGABYTE / oneDatabaseLogMegabytes.value;
  return Math.max(1, Math.ceil(Math.max(needed / oneDatabaseCores.value, byLog)));
}

/** The outage of a part of the good receivers. Its catch-up speed comes from the simulation of a process with a backlog. */
function questionOf(share: ShareOfProcess) {
  const { workload, options, processes } = share;
  const { eventsPerSecond, fanOut, listeners, outageShare, outageMs, answerMs } = workload;
  const out = outageShare * goodShare(workload);
  return {
    listeners: Math.max(outageShare > 0 ? 1 : 0, Math.round(listeners * out)),
    perSecond: eventsPerSecond * fanOut * out,
    outageMs,
    sparePerSecond: outageMs > 0 ? processes * spareOf(share) : 0,
    perListenerPerSecond: (options.concurrencyPerListener * processes * SECOND) / Math.max(1, answerMs),
    options,
  };
}

/** Stored deliveries that one process sends in a second, beside its part of the events. */
function spareOf(share: ShareOfProcess): number {
  const count = listenersOf(share);
  const { workload } = share;
  const out = Math.max(1, Math.round(count * workload.outageShare * goodShare(workload)));
  // The last listeners are fast ones.
  const dueAtStart = Array.from({ length: CATCH_UP_DELIVERIES }, (_, n) => count - 1 - (n % out));
  const { storedAttempts, endedAt } = simulateShare(share, { dueAtStart, untilMs: CATCH_UP_MS });
  return (storedAttempts * SECOND) / Math.max(1, Math.min(endedAt, CATCH_UP_MS));
}

function problemsOf(
  plan: Pick<Plan, 'workload' | 'processes' | 'databases' | 'databaseCores' | 'diskBytes' | 'outage'>,
  needed: number,
  { concurrencyPerListener }: ShareOfProcess['options'],
): string[] {
  const { workload, databases, databaseCores, diskBytes, outage, processes } = plan;
  const { eventsPerSecond, fanOut, listeners, slow, slowAnswerMs } = workload;
  const problems: string[] = [];
  if (needed > databaseCores * databases)
    problems.push(`The database needs ${needed} cores, and has ${databaseCores}.`);
  if (databases > 1) problems.push(`One database is not enough: it takes ${databases}.`);
  const terabytes = diskBytes / databases / TERABYTE;
  if (terabytes > FIGURES.oneDatabaseTerabytes.value)
    problems.push(`The tables of a database grow to ${terabytes.toFixed(1)} TB: too much for a backup in a night.`);
  if (outage.catchUpMs === null) problems.push('After the outage, the backlog is not sent within 30 days.');
  const toOne = (eventsPerSecond * fanOut) / listeners;
  const most = (concurrencyPerListener * processes * SECOND) / slowAnswerMs;
  if (slow > 0 && toOne > most)
    problems.push(
      `A slow receiver gets ${toOne.toFixed(1)} deliveries a second, and answers at most ${most.toFixed(1)}.`,
    );
  return problems;
}
