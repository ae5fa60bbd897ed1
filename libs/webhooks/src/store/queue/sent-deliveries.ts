import sql, { raw, type Sql } from 'sql-template-tag';
import type { Database } from '../database/database.js';
import { query, type Script } from '../database/script.js';

/** The part of an event that the verify view needs. */
export interface SentEvent {
  readonly seq: unknown;
  /** The body for listeners with the standard format; `null` if its length differs from the requested length. */
  readonly body: string | null;
}

/** A delivery with at least one request that may have been sent, and the secrets that may have signed it. */
export interface SentDelivery {
  readonly listenerId: string;
  /** Whether the event's own text was sent; otherwise `body` has the text of its format. */
  readonly hasEventBody: boolean;
  /** The text of its format; `null` if its length differs from the requested length. */
  readonly body: string | null;
  readonly secrets: string;
  readonly schemes: readonly string[];
}

interface SentDeliveryRow extends Omit<SentDelivery, 'hasEventBody' | 'schemes'> {
  hasEventBody: unknown;
  schemes: string;
}

/**
 * Finds an event by its public id. Texts of another length are not read, because they cannot be equal. Reading up to megabytes of payload
 * would make the refusal of a known id slower than the refusal of an unknown id.
 *
 * @param bodyLength in bytes
 */
export function* readSentEvent(database: Database, id: string, bodyLength: number): Script<SentEvent | undefined> {
  const { events: e } = database.tables;
  const sent = sql`coalesce(e.${e.$.thinPayload}, e.${e.$.payload})`;
  const [event] = yield* query<SentEvent>(
    sql`select ${e.select('e', 'seq')}, ${ofLength(database, sent, bodyLength)} ${e.as('body')} from ${e.sql} e where e.${e.$.id} = ${id}`,
  );
  return event;
}

/**
 * Deliveries of an event, newest listener first. This is the order of the unique key (event, listener), so every page costs the same.
 *
 * A leased delivery counts as sent before its first attempt is recorded: a receiver may ask before it has answered the request. A removed
 * listener counts too, because the requests that it got stay genuine.
 *
 * @param options `before` is the last listener of the previous page; `bodyLength` is in bytes
 */
export function* readSentDeliveries(
  database: Database,
  eventSeq: unknown,
  options: { bodyLength: number; before: string | null; limit: number },
): Script<SentDelivery[]> {
  const { deliveries: d, listeners: l } = database.tables;
  const before = options.before === null ? sql`` : sql` and d.${d.$.listenerId} < ${options.before}`;
  const rows = yield* query<SentDeliveryRow>(
    sql`select ${d.select('d', 'listenerId')}, case when d.${d.$.body} is null then 1 else 0 end ${d.as('hasEventBody')}, ${ofLength(database, sql`d.${d.$.body}`, options.bodyLength)} ${d.as('body')}, ${l.select('l', 'secrets', 'schemes')}
    from ${d.sql} d
    join ${l.sql} l on l.${l.$.id} = d.${d.$.listenerId}
    where d.${d.$.eventSeq} = ${eventSeq} and d.${d.$.deletedAt} is null
      and (d.${d.$.attempts} > 0 or d.${d.$.state} = ${'leased'})${before}
    order by d.${d.$.listenerId} desc limit ${options.limit}`,
  );
  return rows.map((row) => ({
    ...row,
    hasEventBody: Number(row.hasEventBody) === 1,
    schemes: JSON.parse(row.schemes) as string[],
  }));
}

function ofLength(database: Database, text: Sql, bytes: number): Sql {
  // SQLite has octet_length only since 3.43.
  const length =
    database.dialect === 'sqlite' ? sql`length(cast(${text} as blob))` : sql`${raw('octet_length')}(${text})`;
  return sql`case when ${length} = ${bytes} then ${text} end`;
}
