import { rm } from 'node:fs/promises';
import { createRequire } from 'node:module';

import { createConnection } from 'mysql2/promise';
import pg from 'pg';
import type { DataSourceOptions } from 'typeorm';

/** Sends one statement, and returns its rows. */
export type Ask = (statement: string) => Promise<Record<string, unknown>[]>;

/** What tests need to know and to do about the tables of a kind of database. */
interface Contents {
  /** Opens a connection, and ends all others if the database can. */
  alone<T>(options: DataSourceOptions, run: (ask: Ask) => Promise<T>): Promise<T>;
  /** Selects a `line` for each column, index, constraint, trigger and function. */
  readonly shape: string;
  /** Deletes all rows; the next generated ids are the first ones again. */
  deleteRows(ask: Ask): Promise<void>;
  /** Makes the database like a new one. */
  dropAll(options: DataSourceOptions): Promise<void>;
}

/** Longer than a connection that was ended needs to roll back. */
const LOCK_WAIT_SECONDS = 10;

const OWN_SCHEMAS = `n.nspname !~ '^pg_' and n.nspname <> 'information_schema'`;

const postgres: Contents = {
  async alone(options, run) {
    const client = new pg.Client({ connectionString: (options as { url: string }).url });
    const ask: Ask = async (statement) => (await client.query<Record<string, unknown>>(statement)).rows;
    await client.connect();
    try {
      await ask(`set lock_timeout = '${LOCK_WAIT_SECONDS}s'`);
      await ask(
        'select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()',
      );
      return await run(ask);
    } finally {
      await client.end();
    }
  },
  // An index is a relation with columns, too.
  shape: `
    select concat_ws(' ', c.oid, c.relname, c.relacl, attname, atttypid, atttypmod, attnotnull, atthasdef) as line
      from pg_class c join pg_namespace n on n.oid = relnamespace join pg_attribute on attrelid = c.oid
      where ${OWN_SCHEMAS} and attnum > 0 and relkind <> 't'
    union all select concat_ws(' ', tgrelid, tgname, tgenabled, tgfoid) from pg_trigger where not tgisinternal
    union all select concat_ws(' ', p.oid, proname, prosrc) from pg_proc p join pg_namespace n on n.oid = pronamespace where ${OWN_SCHEMAS}
    union all select concat_ws(' ', conrelid, conname, contype) from pg_constraint c join pg_namespace n on n.oid = connamespace where ${OWN_SCHEMAS}
    union all select nspname from pg_namespace n where ${OWN_SCHEMAS}
    union all select array_to_string(setconfig, ' ') from pg_db_role_setting
      where setdatabase = (select oid from pg_database where datname = current_database())`,
  // `truncate` takes ten times as long: it creates the files of each table and index anew. As a replica, the session fires no trigger and
  // checks no foreign key.
  async deleteRows(ask) {
    await ask(`do $$ declare name text; begin
      set local session_replication_role = replica;
      for name in select c.oid::regclass from pg_class c join pg_namespace n on n.oid = relnamespace where relkind = 'r' and ${OWN_SCHEMAS}
        loop execute 'delete from ' || name; end loop;
      perform setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false)
        from pg_sequences where last_value is not null;
    end $$`);
  },
  // Tests kill processes, but not this server, so no commit has to wait for the disk.
  async dropAll(options) {
    await postgres.alone(options, (ask) =>
      ask(`do $$ declare name text; begin
        execute format('alter database %I reset all', current_database());
        execute format('alter database %I set synchronous_commit = off', current_database());
        for name in select nspname from pg_namespace n where ${OWN_SCHEMAS}
          loop execute format('drop schema %I cascade', name); end loop;
        create schema public;
        grant usage on schema public to public;
      end $$`),
    );
  },
};

