import { afterEach, beforeEach } from 'vitest';
import type { FreshDatabase, TestDatabase } from './databases.js';
import { startApp, type TestApp, type TestAppOptions } from './webhooks-app.js';

/** Applications on one database, like the processes of one service. */
export interface AppsOnDatabase {
  start(options: Omit<TestAppOptions, 'database'>): Promise<TestApp>;
  /** The applications of the current test. */
  readonly running: readonly TestApp[];
  /** Moves the clocks of all applications. */
  advance(ms: number): void;
}

/** A database without rows for each test. The applications on it are removed after the test. */
export function appsOn(database: TestDatabase): AppsOnDatabase {
  let fresh: FreshDatabase;
  const running: TestApp[] = [];
  beforeEach(async () => {
    fresh = await database.reuse();
  });
  afterEach(async () => {
    for (const app of running.splice(0)) await app.close();
    await fresh.drop();
  });
  return {
    running,
    async start(options) {
      const app = await startApp({ ...options, database: fresh.options });
      running.push(app);
      return app;
    },
    advance(ms) {
      for (const { clock } of running) clock.advance(ms);
    },
  };
}
