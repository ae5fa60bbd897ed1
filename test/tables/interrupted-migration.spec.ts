import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DataSource, type DataSourceOptions, type TableIndex } from 'typeorm';
import type { SupportedDriver, WebhooksError } from 'nestjs-entity-webhooks';
import { webhookEntities, webhookMigrations } from 'nestjs-entity-webhooks/migrations';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { Parcel } from '../support/dispatching-process.js';
import { createProxied, networked } from '../support/proxied-database.js';
import { startApp } from '../support/webhooks-app.js';

/** One unique index, one partial index, and one index that a statement names on MySQL. */
const LOST = [
  { table: 'webhook_deliveries', columns: ['event_at', 'event_seq', 'listener_id'] },
  {
    table: 'webhook_deliveries',
    columns: ['listener_id', 'state', 'next_at', 'seq'],
    elsewhere: ['listener_id', 'next_at', 'seq'],
  },
  { table: 'webhook_listener_state', columns: ['listener_id'] },
];

describeDatabases('a migration that was interrupted after it had made a table', (database) => {
  let fresh: FreshDatabase;
  let source: DataSource;

  const isMysql = database.name === 'mariadb' || database.name === 'mysql2';
  const shown = (index: TableIndex) => `${index.isUnique ? 'unique ' : ''}${index.name} on ${index.columnNames.join()}`;
  const indexes = async () => {
    const runner = source.createQueryRunner();
    const tables = await runner.getTables(['webhook_deliveries', 'webhook_listener_state', 'webhook_events']);
    await runner.release();
    return tables.flatMap(({ indices }) => indices.map(shown)).toSorted();
  };
  const loseIndexes = async () => {
    const runner = source.createQueryRunner();
    for (const { table, columns, elsewhere } of LOST) {
      const wanted = (isMysql ? columns : (elsewhere ?? columns)).toSorted().join();
      const found = (await runner.getTable(table))?.indices.find(
        ({ columnNames }) => columnNames.toSorted().join() === wanted,
      );
      await runner.dropIndex(table, found as TableIndex);
    }
    await runner.release();
  };

  beforeEach(async () => {
    fresh = await database.create();
    source = await new DataSource({
      ...fresh.options,
      migrationsTransactionMode: 'none',
      entities: webhookEntities({ type: fresh.options.type as SupportedDriver }),
      migrations: webhookMigrations(),
    } as DataSourceOptions).initialize();
    await source.runMigrations();
  });
  afterEach(async () => {
    await source.destroy();
    await fresh.drop();
  });

  it('creates what is missing when it runs again', async () => {
    const whole = await indexes();
    await loseIndexes();
    await source.query(`DELETE FROM migrations`);
    expect(await indexes()).toHaveLength(whole.length - LOST.length);
    await source.runMigrations();
    expect(await indexes()).toEqual(whole);
  });

  it('stops the bootstrap of an application, and the error names the command to run', async () => {
    const start = () =>
      startApp({ database: { ...fresh.options, synchronize: false } as DataSourceOptions, entities: [Parcel] });
    await loseIndexes();
    const error = await start().then(
      () => undefined,
      (failure: WebhooksError) => failure,
    );
    expect(error).toMatchObject({ code: 'TABLES_MISSING' });
    const { missing } = error?.details as { missing: string[] };
    expect(missing).toHaveLength(LOST.length);
    for (const statement of missing) {
      expect(error?.message).toContain(statement);
      await source.query(statement);
    }
    const app = await start();
    await app.close();
  });
});

// `mysql2` has no limit for the answer to a statement.
describe.each(networked.filter(({ name }) => name === 'postgres'))(
  'a migration whose server vanishes ($name)',
  (target) => {
    it.each(['all', 'none'] as const)(
      'ends by the `query_timeout` of the data source, and runs again (%s)',
      async (migrationsTransactionMode) => {
        const database = await createProxied(target);
        const settings = {
          migrationsTransactionMode,
          entities: webhookEntities({ type: 'postgres' }),
          migrations: webhookMigrations(),
        };
        const extra = { query_timeout: 500 };
        const silent = await new DataSource({
          ...database.proxied,
          ...settings,
          extra,
        } as DataSourceOptions).initialize();
        const source = await new DataSource({ ...database.options, ...settings } as DataSourceOptions).initialize();
        try {
          const vanished = database.proxy.vanishAt((text) => text.includes('CREATE UNIQUE INDEX'));
          await expect(silent.runMigrations()).rejects.toThrow(/timeout/i);
          await vanished;
          await source.runMigrations();
          // It checks tables and indexes.
          const app = await startApp({
            database: { ...database.options, synchronize: false } as DataSourceOptions,
            entities: [],
          });
          await app.close();
        } finally {
          await source.destroy();
          await silent.destroy();
          await database.drop();
        }
      },
    );
  },
);
