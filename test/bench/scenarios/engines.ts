import { randomUUID } from 'node:crypto';
import { Redis } from 'ioredis';
import { costMeter, type DatabaseCost } from '../database-cost.js';
import { monotonicMs } from '../measure.js';
import type { ApplicationOptions } from '../programs/application.js';
import type { Bench, Result, Scenario } from '../scenario.js';
import { CHANGED_OPTIONS, expectDelivered } from './backlog.js';
import { until } from './traffic.js';

const MINUTE = 60 * 1000;
const LISTENERS = 200;
const PROCESSES = 2;

/** Deliveries that wait in the database, as retries do: the engines differ in how processes find these. */
export const engines: Scenario = {
  name: 'engines',
  what: 'due deliveries of 200 listeners, sent by two processes that search the database or ask BullMQ',
  databases: ['postgres', 'mariadb'],
  needsRedis: true,
  async run(bench) {
    const prefix = `bench-${randomUUID()}`;
    const deliveries = bench.count({ short: 400, usual: 20_000, full: 40_000 });
    try {
      return [
        await measured(bench, 'engine-database', deliveries),
        await measured(bench, 'engine-bullmq', deliveries, { url: bench.redis, prefix }),
      ];
    } finally {
      await removeKeys(bench.redis, prefix);
    }
  },
};

async function measured(
  bench: Bench,
  name: string,
  deliveries: number,
  engine?: ApplicationOptions['engine'],
): Promise<Result> {
  const { database } = bench;
  const { perSecond, cpuUs, cost } = await sent(bench, deliveries, engine);
  return {
    name,
    database,
    unit: 'deliveries/s',
    value: perSecond,
    ratios: { cpuUs, ...cost },
    options: { ...CHANGED_OPTIONS, processes: PROCESSES, deliveries, listeners: LISTENERS, bodyBytes: 1024 },
  };
}

async function sent(
  bench: Bench,
  deliveries: number,
  engine?: ApplicationOptions['engine'],
): Promise<{ perSecond: number; cpuUs: number; cost: DatabaseCost | null }> {
  const database = await bench.freshDatabase();
  const receiver = bench.start('receiver');
  const url = await receiver.call('listen');
  const writer = bench.start('application');
  await writer.call('open', { database, synchronize: true });
  await writer.call('addListeners', url, LISTENERS);
  await writer.call('switchSending', false);
  await writer.call('fill', deliveries, LISTENERS);
  // While sending is paused, events are routed, and their deliveries wait.
  await writer.call('route', deliveries);
  await writer.call('switchSending', true);
  const meter = await costMeter(database);
  const workers = Array.from({ length: PROCESSES }, () => bench.start('application', true));
  for (const worker of workers) await worker.call('open', { database, engine });
  await meter?.begin();
  const startedAt = monotonicMs();
  await Promise.all(workers.map((worker) => worker.call('start')));
  await until(`${deliveries} requests are received`, 10 * MINUTE, async () => {
    return (await receiver.call('received')).requests >= deliveries;
  });
  await until('each is recorded', 10 * MINUTE, async () => !(await writer.call('isUnfinished')));
  const seconds = (monotonicMs() - startedAt) / 1_000;
  await meter?.end();
  const cpu = await Promise.all(workers.map((worker) => worker.call('halt')));
  for (const worker of workers) await worker.stop();
  const cost = (await meter?.cost(deliveries)) ?? null;
  await meter?.close();
  await expectDelivered(writer, receiver, { received: deliveries, stored: deliveries });
  await bench.end();
  return { perSecond: deliveries / seconds, cpuUs: cpu.reduce((sum, us) => sum + us, 0) / deliveries, cost };
}

/** Redis may be shared with other programs. */
async function removeKeys(url: string, prefix: string): Promise<void> {
  const client = new Redis(url);
  for await (const keys of client.scanStream({ match: `${prefix}:*` }) as AsyncIterable<string[]>) {
    if (keys.length) await client.del(...keys);
  }
  await client.quit();
}
