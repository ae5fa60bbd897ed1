import { afterEach, beforeEach } from 'vitest';
import type { FreshDatabase, TestDatabase } from './databases.js';
import { startApp, type TestApp, type TestAppOptions } from './webhooks-app.js';

/** Applications on one database, as the processes of one service are. */
export interface AppsOnDatabase {
  start(options: Omit<TestAppOptions, 'database'>): Promise<TestApp>;
  /** Those of the present test. */
  readonly running: readonly TestApp[];
  /** Moves the clocks of all of them. */
  advance(ms: number): void;
}

/** A database that is fresh for each test; it and what was started on it are gone after it. */
export function appsOn(database: TestDatabase): AppsOnDatabase {
  let fresh: FreshDatabase;
  const running: TestApp[] = [];
  beforeEach(async () => {
    fresh = await database.create();
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
