import type { Scenario } from '../scenario.js';
import { DATABASES } from '../servers.js';
import { CHANGED_OPTIONS, costsOf, drainBacklog } from './backlog.js';

export const singleListener: Scenario = {
  name: 'single-listener',
  what: 'the backlog of the scenario drain, all of it for one URL',
  comparedWith: ['drain'],
  databases: DATABASES,
  async run(bench) {
    const events = bench.count({ short: 500, usual: 30_000, full: 30_000 });
    const drained = await drainBacklog(bench, { events, listeners: 1 });
    const { perSecond } = drained;
    return [
      {
        name: 'single-listener',
        database: bench.database,
        unit: 'deliveries/s',
        value: perSecond,
        ratios: { ratioToDrain: bench.ratio(perSecond, 'drain', bench.database), ...costsOf(drained) },
        targets: { ratioToDrain: { atLeast: 0.7 } },
        options: { ...CHANGED_OPTIONS, events, listeners: 1, bodyBytes: 1024 },
      },
    ];
  },
};
