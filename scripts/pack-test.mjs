// Packs the library as `npm publish` does, and installs the tarball into three temporary applications: one with the lowest version of every
// peer's range, one with the lowest TypeORM 1.x, one with the highest. Each application compiles `test/pack/main.ts` against the package's
// types, and runs it. Neither has an optional peer: code or types that need one fail here, as they would fail for a user.
//
// Two more applications run the test in `test/pack/suite`: Nest 11 and TypeORM 0.3 in CommonJS with jest, installed by npm, and Nest 12 and
// TypeORM 1.x in ES modules with vitest, installed by pnpm, which lets a package see its own dependencies only.
//
//   node scripts/pack-test.mjs               highest = the versions in package-lock.json
//   node scripts/pack-test.mjs --latest      highest = the newest versions in the registry: shows whether a new release breaks something
//   node scripts/pack-test.mjs --keep        does not delete the applications
//   node scripts/pack-test.mjs --only NAME   one application: lowest, lowest-typeorm-1, highest, commonjs-jest or esm-vitest
//
// The lock file is the default, so that a new release of another package never fails an unrelated change.
import { spawn } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { builtinModules } from 'node:module';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import ts from 'typescript';

const root = fileURLToPath(new URL('..', import.meta.url));
const library = join(root, 'libs/webhooks');
const manifest = readJson(join(library, 'package.json'));
const lock = readJson(join(root, 'package-lock.json'));
const requiredPeers = Object.entries(manifest.peerDependencies).filter(
  ([name]) => !manifest.peerDependenciesMeta?.[name]?.optional,
);
const optionalPeers = Object.keys(manifest.peerDependencies).filter(
  (name) => !requiredPeers.some(([required]) => required === name),
);

/** Entry points that are only for applications with an optional peer. Their types may import it. */
const PEERS_OF_ENTRIES = new Map([
  ['otel', '@opentelemetry/api'],
  ['terminus', '@nestjs/terminus'],
  ['bullmq', 'bullmq'],
]);

/** The platforms on which the applications receive webhooks. They are no peers of the library. Fastify before 11.0.3 needs Nest 10. */
const PLATFORMS = [
  ['@nestjs/platform-express', '^11.0.0 || ^12.0.0'],
  ['@nestjs/platform-fastify', '^11.0.3 || ^12.0.0'],
];

/** The applications need no install scripts, and none should be trusted. */
const QUIET = ['--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error'];

/** The last Nest in CommonJS, with the test packages of its `nest new`. Not in the lock file, because the root has Nest 12. */
const NEST_11 = {
  '@nestjs/axios': '4.0.1',
  '@nestjs/common': '11.2.10',
  '@nestjs/core': '11.2.10',
  '@nestjs/event-emitter': '3.1.0',
  '@nestjs/platform-express': '11.2.10',
  '@nestjs/testing': '11.2.6',
  '@nestjs/typeorm': '11.0.3',
  '@types/node': lockedVersion('@types/node'),
  axios: lockedVersion('axios'),
  'class-validator': '0.14.4',
  jest: '30.5.2',
  'reflect-metadata': lockedVersion('reflect-metadata'),
  rxjs: lockedVersion('rxjs'),
  'ts-jest': '29.4.15',
  typeorm: lockedVersion('typeorm-0.3'),
  typescript: '5.9.3',
};
/** TypeORM 1.x begins here, and the first @nestjs/typeorm that takes it. */
const LOWEST_TYPEORM_1 = /** @type {Record<string, string>} */ ({ typeorm: '1.1.0', '@nestjs/typeorm': '11.0.1' });
/** Values of `--module` and `--moduleResolution` for applications that compile to `require()`. */
const COMMONJS_MODULES = [
  ['commonjs', 'node10'],
  ['node16', 'node16'],
  ['nodenext', 'nodenext'],
];
/** The last major that runs on Node.js 20. */
const PNPM = '10.34.8';

