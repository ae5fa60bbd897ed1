import sql from 'sql-template-tag';
import { storeEvents, type EventRow } from './event-rows.js';
import type { Database } from '../database/database.js';
import { atTimesOf } from '../database/event-times.js';
import { skipConflict } from '../database/dialect-sql.js';
import { query, type Script } from '../database/script.js';

/** An existing event with the same idempotency key. */
export interface ExistingEvent {
  readonly id: string;
  /** `null`: the content was erased. */
  readonly payload: string | null;
  readonly owner: string | null;
  readonly context: string | null;
}

/**
 * Stores an event unless its idempotency key already exists.
 *
 * If another transaction is inserting the same key, this one waits for it. On MySQL the reads lock, because a snapshot may not contain the
 * rows that the other transaction has committed.
 *
 * @returns the earlier event with this key; `undefined` if the given event was stored
 */
export function* publishOnce(database: Database, row: EventRow, dedupeKey: Buffer): Script<ExistingEvent | undefined> {
  const { idempotencyKeys: k, events: e } = database.tables;
  const { id } = row.source.event;
  const lock = database.dialect === 'mysql' ? sql` lock in share mode` : sql``;
  yield sql`insert into ${k.sql} (${k.$.key}, ${k.$.eventId}) values (${dedupeKey}, ${id})${skipConflict(database.dialect, [k.$.key])}`;
  const [known] = yield* query<{ eventId: string }>(
    sql`select ${k.select('k', 'eventId')} from ${k.sql} k where k.${k.$.key} = ${dedupeKey}${lock}`,
  );
  if (known && known.eventId !== id) {
    const [earlier] = yield* query<ExistingEvent>(
      sql`select ${e.select('e', 'id', 'payload', 'owner', 'context')} from ${e.sql} e where e.${e.$.id} = ${known.eventId}${atTimesOf(database, sql`e.${e.$.createdAt}`, [known.eventId])}${lock}`,
    );
    if (earlier) return earlier;
    // Somebody deleted the event by hand, but not its key.
    yield sql`update ${k.sql} set ${k.$.eventId} = ${id} where ${k.$.key} = ${dedupeKey}`;
  }
  yield* storeEvents(database, [row]);
  return undefined;
}
