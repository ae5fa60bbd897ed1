import type { Bench, Result, Scenario } from '../scenario.js';
import { CHANGED_OPTIONS } from './backlog.js';
import { latencyOf, until, type Latency } from './traffic.js';

const MINUTE = 60 * 1000;
const LISTENERS = 20;
const PER_SECOND = 200;
const BAD_TOPIC = 0;

export const badNeighbour: Scenario = {
  name: 'bad-neighbour',
  what: '20 listeners, of which one never answers and has thousands of deliveries due: what the others feel',
  databases: ['postgres'],
  run: (bench) => compared(bench, 'bad-neighbour', { path: `/${BAD_TOPIC}` }),
};

export const slowDns: Scenario = {
  name: 'slow-dns',
  what: 'the same when the name server of the bad one never answers',
  databases: ['postgres'],
  run: (bench) => compared(bench, 'slow-dns', { host: 'bad.never.test' }),
};

/** How the bad one is bad: its receiver never answers at this path, or nothing ever says where this host is. */
interface Badness {
  readonly path?: string;
  readonly host?: string;
}

async function compared(bench: Bench, name: string, bad: Badness): Promise<Result[]> {
  // Long enough to see the time limit of the first attempts, 15 s, and what comes after it.
  const seconds = bench.count({ short: 1, usual: 20, full: 40 });
  const due = bench.count({ short: 100, usual: 10_000, full: 10_000 });
  const without = await othersLatency(bench, bad, { seconds, due: 0 });
  const withBad = await othersLatency(bench, bad, { seconds, due });
  return [
    {
      name,
      database: bench.database,
      unit: 'p99 ms of the others',
      value: withBad.p99,
      ratios: { ratioToWithout: withBad.p99 / without.p99 },
      targets: { ratioToWithout: { atMost: 1.5 } },
      options: {
        ...CHANGED_OPTIONS,
        'dispatcher.autoStart': 'runs in the process that writes, once the backlog stands',
        listeners: LISTENERS,
        dueToTheBadOne: due,
        perSecond: PER_SECOND,
        seconds,
        bodyBytes: 1024,
      },
      details: { p99Without: without.p99, p50: withBad.p50, p50Without: without.p50 },
    },
  ];
}

async function othersLatency(bench: Bench, bad: Badness, of: { seconds: number; due: number }): Promise<Latency> {
  const receiver = bench.start('receiver');
  const url = new URL(await receiver.call('listen', bad.path));
  // By name, so that the others need a name server, too.
  url.hostname = 'localhost';
  const badUrl = new URL(`/${BAD_TOPIC}`, url);
  if (bad.host !== undefined) badUrl.hostname = bad.host;

  const application = bench.start('application', true);
  const areNameServersSilent = bad.host !== undefined;
  await application.call('open', { database: await bench.freshDatabase(), synchronize: true, areNameServersSilent });
  await application.call('addListener', badUrl.href, BAD_TOPIC);
  for (let topic = BAD_TOPIC + 1; topic < LISTENERS; topic++) {
    await application.call('addListener', `${url.origin}/${topic}`, topic);
  }
  const traffic = { perSecond: PER_SECOND, topics: [BAD_TOPIC + 1, LISTENERS - 1] } as const;
  await application.call('start');
  await latencyOf(application, receiver, { ...traffic, seconds: Math.min(of.seconds, 3) });
  await application.call('fill', of.due, 1);
  await until('the backlog of the bad one is routed', MINUTE, async () => (await application.call('pending')) === 0);
  const latency = await latencyOf(application, receiver, { ...traffic, seconds: of.seconds });
  await bench.end();
  return latency;
}
