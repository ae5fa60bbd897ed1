import { loadModel, scaled, type Model, type Receiver, type Simulated, type Simulation } from '../simulated.js';
import type { Child, Programs } from '../child.js';
import { monotonicMs } from '../measure.js';
import { shareOfCores } from '../core-share.js';
import type { EngineOptions } from '../programs/engine.js';
import { expectCount, type Bench, type Result, type Scenario } from '../scenario.js';
import { CHANGED_OPTIONS } from './backlog.js';
import { finished, phase, startEngine, type Engine, type PhaseCost } from './engine.js';

const SECOND = 1_000;
const CORES = 2;
/** The model may be this far from a real run. */
const CLOSE = { atLeast: 0.8, atMost: 1.25 } as const;

export const simulation: Scenario = {
  name: 'simulation',
  what: 'the model behind `nestjs-entity-webhooks plan` against real runs: a drain, slow receivers, an outage. Ratios are model / real',
  databases: ['postgres'],
  async run(bench) {
    const model = await loadModel();
    return [...(await drained(bench, model)), ...(await slowed(bench)), ...(await outOfService(bench))];
  },
};

/** A real run. */
interface Real extends PhaseCost {
  /** Share of the cores that other programs left. */
  readonly share: number;
  readonly receiverUs: number;
}

/** Compares numbers of the model with those of a real run. */
function compared(
  bench: Bench,
  name: string,
  pairs: Readonly<Record<string, readonly [model: number, real: number]>>,
  options: Readonly<Record<string, unknown>>,
): Result[] {
  return Object.entries(pairs).map(([what, [model, real]]) => ({
    ...{ name: `${name} ${what}`, database: bench.database, unit: 'real', value: real },
    ratios: { modelToReal: model / real },
    targets: { modelToReal: CLOSE },
    options: { ...CHANGED_OPTIONS, ...options },
    details: { model },
  }));
}

const LISTENERS = 50;

/**
 * The first drain calibrates: it says how much CPU time a delivery takes on this machine now, compared with the figures. The second drain is
 * predicted.
 */
async function drained(bench: Bench, model: Model): Promise<Result[]> {
  const engine = await startEngine(bench, LISTENERS);
  const calibrated = await drain(bench, engine, bench.count({ short: 300, usual: 8_000, full: 15_000 }));
  const events = bench.count({ short: 600, usual: 20_000, full: 30_000 });
  const real = await drain(bench, engine, events);
  const found = model.simulate({
    ...simulationOf(model, calibrated, real.share),
    arrivals: { backlog: events, perSecond: 0, forMs: 0 },
    receivers: Array.from({ length: LISTENERS }, () => ({ behavior: { answerMs: 0, status: 204 } })),
    route: (n) => [n % LISTENERS],
  });
  await bench.end();
  return compared(
    bench,
    'simulation-drain',
    {
      'deliveries/s': [(events / found.lastSuccessAt) * SECOND, events / real.seconds],
      'sender us': [found.senderCpuUs / events, real.cpuUs],
      'database us': [found.databaseCpuUs / events, real.databaseCpuUs],
    },
    { events, share: real.share },
  );
}

async function drain(bench: Bench, engine: Engine, count: number): Promise<Real> {
  return measured(bench, engine, {
    count,
    before: () => engine.writer.call('fill', count, engine.listeners),
    work: () => finished(engine),
  });
}

interface Work {
  readonly count: number;
  readonly options?: Partial<EngineOptions>;
  readonly before?: () => Promise<void>;
  readonly work: (worker: Child<Programs['engine']>) => Promise<void>;
}

async function measured(bench: Bench, engine: Engine, work: Work): Promise<Real> {
  const warmUp = bench.count({ short: 100, usual: 10_000, full: 10_000 });
  let before = 0;
  const of = {
    ...work,
    warmUp,
    before: async () => {
      await work.before?.();
      await engine.receiver.call('reset');
      before = await engine.receiver.call('cpuUs');
    },
  };
  const found = await phase(bench, engine, of);
  const receiverUs = ((await engine.receiver.call('cpuUs')) - before) / work.count;
  const own = ((found.cpuUs + found.databaseCpuUs + receiverUs) * work.count) / 1e6;
  return { ...found, receiverUs, share: shareOfCores({ busy: found.busySeconds, own, seconds: found.seconds }) };
}

/** The part of a simulation that a calibration gives. */
function simulationOf(model: Model, { cpuUs, databaseCpuUs, receiverUs }: Real, speed: number) {
  const costs = model.engineCosts();
  const { directSenderUs, directDatabaseUs } = model.FIGURES;
  return {
    ...{ processes: 1, machine: { databaseCores: CORES, isShared: true, speed }, noticeMs: 0, untilMs: 3_600 * SECOND },
    ...{ options: model.options(), retrySchedule: model.schedule([]) },
    costs: {
      ...costs,
      sender: scaled(costs.sender, cpuUs / directSenderUs.value),
      database: scaled(costs.database, databaseCpuUs / directDatabaseUs.value),
      ...{ receiverUs, roundTripMs: 0.05 },
    },
  } satisfies Partial<Simulation>;
}

/** Events at a steady rate, and what is seen of their deliveries from outside. */
interface Steady {
  readonly listeners: number;
  readonly perSecond: number;
  readonly seconds: number;
  readonly retryDelaysMs: readonly number[];
  readonly webhooks?: EngineOptions['webhooks'];
  /** Listeners that answer differently until a time. */
  readonly others: Readonly<Record<number, { behavior: Receiver['behavior']; untilMs: number }>>;
}

