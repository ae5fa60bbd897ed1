import sql, { join, raw, type Sql } from 'sql-template-tag';
import type { DataSource } from 'typeorm';
import { wakeUpChannel } from '../../dispatcher/wake-ups/choose-channel.js';
import type { WakeUpChannel } from '../../dispatcher/wake-ups/wake-up-channel.js';
import { WakeUps } from '../../dispatcher/wake-ups/wake-ups.js';
import { messageOf } from '../../foreign-text.js';
import { isFileSqlite } from '../../sqlite/isolate-sqlite.js';
import type { Database } from '../../store/database/database.js';
import { readDatabaseTime } from '../../store/database/database-time.js';
import { query } from '../../store/database/script.js';
import type { TableName } from '../../store/database/tables.js';
import { MINUTE, SECOND } from '../../time.js';
import { shownDuration } from '../terminal/durations.js';
import { fail, ok, warn, type Check } from './check.js';

/** Receivers refuse timestamps that are five minutes off. The limit is lower, because the clocks of receivers are wrong, too. */
const SKEW_FAILS_FROM_MS = MINUTE;
const SKEW_WARNS_FROM_MS = 5 * SECOND;

/** Compares the clocks. Signatures contain the time of the database. If this time is wrong, receivers refuse every request. */
export const clock: Check = {
  name: 'clock',
  async run({ database }) {
    const before = Date.now();
    const databaseMs = await database.single(() => readDatabaseTime(database));
    const after = Date.now();
    const skew = databaseMs < before ? databaseMs - before : Math.max(0, databaseMs - after);
    const text = `the clocks of the database and of this host differ by ${shownDuration(Math.abs(skew))}`;
    const fix =
      'Set both clocks by NTP. Requests are signed with the time of the database, and receivers refuse times that are 5 minutes off.';
    if (Math.abs(skew) >= SKEW_FAILS_FROM_MS) return fail(text, fix);
    return Math.abs(skew) >= SKEW_WARNS_FROM_MS ? warn(text, fix) : ok(text);
  },
};

/** Checks the privileges of the data source's user, because the application usually connects as the same user. */
export const privileges: Check = {
  name: 'privileges',
  needsTables: true,
  async run({ database }) {
    const missing: string[] = [];
    for (const table of Object.keys(database.tables) as TableName[]) {
      for (const [name, statement] of Object.entries(statementsOn(database, table))) {
        const reason = await refusal(database, statement);
        if (reason !== null) missing.push(`${name} on ${database.tables[table].path}: ${reason}`);
      }
    }
    if (!missing.length) return ok('the user may read and write every webhook table');
    return fail(
      `the user may not ${missing[0]}${missing.length > 1 ? `, and ${missing.length - 1} more` : ''}`,
      'Grant SELECT, INSERT, UPDATE and DELETE on the webhook tables, and USAGE on their sequences, to the user of the data source; or make the file writable.',
    );
  },
};

/** Statements that change no row. The database checks the privileges before it looks for rows. */
function statementsOn({ dialect, tables }: Database, table: TableName): Record<string, Sql> {
  const { sql: path, metadata, path: text } = tables[table];
  const escape = (name: string) => raw(metadata.connection.driver.escape(name));
  const namesOf = (isWanted: boolean) =>
    metadata.columns.filter(({ isGenerated }) => isGenerated === isWanted).map(({ databaseName }) => databaseName);
  const columns = namesOf(false).map(escape);
  const [first = sql`*`] = columns;
  const [sequence] = namesOf(true);
  return {
    SELECT: sql`select ${first} from ${path} where 1 = 0`,
    INSERT: sql`insert into ${path} (${join(columns)}) select ${join(columns)} from ${path} where 1 = 0`,
    UPDATE: sql`update ${path} set ${first} = ${first} where 1 = 0`,
    DELETE: sql`delete from ${path} where 1 = 0`,
    ...(dialect === 'postgres'
      ? {
          'use the sequence': sql`select 1 / cast(has_sequence_privilege(pg_get_serial_sequence(${text}, ${sequence}), 'USAGE') as integer)`,
        }
      : {}),
  };
}

