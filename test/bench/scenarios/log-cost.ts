import { costMeter } from '../database-cost.js';
import { median } from '../measure.js';
import type { Bench, Result, Scenario } from '../scenario.js';
import { DATABASES } from '../servers.js';
import { CHANGED_OPTIONS, drainAll, expectDelivered, WARM_UP } from './backlog.js';

const LISTENERS = 50;
const ROUNDS = 5;

/** What statistics and the log of attempts may add to a delivery. */
const TARGETS = { ratioToWithout: { atMost: 1.03 }, addedLogBytes: { atMost: 60 } };

export const logCost: Scenario = {
  name: 'log-cost',
  what: 'CPU of sender and database for a delivery, with and without statistics and details of attempts in turn',
  databases: DATABASES,
  run: async (bench) => [await measured(bench)],
};

interface Costs {
  readonly senderUs: number[];
  readonly databaseUs: number[];
  readonly bothUs: number[];
  readonly logBytes: number[];
}

const noCosts = (): Costs => ({ senderUs: [], databaseUs: [], bothUs: [], logBytes: [] });

/** Two processes drain one backlog after the other, in turn. Each median is of {@link ROUNDS} backlogs. */
async function measured(bench: Bench): Promise<Result> {
  const events = bench.count({ short: 300, usual: 10_000, full: 20_000 });
  const database = await bench.freshDatabase();
  const receiver = bench.start('receiver');
  const url = await receiver.call('listen');
  const writer = bench.start('application');
  await writer.call('open', { database, synchronize: true });
  await writer.call('addListeners', url, LISTENERS);
  const meter = await costMeter(database);
  const workers = [bench.start('application', true), bench.start('application', true)] as const;
  await workers[0].call('open', { database, webhooks: { log: { details: 'thin' } }, isWithoutStatistics: true });
  await workers[1].call('open', { database });
  const costs = [noCosts(), noCosts()] as const;
  const drain = async (which: 0 | 1, count: number) => {
    await receiver.call('reset');
    await writer.call('fill', count, LISTENERS);
    await meter?.begin();
    const { cpuUs } = await drainAll({ worker: workers[which], writer, receiver }, count);
    await meter?.end();
    return { cpuUs, cost: await meter?.cost(count) };
  };
  const warmUp = WARM_UP[bench.size];
  for (const which of [0, 1] as const) await drain(which, warmUp);
  for (let round = 0; round < ROUNDS; round++) {
    // Neither is always the first after a pause.
    for (const which of round % 2 ? ([1, 0] as const) : ([0, 1] as const)) {
      const { cpuUs, cost } = await drain(which, events);
      costs[which].senderUs.push(cpuUs);
      costs[which].databaseUs.push(cost?.databaseCpuUs ?? 0);
      costs[which].bothUs.push(cpuUs + (cost?.databaseCpuUs ?? 0));
      costs[which].logBytes.push(cost?.logBytes ?? 0);
    }
  }
  await expectDelivered(writer, receiver, { received: events, stored: 2 * warmUp + 2 * ROUNDS * events });
  await meter?.close();
  await bench.end();
  return resultOf(bench, events, costs);
}

function resultOf(bench: Bench, events: number, [without, withLog]: readonly [Costs, Costs]): Result {
  return {
    name: 'log-cost',
    database: bench.database,
    unit: 'us CPU/delivery',
    value: median(withLog.bothUs),
    ratios: {
      ratioToWithout: median(withLog.bothUs) / median(without.bothUs),
      addedLogBytes: median(withLog.logBytes) - median(without.logBytes),
    },
    targets: TARGETS,
    options: {
      ...CHANGED_OPTIONS,
      ...{ events, rounds: ROUNDS, listeners: LISTENERS },
      without: "no statistics, log.details: 'thin'",
    },
    details: {
      senderUs: median(withLog.senderUs),
      senderUsWithout: median(without.senderUs),
      databaseUs: median(withLog.databaseUs),
      databaseUsWithout: median(without.databaseUs),
      logBytes: median(withLog.logBytes),
      logBytesWithout: median(without.logBytes),
    },
  };
}
