// Loads every entry point of the built package as a user would, by `import` and by `require`, each in a separate process: a cycle
// between modules shows only in the entry point that is loaded first, and never in tests of the sources. Each entry point must load
// and must have exports, none of them undefined, and the same exports in both ways.
//
// It also pins what each entry point loads: the number of our files, and the packages. A receiver must load neither the core nor undici.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import ts from 'typescript';

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

/**
 * The most files that each entry point loads, and its packages. Raise a number only for what the entry point needs, and name a package
 * only if its users need it. The core may grow: its number is there for an entry point that would pull in a second one.
 *
 * @type {Readonly<Record<string, { files: number, packages: string[] }>>}
 */
const CLOSURES = {
  '.': {
    files: 409,
    packages: [
      '@nestjs/axios',
      '@nestjs/common',
      '@nestjs/core',
      '@nestjs/event-emitter',
      '@nestjs/typeorm',
      'axios',
      'class-validator',
      'ipaddr.js',
      'sql-template-tag',
      'typeorm',
      'undici',
      'uuid',
    ],
  },
  './testing': { files: 51, packages: ['@nestjs/typeorm', 'sql-template-tag', 'typeorm'] },
  './receiver': { files: 25, packages: [] },
  './receiver/nest': {
    files: 63,
    packages: ['@nestjs/common', '@nestjs/core', '@nestjs/event-emitter', '@nestjs/typeorm', 'rxjs', 'typeorm'],
  },
  // The view routes an event in flight again, and reads which deliveries have a row.
  './verify': { files: 46, packages: ['@nestjs/common', '@nestjs/core', 'sql-template-tag'] },
  './api': {
    files: 123,
    packages: ['@nestjs/common', '@nestjs/core', 'ipaddr.js', 'jose', 'sql-template-tag', 'undici', 'uuid'],
  },
  './dashboard': { files: 19, packages: ['@nestjs/common', '@nestjs/core'] },
  './client': { files: 4, packages: [] },
  './otel': { files: 36, packages: ['@nestjs/common', '@opentelemetry/api', 'sql-template-tag', 'uuid'] },
  './terminus': { files: 6, packages: ['@nestjs/common', '@nestjs/core', '@nestjs/terminus'] },
  './bullmq': { files: 15, packages: ['@nestjs/common', 'bullmq'] },
  './migrations': { files: 52, packages: ['sql-template-tag', 'typeorm'] },
  './catalog': { files: 52, packages: ['typeorm'] },
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
    const closure = entry.endsWith('.json') ? '' : checkedClosure(path, entry);
    if (closure !== undefined) console.log(`✓ ${entry}: ${JSON.parse(imported).length} exports${closure}`);
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

/**
 * @param {string} path as `exports` has it
 * @param {string} entry
 * @returns what to say of it; `undefined` if it is not as pinned
 */
function checkedClosure(path, entry) {
  const { files, packages } = closureOf(fileURLToPath(import.meta.resolve(entry)));
  const pinned = CLOSURES[path];
  if (pinned && files.size <= pinned.files && pinned.packages.join() === packages.join()) {
    return `, ${files.size} files, ${packages.length > 0 ? packages.join(' ') : 'no package'}`;
  }
  fail(
    `${entry} loads ${files.size} files and [${packages.join(', ')}]; pinned are at most ${pinned?.files} and [${pinned?.packages.join(', ')}]. ` +
      `If it needs them, change CLOSURES in scripts/import-built.mjs. It loads:\n  ${[...files].join('\n  ')}`,
  );
  return undefined;
}

/**
 * What is loaded with a file: by its imports, and theirs. Not what is imported by a call of `import()`, which waits until it is needed.
 *
 * @param {string} first
 */
function closureOf(first) {
  const files = new Set([first]);
  /** @type {Set<string>} */
  const packages = new Set();
  for (const file of files) {
    const { statements } = ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest);
    for (const statement of statements) {
      if (!ts.isImportDeclaration(statement) && !ts.isExportDeclaration(statement)) continue;
      const specifier = statement.moduleSpecifier;
      if (!specifier || !ts.isStringLiteral(specifier)) continue;
      const { text } = specifier;
      if (text.startsWith('.')) files.add(join(dirname(file), text));
      else if (!text.startsWith('node:')) packages.add(packageOf(text));
    }
  }
  return { files, packages: [...packages].toSorted() };
}

/** @param {string} specifier */
function packageOf(specifier) {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

/** @param {string} message */
function fail(message) {
  failed += 1;
  console.error(`✗ ${message}`);
}
