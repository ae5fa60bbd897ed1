import sql, { join, type Sql } from 'sql-template-tag';
import { afterAttempts, isOpen, type CircuitPolicy, type HealthSign } from '../../health/circuit.js';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { insertFromRows, jsonRows, updateFromRows } from '../database/json-rows.js';
import {
  expectDeliveries,
  lockListenerStates,
  nextDueOf,
  readyFrom,
  refreshReadyAt,
  writeListenerStates,
} from '../listeners/listener-state.js';
import { disableListener } from '../listeners/listener-rows.js';
import { execute, query, type Script } from '../database/script.js';
import { findStoredAttempts, readVerdicts, type StoredAttempts } from './stored-attempts.js';
import { STATUS_GONE } from '../../health/next-state.js';
import type { AttemptRecord, RecordResult } from './attempt-record.js';

/** Each record has up to 4 KB of response. */
const RECORDS_PER_STATEMENT = 500;
const DISABLED_BY_410 = 'the endpoint answered 410 Gone';

/**
 * Records attempts, changes the state of their deliveries and updates the health of their listeners, in one transaction. An attempt changes
 * its delivery only if its lease is still valid. The attempt of a worker that lost its lease was still made: it is stored as `superseded`.
 *
 * For a listener that succeeds as before, nothing else is written.
 *
 * @param records in the order in which the attempts ended
 * @param options `mayBeStored`: records that an earlier try may have committed, although it failed
 */
export function* recordAttempts(
  database: Database,
  records: readonly AttemptRecord[],
  { now, circuit, mayBeStored = [] }: { now: number; circuit: CircuitPolicy; mayBeStored?: readonly AttemptRecord[] },
): Script<RecordResult> {
  const earlier = mayBeStored.length ? yield* findStoredAttempts(database, mayBeStored) : NOTHING_STORED;
  const missing = records.filter((r) => !earlier.stored.has(r));
  const moved = new Set<string>();
  const inRowOrder = missing.toSorted((a, b) => Number(a.deliverySeq) - Number(b.deliverySeq));
  for (const some of chunks(inRowOrder, RECORDS_PER_STATEMENT)) {
    for (const seq of yield* record(database, some)) moved.add(seq);
  }
  const health = yield* judgeListeners(
    database,
    missing.filter((r) => moved.has(r.deliverySeq)),
    now,
    circuit,
  );
  const before = yield* readVerdicts(database, [...earlier.moved], now);
  for (const { deliverySeq } of earlier.moved) moved.add(deliverySeq);
  return {
    moved,
    paused: new Set([...before.paused, ...health.paused]),
    disabled: [...before.disabled, ...health.disabled],
    opened: health.opened,
  };
}

const NOTHING_STORED: StoredAttempts = { stored: new Set(), moved: new Set() };

/** Whether {@link recordAttempts} needs only one statement: no listener's health changes. */
export function isOneStatement(database: Database, records: readonly AttemptRecord[]): boolean {
  return (
    database.dialect === 'postgres' &&
    records.length <= RECORDS_PER_STATEMENT &&
    records.every((r) => !touchesListener(r))
  );
}

/** Whether the state of its listener must be read. */
function touchesListener({ outcome, wasFailing, isOrdered }: AttemptRecord): boolean {
  return outcome !== 'accepted' || wasFailing || isOrdered;
}

/** @returns sequences of the deliveries whose state changed */
function record(database: Database, records: readonly AttemptRecord[]): Script<string[]> {
  return database.dialect === 'postgres' ? recordAtOnce(database, records) : recordInSteps(database, records);
}

const MOVE_COLUMNS = {
  seq: 'bigint',
  token: 'text',
  state: 'text',
  next: 'bigint',
  finished: 'bigint',
  status: 'bigint',
  error: 'text',
} as const;

const ATTEMPT_COLUMNS = {
  deliverySeq: 'bigint',
  number: 'bigint',
  outcome: 'text',
  status: 'bigint',
  errorCode: 'text',
  errorDetail: 'text',
  durationMs: 'bigint',
  response: 'text',
  superseded: 'bigint',
  startedAt: 'bigint',
} as const;

