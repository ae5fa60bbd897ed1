import sql, { join, type Sql } from 'sql-template-tag';
import { newLease } from '../../ids.js';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { insertFromRows } from '../database/json-rows.js';
import { execute, query, type Script } from '../database/script.js';
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

/** An event that a claim leases. */
interface LeasedEvent {
  readonly seq: unknown;
  readonly createdAt: unknown;
  /** How often it was claimed before. */
  readonly claims: number;
}

/** The new leases of a batch: one for each number of earlier claims, because a lease stores this number once for all of its events. */
export class BatchLeases {
  private readonly byClaims = new Map<number, ReturnType<typeof newGroup>>();
  private readonly bySeq = new Map<string, EventLease>();

  /** @param deliveries the number of deliveries without a row */
  add(event: LeasedEvent, deliveries: number): void {
    const group = this.byClaims.get(event.claims) ?? newGroup();
    this.byClaims.set(event.claims, group);
    group.events.push(event);
    group.lease.left.set(String(event.seq), deliveries);
    this.bySeq.set(String(event.seq), group.lease);
  }

  /** The lease of an event that was added. */
  of({ seq }: Pick<LeasedEvent, 'seq'>): EventLease | undefined {
    return this.bySeq.get(String(seq));
  }

  /** Inserts the leases. The caller deletes the outbox rows of their events. */
  inserting(database: Database, until: number): Sql[] {
    if (!this.byClaims.size) return [];
    const rows = [...this.byClaims].map(([claims, { lease, events }]) => {
      const times = events.map(({ createdAt }) => Number(createdAt));
      return {
        ...{ token: lease.token, claims: claims + 1, events: toRuns(events.map(({ seq }) => String(seq))) },
        ...{ leaseUntil: until, firstAt: Math.min(...times), lastAt: Math.max(...times) },
      };
    });
    const columns = { token: 'text', claims: 'bigint', events: 'text' } as const;
    const times = { leaseUntil: 'bigint', firstAt: 'bigint', lastAt: 'bigint' } as const;
    return [insertFromRows(database, 'leases', { ...columns, ...times }, rows)];
  }
}

function newGroup(): { readonly lease: EventLease; readonly events: LeasedEvent[] } {
  return { lease: { token: newLease(), left: new Map() }, events: [] };
}

/** A delivery without a row, as far as its lease is concerned. */
interface Covered {
  readonly lease: EventLease | null;
  readonly event: { readonly seq: string };
}

/** Leases whose events change when deliveries are recorded or given back, with the events that they still name. Without events: a lease ends. */
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

/** The condition that a lease `l` exists. The index keeps PostgreSQL from a scan of the table, which it expects to be costly. */
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
