// Runs `npm ci` if necessary, so that a fresh clone needs only one command, `npm run demo` or `npm test`. It is necessary when nothing
// is installed, when package-lock.json has changed, or when native add-ons (better-sqlite3) were compiled for another Node.js.
//
// Uses only Node.js, because it runs before anything is installed. The root package's postinstall calls it with `--record`, so that an
// `npm ci` or `npm install` by hand counts, too.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const modules = join(root, 'node_modules');
const stamp = join(modules, '.installed-for.json');

const wanted = JSON.stringify({
  lock: createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex'),
  // The ABI of native add-ons, which changes with Node's major version.
  nodeModuleVersion: process.versions.modules,
  platform: `${process.platform}-${process.arch}`,
});

if (process.argv.includes('--record')) {
  if (existsSync(modules)) writeFileSync(stamp, wanted);
} else {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19)) {
    fail(`This is Node.js ${process.versions.node}. Install Node.js 20.19 or newer.`);
  }
  const reason = whyInstall();
  if (reason) {
    console.error(`Installing the dependencies: ${reason}. Compiling SQLite may take a minute.`);
    install();
    writeFileSync(stamp, wanted);
  }
}

/** @returns {string | undefined} */
function whyInstall() {
  if (!existsSync(modules)) return 'node_modules is missing';
  if (!existsSync(stamp)) return 'the last installation is incomplete';
  const found = readFileSync(stamp, 'utf8');
  if (found === wanted) return undefined;
  const before = parse(found);
  const now = JSON.parse(wanted);
  if (before.lock !== now.lock) return 'package-lock.json has changed';
  if (before.nodeModuleVersion !== now.nodeModuleVersion) {
    return `they were compiled for another Node.js than ${process.versions.node}`;
  }
  return 'they were installed for another platform';
}

function install() {
  // Use the npm that runs this script: PATH may contain another npm.
  const running = process.env.npm_execpath;
  const npm = running && /^npm-cli\.c?js$/.test(basename(running)) ? [process.execPath, running] : ['npm'];
  // Hide npm's warnings, a page about packages that declare a newer Node.js than 20 but run on it.
  const { status, error } = spawnSync(npm[0], [...npm.slice(1), 'ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: root,
    // stdout belongs to the command that follows.
    stdio: ['ignore', process.stderr, process.stderr],
    shell: npm.length === 1 && process.platform === 'win32',
  });
  if (status !== 0) fail(`npm ci failed${error ? `: ${error.message}` : ''}. See the output of npm above.`);
}

/** @param {string} text */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

/** @param {string} message */
function fail(message) {
  console.error(message);
  process.exit(1);
}