/** One statement: deliveries with a valid lease change their state, and every attempt is inserted as valid or superseded. */
function* recordAtOnce(database: Database, records: readonly AttemptRecord[]): Script<string[]> {
  const { deliveries: d, attempts: a } = database.tables;
  const rows = jsonRows(
    database.dialect,
    {
      ...MOVE_COLUMNS,
      num: 'bigint',
      outcome: 'text',
      detail: 'text',
      ms: 'bigint',
      response: 'text',
      started: 'bigint',
    },
    records.map((r) =>
      Object.assign(moveOf(r), {
        num: r.number,
        outcome: r.outcome,
        detail: r.errorDetail ?? undefined,
        ms: r.durationMs,
        response: r.response ?? undefined,
        started: r.startedAt,
      }),
    ),
  );
  const { $ } = a;
  // The sequences are passed twice: the planner knows nothing about the rows in JSON, and would join them by a scan of the whole table.
  // There is no condition on the state, because only leased rows have a token: with it, the planner would choose an index full of obsolete
  // entries.
  const seqs = `{${records.map((r) => r.deliverySeq).join(',')}}`;
  const found = yield* query<{ seq: unknown }>(
    sql`with r as materialized (select * from ${rows}), moved as (
      update ${d.sql} as t set ${movedSet(database)} from r
      where t.${d.$.seq} = any(cast(${seqs} as bigint[])) and t.${d.$.seq} = r.seq and t.${d.$.leaseToken} = r.token returning t.${d.$.seq} as seq
    ), logged as (
      insert into ${a.sql} (${$.deliverySeq}, ${$.number}, ${$.outcome}, ${$.status}, ${$.errorCode}, ${$.errorDetail}, ${$.durationMs}, ${$.response}, ${$.superseded}, ${$.startedAt})
      select r.seq, r.num, r.outcome, r.status, r.error, r.detail, r.ms, r.response, case when moved.seq is null then 1 else 0 end, r.started
      from r left join moved on moved.seq = r.seq
    ) select seq from moved`,
  );
  return found.map(({ seq }) => String(seq));
}

/**
 * For databases without `returning` in updates: it locks the rows first, so their lease tokens are known. There is no condition on the
 * state, because only leased rows have a token.
 */
function* recordInSteps(database: Database, records: readonly AttemptRecord[]): Script<string[]> {
  const { deliveries: d } = database.tables;
  const rows = yield* query<{ seq: unknown; leaseToken: string | null }>(
    sql`select ${d.select('d', 'seq', 'leaseToken')} from ${d.sql} d${d.byKey} where d.${d.$.seq} ${inList(records.map((r) => r.deliverySeq))} order by d.${d.$.seq}${database.forUpdate}`,
  );
  const tokens = new Map(rows.map(({ seq, leaseToken }) => [String(seq), leaseToken]));
  const current = records.filter((r) => tokens.get(r.deliverySeq) === r.leaseToken);
  if (current.length) {
    yield updateFromRows(
      database,
      'deliveries',
      jsonRows(database.dialect, MOVE_COLUMNS, current.map(moveOf)),
      movedValues(database),
    );
  }
  const moved = new Set(current.map(({ deliverySeq }) => deliverySeq));
  yield insertFromRows(
    database,
    'attempts',
    ATTEMPT_COLUMNS,
    records.map((r) => ({
      deliverySeq: r.deliverySeq,
      number: r.number,
      outcome: r.outcome,
      status: r.status,
      errorCode: r.errorCode,
      errorDetail: r.errorDetail,
      durationMs: r.durationMs,
      response: r.response,
      superseded: moved.has(r.deliverySeq) ? 0 : 1,
      startedAt: r.startedAt,
    })),
  );
  return [...moved];
}

function moveOf({ deliverySeq, leaseToken, next, status, errorCode }: AttemptRecord) {
  return {
    seq: deliverySeq,
    token: leaseToken,
    state: next.state,
    next: next.at,
    // A null is left out of the JSON.
    finished: next.state === 'due' ? undefined : next.at,
    status: status ?? undefined,
    error: errorCode ?? undefined,
  };
}

function movedValues(database: Database) {
  const { $ } = database.tables.deliveries;
  return {
    state: sql`r.state`,
    attempts: sql`t.${$.attempts} + 1`,
    retries: sql`t.${$.retries} + 1`,
    nextAt: sql`r.next`,
    finishedAt: sql`r.finished`,
    lastStatus: sql`r.status`,
    lastErrorCode: sql`r.error`,
    leaseToken: sql`null`,
    leaseUntil: sql`null`,
  };
}

