import sql, { type Sql } from 'sql-template-tag';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { execute, type Script } from '../database/script.js';

/** Deletes events, and the rows that refer to them outside the outbox. */
export function* deleteEvents(
  { tables }: Database,
  events: readonly { readonly seq: unknown; readonly dedupeKey: Buffer | null }[],
): Script<void> {
  const { events: e, damaged: x, idempotencyKeys: k } = tables;
  const keys = events.flatMap(({ dedupeKey }) => dedupeKey ?? []);
  for (const some of chunks(keys)) yield* execute(sql`delete from ${k.sql} where ${k.$.key} ${inList(some)}`);
  for (const some of chunks(events.map(({ seq }) => seq))) {
    for (const table of [x, e]) yield* execute(sql`delete from ${table.sql} where ${table.$.seq} ${inList(some)}`);
  }
}

/** The condition that a delivery `d` belongs to an event `e`, in the form of the unique key, which begins with the time. */
export function isOfEvent({ tables: { deliveries: d, events: e } }: Database): Sql {
  return sql`d.${d.$.eventAt} = e.${e.$.createdAt} and d.${d.$.eventSeq} = e.${e.$.seq}`;
}
