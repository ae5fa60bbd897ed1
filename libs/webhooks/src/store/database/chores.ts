import sql, { bulk } from 'sql-template-tag';
import type { Database } from './database.js';
import { skipConflict } from './dialect-sql.js';
import { execute, query, type Script } from './script.js';

/** Periodic work as its row says it: whose it is now, when it is due, and how far it has come. */
export interface ChoreState {
  readonly name: string;
  readonly leaseUntil: number;
  readonly dueAt: number;
}

/** One query over a handful of rows: all that an idle application asks. */
export function* readChores(database: Database): Script<ChoreState[]> {
  const { chores: c } = database.tables;
  const rows = yield* query<Record<keyof ChoreState, unknown> & { name: string }>(
    sql`select ${c.select('c', 'name', 'leaseUntil', 'dueAt')} from ${c.sql} c`,
  );
  return rows.map(({ name, leaseUntil, dueAt }) => ({ name, leaseUntil: Number(leaseUntil), dueAt: Number(dueAt) }));
}

/** The rows of chores that were never done; they are due now. */
export function* insertChores(database: Database, names: readonly string[], now: number): Script<void> {
  const { sql: path, $ } = database.tables.chores;
  yield sql`insert into ${path} (${$.name}, ${$.leaseUntil}, ${$.dueAt}, ${$.position}) values ${bulk(names.map((name) => [name, 0, now, 0]))}${skipConflict(database.dialect, [$.name])}`;
}

/** Takes a chore that is due and nobody's. @returns whether it is ours now */
export function* claimChore(
  database: Database,
  name: string,
  lease: { token: string; now: number; until: number },
): Script<boolean> {
  const { chores: c } = database.tables;
  const row = yield* lockChore(database, name);
  if (!row || Number(row.dueAt) > lease.now || Number(row.leaseUntil) > lease.now) return false;
  yield* execute(
    sql`update ${c.sql} set ${c.$.leaseToken} = ${lease.token}, ${c.$.leaseUntil} = ${lease.until} where ${c.$.name} = ${name}`,
  );
  return true;
}

/**
 * Begins a batch: locks the row for this transaction.
 *
 * @returns how far the chore has come; `null` when the lease was lost to another process
 */
export function* resumeChore(database: Database, name: string, token: string): Script<number | null> {
  const row = yield* lockChore(database, name);
  return row?.leaseToken === token ? Number(row.position) : null;
}

/** Ends a batch, in its transaction: how far the chore has come, and until when it stays ours. */
export function* advanceChore(
  database: Database,
  name: string,
  { position, leaseUntil }: { position: number; leaseUntil: number },
): Script<void> {
  const { sql: path, $ } = database.tables.chores;
  yield* execute(
    sql`update ${path} set ${$.position} = ${position}, ${$.leaseUntil} = ${leaseUntil} where ${$.name} = ${name}`,
  );
}

/** Gives a chore back. @param dueAt when it is to be done again; `undefined`: it is not done yet */
export function* releaseChore(database: Database, name: string, token: string, dueAt?: number): Script<void> {
  const { sql: path, $ } = database.tables.chores;
  const next = dueAt === undefined ? sql`` : sql`, ${$.dueAt} = ${dueAt}`;
  yield* execute(
    sql`update ${path} set ${$.leaseToken} = ${null}, ${$.leaseUntil} = ${0}${next} where ${$.name} = ${name} and ${$.leaseToken} = ${token}`,
  );
}

function* lockChore(
  database: Database,
  name: string,
): Script<{ leaseToken: string | null; leaseUntil: unknown; dueAt: unknown; position: unknown } | undefined> {
  const { chores: c } = database.tables;
  const [row] = yield* query<{ leaseToken: string | null; leaseUntil: unknown; dueAt: unknown; position: unknown }>(
    sql`select ${c.select('c', 'leaseToken', 'leaseUntil', 'dueAt', 'position')} from ${c.sql} c where c.${c.$.name} = ${name}${database.forUpdate}`,
  );
  return row;
}
