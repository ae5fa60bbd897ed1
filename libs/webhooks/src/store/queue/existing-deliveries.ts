import sql from 'sql-template-tag';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { query, type Script } from '../database/script.js';

/** The sequence of an event and the id of a listener: `17 lst_…`. */
export type DeliveryKey = `${string} ${string}`;

export interface ExistingDelivery {
  readonly seq: unknown;
  readonly eventSeq: unknown;
  readonly listenerId: string;
  readonly state: string;
  readonly attempts: unknown;
}

/** Reads which of these listeners have a delivery of an event. */
export function* readListenersWithDelivery(
  database: Database,
  { seq, createdAt }: { readonly seq: unknown; readonly createdAt: unknown },
  listenerIds: readonly string[],
): Script<ReadonlySet<string>> {
  const { deliveries: d } = database.tables;
  const found = new Set<string>();
  for (const some of chunks(listenerIds)) {
    const rows = yield* query<{ listenerId: string }>(
      sql`select ${d.select('d', 'listenerId')} from ${d.sql} d${d.through('eventAt', 'eventSeq', 'listenerId')} where d.${d.$.eventAt} = ${createdAt} and d.${d.$.eventSeq} = ${seq} and d.${d.$.listenerId} ${inList(some)}`,
    );
    for (const { listenerId } of rows) found.add(listenerId);
  }
  return found;
}

/** Reads which deliveries exist of events in the outbox. The unique key begins with the event's time, which the outbox row contains. */
export function* findExisting(
  database: Database,
  eventSeqs: readonly unknown[],
): Script<Map<DeliveryKey, ExistingDelivery>> {
  if (!eventSeqs.length) return new Map();
  const { outbox: o, deliveries: d } = database.tables;
  const rows = yield* query<ExistingDelivery>(
    sql`select ${d.select('d', 'seq', 'eventSeq', 'listenerId', 'state', 'attempts')} from ${o.sql} o join ${d.sql} d${d.through('eventAt', 'eventSeq', 'listenerId')} on d.${d.$.eventAt} = o.${o.$.eventAt} and d.${d.$.eventSeq} = o.${o.$.seq} where o.${o.$.seq} ${inList(eventSeqs)}`,
  );
  return new Map(rows.map((row) => [`${String(row.eventSeq)} ${row.listenerId}` as const, row]));
}
