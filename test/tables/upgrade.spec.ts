import { afterEach, beforeEach, expect, it } from 'vitest';
import {
  DataSource,
  TableColumn,
  TableIndex,
  type DataSourceOptions,
  type MigrationInterface,
  type QueryRunner,
} from 'typeorm';
import { webhookMigrations } from 'nestjs-entity-webhooks/migrations';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { Parcel } from '../support/dispatching-process.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

/** A later version may add columns, an index, and a new version of the tables. */
class NextMigration1999999999999 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    for (const table of ['webhook_events', 'webhook_deliveries', 'webhook_attempts', 'webhook_listeners']) {
      await runner.addColumn(table, new TableColumn({ name: 'note', type: 'varchar', length: '50', isNullable: true }));
    }
    await runner.addColumn(
      'webhook_deliveries',
      new TableColumn({ name: 'priority', type: 'int', isNullable: false, default: 5 }),
    );
    await runner.createIndex('webhook_deliveries', new TableIndex({ name: 'IDX_note', columnNames: ['note', 'seq'] }));
    await runner.query('INSERT INTO webhook_schema_version (version, oldest_process) VALUES (4, 3)');
  }

  down(): Promise<void> {
    return Promise.resolve();
  }
}

describeDatabases('an upgrade', (database) => {
  let fresh: FreshDatabase;
  let source: DataSource;
  let running: TestApp[];

  const start = async () => {
    const app = await startApp({
      database: { ...fresh.options, synchronize: false } as DataSourceOptions,
      entities: [Parcel],
      webhooks: { dispatcher: { pollIntervalMs: 50 } },
    });
    running.push(app);
    return app;
  };
  const migrate = async (migrations: (new () => MigrationInterface)[]) => {
    source = await new DataSource({
      ...fresh.options,
      entities: [Parcel],
      migrations,
    } as DataSourceOptions).initialize();
    await source.runMigrations();
    await source.destroy();
  };

  beforeEach(async () => {
    fresh = await database.create();
    running = [];
    const tables = await new DataSource({ ...fresh.options, entities: [Parcel] } as DataSourceOptions).initialize();
    await tables.synchronize();
    await tables.destroy();
    await migrate(webhookMigrations());
  });
  afterEach(async () => {
    for (const app of running.toReversed()) await app.close();
    await fresh.drop();
  });

  it.each([
    { version: '1', table: 'events', column: 'state' },
    { version: '2', table: 'outbox', column: 'lease_until' },
  ])('refuses tables of version $version, at the start and in the migration, and says what to do', async (old) => {
    const { version, table, column } = old;
    const tooOld = {
      code: 'TABLES_TOO_OLD',
      details: { version },
      message: expect.stringContaining('docs/upgrades.md') as string,
    };
    source = await new DataSource({
      ...fresh.options,
      migrations: webhookMigrations({ tablePrefix: 'old_' }),
    } as DataSourceOptions).initialize();
    const runner = source.createQueryRunner();
    const added = new TableColumn({ name: column, type: 'varchar', length: '16', isNullable: true });
    await runner.addColumn(`webhook_${table}`, added);
    await runner.query(`CREATE TABLE old_${table} (${column} varchar(16))`);
    await runner.release();
    await expect(start()).rejects.toMatchObject(tooOld);
    await expect(source.runMigrations()).rejects.toMatchObject(tooOld);
    await source.destroy();
  });

  it('refuses tables whose stored version is older than 3', async () => {
    source = await new DataSource(fresh.options).initialize();
    await source.query('INSERT INTO webhook_schema_version (version, oldest_process) VALUES (1, 1)');
    await source.destroy();
    await expect(start()).rejects.toMatchObject({ code: 'TABLES_TOO_OLD', details: { version: '1' } });
  });

  it('runs beside a process of the old version, which continues beside processes of the new version', async () => {
    const old = await start();
    await old.listeners.create({ events: ['*'], url: old.receiver.url });
    old.dispatcher.start();
    const save = (app: TestApp, name: string) => app.dataSource.getRepository(Parcel).save({ name });
    await save(old, 'before');
    await old.receiver.waitFor(1, { timeoutMs: 10_000 });
    await migrate([...webhookMigrations(), NextMigration1999999999999]);
    const next = await start();
    next.dispatcher.start();
    for (let n = 0; n < 5; n++) {
      await save(old, `old ${n}`);
      await save(next, `next ${n}`);
    }
    await old.receiver.waitFor(11, { timeoutMs: 20_000 });
    const names = old.receiver.requests.map(({ json }) => (json as { data: Parcel }).data.name);
    expect(new Set(names).size).toBe(11);
    // A process of the old version may also start again.
    await old.dispatcher.stop();
    const again = await start();
    await expect(again.listeners.list()).resolves.toMatchObject({ items: [{ state: 'active' }] });
  });

  it('that this version cannot work with prevents the start', async () => {
    const old = await start();
    await old.dataSource.query('INSERT INTO webhook_schema_version (version, oldest_process) VALUES (7, 7)');
    await expect(start()).rejects.toMatchObject({ code: 'TABLES_TOO_NEW', details: { version: 7, oldestProcess: 7 } });
  });
});
