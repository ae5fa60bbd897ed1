import sql, { raw } from 'sql-template-tag';
import type { ReadyListener, ReadyPage } from '../../engine.js';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { query, type Script } from '../database/script.js';

interface Row {
  seq: unknown;
  listenerId: string;
  readyAt: unknown;
}

/** Reads when these listeners must be checked. Listeners without pending work have no entry. */
export function* readReadyAt(database: Database, listenerIds: readonly string[]): Script<Map<string, number>> {
  const { listenerState: s } = database.tables;
  const times = new Map<string, number>();
  for (const some of chunks(listenerIds)) {
    const rows = yield* query<Omit<Row, 'seq'>>(
      sql`select ${s.select('s', 'listenerId', 'readyAt')} from ${s.sql} s where s.${s.$.listenerId} ${inList(some)} and s.${s.$.readyAt} is not null`,
    );
    for (const { listenerId, readyAt } of rows) times.set(listenerId, Number(readyAt));
  }
  return times;
}

/** Reads a page of the listeners with pending work, in the order of the index of the queue. */
export function* readReadyListeners(
  database: Database,
  { until, after, limit, isNewestFirst = false }: ReadyPage,
): Script<ReadyListener[]> {
  const { listenerState: s } = database.tables;
  const order = raw(isNewestFirst ? 'desc' : 'asc');
  const isInTime = until === undefined ? sql`` : sql` and s.${s.$.readyAt} <= ${until}`;
  // The first comparison alone finds the place in the index. With `or`, a planner may read the index from its start.
  const isAfter = after
    ? sql` and s.${s.$.readyAt} >= ${after.readyAt} and (s.${s.$.readyAt} > ${after.readyAt} or s.${s.$.seq} > ${after.seq})`
    : sql``;
  const rows = yield* query<Row>(
    sql`select ${s.select('s', 'seq', 'listenerId', 'readyAt')} from ${s.sql} s where s.${s.$.readyAt} is not null${isInTime}${isAfter} order by s.${s.$.readyAt} ${order}, s.${s.$.seq} ${order} limit ${limit}`,
  );
  return rows.map(({ seq, listenerId, readyAt }) => ({ id: listenerId, readyAt: Number(readyAt), seq: String(seq) }));
}
