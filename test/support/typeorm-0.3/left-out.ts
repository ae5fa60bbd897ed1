import { beforeAll, inject, type RunnerTask, type RunnerTestSuite } from 'vitest';

import { chosenDatabases, type DatabaseName } from '../chosen-databases.js';

import type {} from '../global-setup.js';

interface LeftOut {
  readonly file: string;
  /** The full name of the test. */
  readonly name: string;
  /** Only on these databases; on others the test runs, or does not exist. */
  readonly on?: readonly DatabaseName[];
  readonly reason: string;
}

const NO_INSERT_SELECT = 'valuesFromSelect() came with 1.0; the test calls it itself';
const NO_EMPTY_UPSERT = 'an upsert that overwrites nothing is plain INSERT with 0.3, or no SQL at all (MySQL)';
const NO_JUNCTION_CASCADE =
  'the foreign keys of a junction are ON DELETE NO ACTION with 0.3, so the row cannot be deleted';
const RESTORE =
  'restore() of 0.3 counts rows that are not deleted, too; of captured entities it writes what 1.x writes';

/** Tests that TypeORM 0.3 cannot pass, because TypeORM itself behaves differently from 1.x. A difference in capture is no reason. */
const LEFT_OUT: readonly LeftOut[] = [
  { file: 'test/capture/upserts.spec.ts', name: 'is answered for rows of a SELECT', reason: NO_INSERT_SELECT },
  {
    file: 'test/capture/links.spec.ts',
    name: 'are refused, and nothing is written, where a statement takes its values from a SELECT',
    reason: NO_INSERT_SELECT,
  },
  {
    file: 'test/capture/upserts.spec.ts',
    name: 'is answered where the upsert overwrites nothing',
    reason: NO_EMPTY_UPSERT,
  },
  {
    file: 'test/capture/conformance.spec.ts',
    name: 'makes exactly the expected events: insert … select by query builder',
    on: ['sqlite', 'postgres', 'mariadb'],
    reason: NO_INSERT_SELECT,
  },
  {
    file: 'test/capture/conformance.spec.ts',
    name: "makes no event: a link that a foreign key's ON DELETE CASCADE removes",
    reason: NO_JUNCTION_CASCADE,
  },
  {
    file: 'test/capture/conformance.triggers.spec.ts',
    name: 'makes exactly the expected events: insert … select by query builder',
    reason: NO_INSERT_SELECT,
  },
  {
    file: 'test/capture/conformance.triggers.spec.ts',
    name: "makes no event: a link that a foreign key's ON DELETE CASCADE removes",
    reason: NO_JUNCTION_CASCADE,
  },
  {
    file: 'test/capture/conformance.spec.ts',
    name: 'makes no event: insert … select by query builder',
    on: ['mysql2'],
    reason: NO_INSERT_SELECT,
  },
  { file: 'test/capture/bulk-writes.spec.ts', name: 'gives its caller what TypeORM gives: restore()', reason: RESTORE },
];

/**
 * Marks the tests before the first one starts, so that their hooks do not run either. A name that is changed must not bring a test back
 * in silence, nor stay here.
 */
// oxlint-disable-next-line no-empty-pattern -- vitest reads from this pattern which fixtures the hook uses, and refuses a name
beforeAll(({}, file) => {
  const entries = LEFT_OUT.filter((one) => one.file === file.name);
  const stale = entries.filter((entry) => {
    const found = testsOf(file).filter((test) => test.name === entry.name && isOn(entry, test));
    for (const test of found) {
      test.mode = 'skip';
      test.result = { state: 'skip' };
    }
    return found.length === 0 && isExpected(entry);
  });
  if (stale.length === 0) return;
  const names = stale.map(({ name }) => name).join('; ');
  throw new Error(`test/support/typeorm-0.3/left-out.ts names no test of ${file.name}: ${names}`);
});

function testsOf(suite: Readonly<RunnerTestSuite>): Extract<RunnerTask, { type: 'test' }>[] {
  return suite.tasks.flatMap((task) => (task.type === 'suite' ? testsOf(task) : [task]));
}

function isOn({ on }: LeftOut, test: RunnerTask): boolean {
  return !on || on.some((database) => suitesOf(test.suite).includes(`(${database})`));
}

/** Whether the run has a database on which the test is. */
function isExpected({ on }: LeftOut): boolean {
  if (!on) return true;
  const { postgres, mysql } = inject('servers');
  const runs = { sqlite: true, postgres: !!postgres, mariadb: mysql?.product === 'MariaDB', mysql2: !!mysql };
  return on.some((database) => runs[database] && chosenDatabases().includes(database));
}

function suitesOf(suite: RunnerTestSuite | undefined): string {
  return suite ? `${suitesOf(suite.suite)} ${suite.name}` : '';
}
