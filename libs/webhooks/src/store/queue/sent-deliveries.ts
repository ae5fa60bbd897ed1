import sql, { raw, type Sql } from 'sql-template-tag';
import type { Database } from '../database/database.js';
import { atTimes, atTimesOf } from '../database/event-times.js';
import { query, type Script } from '../database/script.js';
import { readEventStates } from '../outbox/event-state.js';
import { readEvent, selectEvent, type ClaimedEvent, type ReadEvent } from '../outbox/outbox-events.js';
import { candidates, wants, type ReadCandidate } from './candidates.js';
import { findExisting } from './existing-deliveries.js';

/** The part of an event that the verify view needs. */
export interface SentEvent {
  readonly seq: unknown;
  readonly createdAt: unknown;
  /** The body for listeners with the standard format; `null` if its length differs from the requested length. */
  readonly body: string | null;
}

/** A delivery with at least one request that may have been sent, and the secrets that may have signed this request. */
export interface SentDelivery {
  readonly listenerId: string;
  /** Whether the event's own text was sent. Otherwise `body` has the text in the format of the listener. */
  readonly hasEventBody: boolean;
  /** The text in the format of the listener. `null` if the length of the text differs from the requested length. */
  readonly body: string | null;
  readonly secrets: string;
  readonly schemes: readonly string[];
}

interface SentDeliveryRow extends Omit<SentDelivery, 'hasEventBody' | 'schemes'> {
  hasEventBody: unknown;
  schemes: string;
}

/**
 * Finds an event by its public id. The statement does not read texts of another length, because such texts cannot be equal to the requested
 * text. If a payload of megabytes were read, the refusal of a known id would take longer than the refusal of an unknown id.
 *
 * @param bodyLength the length in bytes
 */
export function* readSentEvent(database: Database, id: string, bodyLength: number): Script<SentEvent | undefined> {
  const { events: e } = database.tables;
  const sent = sql`coalesce(e.${e.$.thinPayload}, e.${e.$.payload})`;
  const [event] = yield* query<SentEvent>(
    sql`select ${e.select('e', 'seq', 'createdAt')}, ${ofLength(database, sent, bodyLength)} ${e.as('body')} from ${e.sql} e where e.${e.$.id} = ${id}${atTimesOf(database, sql`e.${e.$.createdAt}`, [id])}`,
  );
  return event;
}

/**
 * Deliveries of an event. The newest listener comes first. The unique key (event, listener) has the same order, so every page costs the
 * same.
 *
 * A leased delivery counts as sent even before its first attempt is recorded: a receiver may ask the verify view before the receiver
 * answers the request. A removed listener also counts, because the requests to this listener stay genuine.
 *
 * @param options `before` is the last listener of the previous page; `bodyLength` is in bytes
 */
export function* readSentDeliveries(
  database: Database,
  event: Pick<SentEvent, 'seq' | 'createdAt'>,
  options: { bodyLength: number; before: string | null; limit: number },
): Script<SentDelivery[]> {
  const { deliveries: d, listeners: l } = database.tables;
  const before = options.before === null ? sql`` : sql` and d.${d.$.listenerId} < ${options.before}`;
  const rows = yield* query<SentDeliveryRow>(
    sql`select ${d.select('d', 'listenerId')}, case when d.${d.$.body} is null then 1 else 0 end ${d.as('hasEventBody')}, ${ofLength(database, sql`d.${d.$.body}`, options.bodyLength)} ${d.as('body')}, ${l.select('l', 'secrets', 'schemes')}
    from ${d.sql} d
    join ${l.sql} l on l.${l.$.id} = d.${d.$.listenerId}
    where d.${d.$.eventAt} = ${event.createdAt} and d.${d.$.eventSeq} = ${event.seq}
      and (d.${d.$.attempts} > 0 or d.${d.$.state} = ${'leased'})${before}
    order by d.${d.$.listenerId} desc limit ${options.limit}`,
  );
  return rows.map((row) => ({
    ...row,
    hasEventBody: Number(row.hasEventBody) === 1,
    schemes: JSON.parse(row.schemes) as string[],
  }));
}

/**
 * Deliveries of an event in flight that have no row yet: a receiver may ask before the outcome of its request is on record. To find them,
 * the event is routed again for listeners without a delivery row. All of these deliveries send the event's own text, because a delivery
 * with another body has a row before it is sent.
 */
export function* readUnstoredDeliveries(
  database: Database,
  { seq, createdAt }: Pick<SentEvent, 'seq' | 'createdAt'>,
): Script<SentDelivery[]> {
  const stateOf = yield* readEventStates(database, [seq]);
  if (stateOf(seq) !== 'in_flight') return [];
  const { events: e } = database.tables;
  const rows = yield* query<ClaimedEvent>(
    sql`select ${selectEvent(database)} from ${e.sql} e where e.${e.$.seq} = ${seq}${atTimes(database, sql`e.${e.$.createdAt}`, [createdAt])}`,
  );
  const events = rows.flatMap((row) => readOrNothing(row));
  const { listenersOf } = yield* candidates(database, events, { types: new Set(), paths: [] });
  const existing = yield* findExisting(database, [{ seq, createdAt }]);
  return [...listenersOf].flatMap(([event, listeners]) =>
    listeners
      .filter((one) => !existing.has(`${String(seq)} ${one.id}`) && wantsOrNot(one, event))
      .map(({ id, secrets, target }) => ({
        listenerId: id,
        hasEventBody: true,
        body: null,
        secrets,
        schemes: target.schemes,
      })),
  );
}

/** A damaged event was not sent. */
function readOrNothing(row: ClaimedEvent): ReadEvent[] {
  try {
    return [readEvent(row)];
  } catch {
    return [];
  }
}

function wantsOrNot(listener: ReadCandidate, event: ReadEvent): boolean {
  try {
    return wants(listener, event);
  } catch {
    return false;
  }
}

function ofLength(database: Database, text: Sql, bytes: number): Sql {
  // SQLite has octet_length only since 3.43.
  const length =
    database.dialect === 'sqlite' ? sql`length(cast(${text} as blob))` : sql`${raw('octet_length')}(${text})`;
  return sql`case when ${length} = ${bytes} then ${text} end`;
}
