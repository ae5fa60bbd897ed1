import sql, { raw, type Sql } from 'sql-template-tag';
import type { Database } from '../database/database.js';
import { query, type Script } from '../database/script.js';

/** An event as the verify view needs it. */
export interface SentEvent {
  readonly seq: unknown;
  /** What listeners of the standard format were sent; `null` when it has another length than was asked for. */
  readonly body: string | null;
}

/** A delivery of which at least one request may have gone out, with what could have signed it. */
export interface SentDelivery {
  readonly listenerId: string;
  /** Whether it was sent the event's own text; otherwise its format's, in `body`. */
  readonly hasEventBody: boolean;
  /** What its format made; `null` when it has another length than was asked for. */
  readonly body: string | null;
  readonly secrets: string;
  readonly schemes: readonly string[];
}

interface SentDeliveryRow extends Omit<SentDelivery, 'hasEventBody' | 'schemes'> {
  hasEventBody: unknown;
  schemes: string;
}

/**
 * Finds an event by its public id. Texts of another length are not read: they cannot be equal, and up to megabytes of a
 * payload would make a known id slower to refuse than an unknown one.
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
 * Deliveries of an event, the newest listener first: in the order of the unique key (event, listener), so that a page
 * costs the same wherever it begins.
 *
 * One that is leased counts as sent before its first attempt is recorded: a receiver may ask while it is still answering.
 * A removed listener counts too, as what it was sent stays genuine.
 *
 * @param options `before` is the listener at which the page before ended; `bodyLength` is in bytes
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
  // SQLite has octet_length since 3.43 only.
  const length =
    database.dialect === 'sqlite' ? sql`length(cast(${text} as blob))` : sql`${raw('octet_length')}(${text})`;
  return sql`case when ${length} = ${bytes} then ${text} end`;
}
