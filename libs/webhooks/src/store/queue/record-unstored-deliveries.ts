import sql, { join, type Sql } from 'sql-template-tag';
import { ownerKeyOf } from '../../hash.js';
import type { Database } from '../database/database.js';
import { jsonRows, jsonValue } from '../database/json-rows.js';
import { query, type Script } from '../database/script.js';
import type { TablesSql } from '../database/tables.js';
import { deletingRows, lockLeased, type OutboxLease } from '../outbox/outbox-rows.js';
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

/**
 * One statement: outbox rows with a valid lease are deleted if their event ends, and locked if not; their deliveries are inserted; attempts
 * with details are inserted; every other attempt is inserted as superseded. A due delivery without attempts, which a replay has made meanwhile, is completed, and its attempt inserted.
 *
 * The planner knows nothing about the rows in JSON. It expects one row with `ends = 1`, and so looks up each outbox row by its key. With a list of
 * the sequences, it would scan the outbox once for each row.
 */
export function* insertAtOnce(
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

/** Does the same as {@link insertAtOnce}, on databases where the parts of one statement cannot change several tables. */
export function* insertInSteps(
  database: Database,
  records: readonly AttemptRecord[],
  ends: ReadonlySet<OutboxLease>,
): Script<string[]> {
  const leases = records.map(({ delivery }) => delivery.lease as OutboxLease);
  const held = yield* lockLeased(database, leases);
  const existing = yield* findExisting(
    database,
    [...held].map(({ seq }) => seq),
  );
  const existingOf = ({ delivery: { event, listener } }: AttemptRecord) => existing.get(`${event.seq} ${listener.id}`);
  const current = records.filter(({ delivery }) => held.has(delivery.lease as OutboxLease));
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
  const ended = [...ends].filter((lease) => held.has(lease));
  for (const statement of deletingRows(
    database,
    ended.map(({ seq }) => seq),
  ))
    yield statement;
  const moved = new Set([...made, ...completed]);
  yield* logAttempts(
    database,
    records.filter((r) => !made.has(r) || (r.details ?? null) !== null),
    moved,
  );
  return [...moved].map(({ delivery }) => delivery.id);
}
