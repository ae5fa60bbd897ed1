import sql from 'sql-template-tag';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { QueryRunner } from 'typeorm';
import type { Database } from '../../libs/webhooks/src/store/database/database.js';
import { isRetryable } from '../../libs/webhooks/src/store/database/database-errors.js';
import { query, type Script } from '../../libs/webhooks/src/store/database/script.js';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { addListener, openStore, rowsOf, type OpenStore } from './support.js';

describeDatabases('a transaction of the store', (target) => {
  let fresh: FreshDatabase;
  let store: OpenStore;
  let database: Database;
  let ids: string[];
  beforeEach(async () => {
    fresh = await target.create();
    const extra = {
      postgres: { extra: { lock_timeout: 300, options: '-c deadlock_timeout=50ms' } },
      sqlite: {},
      mariadb: {},
      mysql2: {},
    }[target.name];
    store = await openStore({ ...fresh.options, ...extra } as typeof fresh.options);
    database = store.database;
    ids = [await addListener(database, 0), await addListener(database, 0)];
  });
  afterEach(async () => {
    await store?.close();
    await fresh?.drop();
  });

  const setUrl = (id: string | undefined, url: string) => {
    const { listeners: l } = database.tables;
    return sql`update ${l.sql} set ${l.$.url} = ${url} where ${l.$.id} = ${id}`;
  };
  const urls = async () => {
    const { listeners: l } = database.tables;
    const rows = await rowsOf<{ url: string }>(
      database,
      sql`select ${l.select('l', 'url')} from ${l.sql} l order by l.${l.$.seq}`,
    );
    return rows.map(({ url }) => url);
  };
  /** Runs a statement of another program, on a separate connection. */
  const by = (runner: QueryRunner, statement: ReturnType<typeof setUrl>) => {
    const { text, values } = database.statement(statement);
    return runner.query(text, values);
  };

  it('ends at the failed statement, and leaves no changes', async () => {
    const tried = database.transaction(function* (): Script<void> {
      yield setUrl(ids[0], 'half');
      try {
        yield sql`select * from there_is_no_such_table`;
      } finally {
        yield setUrl(ids[1], 'more');
      }
    });
    await expect(tried).rejects.toThrow(/there_is_no_such_table/);
    expect(await urls()).not.toContain('half');
    await database.transaction(() => query(setUrl(ids[0], 'whole')));
    expect((await urls())[0]).toBe('whole');
  });

  if (target.name === 'sqlite') {
    it('waits for a writer of another process, and runs from the start', async () => {
      const { default: Sqlite } = await import('better-sqlite3');
      const other = new Sqlite((fresh.options as { database: string }).database);
      other.exec('BEGIN IMMEDIATE');
      const written = database.transaction(() => query(setUrl(ids[0], 'mine')));
      setTimeout(() => other.exec('COMMIT'), 50);
      await written;
      other.close();
      expect((await urls())[0]).toBe('mine');
    });
    return;
  }

  it('that is the victim of a deadlock runs again from the start', async () => {
    const other = store.application.createQueryRunner();
    await other.startTransaction();
    await by(other, setUrl(ids[1], 'theirs'));
    let runs = 0;
    let theirs: Promise<unknown> | undefined;
    try {
      await database.transaction(function* () {
        runs++;
        yield setUrl(ids[0], `mine ${runs}`);
        // Each now waits for the other. The database chooses one victim, and the other continues.
        theirs ??= by(other, setUrl(ids[0], 'theirs')).then(
          () => other.commitTransaction(),
          () => other.rollbackTransaction(),
        );
        yield setUrl(ids[1], `mine ${runs}`);
      });
      await theirs;
    } finally {
      await other.release();
    }
    // Whichever was the victim: the script has run completely.
    const [first, second] = await urls();
    expect(second).toBe(`mine ${runs}`);
    expect(first).toBe(second);
  });

  it('that waits for a lock too long runs again from the start', async () => {
    const other = store.application.createQueryRunner();
    await other.startTransaction();
    await by(other, setUrl(ids[1], 'theirs'));
    let runs = 0;
    await database.transaction(function* () {
      runs++;
      if (database.dialect === 'mysql') yield sql`set session innodb_lock_wait_timeout = 1`;
      yield setUrl(ids[0], `mine ${runs}`);
      if (runs > 1 && other.isTransactionActive) void other.commitTransaction();
      yield setUrl(ids[1], `mine ${runs}`);
    });
    await other.release();
    expect(runs).toBeGreaterThan(1);
    expect(await urls()).toEqual([`mine ${runs}`, `mine ${runs}`]);
  });

  it('reports a failed connection and leaves no changes, and the next script works', async () => {
    const kill = database.dialect === 'postgres' ? 'select pg_terminate_backend' : 'kill';
    const id = database.dialect === 'postgres' ? sql`select pg_backend_pid() as id` : sql`select connection_id() as id`;
    let killed: Promise<unknown> = Promise.resolve();
    const tried = database.transaction(function* () {
      yield setUrl(ids[0], 'half');
      const [row] = yield* query<{ id: number }>(id);
      const call = database.dialect === 'postgres' ? `${kill}(${row?.id})` : `${kill} ${row?.id}`;
      killed = store.application.query(call);
      yield database.dialect === 'postgres' ? sql`select pg_sleep(10)` : sql`select sleep(10)`;
    });
    await expect(tried).rejects.toSatisfy((error) => !isRetryable(error));
    await killed;
    expect(await urls()).not.toContain('half');
  });

  if (target.name !== 'postgres') return;
  it.each(['transaction', 'single'] as const)('runs again after a serialization failure (%s)', async (how) => {
    const isolation =
      how === 'single'
        ? sql`set session characteristics as transaction isolation level repeatable read`
        : sql`select 1`;
    let runs = 0;
    const result = await database[how](function* () {
      runs++;
      yield isolation;
      if (runs === 1) yield sql`do $$ begin raise exception using errcode = '40001'; end $$`;
      return runs;
    });
    expect(result).toBe(2);
  });
});
