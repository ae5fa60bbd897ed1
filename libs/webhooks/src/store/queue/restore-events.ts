import sql, { bulk, join } from 'sql-template-tag';
import type { ArchivedEvent } from '../../archive/archive-lines.js';
import { EVERY_OWNER_KEY, ownerKeyOf } from '../../hash.js';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { skipConflict } from '../database/dialect-sql.js';
import { atTimesOf } from '../database/event-times.js';
import { query, type Script } from '../database/script.js';
import type { PastEvent } from './replay-events.js';

/** Which of these ids exist. */
function* existingIds(database: Database, ids: readonly string[]): Script<ReadonlySet<string>> {
  const { events: e } = database.tables;
  const rows = yield* query<{ id: string }>(
    sql`select ${e.select('e', 'id')} from ${e.sql} e where e.${e.$.id} ${inList(ids)}${atTimesOf(database, sql`e.${e.$.createdAt}`, ids)}`,
  );
  return new Set(rows.map(({ id }) => id));
}

/**
 * Inserts events of an archive that do not exist, with their id and their time. They get no outbox row, so they count as delivered. Their
 * age counts from now, so that retention keeps them as long as new events.
 *
 * @returns the number of inserted events
 */
export function* restoreEvents(
  database: Database,
  events: readonly ArchivedEvent[],
  { now, isDryRun }: { now: number; isDryRun: boolean },
): Script<number> {
  const ids = events.map(({ id }) => id);
  const existing = yield* existingIds(database, ids);
  const missing = new Map(events.filter(({ id }) => !existing.has(id)).map((event) => [event.id, event]));
  if (isDryRun || !missing.size) return missing.size;
  const { sql: path, $ } = database.tables.events;
  const rows = [...missing.values()].map((event) => valuesOf(event, now));
  const columns = COLUMNS.map((property) => $[property]);
  const key = database.isPartitioned ? [$.id, $.createdAt] : [$.id];
  yield sql`insert into ${path} (${join(columns)}) values ${bulk(rows)}${skipConflict(database.dialect, key)}`;
  return missing.size;
}

const COLUMNS = [
  ...(['id', 'type', 'superTypes', 'audience', 'owner', 'ownerKey', 'orderKey', 'ordered'] as const),
  ...(['payload', 'thinPayload', 'droppedFields', 'context', 'createdAt', 'restoredAt'] as const),
];

function valuesOf(event: ArchivedEvent, now: number): (string | number | Buffer | null)[] {
  return [
    event.id,
    event.type,
    event.superTypes.length ? JSON.stringify(event.superTypes) : null,
    event.audience,
    event.owner,
    ownerKeyFor(event),
    event.orderKey === null ? null : Buffer.from(event.orderKey, 'hex'),
    event.ordered ? 1 : 0,
    event.payload,
    event.thinPayload,
    event.droppedFields === null ? null : JSON.stringify(event.droppedFields),
    event.context,
    Date.parse(event.timestamp),
    now,
  ];
}

function ownerKeyFor({ audience, owner }: ArchivedEvent): Buffer | null {
  if (audience === 'every') return EVERY_OWNER_KEY;
  return owner === null ? null : ownerKeyOf(owner);
}

/** Reads events by their ids, in the order of their sequence, for a replay. Erased events are left out. */
export function* readPastEvents(database: Database, ids: readonly string[]): Script<PastEvent[]> {
  const { events: e } = database.tables;
  return yield* query<PastEvent>(
    sql`select ${e.select('e', 'seq', 'type', 'superTypes', 'orderKey', 'createdAt')} from ${e.sql} e where e.${e.$.id} ${inList(ids)}${atTimesOf(database, sql`e.${e.$.createdAt}`, ids)} and e.${e.$.audience} <> 'test' and e.${e.$.erasedAt} is null order by e.${e.$.seq}`,
  );
}
