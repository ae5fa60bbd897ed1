import type { Child, Programs } from '../child.js';
import type { BuilderWrite } from '../programs/application.js';
import { median } from '../measure.js';
import type { Scenario, Target } from '../scenario.js';
import { DATABASES, type DatabaseName } from '../servers.js';

const ROWS = 1_000;

const targets = (inserted: number): Record<string, Target> => ({
  ratioUpdated: { atMost: 1.9 },
  ratioInserted: { atMost: inserted },
  ratioBulkInserted: { atMost: 2 },
  ratioBulkUpdated: { atMost: 1.5 },
});
/** With the before image read under a lock. MariaDB is reported without a target. */
const TARGETS: Record<DatabaseName, Record<string, Target>> = {
  postgres: targets(1.55),
  sqlite: targets(1.7),
  mariadb: {},
};

/**
 * Targets of writes through query builders, compared with the twin: one statement for the twin, a transaction with an
 * event for the entity.
 */
const BUILDER_TARGETS: Record<BuilderWrite, Target> = {
  updateOne: { atMost: 4 },
  updateThousand: { atMost: 5 },
  deleteOne: { atMost: 4 },
  insertOne: { atMost: 1.8 },
  insertThousand: { atMost: 5 },
  upsertOne: { atMost: 4 },
  softDeleteOne: { atMost: 4 },
};

export const writeCost: Scenario = {
  name: 'write-cost',
  what: 'save() of a decorated entity, and of one with exactPrevious: false, compared with save() of their undecorated twin, in turn; medians',
  databases: DATABASES,
  async run(bench) {
    const singles = bench.count({ short: 20, usual: 1_000, full: 3_000 });
    const bulks = bench.count({ short: 2, usual: 20, full: 50 });
    const application = bench.start('application', true);
    await application.call('open', { database: await bench.freshDatabase(), synchronize: true });
    // Twice as many as the warm-up needs; the measured writes follow.
    for (const what of ['updated', 'inserted'] as const) await compare(application, what, Math.min(singles, 200), 1);
    const updated = await compare(application, 'updated', singles, 1);
    const inserted = await compare(application, 'inserted', singles, 1);
    const bulkInserted = await compare(application, 'inserted', bulks, ROWS);
    const bulkUpdated = await compare(application, 'updated', bulks, ROWS);
    const builders = await compareBuilders(application, singles, bulks);
    return [
      {
        name: 'write-cost-builders',
        database: bench.database,
        unit: 'us per row of update() by criteria of one row',
        value: (builders.updateOne?.decorated ?? 0) * 1_000,
        ratios: Object.fromEntries(Object.entries(builders).map(([what, { ratio }]) => [what, ratio])),
        targets: bench.database === 'postgres' ? BUILDER_TARGETS : {},
        options: { 'dispatcher.autoStart': 'false: what is measured is the write', capture: 'orm' },
        details: Object.fromEntries(
          Object.entries(builders).map(([what, { decorated }]) => [`${what}Us`, decorated * 1_000]),
        ),
      },
      {
        name: 'write-cost',
        database: bench.database,
        unit: 'us per updated row',
        value: updated.decorated * 1_000,
        ratios: {
          ratioUpdated: updated.ratio,
          ratioInserted: inserted.ratio,
          ratioBulkInserted: bulkInserted.ratio,
          ratioBulkUpdated: bulkUpdated.ratio,
          ratioUpdatedAsLoaded: updated.ratioAsLoaded,
          ratioBulkUpdatedAsLoaded: bulkUpdated.ratioAsLoaded,
        },
        targets: TARGETS[bench.database],
        options: {
          'dispatcher.autoStart': 'false: what is measured is the write',
          durability: "the database's default",
          writesEach: singles,
          transactionsOf1000RowsEach: bulks,
        },
        details: {
          insertedRowUs: inserted.decorated * 1_000,
          insertedRowOfThousandUs: bulkInserted.decorated,
          updatedRowOfThousandUs: bulkUpdated.decorated,
        },
      },
    ];
  },
};

async function compare(
  application: Child<Programs['application']>,
  what: 'updated' | 'inserted',
  times: number,
  rowsEach: number,
): Promise<{ decorated: number; ratio: number; ratioAsLoaded: number }> {
  const { decorated, loaded, plain } = await application.call('timeWrites', what, times, rowsEach);
  const usual = median(plain);
  return { decorated: median(decorated), ratio: median(decorated) / usual, ratioAsLoaded: median(loaded) / usual };
}

async function compareBuilders(
  application: Child<Programs['application']>,
  singles: number,
  bulks: number,
): Promise<Partial<Record<BuilderWrite, { decorated: number; ratio: number }>>> {
  const found: Partial<Record<BuilderWrite, { decorated: number; ratio: number }>> = {};
  for (const what of Object.keys(BUILDER_TARGETS) as BuilderWrite[]) {
    const times = what.endsWith('Thousand') ? bulks : singles;
    await application.call('timeBuilderWrites', what, Math.min(times, 100));
    const { decorated, plain } = await application.call('timeBuilderWrites', what, times);
    found[what] = { decorated: median(decorated), ratio: median(decorated) / median(plain) };
  }
  return found;
}
