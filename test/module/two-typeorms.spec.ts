import { createRequire } from 'node:module';
import { Column, DataSource, Entity, PrimaryGeneratedColumn, type DataSourceOptions } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Webhook } from 'nestjs-entity-webhooks';
import { databases } from '../support/databases.js';
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

describe('an entity that another copy of this library has decorated', () => {
  type Library = typeof import('nestjs-entity-webhooks');
  /** A package of entities finds its own copy if the versions differ. The query makes it another module. */
  const copyOf = (file: string) =>
    import(/* @vite-ignore */ `../../libs/webhooks/src/${file}?copy`) as Promise<Library>;

  it('keeps its options: hidden columns are not sent, and its owner is known', async () => {
    const decorators = await copyOf('entities/webhook.decorator.ts');
    const events = await copyOf('events/webhook-event.ts');
    expect(decorators.Webhook).not.toBe(Webhook);

    @decorators.Webhook({ owner: events.EVERY_OWNER })
    @Entity()
    class Account {
      @PrimaryGeneratedColumn()
      id: number;

      @decorators.WebhookHidden()
      @Column({ type: 'varchar' })
      passwordHash: string;
    }
    const fresh = await (databases[0] as (typeof databases)[number]).create();
    const app = await startApp({ database: fresh.options, entities: [Account] });
    try {
      await app.listeners.create({ events: ['account.*'], url: app.receiver.url, owner: 'anybody' });
      await app.dataSource.getRepository(Account).save({ passwordHash: 'x' });
      await app.dispatcher.drain();
      expect(app.receiver.requests.map(({ json }) => (json as { data: object }).data)).toEqual([{ id: 1 }]);
    } finally {
      await app.close();
      await fresh.drop();
    }
  });
});
