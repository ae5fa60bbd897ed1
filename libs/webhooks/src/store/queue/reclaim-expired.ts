import sql, { type Sql } from 'sql-template-tag';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { atTimes } from '../database/event-times.js';
import { expectDeliveries } from '../listeners/listener-state.js';
import { execute, query, type Script } from '../database/script.js';

/**
 * Makes deliveries due again if their lease has expired. The worker of such a delivery is dead, or is so late that its lease token is no
 * longer valid.
 *
 * @returns the listener of each of these deliveries
 */
export function* reclaimExpired(database: Database, now: number, limit: number): Script<string[]> {
  const { deliveries: d } = database.tables;
  const found = yield* query<{ seq: unknown; eventAt?: unknown }>(
    sql`select ${d.select('d', 'seq', ...(database.isPartitioned ? (['eventAt'] as const) : []))} from ${d.sql} d where d.${d.$.state} = 'leased' and d.${d.$.leaseUntil} <= ${now} order by d.${d.$.leaseUntil} limit ${limit}`,
  );
  if (!found.length) return [];
  const at = (column: Sql) =>
    atTimes(
      database,
      column,
      found.map(({ eventAt }) => eventAt),
    );
  const locked = yield* query<{ seq: unknown; listenerId: string }>(
    sql`select ${d.select('d', 'seq', 'listenerId')} from ${d.sql} d${d.byKey} where d.${d.$.seq} ${inList(found.map(({ seq }) => seq))}${at(sql`d.${d.$.eventAt}`)} and d.${d.$.state} = ${'leased'} and d.${d.$.leaseUntil} <= ${now} order by d.${d.$.seq}${database.skipLocked}`,
  );
  if (!locked.length) return [];
  yield* execute(
    sql`update ${d.sql}${d.byKey} set ${d.$.state} = ${'due'}, ${d.$.leaseToken} = ${null}, ${d.$.leaseUntil} = ${null} where ${d.$.seq} ${inList(locked.map(({ seq }) => seq))}${at(d.$.eventAt)}`,
  );
  const listenerIds = locked.map(({ listenerId }) => listenerId);
  yield* expectDeliveries(database, new Map(listenerIds.map((id) => [id, now])));
  return listenerIds;
}
