// Runs all checks that a change must pass, and prints one line per step. Stops at the first failed step, and prints its output.
//
//   npm run verify
//   npm run verify -- --skip tests          (names, separated by commas; CI runs the tests in another job)
//   npm run verify -- --only lint,types
//   npm run verify -- --keep-going          (runs the other steps after a failed step, too, as CI does)
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { parseArgs, stripVTControlCharacters } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));
const bin = (/** @type {string} */ name, /** @type {string[]} */ ...args) => [
  process.execPath,
  join(root, 'node_modules', name),
  ...args,
];
const npmRun = (/** @type {string} */ script) =>
  process.env.npm_execpath
    ? [process.execPath, process.env.npm_execpath, 'run', '--silent', script]
    : ['npm', 'run', '--silent', script];

/** @type {{ name: string, what: string, command: string[], summary?: RegExp }[]} `summary`: lines of the output to print after success */
const steps = [
  { name: 'format', what: 'formatting, by prettier', command: npmRun('format:check') },
  { name: 'words', what: 'no word of the old vocabulary', command: npmRun('words') },
  { name: 'spelling', what: 'of documents and code', command: npmRun('spelling') },
  { name: 'lint', what: 'oxlint with types, reasons of exceptions', command: npmRun('lint') },
  { name: 'types', what: 'type check', command: npmRun('typecheck') },
  { name: 'arrows', what: 'which folder imports which', command: npmRun('arrows') },
  { name: 'types03', what: 'type check on TypeORM 0.3', command: npmRun('typecheck:typeorm-0.3') },
  { name: 'unused', what: 'files and exports that nobody uses', command: npmRun('unused') },
  { name: 'build', what: 'library and demo', command: npmRun('build') },
  {
    name: 'tests',
    what: 'all tests',
    command: bin('vitest/vitest.mjs', 'run'),
    summary: /^\s+(Test Files|Tests|Databases) /,
  },
  {
    name: 'import',
    what: 'every entry point of the built package',
    command: [process.execPath, 'scripts/import-built.mjs'],
  },
  { name: 'pack', what: 'the tarball in five applications', command: [process.execPath, 'scripts/pack-test.mjs'] },
];

const { values } = parseArgs({
  options: { skip: { type: 'string' }, only: { type: 'string' }, 'keep-going': { type: 'boolean', default: false } },
});
const skipped = stepNames(values.skip);
const only = stepNames(values.only);
const chosen = steps.filter(({ name }) => !skipped.includes(name) && (only.length === 0 || only.includes(name)));

const began = performance.now();
/** @type {string[]} */
const failed = [];
for (const { name, what, command, summary } of chosen) {
  const start = performance.now();
  const { status, output } = await run(command);
  const label = `${name.padEnd(8)} ${what.padEnd(40)} ${seconds(start)}`;
  if (status !== 0) {
    console.log(`✗ ${label}\n\n${output.trimEnd()}\n\n"${name}" failed (${command.slice(0, 4).join(' ')} …)`);
    failed.push(name);
    if (values['keep-going']) continue;
    break;
  }
  console.log(`✓ ${label}`);
  for (const line of summary ? output.split('\n') : []) {
    if (summary?.test(stripVTControlCharacters(line))) console.log(`  ${line.trim()}`);
  }
}
if (failed.length > 0) {
  console.log(`verify: failed at ${failed.join(', ')}`);
  process.exit(1);
}
const left = steps.filter((step) => !chosen.includes(step)).map(({ name }) => name);
console.log(`verify: passed in ${seconds(began).trim()}${left.length > 0 ? `, without ${left.join(', ')}` : ''}`);

/**
 * @param {string[]} command
 * @returns {Promise<{ status: number | null, output: string }>}
 */
function run([file = '', ...args]) {
  return new Promise((resolve) => {
    const child = spawn(file, args, {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      shell: file === 'npm' && process.platform === 'win32',
    });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text) => (output += text));
    child.stderr.setEncoding('utf8').on('data', (text) => (output += text));
    child.on('error', (error) => resolve({ status: 1, output: `${output}${error.message}\n` }));
    child.on('close', (status) => resolve({ status, output }));
  });
}

/** @param {string | undefined} list */
function stepNames(list) {
  const names = (list ?? '').split(',').filter(Boolean);
  for (const name of names) {
    if (!steps.some((step) => step.name === name)) {
      console.error(`Unknown step "${name}". Allowed: ${steps.map((step) => step.name).join(', ')}.`);
      process.exit(2);
    }
  }
  return names;
}

/** @param {number} since */
function seconds(since) {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`.padStart(8);
}
