// Runs before `npm pack` and `npm publish` of the library: builds the library, and copies files from the root of the repository that
// belong in the tarball. `--clean` (postpack) removes the copies.
//
// The files include `docs/`, because error messages and log lines name its pages. When `repository` is set in the library's package.json,
// the links in the copies lead there: a registry shows README.md without the files beside it.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { webUrlOf, withAbsoluteLinks } from './absolute-links.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const library = join(root, 'libs/webhooks');
const COPIED = ['README.md', 'LICENSE', 'CHANGELOG.md', 'SECURITY.md', 'docs'];

if (process.argv.includes('--clean')) {
  removeCopies();
} else {
  const missing = COPIED.filter((file) => !existsSync(join(root, file)));
  if (missing.length > 0) {
    console.error(`Missing in the root of the repository: ${missing.join(', ')}. The package needs these files.`);
    process.exit(1);
  }
  // Files of an older build would be packed, too.
  rmSync(join(library, 'dist'), { recursive: true, force: true });
  run(join(root, 'node_modules/typescript/bin/tsc'), '-p', join(library, 'tsconfig.lib.json'));
  await import('./commonjs-types.mjs');
  run(join(root, 'scripts/build-ui.mjs'));
  removeCopies(); // a page that was deleted from docs/ must not stay in a copy
  for (const file of COPIED) cpSync(join(root, file), join(library, file), { recursive: true });
  linkToRepository();
}

/**
 * Runs a program of Node.js, and ends this one if it fails.
 *
 * @param {string} program
 * @param {string[]} args
 */
function run(program, ...args) {
  // npm prints the tarball's name (or JSON) on stdout, which errors must not mix with.
  const { status } = spawnSync(process.execPath, [program, ...args], {
    stdio: ['ignore', process.stderr, process.stderr],
  });
  if (status !== 0) process.exit(1);
}

function removeCopies() {
  for (const file of COPIED) rmSync(join(library, file), { recursive: true, force: true });
}

function linkToRepository() {
  const { repository, version } = JSON.parse(readFileSync(join(library, 'package.json'), 'utf8'));
  const webUrl = webUrlOf(repository);
  if (webUrl === null) return;
  for (const copy of COPIED) {
    const paths = statSync(join(library, copy)).isDirectory()
      ? readdirSync(join(library, copy), { recursive: true }).map(
          (name) => `${copy}/${String(name).replaceAll('\\', '/')}`,
        )
      : [copy];
    for (const path of paths.filter((name) => name.endsWith('.md'))) {
      const file = join(library, path);
      writeFileSync(file, withAbsoluteLinks(readFileSync(file, 'utf8'), path, webUrl, `v${version}`));
    }
  }
}
