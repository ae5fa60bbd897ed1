import { DataSource } from 'typeorm';
import { describe, expect, inject, it } from 'vitest';

import { databases, describeDatabases } from './databases.js';

describe('the databases of a run', () => {
  it('always holds SQLite and PostgreSQL, and MariaDB or MySQL when a server is named', () => {
    const { mysql } = inject('servers');
    const expected = { MariaDB: ['mariadb', 'mysql2'], MySQL: ['mysql2'], none: [] };
    expect(databases.map(({ name }) => name)).toEqual(['sqlite', 'postgres', ...expected[mysql?.product ?? 'none']]);
  });
});

describeDatabases('a test database', (db) => {
  it('is empty, takes four-byte characters, and is gone after drop() even with a connection open', async () => {
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
