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
    return [await measured(bench, 'same process'), await measured(bench, 'another process')];
  },
};

async function measured(bench: Bench, dispatcher: 'same process' | 'another process'): Promise<Result> {
  const { database } = bench;
  const seconds = bench.count({ short: 1, usual: 20, full: 60 });
  const options = await bench.freshDatabase();
  const receiver = bench.start('receiver');
  const url = await receiver.call('listen');
  const writer = bench.start('application', dispatcher === 'same process');
  await writer.call('open', { database: options, synchronize: true });
  await writer.call('addListeners', url, LISTENERS);
  let worker = writer;
  if (dispatcher === 'another process') {
    worker = bench.start('application', true);
    await worker.call('open', { database: options });
  }
  await worker.call('start');
  const traffic = { perSecond: PER_SECOND, topics: [0, LISTENERS - 1] } as const;
  await latencyOf(writer, receiver, { ...traffic, seconds: Math.min(seconds, 3) });
  const { p50, p99, writes, perSecond } = await latencyOf(writer, receiver, { ...traffic, seconds });
  await bench.end();
  return {
    name: dispatcher === 'same process' ? 'latency' : 'latency-across-processes',
    database,
    unit: 'p50 ms',
    value: p50,
    ratios: { p99Ms: p99 },
    ...(database === 'postgres' ? { targets: { value: { atMost: 5 }, p99Ms: { atMost: 30 } } } : {}),
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
