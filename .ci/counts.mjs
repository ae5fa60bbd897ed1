// Reads vitest's JSON reports (of `npm test`, `npm run test:browser` and `npm run test:network`) and prints `N passed, N failed` on stdout. On stderr it names
// each test that failed, and each that failed first and passed when it was repeated. Fails if a test failed, or if a suite that needs
// something from outside (a server, a language) passed no test: it may have been left out in silence. The results of FILE.alone replace
// those of the same suites in FILE: these suites failed, and ran again alone.
import { existsSync, readFileSync } from 'node:fs';
import { relative } from 'node:path';

/**
 * @typedef {{ status: string, fullName: string, failureMessages: string[] }} TestResult
 * @typedef {{ success: boolean, testResults: { name: string, message: string, assertionResults: TestResult[] }[] }} Report
 */

/** @returns {Report} */
const read = (/** @type {string} */ file) => JSON.parse(readFileSync(file, 'utf8'));

/** The report of a run, with the results of the suites that ran again alone. */
function reportOf(/** @type {string} */ file) {
  const report = read(file);
  if (!existsSync(`${file}.alone`)) return report;
  const alone = read(`${file}.alone`);
  const repeated = new Set(alone.testResults.map(({ name }) => name));
  for (const { name, message, assertionResults } of report.testResults) {
    if (!repeated.has(name)) continue;
    console.error(`ran again alone: ${relative(process.cwd(), name)}, because of`);
    const failures = assertionResults.filter(({ status }) => status === 'failed');
    const reasons = failures.map(
      ({ fullName, failureMessages }) => `${fullName}\n    ${firstLine(failureMessages[0])}`,
    );
    for (const reason of message === '' ? reasons : [message, ...reasons]) console.error(`  ${reason}`);
  }
  const others = report.testResults.filter(({ name }) => !repeated.has(name));
  return { success: alone.success, testResults: [...others, ...alone.testResults] };
}

const firstLine = (/** @type {string | undefined} */ text) => text?.split('\n', 1)[0] ?? '';

const reports = process.argv.slice(2).map(reportOf);
const testResults = reports.flatMap((report) => report.testResults);
const files = testResults.map(({ name, assertionResults }) => ({
  name: relative(process.cwd(), name),
  passed: assertionResults.filter(({ status }) => status === 'passed').map(({ fullName }) => fullName),
}));
const problems = reports.every(({ success }) => success) ? [] : ['a test failed'];

for (const { name, message, assertionResults } of testResults) {
  const file = relative(process.cwd(), name);
  if (message !== '') console.error(`failed: ${file}\n  ${message}`);
  for (const { status, fullName, failureMessages } of assertionResults) {
    // vitest keeps the errors of a first attempt, also when the second one passes.
    const [reason] = failureMessages;
    if (reason === undefined) continue;
    const outcome = status === 'passed' ? 'passed only when it was repeated' : status;
    console.error(`${outcome}: ${file} > ${fullName}\n  ${firstLine(reason)}`);
  }
}

/** Tests of this database carry its name, as in `describeDatabases`; vitest puts what it fills in between quotes. */
const on = (/** @type {string[]} */ tests, /** @type {string} */ database) =>
  tests.filter((test) => test.includes(`('${database}')`) || test.includes(`(${database})`)).length;
const MARIADB = ['mariadb', 'mysql2'];
/** What they do to a server takes seconds, and the server is the same whichever driver speaks to it. */
const BY_ONE_DRIVER = ['test/crash/crash.spec.ts', 'test/faults/database.spec.ts'];
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
const inBrowser = files.filter(({ name }) => name.startsWith('test/dashboard/browser/'));
counts.set('the browser', inBrowser.flatMap(({ passed }) => passed).length);
const inNetworks = files.filter(({ name }) => name.startsWith('test/network/')).flatMap(({ passed }) => passed);
for (const database of ['postgres', 'mariadb']) counts.set(`networks on ${database}`, on(inNetworks, database));
for (const [what, count] of counts) {
  console.error(`${what}: ${count} tests passed`);
  if (count === 0) problems.push(`no test of ${what} passed`);
}

if (problems.length > 0) {
  console.error(problems.join('\n'));
  process.exitCode = 1;
}
const statuses = testResults.flatMap(({ assertionResults }) => assertionResults.map(({ status }) => status));
const count = (/** @type {string[]} */ ...of) => statuses.filter((status) => of.includes(status)).length;
const left = count('pending', 'skipped', 'todo');
console.log(`${count('passed')} passed, ${count('failed')} failed${left > 0 ? `, ${left} skipped` : ''}`);
