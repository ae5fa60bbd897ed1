import sql, { raw } from 'sql-template-tag';
import { newId } from '../ids.js';
import { inList } from './chunks.js';
import type { Database } from './database.js';
import { execute, query, type Script } from './script.js';

/** A delivery that this process may send now, with all that is needed to send it. */
export interface ClaimedDelivery {
  readonly seq: string;
  readonly id: string;
  readonly leaseToken: string;
  /** Attempts made before this one. */
  readonly attempts: number;
  /** Attempts since the schedule began, or began again by a resend. */
  readonly retries: number;
  readonly type: string;
  readonly owner: string | null;
  readonly event: { readonly id: string; readonly payload: string };
  readonly body: string;
  readonly listener: {
    readonly id: string;
    readonly url: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly secrets: string;
    readonly schemes: readonly string[];
    readonly format: string;
  };
}

interface ClaimRow {
  seq: unknown;
  id: string;
  attempts: unknown;
  retries: unknown;
  type: string;
  owner: string | null;
  body: string | null;
  eventId: string;
  payload: string;
  thinPayload: string | null;
  listenerId: string;
  url: string;
  headers: string;
  secrets: string;
  schemes: string;
  format: string;
  listenerState: string;
  listenerDeletedAt: unknown;
}

/**
 * Leases due deliveries, the longest due first, to this process until `now + leaseMs`. Those whose lease ran out are due
 * again: their worker is dead, or so late that the fencing token makes its record void.
 *
 * Those of a listener that was disabled or removed while they were made or sent are held or discarded here instead: what
 * moved the waiting ones then could not see them.
 *
 * @param only restricts it to deliveries of these event ids (the inline mode)
 */
export function* claimDeliveries(
  database: Database,
  options: { now: number; leaseMs: number; limit: number; only?: readonly string[] },
): Script<ClaimedDelivery[]> {
  const { deliveries: d, events: e } = database.tables;
  const { now, limit } = options;
  const due = sql`d.${d.$.state} = ${'due'} and d.${d.$.nextAt} <= ${now}`;
  const expired = sql`d.${d.$.state} = ${'leased'} and d.${d.$.leaseUntil} <= ${now}`;
  const wanted = options.only
    ? sql` and d.${d.$.eventSeq} in (select e.${e.$.seq} from ${e.sql} e where e.${e.$.id} ${inList(options.only)})`
    : sql``;
  const seqs: unknown[] = [];
  // One after the other, so that each keeps to its own index.
  for (const { claimable, by } of [
    { claimable: due, by: d.$.nextAt },
    { claimable: expired, by: d.$.leaseUntil },
  ]) {
    if (seqs.length >= limit) break;
    const found = yield* query<{ seq: unknown }>(
      sql`select ${d.select('d', 'seq')} from ${d.sql} d where ${claimable}${wanted} order by d.${by}, d.${d.$.seq} limit ${limit - seqs.length}`,
    );
    if (!found.length) continue;
    const candidates = found.map(({ seq }) => seq);
    if (database.dialect === 'sqlite') {
      seqs.push(...candidates);
      continue;
    }
    const locked = yield* query<{ seq: unknown }>(
      sql`select ${d.select('d', 'seq')} from ${d.sql} d where d.${d.$.seq} ${inList(candidates)} and ${claimable} order by d.${d.$.seq}${raw(database.skipLocked)}`,
    );
    seqs.push(...locked.map(({ seq }) => seq));
  }
  if (!seqs.length) return [];

  const leaseToken = newId('lease');
  yield* execute(
    sql`update ${d.sql} set ${d.$.state} = ${'leased'}, ${d.$.leaseToken} = ${leaseToken}, ${d.$.leaseUntil} = ${now + options.leaseMs} where ${d.$.seq} ${inList(seqs)}`,
  );
  const rows = yield* readClaimed(database, seqs);
  const stopped = rows.filter((row) => isStopped(row));
  if (!stopped.length) return rows.map((row) => claimed(row, leaseToken));
  yield* putAside(database, stopped, now);
  const sendable = rows.filter((row) => !isStopped(row)).map((row) => claimed(row, leaseToken));
  return sendable.length ? sendable : yield* claimDeliveries(database, options);
}

