import sql, { type Sql } from 'sql-template-tag';
import { insertEvents, type EventRow } from './event-rows.js';
import type { Database } from '../database/database.js';
import { skipConflict } from '../database/dialect-sql.js';
import { query, type Script } from '../database/script.js';

/** An existing event with the same idempotency key. */
export interface ExistingEvent {
  readonly id: string;
  readonly payload: string;
  readonly owner: string | null;
  readonly context: string | null;
}

/** Inserts an event unless its idempotency key already exists. */
export function insertOnce(database: Database, row: EventRow): Sql {
  const { $ } = database.tables.events;
  const skip = skipConflict(database.dialect, [$.dedupeKey], sql` where ${$.dedupeKey} is not null`);
  return sql`${insertEvents(database.tables, [row])}${skip}`;
}

/** Selects the event with an idempotency key. On MySQL it is a locking read, because a snapshot may not show the event. */
export function selectByKey(database: Database, dedupeKey: Buffer): Sql {
  const { events: e } = database.tables;
  const lock = database.dialect === 'mysql' ? sql` lock in share mode` : sql``;
  return sql`select ${e.select('e', 'id', 'payload', 'owner', 'context')} from ${e.sql} e where e.${e.$.dedupeKey} = ${dedupeKey}${lock}`;
}

/** Inserts an event, and returns the event with the key: this one, or an earlier one. */
export function* publishOnce(database: Database, row: EventRow, dedupeKey: Buffer): Script<ExistingEvent | undefined> {
  yield insertOnce(database, row);
  const [existing] = yield* query<ExistingEvent>(selectByKey(database, dedupeKey));
  return existing;
}
