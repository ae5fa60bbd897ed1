import sql, { join, type Sql } from 'sql-template-tag';
import { ownerKeyOf } from '../../hash.js';
import { TASK_TRANSITIONS } from '../../health/transitions.js';
import { canBeStored } from '../database/can-be-stored.js';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import type { PagePosition } from '../database/page.js';
import { execute, query, type Script } from '../database/script.js';
import type { OwnerScope } from '../listeners/listener-rows.js';

/** A task: bulk work with a filter, an owner and an end. Numbers may come as text. */
export interface TaskRow {
  seq: unknown;
  id: string;
  kind: string;
  /** The owner who created the task; `null`: an operator, or the application. */
  owner: string | null;
  listenerId: string | null;
  /** JSON. */
  filter: string;
  ratePerSecond: unknown;
  state: string;
  /** The start of the next batch as JSON; `null` before the first batch. */
  position: string | null;
  done: unknown;
  estimate: unknown;
  actor: string | null;
  error: string | null;
  leaseToken: string | null;
  leaseUntil: unknown;
  createdAt: unknown;
  startedAt: unknown;
  endedAt: unknown;
  /** When the state or the progress changed last. */
  updatedAt: unknown;
}

const COLUMNS = [
  ...(['seq', 'id', 'kind', 'owner', 'listenerId', 'filter', 'ratePerSecond', 'state', 'position', 'done'] as const),
  ...([
    'estimate',
    'actor',
    'error',
    'leaseToken',
    'leaseUntil',
    'createdAt',
    'startedAt',
    'endedAt',
    'updatedAt',
  ] as const),
] as const;

/** The states in which a task has work left. */
export const UNFINISHED = Object.entries(TASK_TRANSITIONS).flatMap(([state, next]) =>
  state !== 'new' && next.length ? [state] : [],
);

export type NewTask = Pick<
  TaskRow,
  'id' | 'kind' | 'owner' | 'listenerId' | 'filter' | 'ratePerSecond' | 'estimate' | 'actor'
>;

/** Inserts a task that waits for a process. */
export function* insertTask(database: Database, task: NewTask, now: number): Script<void> {
  const { sql: path, $ } = database.tables.tasks;
  const values = {
    ...task,
    ownerKey: task.owner === null ? null : ownerKeyOf(task.owner),
    state: 'queued',
    done: 0,
    leaseUntil: 0,
    createdAt: now,
    updatedAt: now,
  };
  const keys = Object.keys(values) as (keyof typeof values)[];
  yield sql`insert into ${path} (${join(keys.map((key) => $[key]))}) values (${join(keys.map((key) => sql`${values[key]}`))})`;
}

/**
 * Counts unfinished tasks, to limit them. The lock makes calls that create tasks for the same listener or owner wait for each other.
 *
 * @param listenerId the tasks of this listener
 * @param owner the tasks that this owner has created
 */
export function* countUnfinished(
  database: Database,
  { listenerId, owner }: { listenerId: string | null; owner: string | null },
): Script<{ ofListener: number; ofOwner: number }> {
  const { tasks: t } = database.tables;
  const rows = yield* query<{ listenerId: string | null; owner: string | null }>(
    sql`select ${t.select('t', 'listenerId', 'owner')} from ${t.sql} t where t.${t.$.state} ${inList(UNFINISHED)}`,
  );
  return {
    ofListener: listenerId === null ? 0 : rows.filter((row) => row.listenerId === listenerId).length,
    ofOwner: owner === null ? 0 : rows.filter((row) => row.owner === owner).length,
  };
}

/** Reads a task. @param scope a task of another owner is not found */
export function* readTask(database: Database, id: string, scope: OwnerScope): Script<TaskRow | undefined> {
  if (!canBeStored(id)) return undefined;
  const [row] = yield* query<TaskRow>(sql`${selectTasks(database)} where t.${database.tables.tasks.$.id} = ${id}`);
  return row && isVisible(row, id, scope) ? row : undefined;
}

/** Compare with ===: a collation treats some different texts as equal. */
function isVisible(row: TaskRow, id: string, scope: OwnerScope): boolean {
  return row.id === id && (scope === undefined || row.owner === scope);
}

/** Lists tasks. The newest task comes first. */
export function* listTasks(
  database: Database,
  { scope, state, kind }: { scope: OwnerScope; state?: string; kind?: string },
  after: PagePosition | null,
  limit: number,
): Script<TaskRow[]> {
  const { tasks: t } = database.tables;
  const where = [sql`1 = 1`];
  if (scope !== undefined) where.push(sql`t.${t.$.ownerKey} = ${ownerKeyOf(scope)}`);
  if (state !== undefined) where.push(sql`t.${t.$.state} = ${state}`);
  if (kind !== undefined) where.push(sql`t.${t.$.kind} = ${kind}`);
  if (after) where.push(sql`t.${t.$.seq} < ${after.seq}`);
  const rows = yield* query<TaskRow>(
    sql`${selectTasks(database)} where ${join(where, ' and ')} order by t.${t.$.seq} desc limit ${limit}`,
  );
  return rows.filter((row) => scope === undefined || row.owner === scope);
}

/** The lease that a process wants. Times are in ms since 1970. */
export interface TaskLease {
  readonly token: string;
  readonly now: number;
  readonly until: number;
}

/**
 * Takes the lease of the oldest unfinished task that has no valid lease. This includes tasks whose process died.
 *
 * @param id only this task
 * @param except tasks that this process already works on
 */
