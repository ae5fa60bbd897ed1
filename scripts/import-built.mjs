// Loads every entry point of the built package as a user would, by `import` and by `require`, each in a separate process: a cycle
// between modules shows only in the entry point that is loaded first, and never in tests of the sources. Each entry point must load
// and must have exports, none of them undefined, and the same exports in both ways.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));
const { name, exports } = JSON.parse(readFileSync(new URL('../libs/webhooks/package.json', import.meta.url), 'utf8'));

const LIST = `
  const empty = Object.keys(loaded).filter((key) => loaded[key] === undefined);
  if (empty.length > 0) throw new Error('undefined exports: ' + empty.join(', '));
  process.stdout.write(JSON.stringify(Object.keys(loaded).filter((key) => key !== 'module.exports').sort()));`;
const WAYS = {
  import: ['--input-type=module', (/** @type {string} */ entry) => `const loaded = await import('${entry}');${LIST}`],
  require: ['--input-type=commonjs', (/** @type {string} */ entry) => `const loaded = require('${entry}');${LIST}`],
};

let failed = 0;
for (const path of Object.keys(exports)) {
  const entry = name + path.slice(1);
  const [imported, required] = await Promise.all([load('import', entry), load('require', entry)]);
  if (imported === undefined || required === undefined) continue;
  if (imported !== required) {
    fail(`${entry}: import gives ${imported}, require gives ${required}`);
  } else if (imported === '[]') {
    fail(`${entry} exports nothing`);
  } else {
    console.log(`✓ ${entry}: ${JSON.parse(imported).length} exports`);
  }
}
process.exitCode = failed > 0 ? 1 : 0;

/**
 * @param {'import' | 'require'} way
 * @param {string} entry
 */
async function load(way, entry) {
  if (entry.endsWith('.json')) {
    // Tools read package.json by its path. `import` would need an attribute with different syntax in Node.js 20 and 24.
    return JSON.stringify(Object.keys(JSON.parse(readFileSync(new URL(import.meta.resolve(entry)), 'utf8'))));
  }
  const [type, program] = WAYS[way];
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [type, '--eval', program(entry)], { cwd: root });
    return stdout;
  } catch (error) {
    fail(`${way} ${entry}:\n${error.stderr || error.message}`);
    return undefined;
  }
}

/** @param {string} message */
function fail(message) {
  failed += 1;
  console.error(`✗ ${message}`);
}
