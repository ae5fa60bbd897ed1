// Misspelt on purpose. cspell:ignore sqlit
import type { Type } from '@nestjs/common';
import { Column, DataSource, Entity, PrimaryGeneratedColumn, type DataSourceOptions } from 'typeorm';
import { describe, expect, inject, it } from 'vitest';
import { Webhook } from 'nestjs-entity-webhooks';

import { chosenDatabases } from './chosen-databases.js';
import { databases, describeDatabases } from './databases.js';
import { startApp, type TestApp } from './webhooks-app.js';

describe('the databases of a run', () => {
  it('are SQLite and PostgreSQL, and MariaDB or MySQL with MYSQL_URL; DATABASES limits them', () => {
    const { mysql } = inject('servers');
    const expected = { MariaDB: ['mariadb', 'mysql2'], MySQL: ['mysql2'], none: [] };
    const all = ['sqlite', 'postgres', ...expected[mysql?.product ?? 'none']];
    expect(databases.map(({ name }) => name)).toEqual(
      all.filter((name) => (chosenDatabases() as string[]).includes(name)),
    );
  });

  it('are all databases without DATABASES, and the named ones with it', () => {
    const all = ['sqlite', 'postgres', 'mariadb', 'mysql2'];
    expect(chosenDatabases('')).toEqual(all);
    expect(chosenDatabases('mysql2, sqlite')).toEqual(['sqlite', 'mysql2']);
  });

  it('are refused when DATABASES has an unknown name, with the names that are allowed', () => {
    for (const list of ['sqlit', 'sqlite,', 'sqlite,oracle'])
      expect(() => chosenDatabases(list)).toThrow(/^Unknown database '/);
    expect(() => chosenDatabases('sqlite,oracle')).toThrow(
      "Unknown database 'oracle' in DATABASES='sqlite,oracle'. Allowed: sqlite, postgres, mariadb, mysql2",
    );
  });
});

describeDatabases('a test database', (db) => {
  it('is empty, stores four-byte characters, and can be given back with an open connection: the next one is empty', async () => {
    const { options, drop } = await db.create();
    const dataSource = await new DataSource(options).initialize();
    const runner = dataSource.createQueryRunner();
    try {
      await runner.query('create table note (body varchar(20))');
      await runner.query(`insert into note values ('🦜')`);
      expect(await runner.query('select body from note')).toEqual([{ body: '🦜' }]);
    } finally {
      if (db.name === 'sqlite') {
        await dataSource.destroy();
      }
      await drop();
      await runner.release().catch(() => undefined);
      await dataSource.destroy().catch(() => undefined);
    }
    const again = await db.create();
    expect(await tablesIn(again.options)).toEqual([]);
    await again.drop();
  });
});

@Webhook()
@Entity('reused_note')
class Note {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 20 })
  body: string;
}

@Entity('reused_page')
class Page {
  @PrimaryGeneratedColumn()
  id: number;
}

describeDatabases('a reused database', (db) => {
  /** Starts an application, lets a test use it, and gives the database back. @returns the tables before the start */
  async function used(others: Type[], test: (app: TestApp) => Promise<unknown>): Promise<string[]> {
    const fresh = await db.reuse();
    const before = await tablesIn(fresh.options);
    const app = await startApp({ database: fresh.options, entities: [Note], others, webhooks: { capture: 'trigger' } });
    await test(app);
    await app.close();
    await fresh.drop();
    return before;
  }
  const write = async ({ dataSource, dispatcher }: TestApp) => {
    expect(await dataSource.query('select * from webhook_images')).toEqual([]);
    expect(await dataSource.query('select * from webhook_events')).toEqual([]);
    expect(await dataSource.getRepository(Note).save({ body: 'x' })).toMatchObject({ id: 1 });
    await dispatcher.drain();
    expect(await dataSource.query('select * from webhook_events')).toHaveLength(1);
    await dataSource.getRepository(Note).delete(1);
  };

  it('keeps the tables and triggers of its application, without rows, and with the first ids', async () => {
    await used([], write);
    expect(await used([], write)).toContain('reused_note');
    expect(await used([], write)).toContain('reused_note');
  });

  it('has no tables of another application', async () => {
    await used([], write);
    await used([Page], async (app) => {
      await write(app);
      await app.dataSource.query('select id from reused_page');
    });
    await used([], async (app) => {
      await write(app);
      await expect(app.dataSource.query('select id from reused_page')).rejects.toThrow();
    });
  });

  it.each(['create table reused_more (id int)', 'alter table reused_note add more int', 'drop table webhook_images'])(
    'has no tables after a test that changed them: %s',
    async (change) => {
      await used([], (app) => app.dataSource.query(change));
      expect(await used([], write)).toEqual([]);
    },
  );
});

async function tablesIn(options: DataSourceOptions): Promise<string[]> {
  const dataSource = await new DataSource(options).initialize();
  const runner = dataSource.createQueryRunner();
  const rows: { name: string }[] = await runner.query(
    options.type === 'better-sqlite3'
      ? `select name from sqlite_master where type = 'table' and name not like 'sqlite%'`
      : `select table_name as name from information_schema.tables where table_schema = ${options.type === 'postgres' ? `'public'` : 'database()'}`,
  );
  await dataSource.destroy();
  return rows.map(({ name }) => name);
}
