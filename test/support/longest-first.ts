import { relative } from 'node:path';

import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Suites that take long but are small files: their tests stand in other files, start processes, or run for a given time. */
const LONG = [
  'test/crash/',
  'test/capture/model/model.',
  'test/capture/conformance.',
  'test/store/conformance.',
  'test/dispatcher/kill.',
  'test/dispatcher/leases.',
  'test/dispatcher/clock.',
  'test/dispatcher/set-back.',
  'test/dispatcher/bulkheads.',
  'test/dispatcher/shutdown.',
  'test/demo/',
  'test/readme/tour.',
  'test/readme/production.',
  'test/readme/receivers.',
  'test/readme/words.',
  'test/cli/type-script.',
  'test/tables/upgrade.',
  'test/sending/connections.',
  'test/sending/answer-bodies.',
  'test/faults/process.',
  'test/layout/arrows.',
  'test/verify/event-loop.',
];

/**
 * The suites that take longest start first, so that all workers end at about the same time. vitest orders the rest: by the time of the last
 * run, or by the size of the file if there was none, as in CI.
 */
export default class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    // oxlint-disable-next-line unicorn/no-array-sort -- a method of vitest, which returns a new array
    const sorted = await super.sort(files);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

function isLong({ moduleId, project }: TestSpecification): boolean {
  const file = relative(project.config.root, moduleId);
  return LONG.some((start) => file.startsWith(start));
}
