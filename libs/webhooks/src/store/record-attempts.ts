import sql, { bulk, join, raw, type Sql } from 'sql-template-tag';
import { chunks, inList } from './chunks.js';
import type { Database } from './database.js';
import { typed } from './dialect-sql.js';
import { execute, query, type Script } from './script.js';

/** One attempt that was made, and what it makes of its delivery. */
export interface AttemptRecord {
  readonly deliverySeq: string;
  readonly leaseToken: string;
  readonly number: number;
  readonly outcome: string;
  readonly status: number | null;
  readonly errorCode: string | null;
  readonly errorDetail: string | null;
  readonly durationMs: number;
  readonly response: string | null;
  readonly startedAt: number;
  readonly next: {
    readonly state: 'succeeded' | 'due' | 'exhausted';
    /** When to try again, for `due`; otherwise when it ended. */
    readonly at: number;
  };
}

/**
 * Records attempts and moves their deliveries, in one transaction. Only a lease that still stands moves anything: an
 * attempt of a worker that lost its lease did happen, and is kept as `superseded`.
 *
 * @returns sequences of the deliveries that moved
 */
export function* recordAttempts(database: Database, records: readonly AttemptRecord[]): Script<Set<string>> {
  const moved = new Set<string>();
  for (const some of chunks(records, 250)) {
    const held = yield* heldLeases(database, some);
    const current = some.filter((record) => held.get(record.deliverySeq) === record.leaseToken);
    if (current.length) yield* moveDeliveries(database, current);
    for (const { deliverySeq } of current) moved.add(deliverySeq);
    yield* insertAttempts(database, some, moved);
  }
  return moved;
}

function* heldLeases(database: Database, records: readonly AttemptRecord[]): Script<Map<string, string | null>> {
  const { deliveries: d } = database.tables;
  const lock = database.dialect === 'sqlite' ? '' : ' for update';
  const rows = yield* query<{ seq: unknown; leaseToken: string | null }>(
    sql`select ${d.select('d', 'seq', 'leaseToken')} from ${d.sql} d where d.${d.$.seq} ${inList(records.map((r) => r.deliverySeq))} and d.${d.$.state} = ${'leased'} order by d.${d.$.seq}${raw(lock)}`,
  );
  return new Map(rows.map((row) => [String(row.seq), row.leaseToken]));
}

function* moveDeliveries(database: Database, records: readonly AttemptRecord[]): Script<void> {
  const { sql: path, $ } = database.tables.deliveries;
  const { dialect } = database;
  const each = (type: 'bigint' | 'integer' | 'text', valueOf: (record: AttemptRecord) => unknown): Sql =>
    sql`case ${$.seq} ${join(
      records.map((r) => sql`when ${typed(dialect, 'bigint', r.deliverySeq)} then ${typed(dialect, type, valueOf(r))}`),
      ' ',
    )} end`;
  yield* execute(
    sql`update ${path} set
      ${$.state} = ${each('text', (r) => r.next.state)},
      ${$.attempts} = ${$.attempts} + 1,
      ${$.retries} = ${$.retries} + 1,
      ${$.nextAt} = ${each('bigint', (r) => r.next.at)},
      ${$.finishedAt} = ${each('bigint', (r) => (r.next.state === 'due' ? null : r.next.at))},
      ${$.lastStatus} = ${each('integer', (r) => r.status)},
      ${$.lastError} = ${each('text', (r) => r.errorCode)},
      ${$.leaseToken} = ${null},
      ${$.leaseUntil} = ${null}
    where ${$.seq} ${inList(records.map((r) => r.deliverySeq))}`,
  );
}

function* insertAttempts(
  database: Database,
  records: readonly AttemptRecord[],
  moved: ReadonlySet<string>,
): Script<void> {
  const { sql: path, $ } = database.tables.attempts;
  const rows = records.map((r) => [
    r.deliverySeq,
    r.number,
    r.outcome,
    r.status,
    r.errorCode,
    r.errorDetail,
    r.durationMs,
    r.response,
    moved.has(r.deliverySeq) ? 0 : 1,
    r.startedAt,
  ]);
  yield sql`insert into ${path} (${$.deliverySeq}, ${$.number}, ${$.outcome}, ${$.status}, ${$.errorCode}, ${$.errorDetail}, ${$.durationMs}, ${$.response}, ${$.superseded}, ${$.startedAt}) values ${bulk(rows)}`;
}

/** Gives leased deliveries back unsent, as a dispatcher does that stops. */
export function* releaseDeliveries(
  database: Database,
  leases: readonly { seq: string; leaseToken: string }[],
): Script<void> {
  const { sql: path, $ } = database.tables.deliveries;
  for (const some of chunks(leases)) {
    yield* execute(
      sql`update ${path} set ${$.state} = ${'due'}, ${$.leaseToken} = ${null}, ${$.leaseUntil} = ${null} where ${$.seq} ${inList(some.map((l) => l.seq))} and ${$.leaseToken} ${inList([...new Set(some.map((l) => l.leaseToken))])}`,
    );
  }
}