const mysql: Contents = {
  async alone(options, run) {
    const { host, port, username, password, database } = options as Record<'host' | 'username' | 'password', string> & {
      port: number;
      database: string;
    };
    const connection = await createConnection({ host, port, user: username, password, database });
    const ask: Ask = async (statement) => (await connection.query(statement))[0] as Record<string, unknown>[];
    try {
      await endOthers(ask);
      return await run(ask);
    } finally {
      await connection.end();
    }
  },
  shape: `
    select concat_ws(' ', table_name, column_name, ordinal_position, column_type, is_nullable, column_default, extra) as line
      from information_schema.columns where table_schema = database()
    union all select concat_ws(' ', table_name, index_name, seq_in_index, column_name, non_unique)
      from information_schema.statistics where table_schema = database()
    union all select concat_ws(' ', event_object_table, trigger_name, action_statement)
      from information_schema.triggers where trigger_schema = database()
    union all select concat_ws(' ', routine_name, routine_definition)
      from information_schema.routines where routine_schema = database()`,
  // Deletes fire triggers, which write to other tables. So the tables with generated ids come last.
  async deleteRows(ask) {
    // In the comment is what only MySQL 8 knows: without it, it shows an old `auto_increment`.
    await ask(
      `set foreign_key_checks = 0, lock_wait_timeout = ${LOCK_WAIT_SECONDS} /*!80000 , information_schema_stats_expiry = 0 */`,
    );
    const tables = () =>
      ask(
        `select table_name as name, auto_increment as next from information_schema.tables where table_schema = database() and table_type = 'BASE TABLE'`,
      );
    for (const { name, next } of await tables()) if (next === null) await ask(`delete from \`${String(name)}\``);
    for (const { name, next } of await tables()) if (Number(next) > 1) await ask(`truncate table \`${String(name)}\``);
  },
  async dropAll(options) {
    await mysql.alone(options, async (ask) => {
      const { database } = options as { database: string };
      await ask(`drop database ${database}`);
      await ask(`create database ${database} character set utf8mb4`);
    });
  },
};

/** An open transaction holds locks on its tables, for which `truncate` and `drop` would wait. */
async function endOthers(ask: Ask): Promise<void> {
  const others = await ask(
    'select id as id from information_schema.processlist where db = database() and id <> connection_id()',
  );
  for (const { id } of others) await ask(`kill ${String(id)}`).catch(() => undefined); // it may have ended already
}

const BetterSqlite3 = createRequire(import.meta.url)('better-sqlite3') as new (file: string) => {
  prepare(statement: string): { reader: boolean; all(): Record<string, unknown>[]; run(): unknown };
  close(): void;
};

const sqlite: Contents = {
  async alone(options, run) {
    const database = new BetterSqlite3(String(options.database));
    try {
      return await run((statement) => {
        const prepared = database.prepare(statement);
        return Promise.resolve(prepared.reader ? prepared.all() : (prepared.run(), []));
      });
    } finally {
      database.close();
    }
  },
  shape: `select name || ' ' || coalesce(sql, '') as line from sqlite_master`,
  async deleteRows(ask) {
    await ask('pragma foreign_keys = off');
    await ask('begin immediate');
    const tables = await ask(
      `select name from sqlite_master where type = 'table' and name not like 'sqlite\\_%' escape '\\'`,
    );
    // The second time for the rows that triggers wrote the first time.
    for (const { name } of [...tables, ...tables]) await ask(`delete from "${String(name)}"`);
    const [generated] = await ask(`select 1 from sqlite_master where name = 'sqlite_sequence'`);
    if (generated) await ask('delete from sqlite_sequence');
    await ask('commit');
  },
  async dropAll({ database }) {
    for (const end of ['', '-wal', '-shm']) await rm(`${String(database)}${end}`, { force: true });
  },
};

export function contentsOf({ type }: DataSourceOptions): Contents {
  if (type === 'postgres') return postgres;
  return type === 'better-sqlite3' ? sqlite : mysql;
}

/** Every column, index, constraint, trigger and function, to see whether one of them has changed. */
export async function shapeOf(options: DataSourceOptions, ask: Ask): Promise<string> {
  const rows = await ask(contentsOf(options).shape);
  return rows
    .map(({ line }) => String(line))
    .toSorted()
    .join('\n');
}
