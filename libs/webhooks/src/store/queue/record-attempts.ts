import sql, { join, type Sql } from 'sql-template-tag';
import { ownerKeyOf } from '../../hash.js';
import { afterAttempts, isOpen, type CircuitPolicy, type HealthSign } from '../../health/circuit.js';
import { outagesOf, type Outage } from '../../health/outage.js';
import { STATUS_GONE } from '../../health/next-state.js';
import { anyOf, chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { insertFromRows, jsonRows, jsonValue, updateFromRows } from '../database/json-rows.js';
import { execute, query, type Script } from '../database/script.js';
import type { TablesSql } from '../database/tables.js';
import { disableListener } from '../listeners/listener-rows.js';
import {
  expectDeliveries,
  lockListenerStates,
  nextDueOf,
  readyFrom,
  refreshReadyAt,
  writeListenerStates,
} from '../listeners/listener-state.js';
import { deletingRows, endingLeases, lockLeased, type OutboxLease } from '../outbox/outbox-rows.js';
import { numberOf, type AttemptRecord, type RecordResult } from './attempt-record.js';
import type { ClaimedDelivery } from './claimed-delivery.js';
import { findExisting } from './existing-deliveries.js';
import { insertDeliveries } from './new-deliveries.js';
import { findStoredAttempts, readVerdicts, type StoredAttempts } from './stored-attempts.js';

/** The maximum number of records in one statement. Each record has up to 4 KB of response. */
const RECORDS_PER_STATEMENT = 500;
const DISABLED_BY_410 = 'the endpoint answered 410 Gone';

/**
 * Records attempts, changes the state of their deliveries and updates the health of their listeners, in one transaction. A delivery without
 * a row is inserted with its outcome, and its event leaves the outbox with the last of its deliveries.
 *
 * An attempt changes its delivery only if its lease is still valid. The attempt of a worker that lost its lease was still made: it is stored
 * as `superseded`. For a listener that succeeds as before, nothing else is written.
 *
 * @param records in the order in which the attempts ended
 * @param options `mayBeStored`: records that an earlier try may have committed, although the call of that try failed
 */
export function* recordAttempts(
  database: Database,
  records: readonly AttemptRecord[],
  { now, circuit, mayBeStored = [] }: { now: number; circuit: CircuitPolicy; mayBeStored?: readonly AttemptRecord[] },
): Script<RecordResult> {
  const earlier = mayBeStored.length ? yield* findStoredAttempts(database, mayBeStored) : NOTHING_STORED;
  const missing = records.filter((r) => !earlier.stored.has(r));
  const moved = yield* recordMissing(database, missing);
  const health = yield* judgeListeners(
    database,
    missing.filter((r) => moved.has(r.delivery.id)),
    now,
    circuit,
  );
  const before = yield* readVerdicts(database, [...earlier.moved], now);
  for (const { delivery } of earlier.moved) moved.add(delivery.id);
  return {
    moved,
    paused: new Set([...before.paused, ...health.paused]),
    disabled: [...before.disabled, ...health.disabled],
    outages: health.outages,
    opened: health.opened,
  };
}

const NOTHING_STORED: StoredAttempts = { stored: new Set(), moved: new Set() };

/** Whether one statement is enough for {@link recordAttempts}, because the health of no listener changes. */
export function isOneStatement(database: Database, records: readonly AttemptRecord[]): boolean {
  const isNew = records[0]?.delivery.seq === null;
  return (
    database.dialect === 'postgres' &&
    records.length <= RECORDS_PER_STATEMENT &&
    records.every((r) => !touchesListener(r) && (r.delivery.seq === null) === isNew)
  );
}

/** Whether the state of its listener must be read. */
function touchesListener({ outcome, wasFailing, delivery }: AttemptRecord): boolean {
  return outcome !== 'accepted' || wasFailing || delivery.isOrdered;
}

/** @returns ids of the deliveries whose state changed */
function* recordMissing(database: Database, records: readonly AttemptRecord[]): Script<Set<string>> {
  const moved = new Set<string>();
  const [first, later] =
    database.dialect === 'postgres' ? [insertAtOnce, updateAtOnce] : ([insertInSteps, updateInSteps] as const);
  const unstored = inOrder(records, ({ lease }) => lease?.seq);
  const ending = endingLeases(records.map(({ delivery }) => delivery));
  // The deliveries of one event are consecutive, but they may be in two chunks. The chunk with the last one ends the event.
  const lastOf = new Map(unstored.map((record) => [record.delivery.lease, record]));
  for (const chunk of chunks(unstored, RECORDS_PER_STATEMENT)) {
    const last = chunk.filter((record) => lastOf.get(record.delivery.lease) === record);
    const ends = new Set(
      last.map(({ delivery }) => delivery.lease as OutboxLease).filter((lease) => ending.has(lease)),
    );
    for (const id of yield* first(database, chunk, ends)) moved.add(id);
  }
  const stored = inOrder(records, ({ seq }) => seq);
  for (const chunk of chunks(stored, RECORDS_PER_STATEMENT)) {
    for (const id of yield* later(database, chunk)) moved.add(id);
  }
  return moved;
}

/** The records that have a sequence, in its order: all transactions lock rows in the same order. */
function inOrder(
  records: readonly AttemptRecord[],
  seqOf: (delivery: AttemptRecord['delivery']) => string | null | undefined,
): AttemptRecord[] {
  const withSeq = records.filter(({ delivery }) => (seqOf(delivery) ?? null) !== null);
  return withSeq.toSorted((a, b) => Number(seqOf(a.delivery)) - Number(seqOf(b.delivery)));
}

const OUTCOME_COLUMNS = {
  outcome: 'text',
  status: 'bigint',
  error: 'text',
  detail: 'text',
  ms: 'bigint',
  response: 'text',
  started: 'bigint',
} as const;

function outcomeOf(r: AttemptRecord) {
  return {
    outcome: r.outcome,
    // A null is left out of the JSON.
    status: r.status ?? undefined,
    error: r.errorCode ?? undefined,
    detail: r.errorDetail ?? undefined,
    ms: r.durationMs,
    response: r.response ?? undefined,
    started: r.startedAt,
  };
}

const NEXT_COLUMNS = { state: 'text', next: 'bigint', finished: 'bigint' } as const;

function nextOf({ next }: AttemptRecord) {
  return { state: next.state, next: next.at, finished: next.state === 'due' ? undefined : next.at };
}

const INSERT_COLUMNS = {
  id: 'text',
  event: 'bigint',
  at: 'bigint',
  listener: 'text',
  type: 'text',
  owner: 'text',
  owner_key: 'hash',
  routed: 'bigint',
  token: 'text',
  ends: 'bigint',
  ...NEXT_COLUMNS,
  ...OUTCOME_COLUMNS,
} as const;

function insertedOf(record: AttemptRecord, ends: ReadonlySet<OutboxLease>) {
  const { delivery } = record;
  const { event, owner } = delivery;
  return Object.assign(nextOf(record), outcomeOf(record), {
    id: delivery.id,
    event: event.seq,
    at: event.createdAt,
    listener: delivery.listener.id,
    type: delivery.type,
    owner: owner ?? undefined,
    owner_key: owner === null ? undefined : ownerKeyOf(owner).toString('hex'),
    routed: delivery.routedAt,
    token: delivery.leaseToken,
    ends: delivery.lease && ends.has(delivery.lease) ? 1 : 0,
  });
}

/** The columns of a delivery that a record inserts, each with its value in a row `r` of {@link INSERT_COLUMNS}. */
function insertedValues(database: Database): Partial<Record<keyof TablesSql['deliveries']['$'], Sql>> {
  return {
    id: sql`r.id`,
    eventSeq: sql`r.event`,
    eventAt: sql`r.at`,
    listenerId: sql`r.listener`,
    type: sql`r.type`,
    owner: sql`r.owner`,
    ownerKey: jsonValue(database.dialect, 'owner_key', 'hash'),
    createdAt: sql`r.routed`,
    attempts: sql`1`,
    retries: sql`1`,
    ...nextValues,
    ...outcomeValues,
  };
}

const nextValues = {
  state: sql`r.state`,
  nextAt: sql`r.next`,
  finishedAt: sql`r.finished`,
  lastStatus: sql`r.status`,
  lastErrorCode: sql`r.error`,
};

/** Only for a delivery that is inserted with its outcome. Every other attempt has its own row. */
const outcomeValues = {
  outcome: sql`r.outcome`,
  status: sql`r.status`,
  errorCode: sql`r.error`,
  errorDetail: sql`r.detail`,
  durationMs: sql`r.ms`,
  response: sql`r.response`,
  startedAt: sql`r.started`,
};

/**
 * One statement: outbox rows with a valid lease are deleted if their event ends, and locked if not; their deliveries are inserted; every other
 * attempt is inserted as superseded. A due delivery without attempts, which a replay has made meanwhile, is completed, and its attempt inserted.
 *
 * The planner knows nothing about the rows in JSON. It expects one row with `ends = 1`, and so looks up each outbox row by its key. With a list of
 * the sequences, it would scan the outbox once for each row.
 */
function* insertAtOnce(
  database: Database,
  records: readonly AttemptRecord[],
  ends: ReadonlySet<OutboxLease>,
): Script<string[]> {
  const { outbox: o, deliveries: d } = database.tables;
  const rows = jsonRows(
    database.dialect,
    INSERT_COLUMNS,
    records.map((r) => insertedOf(r, ends)),
  );
  const isHeld = sql`o.${o.$.seq} = r.event and o.${o.$.leaseToken} = r.token`;
  const values = insertedValues(database);
  const columns = Object.keys(values).map((property) => d.$[property as keyof typeof values]);
  // These columns exclude the outcome, because this attempt gets its own row.
  const completed = Object.keys({ attempts: 0, retries: 0, ...nextValues }).map((property) => {
    const column = d.$[property as keyof typeof values];
    return sql`${column} = excluded.${column}`;
  });
  const found = yield* query<{ id: string }>(
    sql`with r as materialized (select * from ${rows}), gone as (
      delete from ${o.sql} as o using r where r.ends = 1 and ${isHeld} returning o.${o.$.seq} as seq
    ), kept as materialized (
      select o.${o.$.seq} as seq from ${o.sql} o join r on r.ends = 0 and ${isHeld} order by o.${o.$.seq} for update of o
    ), made as (
      insert into ${d.sql} as t (${join(columns)})
      select ${join(Object.values(values))} from r where r.event in (select seq from gone union all select seq from kept) order by r.event
      on conflict (${d.$.eventAt}, ${d.$.eventSeq}, ${d.$.listenerId}) do update set ${join(completed)} where t.${d.$.state} = 'due' and t.${d.$.attempts} = 0
      returning t.${d.$.id} as id, t.${d.$.outcome} as outcome
    ), logged as (
      ${insertAttempts(database, sql`1`, sql`case when made.id is null then 1 else 0 end`)} left join made on made.id = r.id where made.outcome is null
    ) select id from made`,
  );
  return found.map(({ id }) => id);
}

/** `insert into attempts … select … from r`, with a row `r` of {@link OUTCOME_COLUMNS}, `id` and `at`. */
function insertAttempts({ tables: { attempts: a } }: Database, number: Sql, superseded: Sql): Sql {
  const { $ } = a;
  return sql`insert into ${a.sql} (${$.deliveryId}, ${$.eventAt}, ${$.number}, ${$.outcome}, ${$.status}, ${$.errorCode}, ${$.errorDetail}, ${$.durationMs}, ${$.response}, ${$.superseded}, ${$.startedAt})
      select r.id, r.at, ${number}, r.outcome, r.status, r.error, r.detail, r.ms, r.response, ${superseded}, r.started from r`;
}

/** As {@link insertAtOnce}, for databases where the parts of one statement cannot change several tables. */
function* insertInSteps(
  database: Database,
  records: readonly AttemptRecord[],
  ends: ReadonlySet<OutboxLease>,
): Script<string[]> {
  const leases = records.map(({ delivery }) => delivery.lease as OutboxLease);
  const held = yield* lockLeased(database, leases);
  const existing = yield* findExisting(database, [...held]);
  const existingOf = ({ delivery: { event, listener } }: AttemptRecord) => existing.get(`${event.seq} ${listener.id}`);
  const current = records.filter(({ delivery }) => held.has(delivery.event.seq));
  const made = new Set(current.filter((r) => !existingOf(r)));
  // A replay has created these deliveries in the meantime.
  const completed = current.filter((r) => {
    const row = existingOf(r);
    return row?.state === 'due' && Number(row.attempts) === 0;
  });
  if (made.size) {
    const { deliveries: d } = database.tables;
    const values = insertedValues(database);
    const columns = Object.keys(values).map((property) => d.$[property as keyof typeof values]);
    const rows = jsonRows(
      database.dialect,
      INSERT_COLUMNS,
      [...made].map((r) => insertedOf(r, ends)),
    );
    yield sql`insert into ${d.sql} (${join(columns)}) select ${join(Object.values(values))} from ${rows}`;
  }
  yield* moveRows(
    database,
    completed.map((r) => ({ record: r, seq: String(existingOf(r)?.seq) })),
  );
  const ended = [...ends].filter((lease) => leases.includes(lease) && held.has(lease.seq));
  for (const statement of deletingRows(
    database,
    ended.map(({ seq }) => seq),
  ))
    yield statement;
  const moved = new Set([...made, ...completed]);
  yield* logAttempts(
    database,
    records.filter((r) => !made.has(r)),
    moved,
  );
  return [...moved].map(({ delivery }) => delivery.id);
}

const UPDATE_COLUMNS = { seq: 'bigint', ...NEXT_COLUMNS, status: 'bigint', error: 'text' } as const;

function updatedOf(record: AttemptRecord, seq: string) {
  const { status, errorCode } = record;
  return Object.assign(nextOf(record), { seq, status: status ?? undefined, error: errorCode ?? undefined });
}

/** The columns of a delivery that a record changes. */
function updatedValues(database: Database): Partial<Record<keyof TablesSql['deliveries']['$'], Sql>> {
  const { $ } = database.tables.deliveries;
  return {
    ...nextValues,
    attempts: sql`t.${$.attempts} + 1`,
    retries: sql`t.${$.retries} + 1`,
    leaseToken: sql`null`,
    leaseUntil: sql`null`,
  };
}

/** One statement: deliveries with a valid lease change their state, and every attempt is inserted. */
function* updateAtOnce(database: Database, records: readonly AttemptRecord[]): Script<string[]> {
  const { deliveries: d } = database.tables;
  const columns = {
    ...UPDATE_COLUMNS,
    ...OUTCOME_COLUMNS,
    id: 'text',
    at: 'bigint',
    token: 'text',
    num: 'bigint',
  } as const;
  const rows = jsonRows(
    database.dialect,
    columns,
    records.map((r) =>
      Object.assign(updatedOf(r, r.delivery.seq as string), outcomeOf(r), {
        id: r.delivery.id,
        at: r.delivery.event.createdAt,
        token: r.delivery.leaseToken,
        num: numberOf(r),
      }),
    ),
  );
  const set = Object.entries<Sql>(updatedValues(database)).map(
    ([property, value]) => sql`${d.$[property as keyof typeof d.$]} = ${value}`,
  );
  // There is no condition on the state, because only leased rows have a token: with it, the planner would choose an index full of obsolete
  // entries.
  const found = yield* query<{ id: string }>(
    sql`with r as materialized (select * from ${rows}), moved as (
      update ${d.sql} as t set ${join(set)} from r
      where t.${d.$.seq} ${anyOf(records.map(({ delivery }) => delivery.seq))} and t.${d.$.seq} = r.seq and t.${d.$.leaseToken} = r.token returning t.${d.$.seq} as seq, r.id as id
    ), logged as (
      ${insertAttempts(database, sql`r.num`, sql`case when moved.seq is null then 1 else 0 end`)} left join moved on moved.seq = r.seq
    ) select id from moved`,
  );
  return found.map(({ id }) => id);
}

/**
 * Records attempts on databases without `returning` in updates. The first statement locks the rows and reads their lease tokens. This
 * statement has no condition on the state, because only leased rows have a token.
 */
function* updateInSteps(database: Database, records: readonly AttemptRecord[]): Script<string[]> {
  const { deliveries: d } = database.tables;
  const rows = yield* query<{ seq: unknown; leaseToken: string | null }>(
    sql`select ${d.select('d', 'seq', 'leaseToken')} from ${d.sql} d${d.byKey} where d.${d.$.seq} ${inList(records.map(({ delivery }) => delivery.seq))} order by d.${d.$.seq}${database.forUpdate}`,
  );
  const tokens = new Map(rows.map(({ seq, leaseToken }) => [String(seq), leaseToken]));
  const moved = new Set(records.filter(({ delivery }) => tokens.get(delivery.seq as string) === delivery.leaseToken));
  yield* moveRows(
    database,
    [...moved].map((record) => ({ record, seq: record.delivery.seq as string })),
  );
  yield* logAttempts(database, records, moved);
  return [...moved].map(({ delivery }) => delivery.id);
}

function* moveRows(
  database: Database,
  moves: readonly { readonly record: AttemptRecord; readonly seq: string }[],
): Script<void> {
  if (!moves.length) return;
  const rows = jsonRows(
    database.dialect,
    UPDATE_COLUMNS,
    moves.map(({ record, seq }) => updatedOf(record, seq)),
  );
  yield updateFromRows(database, 'deliveries', rows, updatedValues(database));
}

/** Inserts attempts that are not in the row of their delivery. @param moved ids of the deliveries that changed their state */
function* logAttempts(
  database: Database,
  logged: readonly AttemptRecord[],
  moved: ReadonlySet<AttemptRecord>,
): Script<void> {
  if (!logged.length) return;
  yield insertFromRows(
    database,
    'attempts',
    {
      deliveryId: 'text',
      eventAt: 'bigint',
      number: 'bigint',
      outcome: 'text',
      status: 'bigint',
      errorCode: 'text',
      errorDetail: 'text',
      durationMs: 'bigint',
      response: 'text',
      superseded: 'bigint',
      startedAt: 'bigint',
    },
    logged.map((r) => ({
      deliveryId: r.delivery.id,
      eventAt: r.delivery.event.createdAt,
      number: numberOf(r),
      outcome: r.outcome,
      status: r.status,
      errorCode: r.errorCode,
      errorDetail: r.errorDetail,
      durationMs: r.durationMs,
      response: r.response,
      superseded: moved.has(r) ? 0 : 1,
      startedAt: r.startedAt,
    })),
  );
}

function* judgeListeners(
  database: Database,
  records: readonly AttemptRecord[],
  now: number,
  circuit: CircuitPolicy,
): Script<Omit<RecordResult, 'moved'>> {
  if (records.every((r) => !touchesListener(r))) return { paused: new Set(), disabled: [], outages: [], opened: [] };
  const signs = new Map<string, HealthSign[]>();
  // The next delivery of the same row may be sent now.
  const freed = new Set<string>();
  const gone = new Set<string>();
  for (const record of records) {
    const { delivery, status, retryAfterMs, startedAt: at } = record;
    const listenerId = delivery.listener.id;
    if (status === STATUS_GONE) gone.add(listenerId);
    if (delivery.isOrdered) freed.add(listenerId);
    const accepted = record.outcome === 'accepted';
    const listenerSigns = signs.get(listenerId);
    if (listenerSigns) listenerSigns.push({ accepted, status, retryAfterMs, at });
    else signs.set(listenerId, [{ accepted, status, retryAfterMs, at }]);
  }
  const changing = new Set(
    records.filter((r) => r.wasFailing || r.outcome !== 'accepted').map(({ delivery }) => delivery.listener.id),
  );
  const paused = new Set<string>();
  const expired = new Map<string, number>();
  const opened: { listenerId: string; failuresInARow: number; pausedUntil: number }[] = [];
  const outages: Outage[] = [];
  if (changing.size) {
    const states = yield* lockListenerStates(database, [...changing]);
    const next = yield* nextDueOf(database, [...changing]);
    // Attempts at the previous URL give no information about the new URL, whose handshake is pending.
    for (const { listenerId, handshakeAt } of states) if (handshakeAt !== null) gone.delete(listenerId);
    const judged = states.filter(({ handshakeAt }) => handshakeAt === null);
    const after = judged.map((before) => {
      const { state, isExpired } = afterAttempts(before, signs.get(before.listenerId) ?? [], now, circuit);
      const { listenerId, failuresInARow, pausedUntil } = state;
      if (!isOpen(before.failuresInARow, circuit) && isOpen(failuresInARow, circuit)) {
        opened.push({ listenerId, failuresInARow, pausedUntil: pausedUntil ?? now });
      }
      outages.push(...outagesOf(before, state, now, circuit));
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
  return { paused, disabled, outages, opened };
}

/**
 * Gives deliveries back that were not sent: the process stops, the listener is paused, or there is no room. They become due; a delivery without
 * a row is inserted, unless the process has lost the lease of its event.
 */
export function* releaseDeliveries(
  database: Database,
  released: readonly ClaimedDelivery[],
  now: number,
): Script<void> {
  const { sql: path, byKey, $ } = database.tables.deliveries;
  const stored = released.filter(({ seq }) => seq !== null);
  for (const some of chunks(stored.toSorted((a, b) => Number(a.seq) - Number(b.seq)))) {
    yield* execute(
      sql`update ${path}${byKey} set ${$.state} = ${'due'}, ${$.leaseToken} = ${null}, ${$.leaseUntil} = ${null} where ${$.seq} ${inList(some.map((l) => l.seq))} and ${$.leaseToken} ${inList([...new Set(some.map((l) => l.leaseToken))])}`,
    );
  }
  yield* insertReleased(
    database,
    released.filter(({ seq }) => seq === null),
    now,
  );
  yield* expectDeliveries(database, new Map(released.map(({ listener }) => [listener.id, now])));
}

function* insertReleased(database: Database, released: readonly ClaimedDelivery[], now: number): Script<void> {
  if (!released.length) return;
  const held = yield* lockLeased(
    database,
    released.map(({ lease }) => lease as OutboxLease),
  );
  const given = released.filter(({ event }) => held.has(event.seq));
  const ended = [...endingLeases(released)].filter(({ seq }) => held.has(seq));
  yield* insertDeliveries(
    database,
    given.map(({ id, event, type, listener, owner, routedAt }) => ({
      id,
      event: { seq: event.seq, type, createdAt: event.createdAt },
      listener: { id: listener.id, owner, ownerKey: owner === null ? null : ownerKeyOf(owner) },
      ...{ orderKey: null, body: null, format: null, state: 'due' as const, routedAt },
    })),
    { now, leaseMs: 0, leaseToken: '' },
    {
      statements: deletingRows(
        database,
        ended.map(({ seq }) => seq),
      ),
      isEnd: false,
    },
  );
}
