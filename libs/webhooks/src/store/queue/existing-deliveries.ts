import sql, { raw } from 'sql-template-tag';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { jsonRows } from '../database/json-rows.js';
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

/** Reads which deliveries of these events exist. The unique key of deliveries begins with the time of the event. */
export function* findExisting(
  database: Database,
  events: readonly { readonly seq: unknown; readonly createdAt: unknown }[],
): Script<Map<DeliveryKey, ExistingDelivery>> {
  if (!events.length) return new Map();
  const { deliveries: d } = database.tables;
  const unique = new Map(
    events.map(({ seq, createdAt }) => [String(seq), { event: String(seq), at: Number(createdAt) }]),
  );
  const keys = jsonRows(database.dialect, { event: 'bigint', at: 'bigint' }, [...unique.values()]);
  const join = raw(database.dialect === 'mysql' ? 'straight_join' : 'join');
  const rows = yield* query<ExistingDelivery>(
    sql`select ${d.select('d', 'seq', 'eventSeq', 'listenerId', 'state', 'attempts')} from ${keys} ${join} ${d.sql} d${d.through('eventAt', 'eventSeq', 'listenerId')} on d.${d.$.eventAt} = r.at and d.${d.$.eventSeq} = r.event`,
  );
  return new Map(rows.map((row) => [`${String(row.eventSeq)} ${row.listenerId}` as const, row]));
}