const { values } = parseArgs({
  options: {
    latest: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    only: { type: 'string' },
  },
});
const scratch = mkdtempSync(join(tmpdir(), 'webhooks-pack-'));
try {
  const applications = [
    application('lowest', (_name, range) => lowestOf(range), ['0.2.45', '0.3.24']),
    application('lowest-typeorm-1', (name, range) => LOWEST_TYPEORM_1[name] ?? lowestOf(range), ['1.0.0']),
    application('highest', (name, range) => (values.latest ? highestRangeOf(range) : lockedVersion(name))),
  ];
  const trials = chosen({
    ...Object.fromEntries(
      applications.map((app) => [app.name, (/** @type {string} */ tarball) => tryOut(app, tarball)]),
    ),
    'commonjs-jest': tryJest,
    'esm-vitest': tryVitest,
  });
  const tarball = await pack();
  if (values.only === undefined) await lint(tarball);
  // In parallel, because most of the time is spent waiting for the registry.
  const results = await Promise.allSettled(trials.map((trial) => trial(tarball)));
  for (const result of results) {
    if (result.status === 'rejected') {
      console.error(`✗ ${result.reason instanceof Error ? result.reason.message : String(result.reason)}`);
      process.exitCode = 1;
    } else {
      console.log(`✓ ${result.value}`);
    }
  }
} catch (error) {
  console.error(`✗ ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
} finally {
  if (values.keep) console.log(`kept ${scratch}`);
  else rmSync(scratch, { recursive: true, force: true });
}

/**
 * The trials that `--only` leaves.
 *
 * @param {Record<string, (tarball: string) => Promise<string>>} trials
 */
function chosen(trials) {
  const { only } = values;
  if (only === undefined) return Object.values(trials);
  const trial = trials[only];
  if (!trial) throw new Error(`Invalid value '${only}' for --only. Allowed: ${Object.keys(trials).join(', ')}.`);
  return [trial];
}

/** @returns {Promise<string>} the tarball's path */
async function pack() {
  const output = await succeed('npm pack', npm('pack', '--json', '--pack-destination', scratch), library);
  const packed = JSON.parse(output.slice(output.search(/^[[{]/m)));
  // npm 12 prints an object with package names as keys, npm 11 and older print a list.
  const { filename, files, size } = Array.isArray(packed) ? packed[0] : Object.values(packed)[0];
  const paths = files.map((/** @type {{ path: string }} */ file) => file.path);
  const pages = readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.md'),
  );
  const documents = ['README.md', 'LICENSE', 'CHANGELOG.md', 'SECURITY.md', ...pages.map((page) => `docs/${page}`)];
  for (const wanted of [
    ...documents,
    'dist/index.js',
    'dist/index.d.ts',
    'dist/ui/manifest.json',
    'dist/ui/THIRD-PARTY-NOTICES.txt',
    'dist/ui/embed.js',
  ]) {
    if (!paths.includes(wanted)) throw new Error(`the tarball has no ${wanted}`);
  }
  const stray = paths.filter((/** @type {string} */ path) => /\.spec\.|(^|\/)(src|test)\//.test(path));
  if (stray.length > 0) throw new Error(`the tarball should not have ${stray.join(', ')}`);
  console.log(`✓ packed ${filename}: ${paths.length} files, ${Math.ceil(size / 1024)} KiB`);
  return join(scratch, filename);
}

/**
 * Reads the tarball as bundlers and compilers would. Both tools find what `dist/commonjs` is there for: the types of `require` say CommonJS,
 * and the code is an ES module, which Node.js 20.19 and newer give to `require()` (scripts/commonjs-types.mjs). All else fails.
 *
 * @param {string} tarball
 */
async function lint(tarball) {
  const { messages } = await publint({ pack: { tarball: bytesOf(tarball) }, strict: true });
  const wrong = messages.filter(({ code }) => code !== 'EXPORTS_TYPES_INVALID_FORMAT');
  if (wrong.length > 0) throw new Error(`publint:\n  ${wrong.map((one) => formatMessage(one, manifest)).join('\n  ')}`);
  const attw = join(root, 'node_modules/@arethetypeswrong/cli/dist/index.js');
  const ignored = ['--ignore-rules', 'false-cjs', 'cjs-resolves-to-esm'];
  await succeed('attw', [process.execPath, attw, tarball, ...ignored, '--no-color', '--no-emoji'], root);
  console.log('✓ publint and attw find nothing');
}

/**
 * @param {string} name
 * @param {(name: string, range: string) => string} versionOf
 * @param {readonly string[]} refused versions of TypeORM that are not supported
 */
function application(name, versionOf, refused = []) {
  const peers = Object.fromEntries(requiredPeers.map(([peer, range]) => [peer, versionOf(peer, range)]));
  const platforms = Object.fromEntries(PLATFORMS.map(([platform, range]) => [platform, versionOf(platform, range)]));
  return { name, folder: join(scratch, name), peers, platforms, refused };
}

/**
 * @param {ReturnType<typeof application>} app
 * @param {string} tarball
 * @returns {Promise<string>} a summary to print
 */
async function tryOut({ name, folder, peers, platforms, refused }, tarball) {
  mkdirSync(folder);
  for (const file of ['main.ts', 'start.mjs', 'tsconfig.json'])
    cpSync(join(root, 'test/pack', file), join(folder, file));
  const dependencies = { ...peers, ...platforms, 'reflect-metadata': '^0.2.0', [manifest.name]: `file:${tarball}` };
  const devDependencies = { '@types/node': lockedVersion('@types/node') };
  writeFileSync(
    join(folder, 'package.json'),
    JSON.stringify({ name: `pack-test-${name}`, private: true, type: 'module', dependencies, devDependencies }),
  );
  await succeed(`${name}: npm install`, npm('install', ...QUIET), folder);
  for (const optional of optionalPeers) {
    if (readdirSync(join(folder, 'node_modules')).includes(optional)) {
      throw new Error(`${name}: the optional peer ${optional} is installed, so this application proves nothing`);
    }
  }
  lendDriver(folder);

  checkSpecifiers(name, join(folder, 'node_modules', manifest.name, 'dist'));
  await compile(name, folder);
  const output = await succeed(`${name}: run`, [process.execPath, 'dist/main.js', join(folder, 'app.sqlite')], folder);
  const versions = Object.keys(peers).map((peer) => `${peer} ${installedVersion(folder, peer)}`);
  for (const version of refused) await startRefused(name, folder, version);
  const refusing = refused.length ? `; TypeORM ${refused.join(' and ')} refused` : '';
  return `${name}: ${output.trim().split('\n').at(-1)}${refusing}\n    ${versions.join(', ')}`;
}

/**
 * A version of TypeORM that is not supported: the start is refused by name.
 *
 * @param {string} name
 * @param {string} folder
 * @param {string} version
 */
async function startRefused(name, folder, version) {
  const install = npm('install', ...QUIET, '--no-save', '--legacy-peer-deps', `typeorm@${version}`);
  await succeed(`${name}: npm install typeorm@${version}`, install, folder);
  lendDriver(folder);
  const said = await succeed(`${name}: start with TypeORM ${version}`, [process.execPath, 'start.mjs'], folder);
  if (!said.startsWith(`TYPEORM_UNSUPPORTED TypeORM ${version} is installed (`)) {
    throw new Error(`${name}: TypeORM ${version} is not refused as it should be, but: ${said}`);
  }
}

/**
 * An application as `nest new` of Nest 11 creates it, with one more line for jest; see docs/installing.md.
 *
 * @param {string} tarball
 * @returns {Promise<string>} a summary to print
 */
async function tryJest(tarball) {
  const name = 'commonjs-jest';
  const folder = suite(name, 'commonjs', NEST_11, tarball, 'commonjs');
  await succeed(`${name}: npm install`, npm('install', ...QUIET), folder);
  lendDriver(folder);
  const bin = (/** @type {string} */ path) => [process.execPath, join(folder, 'node_modules', path)];
  for (const [module, resolution] of COMMONJS_MODULES) {
    const options = ['-p', '.', '--module', module, '--moduleResolution', resolution, '--ignoreDeprecations', '5.0'];
    await succeed(`${name}: tsc --module ${module}`, [...bin('typescript/bin/tsc'), ...options], folder);
    await succeed(`${name}: run as ${module}`, [process.execPath, 'dist/main.js'], folder);
  }
  await succeed(`${name}: jest`, [...bin('jest/bin/jest.js'), '--config', 'jest.config.json'], folder);
  return `${name}: compiled as ${COMMONJS_MODULES.map(([module]) => module).join(', ')}; jest passes on Node.js ${process.versions.node} with Nest ${installedVersion(folder, '@nestjs/core')} and TypeORM ${installedVersion(folder, 'typeorm')}`;
}

/**
 * @param {string} tarball
 * @returns {Promise<string>} a summary to print
 */
async function tryVitest(tarball) {
  const name = 'esm-vitest';
  const locked = [
    '@nestjs/platform-express',
    '@nestjs/testing',
    'reflect-metadata',
    'vitest',
    'typescript',
    '@types/node',
  ];
  const versions = Object.fromEntries(
    [...requiredPeers.map(([peer]) => peer), ...locked].map((one) => [one, lockedVersion(one)]),
  );
  const folder = suite(name, 'vitest', versions, tarball, 'module');
  const pnpm = npm('exec', '--yes', `--package=pnpm@${PNPM}`, '--', 'pnpm');
  await succeed(
    `${name}: pnpm install`,
    [...pnpm, 'install', '--ignore-scripts', '--prefer-offline', '--reporter=silent'],
    folder,
  );
  lendDriver(folder);
  const bin = (/** @type {string} */ path) => [process.execPath, join(folder, 'node_modules', path)];
  await succeed(`${name}: tsc`, [...bin('typescript/bin/tsc'), '-p', '.'], folder);
  await succeed(`${name}: vitest`, [...bin('vitest/vitest.mjs'), 'run'], folder);
  return `${name}: vitest passes with Nest ${installedVersion(folder, '@nestjs/core')} and TypeORM ${installedVersion(folder, 'typeorm')}, installed by pnpm ${PNPM}`;
}

/**
 * An application with the test of `test/pack/suite`.
 *
 * @param {string} name
 * @param {string} configuration the name of a folder in `test/pack`
 * @param {Readonly<Record<string, string>>} versions
 * @param {string} tarball
 * @param {'module' | 'commonjs'} type
 */
function suite(name, configuration, versions, tarball, type) {
  const folder = join(scratch, name);
  cpSync(join(root, 'test/pack', configuration), folder, { recursive: true });
  mkdirSync(join(folder, 'src'));
  if (configuration === 'commonjs') renameSync(join(folder, 'main.ts'), join(folder, 'src/main.ts'));
  cpSync(join(root, 'test/pack/suite/order.entity.ts'), join(folder, 'src/order.entity.ts'));
  cpSync(join(root, 'test/pack/suite/orders.ts'), join(folder, 'src/order.spec.ts'));
  const dependencies = { ...versions, [manifest.name]: `file:${tarball}` };
  writeFileSync(
    join(folder, 'package.json'),
    JSON.stringify({ name: `pack-test-${name}`, private: true, type, dependencies }),
  );
  return folder;
}

/**
 * Links the root's SQLite driver into the application, because compiling another one takes a minute.
 *
 * @param {string} folder
 */
function lendDriver(folder) {
  rmSync(join(folder, 'node_modules/better-sqlite3'), { force: true });
  symlinkSync(join(root, 'node_modules/better-sqlite3'), join(folder, 'node_modules/better-sqlite3'), 'junction');
}

/**
 * Types may import only modules that every user has: required peers, dependencies, Node.js. Types of an entry point for an optional peer may
 * also import this peer.
 *
 * @param {string} name
 * @param {string} dist
 */
function checkSpecifiers(name, dist) {
  const allowed = new Set([...Object.keys(manifest.dependencies), ...requiredPeers.map(([peer]) => peer)]);
  const leaks = [];
  for (const file of readdirSync(dist, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.d.ts')) continue;
    const { importedFiles, typeReferenceDirectives } = ts.preProcessFile(readFileSync(join(dist, file), 'utf8'));
    for (const { fileName } of [...importedFiles, ...typeReferenceDirectives]) {
      if (fileName.startsWith('.') || fileName.startsWith('node:') || builtinModules.includes(fileName)) continue;
      const packageName = fileName
        .split('/')
        .slice(0, fileName.startsWith('@') ? 2 : 1)
        .join('/');
      const [folder = ''] = file.replace(/^commonjs\//, '').split('/');
      if (!allowed.has(packageName) && PEERS_OF_ENTRIES.get(folder) !== packageName)
        leaks.push(`${file} imports ${fileName}`);
    }
  }
  if (leaks.length > 0) {
    throw new Error(`${name}: the types import packages that a user may not have installed:\n  ${leaks.join('\n  ')}`);
  }
}

/**
 * Compiles with `skipLibCheck` off, so that this package's types are checked, too. Ignores errors in the types of other packages: an
 * old release of a peer was never compiled with today's TypeScript.
 *
 * @param {string} name
 * @param {string} folder
 */
async function compile(name, folder) {
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const { status, output } = await run([process.execPath, tsc, '-p', '.', '--pretty', 'false'], folder);
  const errors = output.split('\n').filter((line) => /: error TS\d+:|^error TS\d+:/.test(line));
  const ours = errors.filter(
    (line) => !line.startsWith('node_modules/') || line.startsWith(`node_modules/${manifest.name}/`),
  );
  // A compiler that fails without a known error line has failed, too.
  if (ours.length > 0 || (status !== 0 && errors.length === 0)) {
    throw new Error(
      `${name}: does not compile against the package's types:\n${(ours.length ? ours.join('\n') : output).trim()}`,
    );
  }
}

