import sql from 'sql-template-tag';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { atTimesOf } from '../database/event-times.js';
import { query } from '../database/script.js';

/** @returns which of these ids the outbox contains */
export function storedEventIds(database: Database, ids: readonly string[]): Promise<ReadonlySet<string>> {
  const { events: e } = database.tables;
  return database.transaction(function* () {
    const stored: string[] = [];
    for (const some of chunks(ids)) {
      const read = yield* query<{ id: string }>(
        sql`select ${e.select('e', 'id')} from ${e.sql} e where e.${e.$.id} ${inList(some)}${atTimesOf(database, sql`e.${e.$.createdAt}`, some)}`,
      );
      stored.push(...read.map((row) => row.id));
    }
    return new Set(stored);
  });
}
