// Prints the suites of a JSON report of vitest that failed, separated by spaces. Fails if none failed, or more than three: then the code is
// wrong, not the moment.
import { readFileSync } from 'node:fs';
import { relative } from 'node:path';

const MOST = 3;

/** @type {{ testResults: { name: string, status: string }[] }} */
const { testResults } = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8'));
const failed = testResults.filter(({ status }) => status === 'failed').map(({ name }) => relative(process.cwd(), name));
console.log(failed.join(' '));
if (failed.length === 0 || failed.length > MOST) process.exitCode = 1;
