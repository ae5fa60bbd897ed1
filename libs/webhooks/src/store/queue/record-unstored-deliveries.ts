import sql, { join, type Sql } from 'sql-template-tag';
import { ownerKeyOf } from '../../hash.js';
import type { Database } from '../database/database.js';
import { jsonRows, jsonValue } from '../database/json-rows.js';
import { query, type Script } from '../database/script.js';
import type { TablesSql } from '../database/tables.js';
import { changingLeases, lockLeases, type EventLease, type LeaseChanges } from '../outbox/leases.js';
import { toRuns } from '../outbox/sequence-runs.js';
import type { AttemptRecord } from './attempt-record.js';
import { findExisting } from './existing-deliveries.js';
import { OUTCOME_COLUMNS, insertAttempts, logAttempts, outcomeOf } from './log-attempts.js';
import { NEXT_COLUMNS, moveRows, nextOf, nextValues } from './record-stored-deliveries.js';

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
  ...NEXT_COLUMNS,
  ...OUTCOME_COLUMNS,
} as const;

function insertedOf(record: AttemptRecord) {
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

/** Only for a delivery that is inserted with its outcome. Every other attempt, and every attempt with details, has its own row. */
const outcomeValues = {
  outcome: ifPlain(sql`r.outcome`),
  status: ifPlain(sql`r.status`),
  errorCode: ifPlain(sql`r.error`),
  errorDetail: ifPlain(sql`r.detail`),
  durationMs: ifPlain(sql`r.ms`),
  response: ifPlain(sql`r.response`),
  startedAt: ifPlain(sql`r.started`),
};

/** The value, if the attempt has no details. */
function ifPlain(value: Sql): Sql {
  return sql`case when r.details is null then ${value} end`;
}

/** The lease of a record. `ends` is 1 if the lease ends, and `events` is set if it then names fewer events. */
const LEASE_COLUMNS = { token: 'text', ends: 'bigint', events: 'text' } as const;

function leasesOf(records: readonly AttemptRecord[], changes: LeaseChanges) {
  const leases = new Set(records.map(({ delivery }) => delivery.lease as EventLease));
  return [...leases].map((lease) => {
    const kept = changes.get(lease);
    return {
      token: lease.token,
      ends: kept?.length === 0 ? 1 : 0,
      events: kept?.length ? toRuns(kept) : undefined,
    };
  });
}

/**
 * One statement: the leases are locked in the order of their tokens; those that still hold are changed or deleted, and their deliveries are
 * inserted; attempts with details are inserted; every other attempt is inserted as superseded. A due delivery without attempts, which a
 * replay has made meanwhile, is completed, and its attempt inserted.
 */
export function* insertAtOnce(
  database: Database,
  records: readonly AttemptRecord[],
  changes: LeaseChanges,
): Script<string[]> {
  const { leases: x, deliveries: d } = database.tables;
  const rows = jsonRows(database.dialect, INSERT_COLUMNS, records.map(insertedOf));
  const leases = jsonRows(database.dialect, LEASE_COLUMNS, leasesOf(records, changes));
  const values = insertedValues(database);
  const columns = Object.keys(values).map((property) => d.$[property as keyof typeof values]);
  // These columns exclude the outcome, because this attempt gets its own row.
  const completed = Object.keys({ attempts: 0, retries: 0, ...nextValues }).map((property) => {
    const column = d.$[property as keyof typeof values];
    return sql`${column} = excluded.${column}`;
  });
  const found = yield* query<{ id: string }>(
    sql`with r as materialized (select * from ${rows}), l as materialized (select * from ${leases}), held as materialized (
      select x.${x.$.token} as token from ${x.sql} x where x.${x.$.token} in (select token from l) order by x.${x.$.token} for update
    ), gone as (
      delete from ${x.sql} as x using l where l.ends = 1 and x.${x.$.token} = l.token and l.token in (select token from held)
    ), kept as (
      update ${x.sql} as x set ${x.$.events} = l.events from l where l.events is not null and x.${x.$.token} = l.token and l.token in (select token from held)
    ), made as (
      insert into ${d.sql} as t (${join(columns)})
      select ${join(Object.values(values))} from r where r.token in (select token from held) order by r.event
      on conflict (${d.$.eventAt}, ${d.$.eventSeq}, ${d.$.listenerId}) do update set ${join(completed)} where t.${d.$.state} = 'due' and t.${d.$.attempts} = 0
      returning t.${d.$.id} as id, t.${d.$.outcome} as outcome
    ), logged as (
      ${insertAttempts(database, sql`1`, sql`case when made.id is null then 1 else 0 end`)} left join made on made.id = r.id where made.outcome is null
    ) select id from made`,
  );
  return found.map(({ id }) => id);
}

/** Does the same as {@link insertAtOnce}, on databases where the parts of one statement cannot change several tables. */
export function* insertInSteps(
  database: Database,
  records: readonly AttemptRecord[],
  changes: LeaseChanges,
): Script<string[]> {
  const leaseOf = ({ delivery }: AttemptRecord) => delivery.lease as EventLease;
  const held = yield* lockLeases(database, records.map(leaseOf));
  const current = records.filter((r) => held.has(leaseOf(r).token));
  const existing = yield* findExisting(
    database,
    current.map(({ delivery }) => delivery.event),
  );
  const existingOf = ({ delivery: { event, listener } }: AttemptRecord) => existing.get(`${event.seq} ${listener.id}`);
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
    const rows = jsonRows(database.dialect, INSERT_COLUMNS, [...made].map(insertedOf));
    yield sql`insert into ${d.sql} (${join(columns)}) select ${join(Object.values(values))} from ${rows}`;
  }
  yield* moveRows(
    database,
    completed.map((r) => ({ record: r, seq: String(existingOf(r)?.seq) })),
  );
  const changed = [...changes].filter(([{ token }]) => held.has(token));
  for (const statement of changingLeases(database, new Map(changed))) yield statement;
  const moved = new Set([...made, ...completed]);
  yield* logAttempts(
    database,
    records.filter((r) => !made.has(r) || (r.details ?? null) !== null),
    moved,
  );
  return [...moved].map(({ delivery }) => delivery.id);
}
