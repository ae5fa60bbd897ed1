import type { Bench, Result, Scenario, Target } from '../scenario.js';
import { DATABASES, type DatabaseName } from '../servers.js';
import { CHANGED_OPTIONS, costsOf, drainBacklog } from './backlog.js';

const LISTENERS = 50;

const TARGETS: Record<DatabaseName, Record<string, Target>> = {
  postgres: {
    ratioToCeiling: { atLeast: 0.35 },
    ratioToBullmq: { atLeast: 2.2 },
    ratioToBullmqUndici: { atLeast: 1.3 },
    ratioToByHand: { atLeast: 4 },
  },
  sqlite: { ratioToCeiling: { atLeast: 0.2 } },
  mariadb: { ratioToCeiling: { atLeast: 0.2 } },
};
const INTERCEPTED_TARGET: Record<string, Target> = { ratioToCeiling: { atLeast: 0.22 } };

export const drain: Scenario = {
  name: 'drain',
  what: 'draining a backlog of events, each for one of 50 listeners',
  comparedWith: ['ceiling', 'bullmq', 'bullmq-undici', 'by-hand'],
  databases: DATABASES,
  async run(bench) {
    const results = [await measured(bench, false)];
    if (bench.database === 'postgres') results.push(await measured(bench, true));
    return results;
  },
};

async function measured(bench: Bench, isIntercepted: boolean): Promise<Result> {
  const { database } = bench;
  const events = bench.count({ short: 500, usual: 30_000, full: 30_000 });
  const drained = await drainBacklog(bench, { events, listeners: LISTENERS, isIntercepted });
  const { perSecond } = drained;
  return {
    name: isIntercepted ? 'drain-intercepted' : 'drain',
    database,
    unit: 'deliveries/s',
    value: perSecond,
    ratios: {
      ratioToCeiling: bench.ratio(perSecond, 'ceiling'),
      ratioToBullmq: bench.ratio(perSecond, 'bullmq'),
      ratioToBullmqUndici: bench.ratio(perSecond, 'bullmq-undici'),
      ratioToByHand: bench.ratio(perSecond, 'by-hand', 'postgres'),
      ...costsOf(drained),
    },
    targets: isIntercepted ? INTERCEPTED_TARGET : TARGETS[database],
    options: {
      ...CHANGED_OPTIONS,
      ...(isIntercepted ? { interceptors: 'one, which sets a header' } : {}),
      events,
      listeners: LISTENERS,
      bodyBytes: 1024,
    },
  };
}
