import {
  Column,
  Entity,
  PrimaryGeneratedColumn,
  type DataSourceOptions,
  type EntityManager,
  type EntitySubscriberInterface,
} from 'typeorm';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Webhook } from 'nestjs-entity-webhooks';
import { databases } from '../support/databases.js';
import { storedEvents } from './shop.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

@Webhook()
@Entity('hooked')
class Hooked {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 20, unique: true })
  name: string;
}

interface Scene {
  readonly name: string;
  create(): Promise<{ options: DataSourceOptions; drop(): Promise<void> }>;
  readonly sqlite?: { isolate: boolean };
}

const MEMORY: Scene = {
  name: 'sqlite in memory',
  create: async () => ({ options: { type: 'better-sqlite3', database: ':memory:' }, drop: async () => {} }),
};
const SHARED: Scene = {
  name: 'sqlite, not isolated',
  create: () => databases.find(({ name }) => name === 'sqlite')!.create(),
  sqlite: { isolate: false },
};

/** Runs all ready callbacks, a few times. */
async function othersWork(): Promise<void> {
  for (let n = 0; n < 5; n++) await new Promise((resolve) => setImmediate(resolve));
}

// The query runners of TypeORM 0.3 lack some of this: docs/decisions/0005-typeorm-0.3.md.
describe.each([MEMORY, SHARED, ...databases])('a statement and the hooks around it ($name)', (scene: Scene) => {
  let database: Awaited<ReturnType<Scene['create']>>;
  let app: TestApp;
  let manager: EntityManager;
  let called: string[];
  let subscriber: EntitySubscriberInterface;

  beforeEach(async () => {
    database = await scene.create();
    const { sqlite } = scene;
    app = await startApp({
      database: database.options,
      entities: [Hooked],
      application: { logger: false },
      webhooks: sqlite ? { sqlite } : {},
    });
    ({ manager } = app.dataSource);
    called = [];
    subscriber = {
      async beforeQuery({ query }) {
        if (query !== 'SELECT 1 AS one') return;
        await othersWork();
        called.push('before');
      },
      async afterQuery({ query, success }) {
        if (query === 'SELECT nothing') called.push(success ? 'succeeded' : 'failed');
        if (query !== 'SELECT 1 AS one') return;
        await othersWork();
        called.push('after');
      },
    };
    app.dataSource.subscribers.push(subscriber);
  });
  afterEach(async () => {
    await app.close();
    await database.drop();
  });

  it('waits for beforeQuery, and its caller waits for afterQuery', async () => {
    await manager.query('SELECT 1 AS one');
    expect(called).toEqual(['before', 'after']);
  });

  it('calls afterQuery also when it fails', async () => {
    await expect(manager.query('SELECT nothing')).rejects.toMatchObject({ name: 'QueryFailedError' });
    expect(called).toEqual(['failed']);
  });

  it('is a COMMIT that stores the events, or a ROLLBACK that leaves none', async () => {
    await manager.transaction((inside) => inside.save(Hooked, { name: 'a' }));
    await manager
      .transaction(async (inside) => {
        await inside.save(Hooked, { name: 'b' });
        throw new Error('no');
      })
      .catch(() => undefined);
    await expect(manager.insert(Hooked, { name: 'a' })).rejects.toMatchObject({ name: 'QueryFailedError' });
    expect((await storedEvents(app)).map(({ type }) => type)).toEqual(['hooked.created']);
  });
});
