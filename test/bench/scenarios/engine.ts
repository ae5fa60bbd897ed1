import type { Child, Programs } from '../child.js';
import { busySeconds } from '../core-share.js';
import { costMeter, type DatabaseCost } from '../database-cost.js';
import { monotonicMs } from '../measure.js';
import type { EngineOptions, Steps } from '../programs/engine.js';
import type { Bench } from '../scenario.js';
import { until } from './traffic.js';

const MINUTE = 60 * 1000;
const WITHIN_MS = 20 * MINUTE;
const POLL_MS = 25;

/** A database with listeners, a process that writes, and a receiver. The process that sends comes with each phase. */
export interface Engine {
  readonly database: EngineOptions['database'];
  readonly writer: Child<Programs['engine']>;
  readonly receiver: Child<Programs['receiver']>;
  readonly listeners: number;
}

/** What a number of operations cost the sending process and the database, for each. */
export interface PhaseCost extends DatabaseCost {
  /** CPU time of the sending process, in microseconds. */
  readonly cpuUs: number;
  readonly seconds: number;
  /** CPU time of all programs of the machine during the work, in seconds. */
  readonly busySeconds: number;
  readonly steps: Steps;
}

export async function startEngine(bench: Bench, listeners: number): Promise<Engine> {
  const database = await bench.freshDatabase();
  const receiver = bench.start('receiver');
  const writer = bench.start('engine');
  await writer.call('open', { database, synchronize: true });
  await writer.call('addListeners', await receiver.call('listen'), listeners);
  return { database, writer, receiver, listeners };
}

/** A phase with a new sending process. */
export interface Phase {
  readonly options?: Partial<EngineOptions>;
  /** Deliveries before the phase, which do not count. They make the process warm. */
  readonly warmUp: number;
  /** Called after the warm-up, while the dispatcher is stopped. */
  readonly before?: () => Promise<void>;
  /** The measured work. The dispatcher runs. */
  readonly work: (worker: Child<Programs['engine']>) => Promise<void>;
  /** Number of operations of the phase. */
  readonly count: number;
}

/** Runs a phase, and measures it. */
export async function phase(bench: Bench, engine: Engine, of: Phase): Promise<PhaseCost> {
  const meter = await costMeter(engine.database);
  const worker = bench.start('engine', true);
  await worker.call('open', { database: engine.database, ...of.options });
  await engine.writer.call('fill', of.warmUp, engine.listeners);
  await worker.call('start');
  await finished(engine);
  await worker.call('halt');
  await of.before?.();
  await worker.call('countSteps', portOf(engine.database));
  await meter?.begin();
  const began = monotonicMs();
  const busyBefore = await busySeconds();
  await worker.call('start');
  await of.work(worker);
  const seconds = (monotonicMs() - began) / 1_000;
  const busy = (await busySeconds()) - busyBefore;
  await meter?.end();
  const steps = await worker.call('steps');
  const cpuUs = (await worker.call('halt')) / of.count;
  await worker.stop();
  const cost = (await meter?.cost(of.count)) ?? { rowWrites: 0, logBytes: 0, databaseCpuUs: 0 };
  await meter?.close();
  return { ...cost, cpuUs, seconds, busySeconds: busy, steps };
}

/** Waits until no event and no delivery is unfinished. */
export function finished({ writer }: Engine): Promise<void> {
  return until('everything is finished', WITHIN_MS, async () => (await writer.call('unfinished')) === 0, POLL_MS);
}

function portOf(database: EngineOptions['database']): number {
  const { url = '' } = database as { url?: string };
  return Number(new URL(url).port || 5432);
}
