import pg from 'pg';
import type { Scenario } from '../scenario.js';
import { CHANGED_OPTIONS, drainBacklog, type Tenth } from './backlog.js';

const LISTENERS = 50;

export const longTransaction: Scenario = {
  name: 'long-transaction',
  what: 'a long drain while a REPEATABLE READ transaction stays open, so that no dead row can be removed',
  databases: ['postgres'],
  async run(bench) {
    const events = bench.count({ short: 1_000, usual: 100_000, full: 300_000 });
    const { perSecond, tenths } = await drainBacklog(bench, { events, listeners: LISTENERS, during: openTransaction });
    const firstHalf = rateOf(tenths.slice(0, 5));
    const lastTenth = rateOf(tenths.slice(9));
    return [
      {
        name: 'long-transaction',
        database: bench.database,
        unit: 'deliveries/s',
        value: perSecond,
        ratios: { ratioLastTenthToFirstHalf: lastTenth / firstHalf },
        targets: { ratioLastTenthToFirstHalf: { atLeast: 0.5 } },
        options: { ...CHANGED_OPTIONS, events, listeners: LISTENERS, bodyBytes: 1024 },
        details: { firstHalfPerSecond: firstHalf, lastTenthPerSecond: lastTenth },
      },
    ];
  },
};

export const memory: Scenario = {
  name: 'memory',
  what: 'the resident size of the process that drains a backlog of a million',
  databases: ['postgres'],
  async run(bench) {
    const events = bench.count({ short: 1_000, usual: 200_000, full: 1_000_000 });
    const { perSecond, tenths } = await drainBacklog(bench, { events, listeners: LISTENERS });
    const sizes = tenths.map(({ rssMb }) => rssMb);
    // Compared with the second tenth, because in the first tenth the heap still grows to the size of a batch.
    const growth = Math.max(...sizes.slice(8)) / (sizes[1] ?? Number.NaN);
    return [
      {
        name: 'memory',
        database: bench.database,
        unit: 'MB at most',
        value: Math.max(...sizes),
        ratios: { ratioEndToSecondTenth: growth },
        targets: { value: { atMost: 350 }, ratioEndToSecondTenth: { atMost: 1.25 } },
        options: { ...CHANGED_OPTIONS, events, listeners: LISTENERS, bodyBytes: 1024 },
        details: { perSecond, mbByTenth: sizes.map((size) => Math.round(size)).join(' ') },
      },
    ];
  },
};

function rateOf(tenths: readonly Tenth[]): number {
  return tenths.length / tenths.reduce((sum, { perSecond }) => sum + 1 / perSecond, 0);
}

/** Opens a transaction whose snapshot is the database as it is now. @returns a function that ends it */
async function openTransaction(url: string): Promise<() => Promise<void>> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query('begin isolation level repeatable read');
  // The first statement takes the snapshot.
  await client.query('select count(*) from webhook_events');
  return async () => {
    await client.query('rollback');
    await client.end();
  };
}