async function refusal(database: Database, statement: Sql): Promise<string | null> {
  try {
    await database.transaction(function* () {
      yield statement;
    });
    return null;
  } catch (error) {
    // The statement divides by zero if the privilege for the sequence is missing.
    return /division by zero/.test(messageOf(error)) ? 'permission denied' : messageOf(error);
  }
}

const NOTIFIED_WITHIN_MS = 10 * SECOND;

/** Checks whether notifications arrive. For example, LISTEN through a pooler in transaction mode receives none. */
export const notifications: Check = {
  name: 'wake-ups',
  async run({ loaded: { dataSource, resolved }, database }) {
    const channel = resolved.wakeUp && wakeUpChannel(database, dataSource, resolved.wakeUp);
    if (!channel) return null;
    const reason = await silenceOf(channel);
    if (reason === null) return ok('notifications of other processes arrive');
    return warn(
      `this process receives no notifications from other processes: ${reason}`,
      `${channel.adviceIfSilent} Until then, events of other processes wait for dispatcher.pollIntervalMs.`,
    );
  },
};

/** Sends a notification and waits for it. @returns why it did not arrive; `null` if it arrived */
async function silenceOf(channel: WakeUpChannel): Promise<string | null> {
  let failed: (reason: string) => void = () => undefined;
  const logger = { log: () => undefined, warn: (text: unknown) => failed(String(text)), error: () => undefined };
  const wakeUps = new WakeUps(channel, logger);
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise<string | null>((resolve) => {
      failed = (reason) => resolve(reason);
      timer = setTimeout(() => resolve('no answer'), NOTIFIED_WITHIN_MS);
      wakeUps.listen(() => resolve(null));
    });
  } finally {
    clearTimeout(timer);
    await wakeUps.close();
  }
}

/**
 * Checks that the server has enough connections for two processes, because a rolling deploy starts new processes before it stops old ones.
 */
export const connections: Check = {
  name: 'connections',
  async run({ loaded: { dataSource, resolved }, database }) {
    const most = await mostConnections(database);
    if (most === null) return null;
    const listening = database.dialect === 'postgres' && resolved.wakeUp && !resolved.wakeUp.redis ? 1 : 0;
    const own = resolved.dispatcher.poolSize + listening;
    const perProcess = poolSizeOf(dataSource) + own;
    const text = `a process opens up to ${perProcess} connections (${poolSizeOf(dataSource)} of the data source, ${own} of this library); the server allows ${most}`;
    const fix = 'Lower poolSize of the data source or dispatcher.poolSize, or raise max_connections of the server.';
    if (perProcess > most) return fail(text, fix);
    return 2 * perProcess > most ? warn(`${text}, too few for two processes`, fix) : ok(text);
  },
};

/** `null` for a database without a limit. */
async function mostConnections(database: Database): Promise<number | null> {
  if (database.dialect === 'sqlite') return null;
  const limit =
    database.dialect === 'postgres'
      ? sql`select cast(current_setting('max_connections') as integer) - cast(current_setting('superuser_reserved_connections') as integer) as most`
      : sql`select @@max_connections as most`;
  const [row] = await database.single(() => query<{ most: unknown }>(limit));
  return Number(row?.most);
}

/** Both drivers have a pool of 10 by default. */
function poolSizeOf({ options }: DataSource): number {
  const { poolSize, extra = {} } = options as {
    poolSize?: number;
    extra?: { max?: number; connectionLimit?: number };
  };
  return extra.max ?? extra.connectionLimit ?? poolSize ?? 10;
}

export const sqliteMode: Check = {
  name: 'sqlite',
  run({ loaded: { dataSource, resolved }, database }) {
    if (database.dialect !== 'sqlite') return Promise.resolve(null);
    if (!isFileSqlite(dataSource)) {
      return Promise.resolve(
        fail(
          'the database is in memory: concurrent transactions mix, and the end of the process loses every event',
          'Use a file.',
        ),
      );
    }
    if (!resolved.sqlite.isolate) {
      return Promise.resolve(
        fail(
          'sqlite.isolate is false: concurrent transactions mix, and rows and events can be lost',
          'Remove the option. See docs/sqlite.md.',
        ),
      );
    }
    return Promise.resolve(ok('a file, with a connection for each transaction'));
  },
};
