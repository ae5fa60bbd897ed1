import type { Bench, Result, Scenario } from '../scenario.js';
import { DATABASES } from '../servers.js';
import { CHANGED_OPTIONS } from './backlog.js';
import { latencyOf } from './traffic.js';

const LISTENERS = 50;
const PER_SECOND = 500;

export const latency: Scenario = {
  name: 'latency',
  what: 'from the commit of a save() to the first byte at the receiver, at 500 events/s',
  databases: DATABASES,
  async run(bench) {
    const targets =
      bench.database === 'postgres' ? { targets: { value: { atMost: 5 }, p99Ms: { atMost: 30 } } } : undefined;
    return [
      { name: 'latency', ...(await measured(bench, 'same process')), ...targets },
      { name: 'latency-across-processes', ...(await measured(bench, 'another process')), ...targets },
    ];
  },
};

export const latencyByRedis: Scenario = {
  name: 'latency-by-redis',
  what: 'the latency across processes that notify each other through Redis',
  databases: DATABASES,
  needsRedis: true,
  async run(bench) {
    const measurement = await measured(bench, 'another process', { redisUrl: bench.redis });
    return [{ name: 'latency-by-redis', ...measurement, targets: { value: { atMost: 10 } } }];
  },
};

async function measured(
  bench: Bench,
  dispatcher: 'same process' | 'another process',
  wakeUp: { redisUrl?: string } = {},
): Promise<Omit<Result, 'name'>> {
  const { database } = bench;
  const seconds = bench.count({ short: 1, usual: 20, full: 60 });
  const options = await bench.freshDatabase();
  const receiver = bench.start('receiver');
  const url = await receiver.call('listen');
  const writer = bench.start('application', dispatcher === 'same process');
  await writer.call('open', { database: options, synchronize: true, ...wakeUp });
  await writer.call('addListeners', url, LISTENERS);
  let worker = writer;
  if (dispatcher === 'another process') {
    worker = bench.start('application', true);
    await worker.call('open', { database: options, ...wakeUp });
  }
  await worker.call('start');
  const traffic = { perSecond: PER_SECOND, topics: [0, LISTENERS - 1] } as const;
  await latencyOf(writer, receiver, { ...traffic, seconds: Math.min(seconds, 3) });
  const { p50, p99, writes, perSecond } = await latencyOf(writer, receiver, { ...traffic, seconds });
  await bench.end();
  return {
    database,
    unit: 'p50 ms',
    value: p50,
    ratios: { p99Ms: p99 },
    options: {
      ...CHANGED_OPTIONS,
      'dispatcher.autoStart': `runs in ${dispatcher === 'same process' ? 'the process that writes' : 'another process'}`,
      perSecond: PER_SECOND,
      seconds,
      writes,
      listeners: LISTENERS,
      bodyBytes: 1024,
    },
    details: { committedPerSecond: perSecond },
  };
}
