import { monotonicMs } from '../measure.js';
import { expectCount, type Bench, type Scenario } from '../scenario.js';
import { CHANGED_OPTIONS, expectDelivered, WARM_UP } from './backlog.js';
import { until } from './traffic.js';

const MINUTE = 60 * 1000;
const LISTENERS = 50;
const PROCESSES = [1, 2, 4];

export const scale: Scenario = {
  name: 'scale',
  what: 'the backlog of the scenario drain, shared by several processes',
  databases: ['postgres'],
  async run(bench) {
    const events = bench.count({ short: 500, usual: 30_000, full: 100_000 });
    const rates: number[] = [];
    const details: Record<string, number | string> = { deliveriesSentTwice: 0 };
    for (const processes of PROCESSES) {
      const { perSecond, shares } = await shared(bench, processes, events);
      rates.push(perSecond);
      details[`perSecondOf${processes}`] = perSecond;
      details[`percentByProcessOf${processes}`] = shares.map((share) => Math.round(share * 100)).join(' ');
    }
    const [one = Number.NaN, two = Number.NaN, four = Number.NaN] = rates;
    return [
      {
        name: 'scale',
        database: bench.database,
        unit: 'deliveries/s of one',
        value: one,
        ratios: { ratioOfTwoToOne: two / one, ratioOfFourToOne: four / one },
        options: { ...CHANGED_OPTIONS, processes: PROCESSES.join(', '), events, listeners: LISTENERS, bodyBytes: 1024 },
        details,
      },
    ];
  },
};

async function shared(
  bench: Bench,
  processes: number,
  events: number,
): Promise<{ perSecond: number; shares: number[] }> {
  const database = await bench.freshDatabase();
  const receiver = bench.start('receiver');
  const url = await receiver.call('listen');
  const writer = bench.start('application');
  await writer.call('open', { database, synchronize: true });
  await writer.call('addListeners', url, LISTENERS);
  const workers = Array.from({ length: processes }, () => bench.start('application', true));
  for (const worker of workers) await worker.call('open', { database });

  const drained = async (count: number): Promise<{ seconds: number; shares: number[] }> => {
    await writer.call('fill', count, LISTENERS);
    const startedAt = monotonicMs();
    await Promise.all(workers.map((worker) => worker.call('start', true)));
    let progress: { succeeded: number; lastAt: number }[] = [];
    await until(`${count} deliveries succeed`, 10 * MINUTE, async () => {
      progress = await Promise.all(workers.map((worker) => worker.call('progressed')));
      return sumOf(progress) >= count;
    });
    await Promise.all(workers.map((worker) => worker.call('halt')));
    const endedAt = Math.max(...progress.map(({ lastAt }) => lastAt));
    return { seconds: (endedAt - startedAt) / 1_000, shares: progress.map(({ succeeded }) => succeeded / count) };
  };
  const warmUp = WARM_UP[bench.size] * processes;
  await drained(warmUp);
  await receiver.call('reset');
  const { seconds, shares } = await drained(events);
  const { requests } = await receiver.call('received');
  expectCount('deliveries sent twice', requests - events, 0);
  await expectDelivered(writer, receiver, { received: events, stored: warmUp + events });
  await bench.end();
  return { perSecond: events / seconds, shares };
}

function sumOf(progress: readonly { succeeded: number }[]): number {
  return progress.reduce((sum, { succeeded }) => sum + succeeded, 0);
}