export function* claimTask(
  database: Database,
  { token, now, until }: TaskLease,
  { id, except = [] }: { id?: string; except?: readonly string[] } = {},
): Script<TaskRow | undefined> {
  const { tasks: t } = database.tables;
  const isFree = sql`t.${t.$.state} ${inList(UNFINISHED)} and t.${t.$.leaseUntil} <= ${now}`;
  const isAsked = id === undefined ? sql`` : sql` and t.${t.$.id} = ${id}`;
  const isOther = except.length ? sql` and not t.${t.$.id} ${inList(except)}` : sql``;
  // A plain read finds the task, and a second statement locks it by its key. So a process waits for no other process.
  const found = yield* query<{ seq: unknown }>(
    sql`select ${t.select('t', 'seq')} from ${t.sql} t where ${isFree}${isAsked}${isOther} order by t.${t.$.seq} limit 8`,
  );
  for (const { seq } of found) {
    const [row] = yield* query<TaskRow>(
      sql`${selectTasks(database)}${t.byKey} where t.${t.$.seq} = ${seq} and ${isFree}${database.skipLocked}`,
    );
    if (!row) continue;
    const startedAt = row.startedAt ?? now;
    yield* execute(
      sql`update ${t.sql} set ${t.$.state} = ${'running'}, ${t.$.leaseToken} = ${token}, ${t.$.leaseUntil} = ${until}, ${t.$.startedAt} = ${startedAt}, ${t.$.updatedAt} = ${now} where ${t.$.seq} = ${seq}`,
    );
    return { ...row, state: 'running', startedAt, updatedAt: now };
  }
  return undefined;
}

/** Begins a batch: locks the task for this transaction. @returns `undefined` if the task was cancelled, or another process has the lease */
export function* resumeTask(database: Database, id: string, token: string): Script<TaskRow | undefined> {
  const row = yield* lockTask(database, id);
  return row?.state === 'running' && row.leaseToken === token ? row : undefined;
}

/** Ends a batch, in the same transaction: stores the progress, and extends the lease. */
export function* advanceTask(
  database: Database,
  id: string,
  { position, done, leaseUntil, now }: { position: string; done: number; leaseUntil: number; now: number },
): Script<void> {
  const { sql: path, $ } = database.tables.tasks;
  yield* execute(
    sql`update ${path} set ${$.position} = ${position}, ${$.done} = ${$.done} + ${done}, ${$.leaseUntil} = ${leaseUntil}, ${$.updatedAt} = ${now} where ${$.id} = ${id}`,
  );
}

/** Ends a running task, in the transaction of its last batch or after an error. */
export function* endTask(
  database: Database,
  id: string,
  { state, done, error, now }: { state: 'done' | 'failed'; done: number; error: string | null; now: number },
): Script<void> {
  const { sql: path, $ } = database.tables.tasks;
  yield* execute(
    sql`update ${path} set ${$.state} = ${state}, ${$.done} = ${$.done} + ${done}, ${$.error} = ${error}, ${$.leaseToken} = ${null}, ${$.leaseUntil} = ${0}, ${$.endedAt} = ${now}, ${$.updatedAt} = ${now} where ${$.id} = ${id}`,
  );
}

/** Releases the lease of a task that is not finished. Another process may continue at once. */
export function* releaseTask(database: Database, id: string, token: string): Script<void> {
  const { sql: path, $ } = database.tables.tasks;
  yield* execute(
    sql`update ${path} set ${$.leaseToken} = ${null}, ${$.leaseUntil} = ${0} where ${$.id} = ${id} and ${$.leaseToken} = ${token}`,
  );
}

/**
 * Cancels a task. The lock waits for a batch that is under way. After this transaction no further batch begins.
 *
 * @returns the task, and whether it was unfinished; `undefined` if there is no such task
 */
export function* cancelTask(
  database: Database,
  id: string,
  scope: OwnerScope,
  now: number,
): Script<{ row: TaskRow; isCancelled: boolean } | undefined> {
  const seen = yield* readTask(database, id, scope);
  const row = seen && (yield* lockTask(database, id));
  if (!row) return undefined;
  if (!UNFINISHED.includes(row.state)) return { row, isCancelled: false };
  const { sql: path, $ } = database.tables.tasks;
  yield* execute(
    sql`update ${path} set ${$.state} = ${'cancelled'}, ${$.leaseToken} = ${null}, ${$.leaseUntil} = ${0}, ${$.endedAt} = ${now}, ${$.updatedAt} = ${now} where ${$.id} = ${id}`,
  );
  return { row: { ...row, state: 'cancelled', endedAt: now, updatedAt: now }, isCancelled: true };
}

/** Deletes tasks that ended before a time. */
export function* pruneTasks(database: Database, before: number): Script<void> {
  const { sql: path, $ } = database.tables.tasks;
  yield* execute(sql`delete from ${path} where ${$.endedAt} is not null and ${$.endedAt} < ${before}`);
}

/** Deletes the tasks that an owner has created. A batch of such a task that is under way is committed first. */
export function* eraseTasks(database: Database, owner: string): Script<void> {
  const { sql: path, $ } = database.tables.tasks;
  yield* execute(sql`delete from ${path} where ${$.ownerKey} = ${ownerKeyOf(owner)}`);
}

function* lockTask(database: Database, id: string): Script<TaskRow | undefined> {
  const { tasks: t } = database.tables;
  const [row] = yield* query<TaskRow>(sql`${selectTasks(database)} where t.${t.$.id} = ${id}${database.forUpdate}`);
  return row;
}

/** The beginning of a query of tasks `t`. */
export function selectTasks({ tables: { tasks: t } }: Database): Sql {
  return sql`select ${t.select('t', ...COLUMNS)} from ${t.sql} t`;
}
