import type { WebhooksOptions } from 'nestjs-entity-webhooks';
import type { Child, Programs } from '../child.js';
import { costMeter } from '../database-cost.js';
import { expectCount, WrongCount, type Bench, type Result, type Scenario } from '../scenario.js';
import { CHANGED_OPTIONS, costsOf } from './backlog.js';
import { latencyOf, until } from './traffic.js';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const PER_SECOND = 50;
const WIDE_TOPIC = 0;
const OTHERS_TOPIC = 1;
/** The deliveries of a killed process are sent again when its leases expire, which takes a minute by default. */
const leaseMs = ({ size }: Bench): number => (size === 'short' ? 4 * SECOND : 20 * SECOND);
const webhooks = (bench: Bench): WebhooksOptions => ({
  dispatcher: { leaseMs: leaseMs(bench), timeoutMs: leaseMs(bench) / 2 },
});
const MAX_HELD = 64 + 250;

export const wideFanout: Scenario = {
  name: 'wide-fanout',
  what: 'one event for very many listeners: the latency of other listeners, and a process that is killed half way',
  databases: ['postgres', 'mariadb'],
  async run(bench) {
    const listeners = bench.count({ short: 1_000, usual: 100_000, full: 100_000 });
    const database = await bench.freshDatabase();
    const receiver = bench.start('receiver');
    const url = await receiver.call('listen');
    const writer = bench.start('application');
    await writer.call('open', { database, synchronize: true });
    await writer.call('addManyListeners', { count: listeners, topics: 'same', url: `${url}/wide` });
    await writer.call('addListener', `${url}/${OTHERS_TOPIC}`, OTHERS_TOPIC);
    return [
      await latencyOfOthers(bench, database, { receiver, listeners }),
      await killedHalfWay(bench, database, { receiver, listeners }),
    ];
  },
};

type Database = Awaited<ReturnType<Bench['freshDatabase']>>;
interface Place {
  readonly receiver: Child<Programs['receiver']>;
  readonly listeners: number;
}

/**
 * The p99 of another listener, before the wide event (more than 1,000 listeners) and from it until its last delivery.
 */
async function latencyOfOthers(bench: Bench, database: Database, { receiver, listeners }: Place): Promise<Result> {
  const seconds = bench.count({ short: 1, usual: 10, full: 20 });
  const traffic = { perSecond: PER_SECOND, seconds, topics: [OTHERS_TOPIC, OTHERS_TOPIC] } as const;
  const meter = await costMeter(database);
  const application = bench.start('application', true);
  await application.call('open', { database, webhooks: webhooks(bench) });
  await application.call('start');
  await latencyOf(application, receiver, traffic);
  const without = await latencyOf(application, receiver, traffic);
  await receiver.call('reset');
  await meter?.begin();
  const cpuBefore = await application.call('cpuUs');
  await application.call('save', [WIDE_TOPIC]);
  const during = await latencyOf(application, receiver, traffic);
  await allSent(receiver, listeners, during.writes);
  await meter?.end();
  const sent = listeners + during.writes;
  const cpuUs = ((await application.call('cpuUs')) - cpuBefore) / sent;
  const rssMb = await application.call('largestRss');
  await application.stop();
  const cost = (await meter?.cost(sent)) ?? null;
  await meter?.close();
  return {
    name: 'wide-fanout',
    database: bench.database,
    unit: 'p99 ms of another listener',
    value: during.p99,
    ratios: { ratioToWithout: during.p99 / without.p99, rssMb, ...costsOf({ cost, cpuUs }) },
    targets: { ratioToWithout: { atMost: 1.5 }, rssMb: { atMost: 350 } },
    options: options(bench, { listeners, perSecondToTheOther: PER_SECOND, seconds }),
    details: { p99Without: without.p99, p50: during.p50, p50Without: without.p50 },
  };
}

/** A second wide event, whose process is killed after half of the deliveries. */
async function killedHalfWay(bench: Bench, database: Database, { receiver, listeners }: Place): Promise<Result> {
  await receiver.call('reset');
  const victim = bench.start('application');
  await victim.call('open', { database, webhooks: webhooks(bench) });
  await victim.call('save', [WIDE_TOPIC]);
  await victim.call('start');
  await until('half of it is received', 10 * MINUTE, async () => {
    return (await receiver.call('received')).requests >= listeners / 2;
  });
  const before = await victim.call('largestRss');
  await victim.stop('SIGKILL');
  const successor = bench.start('application', true);
  await successor.call('open', { database, webhooks: webhooks(bench) });
  await successor.call('start');
  await allSent(receiver, listeners, 0);
  await until('all of it is recorded', 10 * MINUTE, async () => {
    const { deliveries, events } = await successor.call('stored');
    return deliveries.due + deliveries.leased + events === 0;
  });
  const { deliveries, listeners: reached } = await successor.call('lastEvent');
  expectCount('deliveries of the event', deliveries, listeners);
  expectCount('listeners with a delivery', reached, listeners);
  const { requests } = await receiver.call('received');
  if (requests - listeners > MAX_HELD) throw new WrongCount(`${requests - listeners} deliveries were sent twice`);
  const after = await successor.call('largestRss');
  return {
    name: 'wide-fanout-killed',
    database: bench.database,
    unit: 'deliveries sent twice',
    value: requests - listeners,
    ratios: { rssMb: Math.max(before, after) },
    targets: { value: { atMost: MAX_HELD }, rssMb: { atMost: 350 } },
    options: options(bench, { listeners }),
    details: { deliveryRows: deliveries, listenersReached: reached },
  };
}

async function allSent(receiver: Child<Programs['receiver']>, listeners: number, others: number): Promise<void> {
  await until('every listener has received it', 10 * MINUTE, async () => {
    return (await receiver.call('received')).unique >= listeners + others;
  });
}

function options(bench: Bench, more: object): Result['options'] {
  return {
    ...CHANGED_OPTIONS,
    'dispatcher.leaseMs': leaseMs(bench),
    'dispatcher.timeoutMs': leaseMs(bench) / 2,
    ...more,
    bodyBytes: 1024,
  };
}