function isStopped({ listenerState, listenerDeletedAt }: ClaimRow): boolean {
  return listenerState !== 'active' || listenerDeletedAt !== null;
}

/** Holds or discards what the listener's state, read again under its lock, says; or makes it due, if it has just been enabled. */
function* putAside(database: Database, rows: readonly ClaimRow[], now: number): Script<void> {
  const { deliveries: d, listeners: l } = database.tables;
  const lock = database.dialect === 'sqlite' ? sql`` : sql` for update`;
  for (const listenerId of [...new Set(rows.map((row) => row.listenerId))].toSorted()) {
    const [listener] = yield* query<{ state: string; deletedAt: unknown }>(
      sql`select ${l.select('l', 'state', 'deletedAt')} from ${l.sql} l where l.${l.$.id} = ${listenerId}${lock}`,
    );
    const isRemoved = !listener || listener.deletedAt !== null;
    const state = isRemoved ? 'discarded' : listener.state === 'active' ? 'due' : 'held';
    const finished = isRemoved ? sql`, ${d.$.finishedAt} = ${now}` : sql``;
    const seqs = rows.filter((row) => row.listenerId === listenerId).map((row) => row.seq);
    yield* execute(
      sql`update ${d.sql} set ${d.$.state} = ${state}, ${d.$.leaseToken} = ${null}, ${d.$.leaseUntil} = ${null}${finished} where ${d.$.seq} ${inList(seqs)}`,
    );
  }
}

function* readClaimed(database: Database, seqs: readonly unknown[]): Script<ClaimRow[]> {
  const { deliveries: d, events: e, listeners: l } = database.tables;
  return yield* query<ClaimRow>(
    sql`select ${d.select('d', 'seq', 'id', 'attempts', 'retries', 'type', 'owner', 'body')}, e.${e.$.id} ${e.as('eventId')}, ${e.select('e', 'payload', 'thinPayload')}, l.${l.$.id} ${l.as('listenerId')}, l.${l.$.state} ${l.as('listenerState')}, l.${l.$.deletedAt} ${l.as('listenerDeletedAt')}, ${l.select('l', 'url', 'headers', 'secrets', 'schemes', 'format')}
    from ${d.sql} d
    join ${e.sql} e on e.${e.$.seq} = d.${d.$.eventSeq}
    join ${l.sql} l on l.${l.$.id} = d.${d.$.listenerId}
    where d.${d.$.seq} ${inList(seqs)} order by d.${d.$.seq}`,
  );
}

function claimed(row: ClaimRow, leaseToken: string): ClaimedDelivery {
  return {
    seq: String(row.seq),
    id: row.id,
    leaseToken,
    attempts: Number(row.attempts),
    retries: Number(row.retries),
    type: row.type,
    owner: row.owner,
    event: { id: row.eventId, payload: row.payload },
    body: row.body ?? row.thinPayload ?? row.payload,
    listener: {
      id: row.listenerId,
      url: row.url,
      headers: JSON.parse(row.headers) as Record<string, string>,
      secrets: row.secrets,
      schemes: JSON.parse(row.schemes) as string[],
      format: row.format,
    },
  };
}

/** When the next delivery becomes due, or a lease runs out; `null` when nothing waits. */
export function* nextDueAt(database: Database): Script<number | null> {
  const { sql: path, $ } = database.tables.deliveries;
  const [due] = yield* query<{ at: unknown }>(
    sql`select min(${$.nextAt}) as at from ${path} where ${$.state} = ${'due'}`,
  );
  return due?.at === null || due?.at === undefined ? null : Number(due.at);
}
