import { fileURLToPath } from 'node:url';
import { configDefaults, defineConfig, type TestUserConfig, type ViteUserConfig } from 'vitest/config';
import { browserSuitesLeftOut, networkSuitesLeftOut, suitesLeftOut } from './test/support/chosen-databases.js';
import LongestFirst from './test/support/longest-first.js';

/** The suites that measure delays. */
const TIMED = [
  'test/sending/hostile-receivers.spec.ts',
  'test/verify/event-loop.spec.ts',
  'test/dashboard/browser/many-rows.spec.ts',
];

// `TYPEORM=0.3 vitest run …`: the tests and the processes that they start run on TypeORM 0.3.
const isOnTypeorm03 = process.env['TYPEORM'] === '0.3';
if (isOnTypeorm03) {
  const register = fileURLToPath(new URL('test/support/typeorm-0.3/register.mjs', import.meta.url));
  process.env['NODE_OPTIONS'] = [process.env['NODE_OPTIONS'], `--import=${register}`].filter(Boolean).join(' ');
}

/** Of every project: how a test file is compiled and run. */
const shared = {
  // Set here, not left to the tsconfig: without the metadata Nest injects nothing, and without the last two an entity
  // class gets own properties holding `undefined`, which TypeORM would write over the column defaults.
  oxc: {
    decorator: { legacy: true, emitDecoratorMetadata: true },
    assumptions: { setPublicClassFields: true },
    typescript: { removeClassFieldsWithoutInitializer: true },
  },
  // `nestjs-entity-webhooks` is the source here, through the `paths` of tsconfig.json: tests need no build.
  resolve: { tsconfigPaths: true },
} satisfies ViteUserConfig;

const test = {
  setupFiles: [
    'reflect-metadata',
    'test/support/shared-process.ts',
    ...(isOnTypeorm03 ? ['test/support/typeorm-0.3/left-out.ts'] : []),
  ],
  pool: 'forks',
  // One process for many files. Otherwise each file loads TypeORM and Nest again, and runs them before V8 has optimized them, which takes
  // half of the processor time. So a suite puts back what it changes in the process: test/support/shared-process.ts checks it.
  isolate: false,
  testTimeout: 30_000,
  // A check that holds does not wait. The default, 1 s, is too short while other processes use the processors.
  expect: { poll: { timeout: 15_000 } },
  // Some hooks compile a project, while another worker and three servers share the processors.
  hookTimeout: 120_000,
} satisfies TestUserConfig;

const leftOut = [...configDefaults.exclude, ...suitesLeftOut(), ...browserSuitesLeftOut(), ...networkSuitesLeftOut()];

export default defineConfig({
  test: {
    globalSetup: ['test/support/global-setup.ts'],
    reporters: ['default', './test/support/left-out-reporter.ts'],
    // More than the processors of a small machine, because several suites wait for leases, retries and servers.
    maxWorkers: 4,
    sequence: { sequencer: LongestFirst },
    // At its end, the run drops the databases that its processes reused.
    teardownTimeout: 300_000,
    projects: [
      {
        ...shared,
        test: {
          ...test,
          name: 'promises',
          include: ['test/**/*.spec.ts', '{apps,libs}/*/src/**/*.spec.ts'],
          exclude: [...leftOut, ...TIMED],
        },
      },
      // After the others and one by one: beside other tests, a delay says how busy the machine is. Twice, because other programs disturb it, too.
      {
        ...shared,
        test: {
          ...test,
          name: 'delays',
          include: TIMED,
          exclude: leftOut,
          sequence: { groupOrder: 1 },
          maxWorkers: 1,
          retry: 1,
        },
      },
    ],
  },
});
