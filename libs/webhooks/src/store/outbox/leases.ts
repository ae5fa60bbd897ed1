import sql, { join, type Sql } from 'sql-template-tag';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { query, type Script } from '../database/script.js';
import { fromRuns, toRuns } from './sequence-runs.js';

/**
 * A lease of a batch of events. It covers their deliveries that have no row: only the process with the lease sends and records them.
 *
 * An event is in the outbox, or one lease names it, or all of its deliveries are on record. A claim moves it from the outbox to a lease, in
 * one transaction. The record of its last delivery takes it out of the lease. If the lease expires first, the event goes back to the outbox.
 */
export interface EventLease {
  readonly token: string;
  /**
   * The number of deliveries of each event that this process has not recorded yet, by the sequence of the event. The count is in memory,
   * because the parts of one statement cannot see each other's rows.
   */
  readonly left: Map<string, number>;
}

/** A delivery without a row, as far as its lease is concerned. */
interface Covered {
  readonly lease: EventLease | null;
  readonly event: { readonly seq: string };
}

/** Leases that change when deliveries are recorded or given back, with the events that they still name. A lease without events ends. */
export type LeaseChanges = ReadonlyMap<EventLease, readonly string[]>;

/** The changes of leases when these deliveries are on record: an event leaves its lease with the last of its deliveries. */
export function changesOf(deliveries: readonly Covered[]): LeaseChanges {
  const recorded = new Map<EventLease, Map<string, number>>();
  for (const { lease, event } of deliveries) {
    if (!lease) continue;
    const counts = recorded.get(lease) ?? new Map<string, number>();
    recorded.set(lease, counts.set(event.seq, (counts.get(event.seq) ?? 0) + 1));
  }
  const changes = new Map<EventLease, string[]>();
  for (const [lease, counts] of recorded) {
    const kept = [...lease.left].filter(([seq, left]) => left > (counts.get(seq) ?? 0)).map(([seq]) => seq);
    if (kept.length < lease.left.size) changes.set(lease, kept);
  }
  return changes;
}

/** Counts deliveries as on record. Call it after the commit, before the next record of this process begins. */
export function settleLeases(deliveries: readonly Covered[]): void {
  for (const { lease, event } of deliveries) {
    const left = lease?.left.get(event.seq);
    if (lease && left !== undefined) {
      if (left > 1) lease.left.set(event.seq, left - 1);
      else lease.left.delete(event.seq);
    }
  }
}

/**
 * Locks leases in the order of their tokens, and waits for other transactions that hold them.
 *
 * @returns the tokens of the leases that still hold
 */
export function* lockLeases(database: Database, leases: Iterable<EventLease>): Script<Set<string>> {
  const tokens = new Set([...leases].map(({ token }) => token));
  return new Set((yield* lockTokens(database, [...tokens])).map(({ token }) => token));
}

function* lockTokens(
  database: Database,
  tokens: readonly string[],
): Script<{ readonly token: string; readonly events: string }[]> {
  const { leases: l } = database.tables;
  const locked: { readonly token: string; readonly events: string }[] = [];
  for (const some of chunks(tokens.toSorted())) {
    locked.push(
      ...(yield* query<{ token: string; events: string }>(
        sql`select ${l.select('l', 'token', 'events')} from ${l.sql} l${l.byKey} where l.${l.$.token} ${inList(some)} order by l.${l.$.token}${database.forUpdate}`,
      )),
    );
  }
  return locked;
}

/** Stores changes of leases that this transaction has locked. */
export function changingLeases({ tables: { leases: l } }: Database, changes: LeaseChanges): Sql[] {
  const ended: string[] = [];
  const kept: [token: string, events: string][] = [];
  for (const [{ token }, seqs] of changes) {
    if (seqs.length) kept.push([token, toRuns(seqs)]);
    else ended.push(token);
  }
  const statements: Sql[] = [];
  if (ended.length) statements.push(sql`delete from ${l.sql} where ${l.$.token} ${inList(ended)}`);
  if (kept.length) {
    const cases = join(
      kept.map(([token, events]) => sql`when ${token} then ${events}`),
      ' ',
    );
    const tokens = inList(kept.map(([token]) => token));
    statements.push(
      sql`update ${l.sql}${l.byKey} set ${l.$.events} = case ${l.$.token} ${cases} end where ${l.$.token} ${tokens}`,
    );
  }
  return statements;
}

/** A condition that each lease `l` meets. With it, PostgreSQL reads the index: the store switches scans of tables off. */
export function anyLease({ tables: { leases: l } }: Database): Sql {
  return sql`l.${l.$.leaseUntil} > 0`;
}

/** The sequences that these texts name, out of the given ones. */
export function namedIn(texts: Iterable<string>, seqs: readonly unknown[]): Set<string> {
  const asked = new Set(seqs.map(String));
  const named = new Set<string>();
  for (const text of texts) for (const seq of fromRuns(text)) if (asked.has(seq)) named.add(seq);
  return named;
}

/** Reads the sequences of all events that are being sent. */
export function* readLeasedSequences(database: Database): Script<string[]> {
  const { leases: l } = database.tables;
  const rows = yield* query<{ events: string }>(
    sql`select ${l.select('l', 'events')} from ${l.sql} l where ${anyLease(database)}`,
  );
  return rows.flatMap(({ events }) => [...fromRuns(events)]);
}

/**
 * Locks events until the end of the transaction, so that no claim begins to send them, and no record ends them. Waits for transactions that
 * claim or record them: afterwards their deliveries are visible.
 *
 * @returns the events that a process is sending
 */
export function* lockUnfinished(database: Database, seqs: readonly unknown[]): Script<ReadonlySet<string>> {
  const { outbox: o } = database.tables;
  const sorted = seqs.toSorted((a, b) => Number(a) - Number(b));
  if (!sorted.length) return new Set();
  const locked = new Map<string, string>();
  for (;;) {
    // A record locks the lease first. A claim locks the outbox row, and no lease that exists.
    const before = yield* tokensNaming(database, sorted);
    const missing = before.filter((token) => !locked.has(token));
    const found = yield* lockTokens(database, missing);
    for (const { token, events } of found) locked.set(token, events);
    for (const some of chunks(sorted)) {
      yield sql`select ${o.select('o', 'seq')} from ${o.sql} o${o.byKey} where o.${o.$.seq} ${inList(some)} order by o.${o.$.seq}${database.forUpdate}`;
    }
    // An event may have moved from the outbox to a lease, or back, before its row was locked.
    const isSettled = found.length === missing.length;
    if (isSettled && (yield* tokensNaming(database, sorted)).every((token) => locked.has(token)))
      return namedIn(locked.values(), sorted);
  }
}

/** The tokens of the leases that name at least one of these events. */
function* tokensNaming(database: Database, seqs: readonly unknown[]): Script<string[]> {
  const { leases: l } = database.tables;
  const rows = yield* query<{ token: string; events: string }>(
    sql`select ${l.select('l', 'token', 'events')} from ${l.sql} l where ${anyLease(database)}`,
  );
  return rows.filter(({ events }) => namedIn([events], seqs).size).map(({ token }) => token);
}
