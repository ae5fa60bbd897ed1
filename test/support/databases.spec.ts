// Misspelt on purpose. cspell:ignore sqlit
import { DataSource } from 'typeorm';
import { describe, expect, inject, it } from 'vitest';

import { chosenDatabases } from './chosen-databases.js';
import { databases, describeDatabases } from './databases.js';

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
  it('is empty, stores four-byte characters, and is removed by drop() even with an open connection', async () => {
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
    expect(again.options.database ?? again.options).not.toEqual(options.database ?? options);
    await again.drop();
  });
});