function movedSet(database: Database): Sql {
  const $: Readonly<Record<string, Sql>> = database.tables.deliveries.$;
  return join(Object.entries(movedValues(database)).map(([property, value]) => sql`${$[property]} = ${value}`));
}

function* judgeListeners(
  database: Database,
  records: readonly AttemptRecord[],
  now: number,
  circuit: CircuitPolicy,
): Script<Omit<RecordResult, 'moved'>> {
  if (records.every((r) => !touchesListener(r))) return { paused: new Set(), disabled: [], opened: [] };
  const signs = new Map<string, HealthSign[]>();
  // The next delivery of the same row may be sent now.
  const freed = new Set<string>();
  const gone = new Set<string>();
  for (const record of records) {
    if (record.status === STATUS_GONE) gone.add(record.listenerId);
    if (record.isOrdered) freed.add(record.listenerId);
    const { listenerId, status, retryAfterMs, startedAt: at } = record;
    const accepted = record.outcome === 'accepted';
    const listenerSigns = signs.get(listenerId);
    if (listenerSigns) listenerSigns.push({ accepted, status, retryAfterMs, at });
    else signs.set(listenerId, [{ accepted, status, retryAfterMs, at }]);
  }
  const changing = new Set(
    records.filter((r) => r.wasFailing || r.outcome !== 'accepted').map(({ listenerId }) => listenerId),
  );
  const paused = new Set<string>();
  const expired = new Map<string, number>();
  const opened: { listenerId: string; failuresInARow: number; pausedUntil: number }[] = [];
  if (changing.size) {
    const states = yield* lockListenerStates(database, [...changing]);
    const next = yield* nextDueOf(database, [...changing]);
    // Attempts at the previous URL are no evidence about the URL that has a pending handshake.
    for (const { listenerId, handshakeAt } of states) if (handshakeAt !== null) gone.delete(listenerId);
    const judged = states.filter(({ handshakeAt }) => handshakeAt === null);
    const after = judged.map((before) => {
      const { state, isExpired } = afterAttempts(before, signs.get(before.listenerId) ?? [], now, circuit);
      const { listenerId, failuresInARow, pausedUntil } = state;
      if (!isOpen(before.failuresInARow, circuit) && isOpen(failuresInARow, circuit)) {
        opened.push({ listenerId, failuresInARow, pausedUntil: pausedUntil ?? now });
      }
      if (isExpired) expired.set(state.listenerId, state.failingSince ?? now);
      if (state.pausedUntil !== null && state.pausedUntil > now) paused.add(state.listenerId);
      return { ...state, readyAt: readyFrom(next.get(state.listenerId), state.pausedUntil) };
    });
    yield* writeListenerStates(database, after);
  }
  for (const listenerId of changing) freed.delete(listenerId);
  if (freed.size) yield* refreshReadyAt(database, [...freed]);
  const reasons = [
    ...[...gone].map((listenerId) => ({ listenerId, reason: DISABLED_BY_410 })),
    ...[...expired].map(([listenerId, since]) => ({
      listenerId,
      reason: `every attempt has failed since ${new Date(since).toISOString()}`,
    })),
  ];
  const disabled: { listenerId: string; reason: string }[] = [];
  for (const { listenerId, reason } of reasons.toSorted((a, b) => (a.listenerId < b.listenerId ? -1 : 1))) {
    if (yield* disableListener(database, listenerId, reason, now)) disabled.push({ listenerId, reason });
  }
  return { paused, disabled, opened };
}

/** Releases leased deliveries that were not sent: the process stops, or the listener is paused. */
export function* releaseDeliveries(
  database: Database,
  leases: readonly { seq: string; leaseToken: string; listener: { id: string } }[],
  now: number,
): Script<void> {
  const { sql: path, byKey, $ } = database.tables.deliveries;
  for (const some of chunks(leases.toSorted((a, b) => Number(a.seq) - Number(b.seq)))) {
    yield* execute(
      sql`update ${path}${byKey} set ${$.state} = ${'due'}, ${$.leaseToken} = ${null}, ${$.leaseUntil} = ${null} where ${$.seq} ${inList(some.map((l) => l.seq))} and ${$.leaseToken} ${inList([...new Set(some.map((l) => l.leaseToken))])}`,
    );
  }
  yield* expectDeliveries(database, new Map(leases.map(({ listener }) => [listener.id, now])));
}
