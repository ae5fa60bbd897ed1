import sql, { bulk } from 'sql-template-tag';
import type { Database } from './database.js';
import { skipConflict } from './dialect-sql.js';
import { execute, query, type Script } from './script.js';

/** The row of a chore (periodic work): the holder of the lease, the time at which the chore is due, and the position of the chore. */
export interface ChoreState {
  readonly name: string;
  readonly leaseUntil: number;
  readonly dueAt: number;
}

/** Reads the chores with one query over a few rows. An idle application sends no other statement for chores. */
export function* readChores(database: Database): Script<ChoreState[]> {
  const { chores: c } = database.tables;
  const rows = yield* query<Record<keyof ChoreState, unknown> & { name: string }>(
    sql`select ${c.select('c', 'name', 'leaseUntil', 'dueAt')} from ${c.sql} c`,
  );
  return rows.map(({ name, leaseUntil, dueAt }) => ({ name, leaseUntil: Number(leaseUntil), dueAt: Number(dueAt) }));
}

/** Inserts rows for chores that have never run. These chores are due now. */
export function* insertChores(database: Database, names: readonly string[], now: number): Script<void> {
  const { sql: path, $ } = database.tables.chores;
  yield sql`insert into ${path} (${$.name}, ${$.leaseUntil}, ${$.dueAt}, ${$.position}) values ${bulk(names.map((name) => [name, 0, now, 0]))}${skipConflict(database.dialect, [$.name])}`;
}

/** Makes chores due that have run before and do not run now. */
export function* makeChoresDue(database: Database, now: number): Script<void> {
  const { sql: path, $ } = database.tables.chores;
  yield* execute(sql`update ${path} set ${$.dueAt} = ${now} where ${$.dueAt} > ${now} and ${$.leaseUntil} <= ${now}`);
}

/** The lease that a process wants. Times are in ms since 1970. */
interface ChoreLease {
  readonly token: string;
  readonly now: number;
  readonly until: number;
}

function* writeLease(database: Database, name: string, { token, until }: ChoreLease): Script<void> {
  const { chores: c } = database.tables;
  yield* execute(
    sql`update ${c.sql} set ${c.$.leaseToken} = ${token}, ${c.$.leaseUntil} = ${until} where ${c.$.name} = ${name}`,
  );
}

/** Takes the lease of a chore that is due and has no valid lease. @returns whether this process has the lease now */
export function* claimChore(database: Database, name: string, lease: ChoreLease): Script<boolean> {
  const row = yield* lockChore(database, name);
  if (!row || Number(row.dueAt) > lease.now || Number(row.leaseUntil) > lease.now) return false;
  yield* writeLease(database, name, lease);
  return true;
}

/** Takes a lease that is free or expired, or extends the lease of `token`. @returns whether `token` has the lease now */
export function* keepChore(database: Database, name: string, lease: ChoreLease): Script<boolean> {
  const row = yield* lockChore(database, name);
  if (!row || (row.leaseToken !== lease.token && Number(row.leaseUntil) > lease.now)) return false;
  yield* writeLease(database, name, lease);
  return true;
}

/**
 * Begins a batch: locks the chore's row for this transaction.
 *
 * @returns the position of the chore; `null` if another process has the lease now
 */
export function* resumeChore(database: Database, name: string, token: string): Script<number | null> {
  const row = yield* lockChore(database, name);
  return row?.leaseToken === token ? Number(row.position) : null;
}

/** Ends a batch, in the same transaction: stores the position and extends the lease. */
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

/** Releases the lease. @param dueAt the time of the next run. `undefined` means that the chore is not finished, and stays due */
export function* releaseChore(database: Database, name: string, token: string, dueAt?: number): Script<void> {
  const { sql: path, $ } = database.tables.chores;
  const next = dueAt === undefined ? sql`` : sql`, ${$.dueAt} = ${dueAt}`;
  yield* execute(
    sql`update ${path} set ${$.leaseToken} = ${null}, ${$.leaseUntil} = ${0}${next} where ${$.name} = ${name} and ${$.leaseToken} = ${token}`,
  );
}

/** Takes the turn of short work that needs no lease. @returns `false` if some process has had its turn in the last `everyMs` */
export function* takeTurn(
  database: Database,
  name: string,
  { now, everyMs }: { now: number; everyMs: number },
): Script<boolean> {
  yield* insertChores(database, [name], now);
  const row = yield* lockChore(database, name);
  // After the clock was set back, a turn may seem to be far in the future.
  const untilMs = Number(row?.dueAt) - now;
  if (untilMs > 0 && untilMs <= everyMs) return false;
  const { sql: path, $ } = database.tables.chores;
  yield* execute(sql`update ${path} set ${$.dueAt} = ${now + everyMs} where ${$.name} = ${name}`);
  return true;
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
