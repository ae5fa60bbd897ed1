import sql, { type Sql } from 'sql-template-tag';
import type { Database } from '../database/database.js';
import { insertFromRows } from '../database/json-rows.js';
import type { Script } from '../database/script.js';
import { numberOf, type AttemptRecord } from './attempt-record.js';

export const OUTCOME_COLUMNS = {
  outcome: 'text',
  status: 'bigint',
  error: 'text',
  detail: 'text',
  ms: 'bigint',
  response: 'text',
  started: 'bigint',
  why: 'text',
  who: 'text',
  details: 'text',
} as const;

export function outcomeOf(r: AttemptRecord) {
  return {
    outcome: r.outcome,
    // A null is left out of the JSON.
    status: r.status ?? undefined,
    error: r.errorCode ?? undefined,
    detail: r.errorDetail ?? undefined,
    ms: r.durationMs,
    response: r.response ?? undefined,
    started: r.startedAt,
    why: r.delivery.trigger ?? undefined,
    who: r.delivery.triggeredBy ?? undefined,
    details: r.details ?? undefined,
  };
}

/** `insert into attempts … select … from r`, with a row `r` of {@link OUTCOME_COLUMNS}, `id` and `at`. */
export function insertAttempts({ tables: { attempts: a } }: Database, number: Sql, superseded: Sql): Sql {
  const { $ } = a;
  return sql`insert into ${a.sql} (${$.deliveryId}, ${$.eventAt}, ${$.number}, ${$.outcome}, ${$.status}, ${$.errorCode}, ${$.errorDetail}, ${$.durationMs}, ${$.response}, ${$.superseded}, ${$.startedAt}, ${$.trigger}, ${$.triggeredBy}, ${$.details})
      select r.id, r.at, ${number}, r.outcome, r.status, r.error, r.detail, r.ms, r.response, ${superseded}, r.started, r.why, r.who, r.details from r`;
}

/** Inserts attempts that are not in the row of their delivery. @param moved ids of the deliveries that changed their state */
export function* logAttempts(
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
      trigger: 'text',
      triggeredBy: 'text',
      details: 'text',
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
      trigger: r.delivery.trigger ?? null,
      triggeredBy: r.delivery.triggeredBy ?? null,
      details: r.details ?? null,
    })),
  );
}
