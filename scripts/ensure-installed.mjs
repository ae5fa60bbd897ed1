// Makes `npm run demo` and `npm test` the only command a fresh clone needs: runs `npm ci` when nothing is installed, when
// package-lock.json has moved since, or when this Node.js cannot load what was compiled for another (better-sqlite3).
//
// Uses nothing but Node.js, since it runs before anything is installed. `--record` is the root package's postinstall: so
// an `npm ci` or `npm install` by hand counts, too.
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
  // The ABI that native add-ons are compiled for; it moves with Node's major version.
  nodeModuleVersion: process.versions.modules,
  platform: `${process.platform}-${process.arch}`,
});

if (process.argv.includes('--record')) {
  if (existsSync(modules)) writeFileSync(stamp, wanted);
} else {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19)) {
    fail(`Node.js 20.19 or newer is needed; this is ${process.versions.node}.`);
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
  if (!existsSync(stamp)) return 'node_modules was not completely installed';
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
  // The npm that runs this script, not another one that happens to be first in PATH.
  const running = process.env.npm_execpath;
  const npm = running && /^npm-cli\.c?js$/.test(basename(running)) ? [process.execPath, running] : ['npm'];
  // Without npm's warnings: a page about packages that ask for a newer Node.js than 20 and run on it all the same.
  const { status, error } = spawnSync(npm[0], [...npm.slice(1), 'ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: root,
    // stdout belongs to the command that follows.
    stdio: ['ignore', process.stderr, process.stderr],
    shell: npm.length === 1 && process.platform === 'win32',
  });
  if (status !== 0) fail(`npm ci failed${error ? `: ${error.message}` : ''}; its message stands above.`);
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
