import sql, { join } from 'sql-template-tag';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { numberOrNull } from '../database/number-or-null.js';
import { query, type Script } from '../database/script.js';

/** The figures about a listener's health that are not in its row. */
export interface ListenerHealthRow {
  /** Number of pending deliveries, at most {@link WAITING_COUNTED}. */
  readonly waiting: number;
  /** Time of the last accepted request, in ms since 1970. `null` if none was accepted during the period for which statistics are kept. */
  readonly lastAcceptedAt: number | null;
}

/** The limit of the count of pending deliveries of one listener. */
const WAITING_COUNTED = 1_000;
/** SQLite allows 500 parts in one statement. */
const LISTENERS_PER_STATEMENT = 100;

/**
 * Reads the pending deliveries and the last accepted request of some listeners. The cost for a listener does not depend on the number of
 * its pending deliveries.
 */
export function* readListenerHealth(
  database: Database,
  ids: readonly string[],
): Script<ReadonlyMap<string, ListenerHealthRow>> {
  const waiting = new Map<string, number>();
  const accepted = new Map<string, number | null>();
  for (const some of chunks(ids, LISTENERS_PER_STATEMENT)) {
    for (const { id, count } of yield* countWaiting(database, some)) waiting.set(id, Number(count));
    for (const { id, at } of yield* lastAccepted(database, some)) accepted.set(id, numberOrNull(at));
  }
  return new Map(ids.map((id) => [id, { waiting: waiting.get(id) ?? 0, lastAcceptedAt: accepted.get(id) ?? null }]));
}

function countWaiting(database: Database, ids: readonly string[]): Script<{ id: string; count: unknown }[]> {
  const { deliveries: d } = database.tables;
  const path = d.through('listenerId', 'state', 'nextAt', 'seq');
  const each = ids.map((id, index) => {
    const some = sql`select d.${d.$.listenerId} as id from ${d.sql} d${path} where d.${d.$.listenerId} = ${id} and d.${d.$.state} = 'due' limit ${WAITING_COUNTED}`;
    // Select a number, because PostgreSQL cannot infer the type of a text parameter in a select list.
    return sql`select ${database.dialect === 'postgres' ? sql`cast(${index} as integer)` : sql`${index}`} as n, count(*) ${d.as('count')} from (${some}) c`;
  });
  return withIds(ids, sql`${join(each, ' union all ')}`);
}

function* withIds(ids: readonly string[], statement: ReturnType<typeof sql>): Script<{ id: string; count: unknown }[]> {
  const rows = yield* query<{ n: unknown; count: unknown }>(statement);
  return rows.map(({ n, count }) => ({ id: ids[Number(n)] as string, count }));
}

function* lastAccepted(database: Database, ids: readonly string[]): Script<{ id: string; at: unknown }[]> {
  const { listeners: l, stats: t } = database.tables;
  const last = sql`(select t.${t.$.lastAcceptedAt} from ${t.sql} t where t.${t.$.listenerId} = l.${l.$.id} and t.${t.$.accepted} > 0 order by t.${t.$.startsAt} desc limit 1)`;
  return yield* query<{ id: string; at: unknown }>(
    sql`select ${l.select('l', 'id')}, ${last} ${l.as('at')} from ${l.sql} l where l.${l.$.id} ${inList(ids)}`,
  );
}
