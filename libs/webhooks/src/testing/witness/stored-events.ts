import sql from 'sql-template-tag';
import type { EntityDefinition } from '../../entities/entity-definition.js';
import type { JsonObject } from '../../json.js';
import type { Audience } from '../../events/webhook-event.js';
import type { Database } from '../../store/database/database.js';
import { query } from '../../store/database/script.js';

/** An event of the outbox. */
export interface StoredEvent {
  readonly id: string;
  readonly type: string;
  readonly audience: Audience;
  readonly owner: string | null;
  /** Identifies the row of the event. The order key is a hash, as hexadecimal text. */
  readonly orderKey: string | null;
  readonly data: JsonObject;
  readonly previous?: JsonObject;
  /** Whether the stored payload lacks fields because the payload was too large. */
  readonly isTruncated: boolean;
}

interface EventColumns {
  id: string;
  type: string;
  audience: Audience;
  owner: string | null;
  orderKey: Uint8Array | null;
  payload: string;
}

/** All events after a position in the outbox, in the order of the outbox. */
export async function storedEvents(database: Database, after: string): Promise<StoredEvent[]> {
  const { events: e } = database.tables;
  const rows = await database.single(() =>
    query<EventColumns>(
      sql`select ${e.select('e', 'id', 'type', 'audience', 'owner', 'orderKey', 'payload')} from ${e.sql} e where e.${e.$.seq} > ${after} order by e.${e.$.seq}`,
    ),
  );
  return rows.map(({ orderKey, payload, ...columns }) => {
    const { data, previous, truncated } = JSON.parse(payload) as {
      data: JsonObject;
      previous?: JsonObject;
      truncated?: boolean;
    };
    const key = orderKey === null ? null : Buffer.from(orderKey).toString('hex');
    return { ...columns, orderKey: key, data, ...(previous && { previous }), isTruncated: truncated === true };
  });
}

/** The event without the links of its row. The links are in another table. `null` if only links have changed. */
export function withoutLinks(event: StoredEvent, { linkFields }: EntityDefinition): StoredEvent | null {
  if (!linkFields.length) return event;
  const paths = new Set(linkFields.map(({ parts }) => parts[0]));
  const others = (values: JsonObject) => Object.fromEntries(Object.entries(values).filter(([key]) => !paths.has(key)));
  const { previous, ...rest } = { ...event, data: others(event.data) };
  if (!previous) return rest;
  const changed = others(previous);
  return Object.keys(changed).length ? { ...rest, previous: changed } : null;
}

/** The outbox position of the newest event. */
export async function lastEvent(database: Database): Promise<string> {
  const { events: e } = database.tables;
  const [row] = await database.single(() =>
    query<{ last: unknown }>(sql`select coalesce(max(e.${e.$.seq}), 0) as last from ${e.sql} e`),
  );
  return String(row?.last);
}

/**
 * The images that triggers captured and that are not yet events. Returns the number of pending images, and the reasons
 * of damaged images.
 */
export async function imagesLeft(database: Database): Promise<{ waiting: number; reasons: string[] }> {
  const { images: i } = database.tables;
  const rows = await database.single(() =>
    query<{ reason: string | null }>(sql`select i.${i.$.reason} as reason from ${i.sql} i where i.${i.$.seq} > 0`),
  );
  const reasons = rows.flatMap(({ reason }) => (reason === null ? [] : [reason]));
  return { waiting: rows.length - reasons.length, reasons };
}
