// Puts programs and the packages that they load into one file each. The first argument is the folder of the programs; the others are their
// names. A program replaces itself.
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'vite';

/** Packages that look for their own files, or that TypeORM loads by name. */
const EXTERNAL = ['better-sqlite3', 'bullmq', 'ioredis', 'mysql2', 'pg'];

const [folder = '', ...names] = process.argv.slice(2);
const out = join(folder, 'bundled');
for (const name of names) {
  await build({
    ...{ configFile: false, root: folder, logLevel: 'error', publicDir: false },
    ssr: { noExternal: true },
    build: {
      ...{ ssr: join(folder, name), outDir: out, emptyOutDir: false, minify: false, target: 'node20' },
      rolldownOptions: {
        external: (id) => EXTERNAL.some((one) => id === one || id.startsWith(`${one}/`)),
        output: { entryFileNames: name, codeSplitting: false },
        // Nest and TypeORM try to load packages that are not installed.
        onLog: () => undefined,
      },
    },
  });
  await rename(join(out, name), join(folder, name));
}
await rm(out, { recursive: true });
