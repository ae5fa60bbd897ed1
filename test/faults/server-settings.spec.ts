import { Column, DataSource, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Webhook } from 'nestjs-entity-webhooks';
import type { Database } from '../../libs/webhooks/src/store/database/database.js';
import { databases, type FreshDatabase } from '../support/databases.js';
import { Parcel } from '../support/dispatching-process.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

@Webhook()
@Entity('counted')
class Counted {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'bigint' })
  total: string;
}

interface Pool {
  on(event: 'connection', opened: (connection: { query(text: string): void }) => void): void;
}

const mysqls = databases.filter(({ name }) => name === 'mariadb' || name === 'mysql2');

// Without such a server the file would have no test, and vitest treats that as an error.
it.skipIf(!mysqls.length)('settings of a server are tested on TypeORM’s type `mysql`', () => {
  expect(mysqls.map(({ name }) => name)).toContain('mysql2');
});

describe.each(mysqls)('a server with other settings than the default ($name)', (target) => {
  let fresh: FreshDatabase;
  let app: TestApp | undefined;
  const start = () =>
    startApp({ database: fresh.options, entities: [Parcel], webhooks: { dispatcher: { pollIntervalMs: 50 } } });

  beforeEach(async () => {
    fresh = await target.create();
    app = undefined;
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await app?.close();
    await fresh.drop();
  });

  it.each(['autocommit = 0', 'sql_safe_updates = 1'])(
    '%s: commits of others are visible, and writes are committed',
    async (setting) => {
      app = await start();
      await app.listeners.create({ events: ['*'], url: app.receiver.url });
      const { database } = (app.dispatcher as unknown as { parts: { database: Database & { dataSource: DataSource } } })
        .parts;
      const { pool } = database.dataSource.driver as unknown as { pool: Pool };
      // The settings that such a server gives to each new session.
      pool.on('connection', (connection) => connection.query(`SET ${setting}`));
      const sessions = (await app.dataSource.query(
        'select id from information_schema.processlist where db = database() and id <> connection_id()',
      )) as { id: number }[];
      for (const { id } of sessions) await app.dataSource.query(`kill ${id}`).catch(() => undefined);
      app.dispatcher.start();
      for (let n = 0; n < 3; n++) {
        await app.dataSource.getRepository(Parcel).save({ name: `p${n}` });
        await app.receiver.waitFor(n + 1, { timeoutMs: 10_000 });
      }
      await vi.waitFor(
        async () => expect(await app?.deliveries.counts()).toMatchObject({ succeeded: 3, leased: 0 }),
        10_000,
      );
    },
  );

  it('a `typeCast` of the application, here to bigint, does not change what the module reads', async () => {
    const typeCast = (field: { type: string; string(): string | null }, next: () => unknown) => {
      if (field.type !== 'LONGLONG') return next();
      const text = field.string();
      return text === null ? null : BigInt(text);
    };
    const options = { ...fresh.options, extra: { typeCast } } as FreshDatabase['options'];
    app = await startApp({
      database: options,
      entities: [Counted],
      webhooks: { dispatcher: { pollIntervalMs: 50, autoStart: true } },
    });
    await app.listeners.create({ events: ['*'], url: app.receiver.url, ordering: 'entity' });
    const { id } = await app.dataSource.getRepository(Counted).save({ total: '9007199254740993' });
    await app.dataSource.getRepository(Counted).save({ id, total: '2' });
    await app.receiver.waitFor(2, { timeoutMs: 10_000 });
    const bodies = app.receiver.requests.map(({ json }) => json as { data: object; previous?: object });
    expect(bodies.map(({ data, previous }) => ({ data, previous }))).toEqual([
      { data: { id: Number(id), total: '9007199254740993' } },
      { data: { id: Number(id), total: '2' }, previous: { total: '9007199254740993' } },
    ]);
  });

  it('NO_BACKSLASH_ESCAPES is refused at start', async () => {
    const query = DataSource.prototype.query;
    vi.spyOn(DataSource.prototype, 'query').mockImplementation(function (this: DataSource, text: string, ...rest) {
      if (text.includes('@@SESSION.sql_mode'))
        return Promise.resolve([{ mode: 'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES' }]);
      return query.call(this, text, ...rest);
    });
    await expect(start()).rejects.toMatchObject({ code: 'UNSUPPORTED_SQL_MODE' });
  });
});
