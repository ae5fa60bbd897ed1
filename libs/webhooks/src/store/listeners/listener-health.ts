import sql, { join, type Sql } from 'sql-template-tag';
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

function* countWaiting(database: Database, ids: readonly string[]): Script<{ id: string; count: unknown }[]> {
  const { deliveries: d } = database.tables;
  const path = d.through('listenerId', 'state', 'nextAt', 'seq');
  const each = ids.map((id, index) => {
    const some = sql`select d.${d.$.listenerId} as id from ${d.sql} d${path} where d.${d.$.listenerId} = ${id} and d.${d.$.state} = 'due' limit ${WAITING_COUNTED}`;
    return sql`select ${numberOf(database, index)}, count(*) ${d.as('count')} from (${some}) c`;
  });
  const rows = yield* query<{ n: unknown; count: unknown }>(join(each, ' union all '));
  return rows.map(({ n, count }) => ({ id: ids[Number(n)] as string, count }));
}

/** A part of a union that says by its number which listener it is about, because PostgreSQL cannot infer the type of a text in a select list. */
function numberOf({ dialect }: Database, index: number): Sql {
  return dialect === 'postgres' ? sql`cast(${index} as integer) as n` : sql`${index} as n`;
}

/**
 * How many deliveries of a listener are read to find its last error. Behind an open circuit, very many deliveries may wait without an
 * attempt.
 */
const LOOKED_AT = 500;

/**
 * Reads the error codes of the last failed deliveries of some listeners. A delivery that failed is due later than deliveries that were never
 * tried. If no due delivery of a listener has failed, its newest deliveries are read.
 */
export function* readLastErrors(database: Database, ids: readonly string[]): Script<ReadonlyMap<string, string>> {
  const { deliveries: d } = database.tables;
  const due = (id: string) =>
    sql`${d.sql} d${d.through('listenerId', 'state', 'nextAt', 'seq')} where d.${d.$.listenerId} = ${id} and d.${d.$.state} = 'due' order by d.${d.$.nextAt} desc, d.${d.$.seq} desc`;
  const newest = (id: string) =>
    sql`${d.sql} d${d.through('listenerId', 'createdAt', 'seq')} where d.${d.$.listenerId} = ${id} order by d.${d.$.createdAt} desc, d.${d.$.seq} desc`;
  const codes = new Map<string, string>();
  for (const from of [due, newest]) {
    const left = ids.filter((id) => !codes.has(id));
    for (const some of chunks(left, LISTENERS_PER_STATEMENT)) {
      const each = some.map((id, index) => {
        const tried = sql`select d.${d.$.lastErrorCode} as code from ${from(id)} limit ${LOOKED_AT}`;
        return sql`select ${numberOf(database, index)}, (select c.code from (${tried}) c where c.code is not null limit 1) as code`;
      });
      const rows = yield* query<{ n: unknown; code: string | null }>(join(each, ' union all '));
      for (const { n, code } of rows) if (code !== null) codes.set(some[Number(n)] as string, code);
    }
  }
  return codes;
}

function* lastAccepted(database: Database, ids: readonly string[]): Script<{ id: string; at: unknown }[]> {
  const { listeners: l, stats: t } = database.tables;
  const last = sql`(select t.${t.$.lastAcceptedAt} from ${t.sql} t where t.${t.$.listenerId} = l.${l.$.id} and t.${t.$.accepted} > 0 order by t.${t.$.startsAt} desc limit 1)`;
  return yield* query<{ id: string; at: unknown }>(
    sql`select ${l.select('l', 'id')}, ${last} ${l.as('at')} from ${l.sql} l where l.${l.$.id} ${inList(ids)}`,
  );
}
