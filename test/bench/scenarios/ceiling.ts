import { rate } from '../measure.js';
import { expectCount, type Scenario } from '../scenario.js';
import { CONCURRENCY, WARM_UP } from './backlog.js';

export const ceiling: Scenario = {
  name: 'ceiling',
  what: 'bare signed POSTs of an undici pool: the limit that other results are divided by',
  async run(bench) {
    const count = bench.count({ short: 1_000, usual: 30_000, full: 30_000 });
    const receiver = bench.start('receiver');
    const url = await receiver.call('listen');
    const posts = bench.start('posts', true);
    await posts.call('post', `${url}/hook`, WARM_UP[bench.size], CONCURRENCY);
    await receiver.call('reset');
    const measurement = await posts.call('post', `${url}/hook`, count, CONCURRENCY);
    const { requests, unique } = await receiver.call('received');
    expectCount('requests received', requests, count);
    expectCount('different ids received', unique, count);
    return [
      {
        name: 'ceiling',
        database: null,
        unit: 'requests/s',
        value: rate(measurement),
        ratios: {},
        options: { requests: count, concurrency: CONCURRENCY, connections: CONCURRENCY, bodyBytes: 1024 },
        details: { cpuUsPerRequest: measurement.cpuUs },
      },
    ];
  },
};
