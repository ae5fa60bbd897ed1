import { DataSource, DefaultNamingStrategy, type DataSourceOptions } from 'typeorm';
import { expect, it } from 'vitest';
import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { Webhook, type SupportedDriver } from 'nestjs-entity-webhooks';
import { webhookEntities, webhookMigrations } from 'nestjs-entity-webhooks/migrations';
import { describeDatabases } from '../support/databases.js';
import { startApp } from '../support/webhooks-app.js';

@Webhook()
@Entity()
class Note {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50 })
  text: string;
}

/** Also changes explicit names, as a strict naming strategy may. */
class HouseStyle extends DefaultNamingStrategy {
  override tableName(className: string, customName: string | undefined): string {
    return `tbl_${customName ?? className.toLowerCase()}`;
  }
  override columnName(property: string, customName: string | undefined, prefixes: string[]): string {
    return `c_${super.columnName(property, customName ?? property.toLowerCase(), prefixes)}`;
  }
}

async function wantedChanges(source: DataSource): Promise<string[]> {
  const log = await source.driver.createSchemaBuilder().log();
  return log.upQueries.map((query) => query.query).toSorted();
}

describeDatabases('the tables', (database) => {
  const names: {
    title: string;
    options: object;
    tablePrefix: string | undefined;
    tableSchema?: string;
    partitions?: 'day';
  }[] = [
    { title: 'by default', options: {}, tablePrefix: undefined },
    { title: 'under a prefix', options: {}, tablePrefix: 'hooks_' },
    { title: 'under an entity prefix', options: { entityPrefix: 'app_' }, tablePrefix: undefined },
    { title: 'under a naming strategy', options: { namingStrategy: new HouseStyle() }, tablePrefix: undefined },
    ...(database.name === 'postgres'
      ? [
          { title: 'in a schema', options: { schema: 'hooks' }, tablePrefix: undefined },
          { title: 'in a schema of their own', options: {}, tablePrefix: 'h_', tableSchema: 'own' },
          {
            title: 'in another schema than the rest',
            options: { schema: 'hooks' },
            tablePrefix: undefined,
            tableSchema: 'own',
          },
          { title: 'with partitions', options: {}, tablePrefix: undefined, partitions: 'day' as const },
          {
            title: 'with partitions, in a schema of their own, under a naming strategy',
            options: { namingStrategy: new HouseStyle() },
            tablePrefix: 'h_',
            tableSchema: 'own',
            partitions: 'day' as const,
          },
        ]
      : []),
  ];

  // Not with TypeORM's type `mysql`: its `synchronize` replaces an index at each start, and the check of another process may come in between.
  it.skipIf(database.name === 'mysql2')('are created once if several applications start at the same time', async () => {
    const fresh = await database.create();
    const start = () => startApp({ database: fresh.options, entities: [], webhooks: { publishedTypes: ['a'] } });
    const apps = await Promise.allSettled(Array.from({ length: 4 }, start));
    try {
      const reasons = apps.flatMap((app) => (app.status === 'rejected' ? [String(app.reason)] : []));
      expect(reasons).toEqual([]);
      for (const started of apps) {
        if (started.status === 'fulfilled') await started.value.webhooks.publish('a', {});
      }
    } finally {
      for (const started of apps) if (started.status === 'fulfilled') await started.value.close();
      await fresh.drop();
    }
  });

  it.each(names)(
    'are made by the migrations exactly as the entities say, $title',
    async ({ options, tablePrefix, tableSchema, partitions }) => {
      const fresh = await database.create();
      const prefix = { ...(tablePrefix === undefined ? {} : { tablePrefix }), tableSchema, partitions };
      const type = fresh.options.type as SupportedDriver;
      const source = await new DataSource({
        ...fresh.options,
        ...options,
        entities: webhookEntities({ type, ...prefix, ...options }),
        migrations: webhookMigrations(prefix),
      } as DataSourceOptions).initialize();
      try {
        if ('schema' in options) await source.query('CREATE SCHEMA hooks');
        for (let round = 0; round < 2; round++) {
          await source.runMigrations();
          const wanted = await wantedChanges(source);
          await source.undoLastMigration();
          if (database.name !== 'mysql2') expect(wanted).toEqual([]);
          else {
            // TypeORM's `mysql` type misreads MariaDB's defaults and always finds differences, even in tables that it created.
            await source.synchronize();
            expect(wanted).toEqual(await wantedChanges(source));
            await source.dropDatabase();
          }
        }
      } finally {
        await source.destroy();
        await fresh.drop();
      }
    },
  );

  it.each(names)('are used by the module, $title', async ({ options, tablePrefix, tableSchema, partitions }) => {
    const fresh = await database.create();
    if (partitions) {
      const at = { ...(tablePrefix === undefined ? {} : { tablePrefix }), tableSchema, partitions };
      const migrations = webhookMigrations(at);
      const source = await new DataSource({
        ...fresh.options,
        ...options,
        migrations,
      } as DataSourceOptions).initialize();
      await source.runMigrations();
      await source.destroy();
    }
    if ('schema' in options) {
      const source = await new DataSource(fresh.options).initialize();
      await source.query('CREATE SCHEMA hooks');
      await source.destroy();
    }
    const app = await startApp({
      database: { ...fresh.options, ...options } as DataSourceOptions,
      entities: [Note],
      webhooks: {
        ...(tablePrefix === undefined ? {} : { tablePrefix }),
        ...(tableSchema === undefined ? {} : { tableSchema }),
      },
    });
    try {
      await app.listeners.create({ entity: Note, where: { text: 'a' }, url: app.receiver.url });
      await app.dataSource.getRepository(Note).save({ text: 'a' });
      await app.dispatcher.drain();
      expect(app.receiver.requests.map((request) => (request.json as { type: string }).type)).toEqual(['note.created']);
      expect(await app.deliveries.counts()).toMatchObject({ succeeded: 1 });
    } finally {
      await app.close();
      await fresh.drop();
    }
  });

  it('stop the bootstrap when they are missing, and the error names the command to run', async () => {
    const fresh = await database.create();
    try {
      await expect(
        startApp({ database: { ...fresh.options, synchronize: false } as DataSourceOptions, entities: [Note] }),
      ).rejects.toMatchObject({
        code: 'TABLES_MISSING',
        message: expect.stringMatching(/webhook_events.*webhookMigrations\(\).*migration:run/s) as string,
      });
    } finally {
      await fresh.drop();
    }
  });

  it('stop the bootstrap when some are missing or lack a column, and the error names these', async () => {
    const fresh = await database.create();
    const app = await startApp({ database: fresh.options, entities: [Note] });
    await app.dataSource.query('DROP TABLE webhook_damaged');
    await app.dataSource.query('ALTER TABLE webhook_tasks DROP COLUMN kind');
    await app.close();
    try {
      await expect(
        startApp({ database: { ...fresh.options, synchronize: false } as DataSourceOptions, entities: [Note] }),
      ).rejects.toMatchObject({
        code: 'TABLES_MISSING',
        details: { missing: ['damaged', 'tasks'].map((table) => expect.stringMatching(`webhook_${table}$`) as string) },
      });
    } finally {
      await fresh.drop();
    }
  });

  it('may be created by the application itself when it starts', async () => {
    const fresh = await database.create();
    const app = await startApp({
      database: {
        ...fresh.options,
        synchronize: false,
        migrationsRun: true,
        migrations: webhookMigrations(),
      } as DataSourceOptions,
      entities: [Note],
    });
    try {
      expect(await app.deliveries.counts()).toMatchObject({ due: 0 });
    } finally {
      await app.close();
      await fresh.drop();
    }
  });

  it('are created again by synchronize(true) if the data source of the application has their entities', async () => {
    const fresh = await database.create();
    const tables = webhookEntities({ type: fresh.options.type as SupportedDriver });
    const app = await startApp({ database: fresh.options, entities: [Note], others: tables as never });
    try {
      for (const text of ['a', 'b']) {
        await app.dataSource.synchronize(true);
        app.receiver.clear();
        await app.listeners.create({ events: ['note.created'], url: app.receiver.url });
        await app.dataSource.getRepository(Note).save({ text });
        await app.dispatcher.drain();
        expect(app.receiver.requests.map(({ json }) => (json as { data: Note }).data)).toEqual([{ id: 1, text }]);
      }
    } finally {
      await app.close();
      await fresh.drop();
    }
  });
});
