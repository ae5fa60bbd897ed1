// Builds the pages of `nestjs-entity-webhooks/dashboard` into libs/webhooks/dist/ui: scripts and styles with hashed names, their compressed
// forms, manifest.json with the names that the pages begin with, and the licences of the packages whose code they contain.
//
//   node scripts/build-ui.mjs                builds
//   node scripts/build-ui.mjs --if-changed   builds only if a source changed since the last build: for tests
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

import react from '@vitejs/plugin-react';
import { build } from 'vite';

const root = fileURLToPath(new URL('..', import.meta.url));
const library = join(root, 'libs/webhooks');
const ui = join(library, 'ui');
const out = join(library, 'dist/ui');
const stampFile = join(out, 'sources.stamp');

// Tests start this script with `NODE_ENV=test`, by which React would be built for developers.
process.env.NODE_ENV = 'production';
const stamp = stampOfSources();
if (process.argv.includes('--if-changed') && existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) {
  process.exit(0);
}
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });

/** Examples of receivers, by their pages in docs/receiving: which block of which language. The tests run them. */
const RECEIVERS = [
  ['Node.js', 'node.md', 'js', 0],
  ['Express', 'node.md', 'ts', 0],
  ['Fastify', 'node.md', 'ts', 1],
  ['Nest', 'nest.md', 'ts', 1],
  ['Django', 'python.md', 'python', 0],
  ['Flask', 'python.md', 'python', 1],
  ['PHP', 'php.md', 'php', 0],
  ['Go', 'go.md', 'go', 0],
  ['Ruby', 'ruby.md', 'ruby', 0],
];

/** @type {import('vite').InlineConfig} */
const common = {
  configFile: false,
  root: ui,
  base: './',
  logLevel: 'warn',
  resolve: { alias: { 'nestjs-entity-webhooks/client': join(library, 'src/client/index.ts') } },
};
const main = await outputOf({
  ...common,
  plugins: [react(), receivers()],
  build: {
    ...{ outDir: out, emptyOutDir: false, target: 'es2022', assetsDir: '', assetsInlineLimit: 0 },
    ...{ modulePreload: false, cssCodeSplit: false, reportCompressedSize: false },
    rolldownOptions: {
      input: join(ui, 'src/main.tsx'),
      output: {
        entryFileNames: '[name]-[hash].js',
        chunkFileNames: '[name]-[hash].js',
        assetFileNames: '[name]-[hash][extname]',
      },
    },
  },
});
// The page that embeds the portal loads this file with a plain <script>.
await outputOf({
  ...common,
  build: {
    ...{ outDir: out, emptyOutDir: false, target: 'es2022', reportCompressedSize: false },
    lib: { entry: join(ui, 'src/embed.ts'), name: 'webhooksPortal', formats: ['iife'], fileName: () => 'embed.js' },
  },
});

const script = main.find((file) => file.type === 'chunk' && file.isEntry)?.fileName;
const style = main.find(({ fileName }) => fileName.endsWith('.css'))?.fileName;
if (script === undefined || style === undefined) throw new Error('The build has no script or no style.');
for (const name of readdirSync(out)) if (/\.(?:js|css)$/.test(name)) compress(name);
writeFileSync(join(out, 'THIRD-PARTY-NOTICES.txt'), notices(main));
writeFileSync(join(out, 'manifest.json'), `${JSON.stringify({ script, style, embed: 'embed.js' }, null, 2)}\n`);
writeFileSync(stampFile, stamp);

/** @param {import('vite').InlineConfig} config */
async function outputOf(config) {
  const result = await build(config);
  const outputs = Array.isArray(result) ? result : [result];
  return outputs.flatMap((one) => ('output' in one ? one.output : []));
}

/** @returns {import('vite').Plugin} the module `virtual:receivers` */
function receivers() {
  const id = 'virtual:receivers';
  return {
    name: 'receivers',
    resolveId: (given) => (given === id ? `\0${id}` : null),
    load(given) {
      if (given !== `\0${id}`) return null;
      const blocks = RECEIVERS.map(([name, page, language, index]) => {
        const text = readFileSync(join(root, 'docs/receiving', String(page)), 'utf8');
        const found = [...text.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, 'gm'))];
        const code = found[Number(index)]?.[1];
        if (code === undefined) throw new Error(`docs/receiving/${page} has no block ${index} of ${language}.`);
        return [name, code];
      });
      return `export default ${JSON.stringify(blocks)};`;
    },
  };
}

/** @param {string} name */
function compress(name) {
  const bytes = readFileSync(join(out, name));
  const quality = { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY };
  writeFileSync(join(out, `${name}.br`), brotliCompressSync(bytes, { params: quality }));
  writeFileSync(join(out, `${name}.gz`), gzipSync(bytes, { level: 9 }));
}

/**
 * The licence of each package whose code is in a file.
 *
 * @param {Awaited<ReturnType<typeof outputOf>>} files
 */
function notices(files) {
  const modules = files.flatMap((file) => (file.type === 'chunk' ? Object.keys(file.modules) : []));
  const folders = new Set(modules.map(folderOfPackage).filter((folder) => folder !== undefined));
  const texts = [...folders].toSorted().map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    const file = readdirSync(folder).find((one) => /^(?:license|licence)/i.test(one));
    const text = file === undefined ? '' : `\n\n${readFileSync(join(folder, file), 'utf8').trim()}`;
    return `${name} ${version} (${license})${text}\n`;
  });
  return `The files in this folder contain code of these packages.\n\n${texts.join(`\n${'-'.repeat(80)}\n\n`)}`;
}

/** @param {string} id of a module @returns the folder of the package that it is part of */
function folderOfPackage(id) {
  const marker = `${sep}node_modules${sep}`;
  const at = id.lastIndexOf(marker);
  if (at < 0) return undefined;
  const [first = '', second = ''] = id.slice(at + marker.length).split(sep);
  return id.slice(id.indexOf(sep), at + marker.length) + (first.startsWith('@') ? join(first, second) : first);
}

/** Changes with every source of the pages, and with the versions of the packages. */
function stampOfSources() {
  const hash = createHash('sha256');
  for (const folder of [join(ui, 'src'), join(library, 'src/client'), join(root, 'docs/receiving')]) {
    for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' }).toSorted()) {
      if (/\.\w+$/.test(name)) hash.update(name).update(readFileSync(join(folder, name)));
    }
  }
  const files = ['package-lock.json', 'scripts/build-ui.mjs', 'libs/webhooks/src/routing/operators.ts'];
  for (const file of files) hash.update(readFileSync(join(root, file)));
  return hash.digest('hex');
}
