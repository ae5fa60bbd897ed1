import sql, { type Sql } from 'sql-template-tag';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { insertFromRows } from '../database/json-rows.js';
import { execute, query, type Script } from '../database/script.js';
import { fromRuns } from './sequence-runs.js';

/** The number of leases that one transaction ends. Each has the events of a batch. */
export const LEASES_PER_BATCH = 5;

interface ExpiredLease {
  readonly token: string;
  readonly claims: unknown;
  readonly events: string;
  readonly firstAt: unknown;
  readonly lastAt: unknown;
}

/**
 * Ends leases that have expired, and puts their events back into the outbox. The process of such a lease is dead, or is so late that its
 * records no longer count. An event that no longer exists is left out.
 *
 * @param limit of leases
 * @returns the sequences that are back in the outbox; `null` if no lease has expired
 */
export function* endExpiredLeases(database: Database, now: number, limit: number): Script<string[] | null> {
  const { leases: l, events: e } = database.tables;
  const expired = sql`l.${l.$.leaseUntil} <= ${now}`;
  const found = yield* query<{ token: string }>(
    sql`select ${l.select('l', 'token')} from ${l.sql} l where ${expired} order by l.${l.$.leaseUntil} limit ${limit}`,
  );
  if (!found.length) return null;
  const tokens = found.map(({ token }) => token);
  const locked = yield* query<ExpiredLease>(
    sql`select ${l.select('l', 'token', 'claims', 'events', 'firstAt', 'lastAt')} from ${l.sql} l${l.byKey} where l.${l.$.token} ${inList(tokens)} and ${expired} order by l.${l.$.token}${database.skipLocked}`,
  );
  if (!locked.length) return null;
  const back: string[] = [];
  for (const { claims, events, firstAt, lastAt } of locked) {
    for (const some of chunks([...fromRuns(events)])) {
      const rows = yield* query<{ seq: unknown; createdAt: unknown; orderKey: Uint8Array | null }>(
        sql`select ${e.select('e', 'seq', 'createdAt', 'orderKey')} from ${e.sql} e where e.${e.$.seq} ${inList(some)} and e.${e.$.createdAt} >= ${firstAt} and e.${e.$.createdAt} <= ${lastAt}`,
      );
      if (!rows.length) continue;
      yield outboxRows(database, rows, Number(claims));
      back.push(...rows.map(({ seq }) => String(seq)));
    }
  }
  yield* execute(sql`delete from ${l.sql} where ${l.$.token} ${inList(locked.map(({ token }) => token))}`);
  return back;
}

/** Inserts outbox rows of events that were claimed before. The next claim leaves out their deliveries that exist. */
export function outboxRows(
  database: Database,
  events: readonly { readonly seq: unknown; readonly createdAt: unknown; readonly orderKey: Uint8Array | null }[],
  claims: number,
): Sql {
  return insertFromRows(
    database,
    'outbox',
    { seq: 'bigint', eventAt: 'bigint', orderKey: 'hash', claims },
    events.map(({ seq, createdAt, orderKey }) => ({
      seq: String(seq),
      eventAt: Number(createdAt),
      orderKey: orderKey && Buffer.from(orderKey).toString('hex'),
    })),
  );
}
