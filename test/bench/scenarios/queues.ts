import { rate } from '../measure.js';
import type { QueueOptions } from '../programs/queue.js';
import { expectCount, type Bench, type Result, type Scenario } from '../scenario.js';
import { CONCURRENCY, WARM_UP } from './backlog.js';

export const bullmq: Scenario = {
  name: 'bullmq',
  what: 'a BullMQ worker that posts with axios, without a log',
  needsRedis: true,
  run: (bench) => worked(bench, 'bullmq', { client: 'axios' }),
};

export const bullmqUndici: Scenario = {
  name: 'bullmq-undici',
  what: 'a BullMQ worker that posts with the transport of the library, without a log',
  needsRedis: true,
  run: (bench) => worked(bench, 'bullmq-undici', { client: 'library' }),
};

export const byHand: Scenario = {
  name: 'by-hand',
  what: 'a BullMQ worker that posts with axios and saves a row per attempt with a TypeORM repository',
  needsRedis: true,
  databases: ['postgres'],
  async run(bench) {
    return worked(bench, 'by-hand', { client: 'axios', log: await bench.freshDatabase() });
  },
};

async function worked(bench: Bench, name: string, options: Pick<QueueOptions, 'client' | 'log'>): Promise<Result[]> {
  const count = bench.count({ short: 500, usual: 30_000, full: 30_000 });
  const warmUp = WARM_UP[bench.size];
  const receiver = bench.start('receiver');
  const url = `${await receiver.call('listen')}/hook`;
  const queue = bench.start('queue', true);
  const all = { redis: bench.redis, url, concurrency: CONCURRENCY, ...options };
  await queue.call('workOff', { ...all, count: warmUp });
  await receiver.call('reset');
  const measurement = await queue.call('workOff', { ...all, count });
  const { requests, unique } = await receiver.call('received');
  expectCount('requests received', requests, count);
  expectCount('different ids received', unique, count);
  if (options.log) expectCount('rows in the log', measurement.logged, warmUp + count);
  return [
    {
      name,
      database: options.log ? bench.database : null,
      unit: 'deliveries/s',
      value: rate(measurement),
      ratios: { ratioToCeiling: bench.ratio(rate(measurement), 'ceiling') },
      options: {
        jobs: count,
        concurrency: CONCURRENCY,
        client: options.client === 'axios' ? 'axios, keep-alive agent' : "the library's transport",
        added: 'in bulk, before the clock starts',
        log: options.log ? 'one row per attempt, repository.save(), default pool' : 'none',
        bodyBytes: 1024,
      },
      details: { cpuUsPerDelivery: measurement.cpuUs },
    },
  ];
}