interface SteadySeen {
  readonly backlogAtEnd: number;
  readonly catchUpMs: number;
  readonly failedAttempts: number;
}

async function steady(
  bench: Bench,
  of: Steady,
): Promise<{ real: SteadySeen; simulated: Simulated; model: SteadySeen }> {
  const library = await loadModel();
  const engine = await startEngine(bench, of.listeners);
  const calibrated = await drain(bench, engine, bench.count({ short: 300, usual: 3_000, full: 8_000 }));
  const events = of.perSecond * of.seconds;
  const seen = { backlogAtEnd: 0, catchUpMs: 0, failedAttempts: 0 };
  await measured(bench, engine, {
    count: events,
    options: { retryDelaysMs: of.retryDelaysMs, ...(of.webhooks && { webhooks: of.webhooks }) },
    work: async () => {
      Object.assign(seen, await observe(engine, of));
    },
  });
  const { unique } = await engine.receiver.call('received');
  expectCount('different ids received', unique, events);
  const simulated = library.simulate({
    // Work that rarely needs a core gets one at once, also on a busy machine.
    ...simulationOf(library, calibrated, 1),
    options: library.options(of.webhooks?.dispatcher),
    retrySchedule: library.schedule(of.retryDelaysMs),
    arrivals: { backlog: 0, perSecond: of.perSecond, forMs: of.seconds * SECOND },
    receivers: Array.from({ length: of.listeners }, (_, n) => receiverOf(of, n)),
    route: (n) => [n % of.listeners],
    noticeMs: 10,
  });
  await bench.end();
  return { real: seen, simulated, model: seenIn(simulated, of) };
}

/** Receivers of the benchmark answer at once, or after a time. */
function receiverOf({ others }: Steady, n: number): Receiver {
  const other = others[n];
  const behavior = { answerMs: 0, status: 204 };
  return other ? { behavior, outage: { from: 0, until: other.untilMs, behavior: other.behavior } } : { behavior };
}

async function observe(engine: Engine, of: Steady): Promise<SteadySeen> {
  const { writer, receiver } = engine;
  const behaviors = (now: number) =>
    Object.fromEntries(
      Object.entries(of.others)
        .filter(([, { untilMs }]) => now < untilMs)
        .map(([n, { behavior }]) => [`/${n}`, behavior]),
    );
  await receiver.call('behave', behaviors(0));
  const began = monotonicMs();
  const ends = [...new Set(Object.values(of.others).map(({ untilMs }) => untilMs))].filter(Number.isFinite);
  const changes = ends.map(async (untilMs) => {
    await new Promise((resolve) => setTimeout(resolve, untilMs - (monotonicMs() - began)));
    await receiver.call('behave', behaviors(untilMs));
  });
  await writer.call('write', { perSecond: of.perSecond, seconds: of.seconds, topics: [0, of.listeners - 1] });
  const backlogAtEnd = await writer.call('unfinished');
  const writtenAt = monotonicMs();
  await Promise.all(changes);
  await finished(engine);
  const catchUpMs = monotonicMs() - writtenAt;
  // Each delivery succeeds once in the end.
  const { requests, unique } = await receiver.call('received');
  return { backlogAtEnd, catchUpMs, failedAttempts: requests - unique };
}

function seenIn({ backlog, lastSuccessAt, failed }: Simulated, { seconds }: Steady): SteadySeen {
  return {
    backlogAtEnd: backlog[seconds] ?? 0,
    catchUpMs: lastSuccessAt - seconds * SECOND,
    failedAttempts: failed,
  };
}

/** Two of six receivers are so slow that they fall behind. */
async function slowed(bench: Bench): Promise<Result[]> {
  const slow = { behavior: { answerMs: 3 * SECOND, status: 204 }, untilMs: Infinity };
  const of = {
    ...{ listeners: 6, perSecond: 60, retryDelaysMs: [], others: { 0: slow, 1: slow } },
    seconds: bench.count({ short: 5, usual: 25, full: 40 }),
  };
  const { real, model } = await steady(bench, of);
  return compared(
    bench,
    'simulation-slow',
    { backlog: [model.backlogAtEnd, real.backlogAtEnd], 'catch-up ms': [model.catchUpMs, real.catchUpMs] },
    { ...of, others: 'two receivers answer after 3 s' },
  );
}

/** Five of twenty receivers answer 500 for some time. Pauses and retries are shortened, so that the run is short. */
async function outOfService(bench: Bench): Promise<Result[]> {
  const seconds = bench.count({ short: 5, usual: 20, full: 40 });
  const out = { behavior: { answerMs: 0, status: 500 }, untilMs: seconds * SECOND };
  const of = {
    ...{ listeners: 20, perSecond: 100, seconds },
    retryDelaysMs: Array.from({ length: 40 }, (_, n) => Math.min(4 * SECOND, 500 * 2 ** n)),
    webhooks: { dispatcher: { circuit: { failures: 10, cooldownMs: SECOND, maxCooldownMs: 4 * SECOND } } },
    others: Object.fromEntries([0, 1, 2, 3, 4].map((n) => [n, out])),
  };
  const { real, model } = await steady(bench, of);
  return compared(
    bench,
    'simulation-outage',
    {
      backlog: [model.backlogAtEnd, real.backlogAtEnd],
      'failed attempts': [model.failedAttempts, real.failedAttempts],
      'catch-up ms': [model.catchUpMs, real.catchUpMs],
    },
    { ...of, webhooks: 'circuit pauses of 1 to 4 s', others: 'five receivers answer 500', retryDelaysMs: '0.5 to 4 s' },
  );
}
