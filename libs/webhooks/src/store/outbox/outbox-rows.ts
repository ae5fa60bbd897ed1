import sql, { type Sql } from 'sql-template-tag';
import { anyOf, chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { atTimes } from '../database/event-times.js';
import { insertFromRows } from '../database/json-rows.js';
import { query, type Row, type Script, together } from '../database/script.js';
import { selectEvent, type ClaimedEvent } from './outbox-events.js';

/** An outbox row that a transaction has locked, with its event. */
export interface OutboxEvent extends ClaimedEvent {
  /** How often the event was claimed before. If it was claimed, some of its deliveries may exist or may have been sent. */
  readonly claims: unknown;
  /** For a wide event: the id of the last listener that was processed. */
  readonly routedThrough: string | null;
}

export interface LockedOutbox {
  readonly events: readonly OutboxEvent[];
  /** Rows whose event no longer exists or no longer has content, because it was deleted by hand or erased. */
  readonly orphans: readonly unknown[];
  /** Sequences of the rows found, including those that another worker has locked. */
  readonly found: readonly unknown[];
  /** The rows of the statement that was sent together with the claim; `undefined` if it was not sent. */
  readonly beside: readonly Row[] | undefined;
}

interface FoundRow {
  readonly outboxSeq: unknown;
  readonly id: string | null;
  readonly payload: string | null;
}

/**
 * Locks the first outbox rows that meet a condition on `o`, with their events. Rows that other workers have locked are skipped.
 *
 * @param isAwaited on MySQL and MariaDB: wait for locked rows. There, a claim that comes too late still holds locks on the rows that it
 * found
 * @param beside a statement that is sent together with the claim. It is not sent on MySQL and MariaDB
 */
export function* lockOutbox(
  database: Database,
  {
    where,
    limit,
    isAwaited = false,
    beside,
  }: { where: Sql; limit: number; isAwaited?: boolean; beside?: Sql | undefined },
): Script<LockedOutbox> {
  const { outbox: o, events: e } = database.tables;
  const columns = sql`o.${o.$.seq} ${o.as('outboxSeq')}, ${o.select('o', 'claims', 'routedThrough')}`;
  const first = sql`where ${where} order by o.${o.$.seq} limit ${limit}`;
  if (database.dialect === 'mysql') return yield* lockInSteps(database, { where, columns, first, isAwaited });
  if (database.isPartitioned) return yield* lockPartitioned(database, { columns, first, beside });
  const lock = database.dialect === 'postgres' ? sql` for update of o skip locked` : sql``;
  const claim = sql`select ${columns}, ${selectEvent(database)} from ${o.sql} o left join ${e.sql} e on e.${e.$.seq} = o.${o.$.seq} ${first}${lock}`;
  const [rows, others] = yield* together(beside ? [claim, beside] : [claim], { isEnd: false });
  const found = (rows?.rows ?? []) as unknown as FoundRow[];
  return { ...sorted(found), found: found.map(({ outboxSeq }) => outboxSeq), beside: others?.rows };
}

/**
 * InnoDB locks every index record that a locking read passes, so this function finds rows by a plain read and then locks them by key. It
 * reads the events without a lock: otherwise a locked event would be skipped, as if it did not exist. Only the search for wide events may use
 * the index of wide events: with old statistics, MariaDB would also choose it for all others, and read them from the start.
 */
function* lockInSteps(
  database: Database,
  { where, columns, first, isAwaited }: { where: Sql; columns: Sql; first: Sql; isAwaited: boolean },
): Script<LockedOutbox> {
  const { outbox: o, events: e } = database.tables;
  const path = isAwaited ? sql`` : o.byKey;
  const found = (yield* query<{ seq: unknown }>(
    sql`select ${o.select('o', 'seq')} from ${o.sql} o${path} ${first}`,
  )).map(({ seq }) => seq);
  const nothing = { events: [], orphans: [], found, beside: undefined };
  if (!found.length) return nothing;
  const locked = yield* query<FoundRow>(
    sql`select ${columns} from ${o.sql} o${o.byKey} where o.${o.$.seq} ${inList(found)} and ${where} order by o.${o.$.seq}${isAwaited ? database.forUpdate : database.skipLocked}`,
  );
  if (!locked.length) return nothing;
  const events = yield* query<ClaimedEvent>(
    sql`select ${selectEvent(database)} from ${e.sql} e${e.byKey} where e.${e.$.seq} ${inList(locked.map(({ outboxSeq }) => outboxSeq))}`,
  );
  return { ...nothing, ...sorted(withEvents(locked, events)) };
}

/**
 * With partitions, the events are read by a statement of their own, which names their times. In a join, PostgreSQL would not know the times
 * before it runs the statement, and would plan and lock each partition.
 */
function* lockPartitioned(
  database: Database,
  { columns, first, beside }: { columns: Sql; first: Sql; beside: Sql | undefined },
): Script<LockedOutbox> {
  const { outbox: o, events: e } = database.tables;
  const claim = sql`select ${columns}, ${o.select('o', 'eventAt')} from ${o.sql} o ${first}${database.skipLocked}`;
  const [rows, others] = yield* together(beside ? [claim, beside] : [claim], { isEnd: false });
  const locked = (rows?.rows ?? []) as unknown as (FoundRow & { readonly eventAt: unknown })[];
  const found = locked.map(({ outboxSeq }) => outboxSeq);
  if (!found.length) return { events: [], orphans: [], found, beside: others?.rows };
  const at = atTimes(
    database,
    sql`e.${e.$.createdAt}`,
    locked.map(({ eventAt }) => eventAt),
  );
  const events = yield* query<ClaimedEvent>(
    sql`select ${selectEvent(database)} from ${e.sql} e where e.${e.$.seq} ${anyOf(found)}${at}`,
  );
  return { ...sorted(withEvents(locked, events)), found, beside: others?.rows };
}

/** Joins outbox rows with their events. A row without an event gets no id. */
function withEvents(locked: readonly FoundRow[], events: readonly ClaimedEvent[]): FoundRow[] {
  const bySeq = new Map(events.map((event) => [String(event.seq), event]));
  return locked.map((row) => Object.assign({}, row, bySeq.get(String(row.outboxSeq)) ?? { id: null, payload: null }));
}

function sorted(rows: readonly FoundRow[]): Pick<LockedOutbox, 'events' | 'orphans'> {
  return {
    events: rows.filter((row) => hasContent(row)) as unknown as OutboxEvent[],
    orphans: rows.filter((row) => !hasContent(row)).map(({ outboxSeq }) => outboxSeq),
  };
}

function hasContent({ id, payload }: FoundRow): boolean {
  return id !== null && payload !== null;
}

/** Deletes outbox rows that this transaction has locked: a lease names their events, or every delivery of their events is on record. */
export function deletingRows(database: Database, seqs: readonly unknown[]): Sql[] {
  const { sql: path, $ } = database.tables.outbox;
  return keyed(database, seqs, (are) => sql`delete from ${path} where ${$.seq} ${are}`);
}

/** Stores the progress of a wide event. Only wide events have a cursor. */
export function movingCursor(database: Database, seqs: readonly unknown[], through: string): Sql[] {
  const { sql: path, byKey, $ } = database.tables.outbox;
  return keyed(
    database,
    seqs,
    (are) => sql`update ${path}${byKey} set ${$.routedThrough} = ${through} where ${$.seq} ${are}`,
  );
}

/** Marks events that cannot be routed as damaged. Nothing is sent for them until they are put back into the outbox. */
export function markingDamaged(
  database: Database,
  events: readonly { readonly event: ClaimedEvent; readonly reason: string }[],
  now: number,
): Sql[] {
  if (!events.length) return [];
  const insert = insertFromRows(
    database,
    'damaged',
    { seq: 'bigint', eventAt: 'bigint', reason: 'text', createdAt: now },
    events.map(({ event, reason }) => ({ seq: String(event.seq), eventAt: Number(event.createdAt), reason })),
  );
  const seqs = events.map(({ event }) => event.seq);
  return [insert, ...deletingRows(database, seqs)];
}

function keyed({ dialect }: Database, seqs: readonly unknown[], statement: (are: Sql) => Sql): Sql[] {
  return [...chunks(seqs)].map((some) => statement(dialect === 'postgres' ? anyOf(some) : inList(some)));
}

/**
 * Whether the outbox has more rows than `count`. The rows are counted only if the first and the last sequence are so far apart that this is
 * possible.
 */
export function* hasMoreRows(database: Database, count: number): Script<boolean> {
  const { outbox: o } = database.tables;
  const [row] = yield* query<{ span: unknown }>(
    sql`select max(o.${o.$.seq}) - min(o.${o.$.seq}) as span from ${o.sql} o`,
  );
  if (Number(row?.span ?? 0) < count) return false;
  const beyond = yield* query(
    sql`select ${o.select('o', 'seq')} from ${o.sql} o order by o.${o.$.seq} limit 1 offset ${count}`,
  );
  return beyond.length > 0;
}