/** @param {string} range such as `^11.0.0 || ^12.0.0` */
function lowestOf(range) {
  const first = (range.split('||')[0] ?? '').trim();
  const version = /^\^?(\d+\.\d+\.\d+)$/.exec(first)?.[1];
  if (version === undefined)
    throw new Error(
      `Invalid peer range "${range}". Allowed: ^x.y.z, because this script reads the lowest version from it.`,
    );
  return version;
}

/** @param {string} range */
function highestRangeOf(range) {
  return (range.split('||').at(-1) ?? '').trim();
}

/** @param {string} name */
function lockedVersion(name) {
  const version = lock.packages[`node_modules/${name}`]?.version;
  if (version === undefined)
    throw new Error(`package-lock.json does not contain ${name}. Add it to the devDependencies of the root.`);
  return version;
}

/**
 * @param {string} folder
 * @param {string} name
 */
function installedVersion(folder, name) {
  return readJson(join(folder, 'node_modules', name, 'package.json')).version;
}

/** @param {string[]} args */
function npm(...args) {
  const running = process.env.npm_execpath;
  return running?.endsWith('.js') ? [process.execPath, running, ...args] : ['npm', ...args];
}

/**
 * @param {string} what
 * @param {string[]} command
 * @param {string} cwd
 */
async function succeed(what, command, cwd) {
  const { status, output, stdout } = await run(command, cwd);
  if (status !== 0) throw new Error(`${what} failed in ${relative(root, cwd) || '.'}:\n${output.trim()}`);
  return stdout;
}

/**
 * @param {string[]} command
 * @param {string} cwd
 * @returns {Promise<{ status: number | null, output: string, stdout: string }>}
 */
function run([file = '', ...args], cwd) {
  return new Promise((resolve) => {
    const child = spawn(file, args, {
      cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
      shell: file === 'npm' && process.platform === 'win32',
    });
    let output = '';
    let stdout = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
      output += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => (output += text));
    child.on('error', (error) => resolve({ status: 1, output: `${output}${error.message}`, stdout }));
    child.on('close', (status) => resolve({ status, output, stdout }));
  });
}

/** @param {string} path */
function bytesOf(path) {
  return new Uint8Array(readFileSync(path)).buffer;
}

/** @param {string} path */
function readJson(path) {
  return JSON.parse(readFileSync(path, 'utf8'));
}
