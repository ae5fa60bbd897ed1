import { randomInt } from 'node:crypto';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { DataSourceOptions } from 'typeorm';
import { databases, type FreshDatabase } from '../support/databases.js';
import { startEmbeddedPostgres, type RunningPostgres } from '../support/embedded-postgres.js';
import { buildWorkers, crashRun, DISPATCHER, type CrashReport, type CrashRun } from './crash-run.js';

/** How long processes are killed for each database: 10 s in CI, and with `npm run crash` 60 s and more. */
const SECONDS = Number(process.env.CRASH_SECONDS ?? (process.env.CI ? 10 : 3));
/** `CRASH_SEED` repeats the random choices of a run, but not its timing. */
const SEED = Number(process.env.CRASH_SEED ?? randomInt(2 ** 31));
const TIMEOUT_MS = SECONDS * 1_000 + 120_000;

let program: string;
beforeAll(async () => {
  program = await buildWorkers();
}, 120_000);

async function crash(title: string, run: Pick<CrashRun, 'database' | 'server'>): Promise<CrashReport> {
  const report = await crashRun(program, { ...run, seconds: SECONDS, seed: SEED });
  const { kills, restarts, committed, wanted, duplicates } = report;
  console.log(
    `crash ${title}: seed ${SEED}, ${SECONDS} s, ${kills} kills, ${restarts} restarts of the server, ` +
      `${committed} changes committed, ${wanted} deliveries, ${duplicates} duplicates`,
  );
  return report;
}

/** Each kill repeats at most the requests that one process had sent and not recorded. */
function expectWhole({ kills, duplicates, committed, lost, ghosts, inconsistent, surprises }: CrashReport): void {
  expect({ lost, ghosts, inconsistent, surprises }).toEqual({ lost: [], ghosts: [], inconsistent: [], surprises: [] });
  expect(committed).toBeGreaterThan(10 * SECONDS);
  expect(kills).toBeGreaterThan(0);
  expect(duplicates).toBeLessThanOrEqual(kills * (DISPATCHER.concurrency + DISPATCHER.eventsPerBatch));
}

// One driver for each product; they share their SQL.
const products = databases.filter(
  ({ name }, _, all) => name !== 'mysql2' || !all.some((other) => other.name === 'mariadb'),
);

describe.each(products)('processes killed with SIGKILL at random moments ($name)', (database) => {
  let fresh: FreshDatabase;
  beforeEach(async () => {
    fresh = await database.create();
  });
  afterEach(() => fresh.drop());

  it(
    'lose no committed change, send none that was rolled back, and repeat few, under the same id',
    async () => {
      expectWhole(await crash(database.name, { database: fresh.options }));
    },
    TIMEOUT_MS,
  );
});

describe.runIf(databases.some(({ name }) => name === 'postgres'))(
  'processes killed while their PostgreSQL server crashes and comes back',
  () => {
    let server: RunningPostgres;
    beforeEach(async () => {
      // Commits survive the end of the processes. A crash of the machine is not simulated.
      server = await startEmbeddedPostgres({ synchronous_commit: 'on' });
    });
    afterEach(() => server.stop());

    it(
      'lose no committed change, send none that was rolled back, and repeat few, under the same id',
      async () => {
        const database: DataSourceOptions = { type: 'postgres', url: server.url, poolSize: 5 };
        const report = await crash('postgres-restarted', { database, server });
        expectWhole(report);
        expect(report.restarts).toBeGreaterThan(0);
      },
      TIMEOUT_MS,
    );
  },
);
