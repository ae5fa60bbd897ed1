// Runs before `npm pack` and `npm publish` of the library: builds the library, and copies files from the root of the repository that
// belong in the tarball. `--clean` (postpack) removes the copies.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const library = join(root, 'libs/webhooks');
const LENT = ['README.md', 'LICENSE', 'CHANGELOG.md'];

if (process.argv.includes('--clean')) {
  for (const file of LENT) rmSync(join(library, file), { force: true });
} else {
  const missing = LENT.filter((file) => !existsSync(join(root, file)));
  if (missing.length > 0) {
    console.error(`Missing in the root of the repository: ${missing.join(', ')}. The package needs these files.`);
    process.exit(1);
  }
  // Files of an older build would be packed, too.
  rmSync(join(library, 'dist'), { recursive: true, force: true });
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const { status } = spawnSync(process.execPath, [tsc, '-p', join(library, 'tsconfig.lib.json')], {
    // npm prints the tarball's name (or JSON) on stdout, which the compiler's errors must not mix with.
    stdio: ['ignore', process.stderr, process.stderr],
  });
  if (status !== 0) process.exit(1);
  await import('./commonjs-types.mjs');
  for (const file of LENT) copyFileSync(join(root, file), join(library, file));
}
