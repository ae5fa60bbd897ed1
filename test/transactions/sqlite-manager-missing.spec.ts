import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  DataSource,
  Entity,
  EventSubscriber,
  PrimaryColumn,
  type DataSourceOptions,
  type EntitySubscriberInterface,
} from 'typeorm';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Webhook } from 'nestjs-entity-webhooks';
import { startApp, type TestApp } from '../support/webhooks-app.js';

@Webhook({ name: 'memo' })
@Entity('own_memo')
class Memo {
  @PrimaryColumn({ type: 'integer' })
  id: number;
}

const REFUSED = { name: 'TransactionError', code: 'MANAGER_MISSING' };

// A call that waits for its own transaction waits longer than the time limit of the test.
const databases: [name: string, options: (folder: string) => DataSourceOptions, webhooks: object][] = [
  [
    'a file',
    (folder) => ({ type: 'better-sqlite3', database: join(folder, 'test.sqlite') }),
    { lockTimeoutMs: 60_000 },
  ],
  [
    'a file that is not isolated',
    (folder) => ({ type: 'better-sqlite3', database: join(folder, 'test.sqlite') }),
    { isolate: false },
  ],
  ['memory', () => ({ type: 'better-sqlite3', database: ':memory:' }), {}],
];

describe.each(databases)('inside a transaction of SQLite (%s)', (name, options, sqlite) => {
  let folder: string;
  let app: TestApp;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'webhooks-own-'));
    app = await startApp({
      database: options(folder),
      entities: [Memo],
      webhooks: { publishedTypes: ['a.b'], sqlite },
      application: { logger: false },
    });
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await app.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const publish = () => app.webhooks.publish('a.b', {});
  const stored = async () => (await app.dataSource.query('SELECT id FROM webhook_events')) as unknown[];

  const calls: [name: string, call: () => Promise<unknown>][] = [
    ['publish()', publish],
    ['publish() with a key', () => app.webhooks.publish('a.b', {}, { idempotencyKey: 'k' })],
    ['listeners.create()', () => app.listeners.create({ events: ['*'], url: app.receiver.url })],
    ['listeners.list()', () => app.listeners.list()],
    ['deliveries.recover()', () => app.deliveries.recover({ since: new Date(0), state: 'exhausted' })],
    ['dispatcher.drain()', () => app.dispatcher.drain()],
  ];
  it.each(calls)('%s without its manager is refused at once', async (_, call) => {
    await app.dataSource.transaction(async () => {
      await expect(call()).rejects.toMatchObject(REFUSED);
    });
    await call();
  });

  it('publish() is refused in a transaction of a query runner, until it has ended', async () => {
    const runner = app.dataSource.createQueryRunner();
    try {
      await publish();
      for (const end of ['commitTransaction', 'rollbackTransaction'] as const) {
        await runner.startTransaction();
        await runner.startTransaction();
        await expect(publish()).rejects.toMatchObject(REFUSED);
        await runner[end]();
        await expect(publish()).rejects.toMatchObject(REFUSED);
        await runner[end]();
        await publish();
      }
      await runner.startTransaction();
      await runner.query('ROLLBACK');
      await publish();
    } finally {
      await runner.release();
    }
    expect(await stored()).toHaveLength(4);
  });

  it('publish() is refused in a hook of a save(), and joins the save() through the manager of the hook', async () => {
    @EventSubscriber()
    class Publishing implements EntitySubscriberInterface {
      afterInsert = async ({ manager }: { manager: DataSource['manager'] }) => {
        await expect(publish()).rejects.toMatchObject(REFUSED);
        await app.webhooks.publish('a.b', {}, { manager });
      };
    }
    app.dataSource.subscribers.push(new Publishing());
    await app.dataSource.manager.save(Memo, { id: 1 });
    expect(await stored()).toHaveLength(2);
  });

  it('publish() beside the transaction waits for it, and succeeds', async () => {
    let going = () => {};
    const gate = new Promise<void>((resolve) => (going = resolve));
    const writing = app.dataSource.transaction(async (manager) => {
      await manager.insert(Memo, { id: 1 });
      await gate;
    });
    const published = publish();
    const saving = app.dataSource.manager.save(Memo, { id: 2 });
    going();
    await Promise.all([writing, published, name === 'a file' ? saving : saving.catch(() => undefined)]);
    expect((await stored()).length).toBeGreaterThanOrEqual(2);
    await publish();
  });

  it('publish() succeeds in the call chain of a transaction that could not begin or commit', async () => {
    const runner = app.dataSource.createQueryRunner();
    vi.spyOn(runner, 'query').mockRejectedValueOnce(new Error('no BEGIN'));
    await expect(runner.startTransaction()).rejects.toThrow('no BEGIN');
    vi.restoreAllMocks();
    await runner.release();
    await expect(
      app.dataSource.transaction(() => {
        throw new Error('no');
      }),
    ).rejects.toThrow('no');
    await publish();
  });

  it('a transaction of another data source does not matter', async () => {
    const other = await new DataSource({ type: 'better-sqlite3', database: ':memory:' }).initialize();
    try {
      await other.transaction(publish);
    } finally {
      await other.destroy();
    }
    expect(await stored()).toHaveLength(1);
  });
});
