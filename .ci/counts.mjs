// Reads vitest's JSON report and prints `N passed, N failed` on stdout. Fails if a test failed, or if a suite that needs
// something from outside (a server, a language) passed no test: it may have been left out in silence.
import { readFileSync } from 'node:fs';
import { relative } from 'node:path';

/**
 * @typedef {{ status: string, fullName: string }} TestResult
 * @type {{ numPassedTests: number, numFailedTests: number, numPendingTests: number, success: boolean,
 *   testResults: { name: string, assertionResults: TestResult[] }[] }}
 */
const report = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8'));
const files = report.testResults.map(({ name, assertionResults }) => ({
  name: relative(process.cwd(), name),
  passed: assertionResults.filter(({ status }) => status === 'passed').map(({ fullName }) => fullName),
}));
const problems = report.success ? [] : ['a test failed'];

/** Tests of this database carry its name, as in `describeDatabases`; vitest puts what it fills in between quotes. */
const on = (/** @type {string[]} */ tests, /** @type {string} */ database) =>
  tests.filter((test) => test.includes(`('${database}')`) || test.includes(`(${database})`)).length;
const MARIADB = ['mariadb', 'mysql2'];
/** Ten seconds for each server, whichever driver speaks to it. */
const BY_ONE_DRIVER = ['test/crash/crash.spec.ts'];
for (const { name, passed } of files) {
  if (on(passed, 'sqlite') > 0 && on(passed, 'postgres') > 0) {
    for (const database of BY_ONE_DRIVER.includes(name) ? ['mariadb'] : MARIADB) {
      if (on(passed, database) === 0) problems.push(`${name} did not run on ${database}`);
    }
  }
}

const all = files.flatMap(({ passed }) => passed);
const counts = new Map(['sqlite', 'postgres', ...MARIADB].map((database) => [database, on(all, database)]));
counts.set('PgBouncer', all.filter((test) => test.includes('PgBouncer')).length);
counts.set('the Django receiver', all.filter((test) => /django/i.test(test)).length);
counts.set('the PHP receiver', all.filter((test) => /\bphp\b/i.test(test)).length);
for (const [what, count] of counts) {
  console.error(`${what}: ${count} tests passed`);
  if (count === 0) problems.push(`no test of ${what} passed`);
}

if (problems.length > 0) {
  console.error(problems.join('\n'));
  process.exitCode = 1;
}
const { numPassedTests, numFailedTests, numPendingTests } = report;
const skipped = numPendingTests > 0 ? `, ${numPendingTests} skipped` : '';
console.log(`${numPassedTests} passed, ${numFailedTests} failed${skipped}`);
