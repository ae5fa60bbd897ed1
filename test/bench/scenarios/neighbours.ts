import type { Bench, Result, Scenario } from '../scenario.js';
import { DATABASES } from '../servers.js';
import { CHANGED_OPTIONS } from './backlog.js';
import { latencyOf, latencyOfWritten, until, type Latency } from './traffic.js';

const MINUTE = 60 * 1000;
const LISTENERS = 20;
const PER_SECOND = 200;
const BAD_TOPIC = 0;

export const badNeighbour: Scenario = {
  name: 'bad-neighbour',
  what: '20 listeners, of which one never answers and has thousands of deliveries due: the latency of the others',
  databases: ['postgres'],
  run: (bench) => compared(bench, 'bad-neighbour', { path: `/${BAD_TOPIC}` }),
};

export const slowDns: Scenario = {
  name: 'slow-dns',
  what: 'the same when the name server of the bad listener never answers',
  databases: ['postgres'],
  run: (bench) => compared(bench, 'slow-dns', { host: 'bad.never.test' }),
};

/** How the bad listener fails: its receiver never answers at this path, or no name server answers for this host. */
interface Badness {
  readonly path?: string;
  readonly host?: string;
}

async function compared(bench: Bench, name: string, bad: Badness): Promise<Result[]> {
  // Long enough to include the time limit of the first attempts, 15 s, and the time after it.
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
  // A host name, so that the other listeners need a name server, too.
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

const DRIPPING_LISTENERS = 300;
const OTHERS_PER_SECOND = 50;
const DRIP_MS = 500;
/** What a neighbour may add to p99 if twice a very small p99 would be less than the noise of a machine. */
const MAY_ADD_MS = 50;

export const drippingOwner: Scenario = {
  name: 'dripping-owner',
  what: '300 listeners of one owner answer 200 and send a body slowly and without end: the latency of another owner at 50 events/s',
  databases: DATABASES,
  async run(bench) {
    const seconds = bench.count({ short: 1, usual: 20, full: 60 });
    const without = await otherOwnersLatency(bench, seconds, 0);
    const withBad = await otherOwnersLatency(bench, seconds, DRIPPING_LISTENERS);
    return [
      {
        name: 'dripping-owner',
        database: bench.database,
        unit: 'p99 ms of the other owner',
        value: withBad.p99,
        ratios: { ratioToAllowed: withBad.p99 / Math.max(2 * without.p99, without.p99 + MAY_ADD_MS) },
        targets: { ratioToAllowed: { atMost: 1 } },
        options: {
          ...CHANGED_OPTIONS,
          'dispatcher.autoStart': 'runs in the process that writes',
          drippingListeners: DRIPPING_LISTENERS,
          perSecond: OTHERS_PER_SECOND,
          seconds,
        },
        details: {
          p99Without: without.p99,
          p50: withBad.p50,
          p50Without: without.p50,
          requestsToTheDripping: withBad.drippedTo,
        },
      },
    ];
  },
};

/** The events of the bad owner come once a second, so that each listener always has a request in flight. */
async function otherOwnersLatency(
  bench: Bench,
  seconds: number,
  drippingListeners: number,
): Promise<Latency & { drippedTo: number }> {
  const receiver = bench.start('receiver');
  const dripping = bench.start('receiver');
  const url = await receiver.call('listen');
  const drippingUrl = await dripping.call('listen');
  await dripping.call('drip', DRIP_MS);
  const application = bench.start('application', true);
  await application.call('open', { database: await bench.freshDatabase(), synchronize: true });
  await application.call('addOwnersListeners', { owner: 'good', url, count: 1 });
  await application.call('addOwnersListeners', { owner: 'bad', url: drippingUrl, count: drippingListeners });
  await application.call('start');
  const bad = (ofSeconds: number) =>
    application.call('publish', { owner: 'bad', perSecond: drippingListeners ? 1 : 0, seconds: ofSeconds });
  const good = { owner: 'good', perSecond: OTHERS_PER_SECOND };
  const warmUp = Math.min(seconds, 3);
  await Promise.all([bad(warmUp), application.call('publish', { ...good, seconds: warmUp })]);
  const [written] = await Promise.all([application.call('publish', { ...good, seconds }), bad(seconds)]);
  const latency = await latencyOfWritten(receiver, written);
  const { requests } = await dripping.call('received');
  await bench.end();
  return { ...latency, drippedTo: requests };
}
