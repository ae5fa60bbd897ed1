import { median } from '../measure.js';
import type { Bench, Result, Scenario } from '../scenario.js';
import { DATABASES } from '../servers.js';
import { CHANGED_OPTIONS, drainAll, expectDelivered, WARM_UP } from './backlog.js';

const LISTENERS = 50;
const ROUNDS = 5;

/** The CPU that telemetry may add to a delivery. */
const TARGET = { ratioToWithout: { atMost: 1.04 } };

export const telemetry: Scenario = {
  name: 'telemetry',
  what: 'CPU for a delivery, with and without WebhooksTelemetryModule in turn',
  databases: DATABASES,
  run: async (bench) => [await measured(bench)],
};

/** Two processes drain one backlog after the other, in turn. Each median is of {@link ROUNDS} backlogs. */
async function measured(bench: Bench): Promise<Result> {
  const events = bench.count({ short: 300, usual: 10_000, full: 20_000 });
  const database = await bench.freshDatabase();
  const receiver = bench.start('receiver');
  const url = await receiver.call('listen');
  const writer = bench.start('application');
  await writer.call('open', { database, synchronize: true });
  await writer.call('addListeners', url, LISTENERS);
  const workers = [bench.start('application', true), bench.start('application', true)] as const;
  await workers[0].call('open', { database });
  await workers[1].call('open', { database, hasTelemetry: true });
  const cpuUs: [number[], number[]] = [[], []];
  const drain = async (worker: 0 | 1, count: number) => {
    await receiver.call('reset');
    await writer.call('fill', count, LISTENERS);
    return drainAll({ worker: workers[worker], writer, receiver }, count);
  };
  const warmUp = WARM_UP[bench.size];
  for (const worker of [0, 1] as const) await drain(worker, warmUp);
  for (let round = 0; round < ROUNDS; round++) {
    // Neither is always the first after a pause.
    for (const worker of round % 2 ? ([1, 0] as const) : ([0, 1] as const)) {
      cpuUs[worker].push((await drain(worker, events)).cpuUs);
    }
  }
  const stored = 2 * warmUp + 2 * ROUNDS * events;
  await expectDelivered(writer, receiver, { received: events, stored });
  await bench.end();
  const [without, withTelemetry] = [median(cpuUs[0]), median(cpuUs[1])];
  return {
    name: 'telemetry',
    database: bench.database,
    unit: 'us CPU/delivery',
    value: withTelemetry,
    ratios: { ratioToWithout: withTelemetry / without },
    targets: TARGET,
    options: { ...CHANGED_OPTIONS, events, rounds: ROUNDS, listeners: LISTENERS, sdk: 'collects, exports nothing' },
    details: { cpuUsWithout: without },
  };
}
