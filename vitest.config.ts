import { defineConfig } from 'vitest/config';

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
    setupFiles: ['reflect-metadata'],
    reporters: ['default', './test/support/left-out-reporter.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
  },
});
