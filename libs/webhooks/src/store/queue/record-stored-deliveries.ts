import sql, { join, type Sql } from 'sql-template-tag';
import { anyOf, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { atTimes } from '../database/event-times.js';
import { jsonRows, updateFromRows } from '../database/json-rows.js';
import { query, type Script } from '../database/script.js';
import type { TablesSql } from '../database/tables.js';
import { numberOf, type AttemptRecord } from './attempt-record.js';
import { OUTCOME_COLUMNS, insertAttempts, logAttempts, outcomeOf } from './log-attempts.js';

export const NEXT_COLUMNS = { state: 'text', next: 'bigint', finished: 'bigint' } as const;

export function nextOf({ next }: AttemptRecord) {
  return { state: next.state, next: next.at, finished: next.state === 'due' ? undefined : next.at };
}

export const nextValues = {
  state: sql`r.state`,
  nextAt: sql`r.next`,
  finishedAt: sql`r.finished`,
  lastStatus: sql`r.status`,
  lastErrorCode: sql`r.error`,
};

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
export function* updateAtOnce(database: Database, records: readonly AttemptRecord[]): Script<string[]> {
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
  const at = atTimes(
    database,
    sql`t.${d.$.eventAt}`,
    records.map(({ delivery }) => delivery.event.createdAt),
  );
  // There is no condition on the state, because only leased rows have a token: with it, the planner would choose an index full of obsolete
  // entries.
  const found = yield* query<{ id: string }>(
    sql`with r as materialized (select * from ${rows}), moved as (
      update ${d.sql} as t set ${join(set)} from r
      where t.${d.$.seq} ${anyOf(records.map(({ delivery }) => delivery.seq))}${at} and t.${d.$.seq} = r.seq and t.${d.$.leaseToken} = r.token returning t.${d.$.seq} as seq, r.id as id
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
export function* updateInSteps(database: Database, records: readonly AttemptRecord[]): Script<string[]> {
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

export function* moveRows(
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
