import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import LongestFirst from './test/support/longest-first.js';

// `TYPEORM=0.3 vitest run …`: the tests and the processes that they start run on TypeORM 0.3.
const isOnTypeorm03 = process.env['TYPEORM'] === '0.3';
if (isOnTypeorm03) {
  const register = fileURLToPath(new URL('test/support/typeorm-0.3/register.mjs', import.meta.url));
  process.env['NODE_OPTIONS'] = [process.env['NODE_OPTIONS'], `--import=${register}`].filter(Boolean).join(' ');
}

export default defineConfig({
  // Set here, not left to the tsconfig: without the metadata Nest injects nothing, and without the last two an entity
  // class gets own properties holding `undefined`, which TypeORM would write over the column defaults.
  oxc: {
    decorator: { legacy: true, emitDecoratorMetadata: true },
    assumptions: { setPublicClassFields: true },
    typescript: { removeClassFieldsWithoutInitializer: true },
  },
  // `nestjs-entity-webhooks` is the source here, through the `paths` of tsconfig.json: tests need no build.
  resolve: { tsconfigPaths: true },
  test: {
    include: ['test/**/*.spec.ts', '{apps,libs}/*/src/**/*.spec.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    setupFiles: ['reflect-metadata', ...(isOnTypeorm03 ? ['test/support/typeorm-0.3/left-out.ts'] : [])],
    reporters: ['default', './test/support/left-out-reporter.ts'],
    pool: 'forks',
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    testTimeout: 30_000,
    // Some hooks compile a project, while another worker and three servers share the processors.
    hookTimeout: 120_000,
    // At its end, the run drops the databases that its processes reused.
    teardownTimeout: 300_000,
  },
});
