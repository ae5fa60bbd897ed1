import sql, { type Sql } from 'sql-template-tag';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { atTimes } from '../database/event-times.js';
import { execute, type Script } from '../database/script.js';

/** Deletes events, and the rows that refer to them outside the outbox. */
export function* deleteEvents(
  database: Database,
  events: readonly { readonly seq: unknown; readonly dedupeKey: Buffer | null; readonly createdAt: unknown }[],
): Script<void> {
  const { events: e, damaged: x, idempotencyKeys: k } = database.tables;
  const at = atTimes(
    database,
    e.$.createdAt,
    events.map(({ createdAt }) => createdAt),
  );
  const keys = events.flatMap(({ dedupeKey }) => dedupeKey ?? []);
  for (const some of chunks(keys)) yield* execute(sql`delete from ${k.sql} where ${k.$.key} ${inList(some)}`);
  for (const some of chunks(events.map(({ seq }) => seq))) {
    yield* execute(sql`delete from ${x.sql} where ${x.$.seq} ${inList(some)}`);
    yield* execute(sql`delete from ${e.sql} where ${e.$.seq} ${inList(some)}${at}`);
  }
}

/** The condition that a delivery `d` belongs to an event `e`, in the form of the unique key, which begins with the time. */
export function isOfEvent({ tables: { deliveries: d, events: e } }: Database): Sql {
  return sql`d.${d.$.eventAt} = e.${e.$.createdAt} and d.${d.$.eventSeq} = e.${e.$.seq}`;
}
