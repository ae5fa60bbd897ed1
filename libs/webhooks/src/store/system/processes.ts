import sql from 'sql-template-tag';
import type { Database } from '../database/database.js';
import { replacing } from '../database/dialect-sql.js';
import { execute, query, together, type Script } from '../database/script.js';
import { MINUTE } from '../../time.js';

/** The row of a process whose dispatcher runs. Times are in ms since 1970. */
export interface ProcessRow {
  readonly id: string;
  readonly host: string;
  readonly version: string;
  readonly startedAt: number;
  /** When the process last wrote its row. */
  readonly seenAt: number;
  /** Number of requests in flight at that time. */
  readonly sending: number;
  readonly concurrency: number;
}

/** How often a process writes its row. */
export const HEARTBEAT_MS = 15_000;
/** A process that has not written its row for this time has died, or has lost the database. Its row is deleted. */
const FORGOTTEN_AFTER_MS = 10 * MINUTE;

/** Writes the row of a process, and deletes the rows of processes that died. */
export function* writeProcess(database: Database, row: ProcessRow): Script<void> {
  const { sql: path, $ } = database.tables.processes;
  const insert = sql`insert into ${path} (${$.id}, ${$.host}, ${$.version}, ${$.startedAt}, ${$.seenAt}, ${$.sending}, ${$.concurrency}) values (${row.id}, ${row.host}, ${row.version}, ${row.startedAt}, ${row.seenAt}, ${row.sending}, ${row.concurrency})`;
  const onConflict = replacing(database.dialect, [$.id], [$.seenAt, $.sending, $.concurrency]);
  const forget = sql`delete from ${path} where ${$.seenAt} < ${row.seenAt - FORGOTTEN_AFTER_MS}`;
  yield* together([sql`${insert}${onConflict}`, forget], { isEnd: true });
}

/** Deletes the row of a process that stops. */
export function* deleteProcess(database: Database, id: string): Script<void> {
  const { sql: path, $ } = database.tables.processes;
  yield* execute(sql`delete from ${path} where ${$.id} = ${id}`);
}

/** The processes whose dispatcher runs, the oldest first. Processes that died are listed for a few more minutes. */
export function* readProcesses(database: Database): Script<ProcessRow[]> {
  const { processes: p } = database.tables;
  const rows = yield* query<Record<keyof ProcessRow, unknown> & { id: string; host: string; version: string }>(
    sql`select ${p.select('p', 'id', 'host', 'version', 'startedAt', 'seenAt', 'sending', 'concurrency')} from ${p.sql} p order by p.${p.$.startedAt}, p.${p.$.seq}`,
  );
  return rows.map(({ id, host, version, ...numbers }) => ({
    id,
    host,
    version,
    startedAt: Number(numbers.startedAt),
    seenAt: Number(numbers.seenAt),
    sending: Number(numbers.sending),
    concurrency: Number(numbers.concurrency),
  }));
}
