import { costMeter } from '../database-cost.js';
import type { Bench, Result, Scenario } from '../scenario.js';
import { CHANGED_OPTIONS } from './backlog.js';
import { finished, phase, startEngine, type Engine, type PhaseCost } from './engine.js';
import { until } from './traffic.js';

const LISTENERS = 50;
const MINUTE = 60 * 1000;
/** Events one by one, so that each is a batch of its own. */
const ALONE_PER_SECOND = 20;

export const stepCosts: Scenario = {
  name: 'step-costs',
  what: 'what each step of the engine costs: the figures of `nestjs-entity-webhooks plan`',
  databases: ['postgres'],
  async run(bench) {
    const engine = await startEngine(bench, LISTENERS);
    const inserted = await insertedEvents(bench, engine);
    const direct = await directDeliveries(bench, engine);
    const alone = await deliveriesAlone(bench, engine);
    const idle = await idleSeconds(bench, engine);
    const { routed, claimed } = await storedDeliveries(bench, engine);
    const sizes = {
      eventBytes: await engine.writer.call('bytesPerRow', 'events'),
      deliveryBytes: await engine.writer.call('bytesPerRow', 'deliveries'),
    };
    return [
      resultOf(bench, 'step-costs', direct, sizes),
      resultOf(bench, 'step-costs-alone', alone),
      resultOf(bench, 'step-costs-idle', idle),
      resultOf(bench, 'step-costs-stored', routed),
      resultOf(bench, 'step-costs-claimed', claimed),
      resultOf(bench, 'step-costs-event', inserted),
    ];
  },
};

/** In full batches, sent without a claim. */
function directDeliveries(bench: Bench, engine: Engine): Promise<PhaseCost> {
  const count = bench.count({ short: 300, usual: 15_000, full: 30_000 });
  const before = () => engine.writer.call('fill', count, LISTENERS);
  return phase(bench, engine, { warmUp: warmUp(bench), count, before, work: () => finished(engine) });
}

async function deliveriesAlone(bench: Bench, engine: Engine): Promise<PhaseCost> {
  const seconds = bench.count({ short: 1, usual: 20, full: 40 });
  const topics = [0, LISTENERS - 1] as const;
  const work = async () => {
    await engine.writer.call('write', { perSecond: ALONE_PER_SECOND, seconds, topics });
    await finished(engine);
  };
  return phase(bench, engine, { warmUp: warmUp(bench), count: ALONE_PER_SECOND * seconds, work });
}

/** A dispatcher without work, for each second. */
async function idleSeconds(bench: Bench, engine: Engine): Promise<PhaseCost> {
  const seconds = bench.count({ short: 1, usual: 15, full: 30 });
  const work = () => new Promise<void>((resolve) => setTimeout(resolve, seconds * 1_000));
  return phase(bench, engine, { warmUp: warmUp(bench), count: seconds, work });
}

/** Deliveries that are stored when they are routed, because sending is paused, and then claimed. */
async function storedDeliveries(bench: Bench, engine: Engine) {
  const count = bench.count({ short: 300, usual: 10_000, full: 20_000 });
  const before = async () => {
    await engine.writer.call('switchSending', false);
    await engine.writer.call('fill', count, LISTENERS);
  };
  const isRouted = async () => (await engine.writer.call('pending')) === 0;
  const routed = await phase(bench, engine, {
    ...{ warmUp: warmUp(bench), count, before },
    work: () => until('every event is routed', 5 * MINUTE, isRouted, 25),
  });
  // The next process warms up with deliveries of its own, and those that are measured must wait.
  await engine.writer.call('switchSending', true);
  await phase(bench, engine, { warmUp: 0, count: 1, work: () => finished(engine) });
  const claimed = await phase(bench, engine, {
    warmUp: warmUp(bench),
    count,
    before: () => store(bench, engine, count),
    work: () => finished(engine),
  });
  return { routed, claimed };
}

/** Stores due deliveries with another process. */
async function store(bench: Bench, engine: Engine, count: number): Promise<void> {
  await engine.writer.call('switchSending', false);
  await engine.writer.call('fill', count, LISTENERS);
  const router = bench.start('engine');
  await router.call('open', { database: engine.database });
  await router.call('start');
  await until('every event is routed', 5 * MINUTE, async () => (await engine.writer.call('pending')) === 0, 25);
  await router.call('halt');
  await router.stop();
  await engine.writer.call('switchSending', true);
}

/** What events add to the writes of an application: rows with events, without the same rows without events. */
async function insertedEvents(bench: Bench, engine: Engine): Promise<PhaseCost> {
  const count = bench.count({ short: 300, usual: 10_000, full: 10_000 });
  const measured = async (fill: 'fill' | 'fillPlain') => {
    const meter = await costMeter(engine.database);
    const writer = bench.start('engine');
    await writer.call('open', { database: engine.database });
    await writer.call(fill, 1_000, LISTENERS);
    await meter?.begin();
    const before = await writer.call('cpuUs');
    await writer.call(fill, count, LISTENERS);
    const cpuUs = ((await writer.call('cpuUs')) - before) / count;
    await meter?.end();
    await writer.stop();
    const cost = await meter?.cost(count);
    await meter?.close();
    return { cpuUs, logBytes: cost?.logBytes ?? 0, databaseCpuUs: cost?.databaseCpuUs ?? 0 };
  };
  const plain = await measured('fillPlain');
  const captured = await measured('fill');
  const steps = { route: 0, claim: 0, record: 0, roundTrips: 0 };
  return {
    ...{ rowWrites: 2, seconds: 0, busySeconds: 0, steps },
    cpuUs: captured.cpuUs - plain.cpuUs,
    logBytes: captured.logBytes - plain.logBytes,
    databaseCpuUs: captured.databaseCpuUs - plain.databaseCpuUs,
  };
}

function warmUp(bench: Bench): number {
  return bench.count({ short: 200, usual: 5_000, full: 10_000 });
}

function resultOf(bench: Bench, name: string, cost: PhaseCost, more: Record<string, number> = {}): Result {
  const { steps, cpuUs, seconds, busySeconds: _, ...database } = cost;
  return {
    ...{ name, database: bench.database, unit: 'sender us', value: cpuUs, ratios: { ...database } },
    options: { ...CHANGED_OPTIONS, listeners: LISTENERS, bodyBytes: 1024 },
    details: { ...steps, seconds, ...more },
  };
}
