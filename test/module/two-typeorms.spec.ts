import { createRequire } from 'node:module';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApp } from '../support/webhooks-app.js';

const require = createRequire(import.meta.url);

/** Loads a second copy of TypeORM, which an application finds if the library is a symbolic link. */
function anotherTypeorm(): { DataSource: typeof DataSource } {
  const { cache } = require;
  const known = Object.keys(cache).filter((file) => /[\\/]node_modules[\\/]typeorm[\\/]/.test(file));
  const modules = known.map((file) => [file, cache[file]] as const);
  for (const file of known) delete cache[file];
  try {
    return require('typeorm') as { DataSource: typeof DataSource };
  } finally {
    for (const [file, module] of modules) cache[file] = module;
  }
}

describe('a data source of another copy of TypeORM', () => {
  let other: DataSource;

  beforeAll(() => {
    other = new (anotherTypeorm().DataSource)({ type: 'better-sqlite3', database: ':memory:' });
    expect(other).not.toBeInstanceOf(DataSource);
  });
  afterAll(() => other.destroy());

  it('is refused at start, and the error says how to find the copies', async () => {
    const starting = startApp({
      database: { type: 'better-sqlite3', database: ':memory:' } as DataSourceOptions,
      entities: [],
      application: { logger: false },
      dataSourceFactory: () => other.initialize(),
    });
    await expect(starting).rejects.toMatchObject({
      code: 'TYPEORM_TWICE',
      message: expect.stringContaining('npm ls typeorm') as string,
    });
  });
});
