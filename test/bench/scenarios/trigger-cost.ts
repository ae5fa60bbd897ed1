import { median } from '../measure.js';
import type { Scenario, Target } from '../scenario.js';
import { DATABASES } from '../servers.js';

const ROWS = 1_000;

/**
 * Targets for PostgreSQL; the other databases are reported without targets. The target for 1,000 deleted rows is hard
 * to reach, because such a delete itself writes very little.
 */
const TARGETS: Record<string, Target> = {
  ratioInserted: { atMost: 1.8 },
  ratioUpdated: { atMost: 1.8 },
  ratioDeleted: { atMost: 1.8 },
  ratioBulkInserted: { atMost: 4 },
  ratioBulkUpdated: { atMost: 4 },
  ratioBulkDeleted: { atMost: 4 },
};

/** What a trigger costs the writer, with raw SQL. TypeORM takes no part, so its own time does not improve the ratio. */
export const triggerCost: Scenario = {
  name: 'trigger-cost',
  what: 'SQL writes to a table with triggers compared with writes to its twin without triggers, in turn; medians',
  databases: DATABASES,
  async run(bench) {
    const singles = bench.count({ short: 50, usual: 1_000, full: 3_000 });
    const bulks = bench.count({ short: 3, usual: 20, full: 50 });
    const application = bench.start('application', true);
    await application.call('open', { database: await bench.freshDatabase(), synchronize: true });
    await application.call('timeTriggers', Math.min(singles, 200), 1);
    const one = await application.call('timeTriggers', singles, 1);
    const thousand = await application.call('timeTriggers', bulks, ROWS);
    const ratio = ({ captured, plain }: { captured: number[]; plain: number[] }) => median(captured) / median(plain);
    return [
      {
        name: 'trigger-cost',
        database: bench.database,
        unit: 'us per updated row',
        value: median(one.updated.captured) * 1_000,
        ratios: {
          ratioInserted: ratio(one.inserted),
          ratioUpdated: ratio(one.updated),
          ratioDeleted: ratio(one.deleted),
          ratioBulkInserted: ratio(thousand.inserted),
          ratioBulkUpdated: ratio(thousand.updated),
          ratioBulkDeleted: ratio(thousand.deleted),
        },
        targets: bench.database === 'postgres' ? TARGETS : {},
        options: {
          'dispatcher.autoStart': 'false: what is measured is the write',
          durability: "the database's default",
          statementsEach: singles,
          statementsOf1000RowsEach: bulks,
        },
        details: {
          insertedRowUs: median(one.inserted.captured) * 1_000,
          deletedRowUs: median(one.deleted.captured) * 1_000,
          insertedRowOfThousandUs: median(thousand.inserted.captured),
          updatedRowOfThousandUs: median(thousand.updated.captured),
          deletedRowOfThousandUs: median(thousand.deleted.captured),
        },
      },
    ];
  },
};
