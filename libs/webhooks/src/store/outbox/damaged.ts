import sql from 'sql-template-tag';
import { outboxRows } from './expired-leases.js';
import { canBeStored } from '../database/can-be-stored.js';
import type { Database } from '../database/database.js';
import { atSameTime, atTimesOf } from '../database/event-times.js';
import { execute, query, type Script } from '../database/script.js';

/** An event, or an image of a trigger, that could not be read. */
export interface DamagedRow {
  /** `evt_…`, or `img_` and the sequence of an image. */
  readonly id: string;
  readonly kind: 'event' | 'image';
  /** The event type, or the table of the image. */
  readonly name: string;
  /** Why it could not be read. */
  readonly reason: string | null;
  readonly createdAt: number;
}

/** The maximum number of rows of each kind in a list. */
export const DAMAGED_SHOWN = 100;
const IMAGE = /^img_(\d{1,18})$/;

/** The newest damaged events and images, newest first. At most one more than {@link DAMAGED_SHOWN} of each kind. */
export function* readDamaged(database: Database): Script<DamagedRow[]> {
  const { damaged: x, events: e, images: i } = database.tables;
  const events = yield* query<{ id: string; type: string; createdAt: unknown; reason: string }>(
    sql`select ${e.select('e', 'id', 'type', 'createdAt')}, ${x.select('x', 'reason')} from ${x.sql} x join ${e.sql} e on e.${e.$.seq} = x.${x.$.seq}${atSameTime(database, sql`e.${e.$.createdAt}`, sql`x.${x.$.eventAt}`)} order by x.${x.$.seq} desc limit ${DAMAGED_SHOWN + 1}`,
  );
  const images = yield* query<{ seq: unknown; tablePath: string; reason: string; createdAt: unknown }>(
    sql`select ${i.select('i', 'seq', 'tablePath', 'reason', 'createdAt')} from ${i.sql} i where i.${i.$.reason} is not null order by i.${i.$.seq} desc limit ${DAMAGED_SHOWN + 1}`,
  );
  const rows: DamagedRow[] = [
    ...events.map(({ id, type, createdAt, reason }) => ({
      ...{ id, kind: 'event' as const, name: type, reason, createdAt: Number(createdAt) },
    })),
    ...images.map(({ seq, tablePath, reason, createdAt }) => ({
      ...{ id: `img_${String(seq)}`, kind: 'image' as const, name: tablePath, reason, createdAt: Number(createdAt) },
    })),
  ];
  return rows.toSorted((a, b) => b.createdAt - a.createdAt);
}

/** Makes a damaged row pending again. @returns its kind; `null` if there is no such damaged row */
export function* retryDamaged(database: Database, id: string): Script<DamagedRow['kind'] | null> {
  const { images: i } = database.tables;
  const [, seq] = IMAGE.exec(id) ?? [];
  if (seq !== undefined) {
    const changed = yield* execute(
      sql`update ${i.sql} set ${i.$.reason} = ${null} where ${i.$.seq} = ${seq} and ${i.$.reason} is not null`,
    );
    return changed ? 'image' : null;
  }
  if (!id.startsWith('evt_') || !canBeStored(id)) return null;
  return (yield* retryEvent(database, id)) ? 'event' : null;
}

/**
 * Puts a damaged event back into the outbox. It counts as claimed before, so the next claim leaves out deliveries that already exist.
 *
 * @returns whether the event was damaged
 */
function* retryEvent(database: Database, id: string): Script<boolean> {
  const { damaged: x, events: e } = database.tables;
  const [event] = yield* query<{ seq: unknown; createdAt: unknown; orderKey: Uint8Array | null }>(
    sql`select ${e.select('e', 'seq', 'createdAt', 'orderKey')} from ${e.sql} e where e.${e.$.id} = ${id}${atTimesOf(database, sql`e.${e.$.createdAt}`, [id])}`,
  );
  if (!event) return false;
  // Only one of two concurrent calls deletes the row.
  if (!(yield* execute(sql`delete from ${x.sql} where ${x.$.seq} = ${event.seq}`))) return false;
  yield outboxRows(database, [event], 1);
  return true;
}
