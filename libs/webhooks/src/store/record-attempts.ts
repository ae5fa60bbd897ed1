import sql, { bulk, raw } from 'sql-template-tag';
import { afterAttempts, type CircuitPolicy, type HealthSign } from '../listeners/circuit.js';
import { chunks, inList } from './chunks.js';
import type { Database } from './database.js';
import { jsonRows, updateFromRows } from './json-rows.js';
import { expectDeliveries, lockListenerStates, nextDueOf, readyFrom, writeListenerStates } from './listener-state.js';
import { disableListener } from './listener-rows.js';
import { execute, query, type Script } from './script.js';

/** One attempt that was made, and what it makes of its delivery. */
export interface AttemptRecord {
  readonly deliverySeq: string;
  readonly leaseToken: string;
  readonly listenerId: string;
  /** The listener was failing before: a success is to be noted. */
  readonly wasFailing: boolean;
  /** Later deliveries of the same row wait for this one. */
  readonly isOrdered: boolean;
  readonly number: number;
  readonly outcome: string;
  readonly status: number | null;
  readonly errorCode: string | null;
  readonly errorDetail: string | null;
  readonly durationMs: number;
  readonly response: string | null;
  readonly retryAfterMs: number | null;
  readonly startedAt: number;
  readonly next: {
    readonly state: 'succeeded' | 'due' | 'exhausted';
    /** When to try again, for `due`; otherwise when it ended. */
    readonly at: number;
  };
}

export interface RecordResult {
  /** Sequences of the deliveries that moved. */
  readonly moved: ReadonlySet<string>;
  /** Listeners that may not be sent to for a while. */
  readonly paused: ReadonlySet<string>;
  readonly disabled: readonly { listenerId: string; reason: string }[];
}

/** 410 Gone: the receiver says that it wants no more (Standard Webhooks specification). */
export const GONE = 410;
const DISABLED_BY_410 = 'the endpoint answered 410 Gone';

/**
 * Records attempts, moves their deliveries and judges the health of their listeners, in one transaction. Only a lease that
 * still stands moves anything: an attempt of a worker that lost its lease did happen, and is kept as `superseded`.
 *
 * A listener that succeeds, as it did before, costs nothing here: its row is left alone.
 */
export function* recordAttempts(
  database: Database,
  records: readonly AttemptRecord[],
  { now, circuit }: { now: number; circuit: CircuitPolicy },
): Script<RecordResult> {
  const moved = new Set<string>();
  for (const some of chunks(records, 500)) {
    const held = yield* heldLeases(database, some);
    const current = some.filter((record) => held.get(record.deliverySeq) === record.leaseToken);
    if (current.length) yield* moveDeliveries(database, current);
    for (const { deliverySeq } of current) moved.add(deliverySeq);
    yield* insertAttempts(database, some, moved);
  }
  const health = yield* judgeListeners(
    database,
    records.filter((r) => moved.has(r.deliverySeq)),
    now,
    circuit,
  );
  return { moved, ...health };
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
  const { $ } = database.tables.deliveries;
  const rows = jsonRows(
    database.dialect,
    {
      ...({ seq: 'bigint', state: 'text', next: 'bigint', finished: 'bigint' } as const),
      ...({ status: 'bigint', error: 'text' } as const),
    },
    records.map((r) => ({
      seq: Number(r.deliverySeq),
      state: r.next.state,
      next: r.next.at,
      finished: r.next.state === 'due' ? null : r.next.at,
      status: r.status,
      error: r.errorCode,
    })),
  );
  yield updateFromRows(database, 'deliveries', rows, {
    state: sql`r.state`,
    attempts: sql`t.${$.attempts} + 1`,
    retries: sql`t.${$.retries} + 1`,
    nextAt: sql`r.next`,
    finishedAt: sql`r.finished`,
    lastStatus: sql`r.status`,
    lastError: sql`r.error`,
    leaseToken: sql`null`,
    leaseUntil: sql`null`,
  });
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

function* judgeListeners(
  database: Database,
  records: readonly AttemptRecord[],
  now: number,
  circuit: CircuitPolicy,
): Script<Omit<RecordResult, 'moved'>> {
  const signs = new Map<string, HealthSign[]>();
  // The next of its row may go now: whoever looks at the listener finds it.
  const freed = new Map<string, number>();
  const gone = new Set<string>();
  for (const record of records) {
    if (record.status === GONE) gone.add(record.listenerId);
    if (record.isOrdered) freed.set(record.listenerId, now);
    const { listenerId, status, retryAfterMs, startedAt: at } = record;
    const accepted = record.outcome === 'accepted';
    const of = signs.get(listenerId);
    if (of) of.push({ accepted, status, retryAfterMs, at });
    else signs.set(listenerId, [{ accepted, status, retryAfterMs, at }]);
  }
  const changing = new Set(
    records.filter((r) => r.wasFailing || r.outcome !== 'accepted').map(({ listenerId }) => listenerId),
  );
  const paused = new Set<string>();
  const givenUp = new Map<string, number>();
  if (changing.size) {
    const states = yield* lockListenerStates(database, [...changing]);
    const next = yield* nextDueOf(database, [...changing]);
    const after = states.map((before) => {
      const { state, giveUp } = afterAttempts(before, signs.get(before.listenerId) ?? [], now, circuit);
      if (giveUp) givenUp.set(state.listenerId, state.failingSince ?? now);
      if (state.pausedUntil !== null && state.pausedUntil > now) paused.add(state.listenerId);
      return { ...state, readyAt: readyFrom(next.get(state.listenerId), state.pausedUntil) };
    });
    yield* writeListenerStates(database, after);
  }
  for (const listenerId of changing) freed.delete(listenerId);
  yield* expectDeliveries(database, freed);
  const reasons = [
    ...[...gone].map((listenerId) => ({ listenerId, reason: DISABLED_BY_410 })),
    ...[...givenUp].map(([listenerId, since]) => ({
      listenerId,
      reason: `every attempt has failed since ${new Date(since).toISOString()}`,
    })),
  ];
  const disabled: { listenerId: string; reason: string }[] = [];
  for (const { listenerId, reason } of reasons.toSorted((a, b) => (a.listenerId < b.listenerId ? -1 : 1))) {
    if (yield* disableListener(database, listenerId, reason, now)) disabled.push({ listenerId, reason });
  }
  return { paused, disabled };
}

/** Gives leased deliveries back unsent: their process stops, or their listener is paused. */
export function* releaseDeliveries(
  database: Database,
  leases: readonly { seq: string; leaseToken: string; listener: { id: string } }[],
  now: number,
): Script<void> {
  const { sql: path, $ } = database.tables.deliveries;
  for (const some of chunks(leases.toSorted((a, b) => Number(a.seq) - Number(b.seq)))) {
    yield* execute(
      sql`update ${path} set ${$.state} = ${'due'}, ${$.leaseToken} = ${null}, ${$.leaseUntil} = ${null} where ${$.seq} ${inList(some.map((l) => l.seq))} and ${$.leaseToken} ${inList([...new Set(some.map((l) => l.leaseToken))])}`,
    );
  }
  yield* expectDeliveries(database, new Map(leases.map(({ listener }) => [listener.id, now])));
}
