import sql, { type Sql } from 'sql-template-tag';
import { ownerKeyOf } from '../../hash.js';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { execute, query, type Script } from '../database/script.js';

/** Rows that one transaction deletes, not counting dependent rows such as the attempts of a delivery. */
const LISTENERS_PER_BATCH = 100;
const EVENTS_PER_BATCH = 200;
const DELIVERIES_PER_BATCH = 500;

/** The number of rows that one transaction deleted. */
export interface ErasedBatch {
  readonly listeners?: number;
  readonly deliveries?: number;
  readonly events?: number;
  /** Only deliveries that are being sent are left. They stay until their attempts are recorded. */
  readonly isWaiting: boolean;
}

/** Deletes listeners of an owner with their state and routes, including removed listeners. They get no more requests. */
export function* eraseListeners(database: Database, owner: string): Script<ErasedBatch> {
  const { listeners: l, listenerState: s, routes: r } = database.tables;
  const rows = yield* query<{ seq: unknown; id: string }>(
    sql`select ${l.select('l', 'seq', 'id')} from ${l.sql} l${l.through('ownerKey', 'createdAt', 'seq')} where l.${l.$.ownerKey} = ${ownerKeyOf(owner)} order by l.${l.$.createdAt}, l.${l.$.seq} limit ${LISTENERS_PER_BATCH}`,
  );
  if (!rows.length) return { isWaiting: false };
  const ids = inList(rows.map(({ id }) => id));
  for (const table of [r, s]) yield* execute(sql`delete from ${table.sql} where ${table.$.listenerId} ${ids}`);
  yield* execute(sql`delete from ${l.sql} where ${l.$.id} ${ids}`);
  return { listeners: rows.length, isWaiting: false };
}

/** Deletes deliveries to an owner's listeners, with their attempts. @param now a lease that expired before this time delays nothing */
export function* eraseDeliveries(database: Database, owner: string, now: number): Script<ErasedBatch> {
  const { deliveries: d } = database.tables;
  return yield* deleteDeliveries(database, {
    now,
    path: d.through('ownerKey', 'createdAt', 'seq'),
    where: sql`d.${d.$.ownerKey} = ${ownerKeyOf(owner)}`,
  });
}

/** Deletes events of an owner's rows, with all deliveries of them, including deliveries to listeners of other owners. */
export function* eraseEvents(database: Database, owner: string, now: number): Script<ErasedBatch> {
  const { events: e, deliveries: d } = database.tables;
  const found = yield* query<{ seq: unknown }>(
    sql`select ${e.select('e', 'seq')} from ${e.sql} e${e.through('ownerKey', 'createdAt', 'seq')} where e.${e.$.ownerKey} = ${ownerKeyOf(owner)} order by e.${e.$.createdAt}, e.${e.$.seq} limit ${EVENTS_PER_BATCH}`,
  );
  if (!found.length) return { isWaiting: false };
  // Wait for transactions that fan out these events: afterwards their deliveries are visible.
  const seqs = inList(found.map(({ seq }) => seq));
  yield sql`select ${e.select('e', 'seq')} from ${e.sql} e${e.byKey} where e.${e.$.seq} ${seqs} order by e.${e.$.seq}${database.forUpdate}`;
  const { deliveries = 0, isWaiting } = yield* deleteDeliveries(database, {
    now,
    path: sql``,
    where: sql`d.${d.$.eventSeq} ${seqs}`,
  });
  const unneeded = yield* query<{ seq: unknown }>(
    sql`select ${e.select('e', 'seq')} from ${e.sql} e${e.byKey} where e.${e.$.seq} ${seqs} and not exists (select 1 from ${d.sql} d where d.${d.$.eventSeq} = e.${e.$.seq})`,
  );
  if (unneeded.length) {
    yield* execute(sql`delete from ${e.sql} where ${e.$.seq} ${inList(unneeded.map(({ seq }) => seq))}`);
  }
  return { events: unneeded.length, deliveries, isWaiting: isWaiting && !unneeded.length };
}

function* deleteDeliveries(
  database: Database,
  { now, path, where }: { now: number; path: Sql; where: Sql },
): Script<ErasedBatch> {
  const { deliveries: d, attempts: a } = database.tables;
  const isHeld = sql`d.${d.$.state} = ${'leased'} and d.${d.$.leaseUntil} > ${now}`;
  const found = yield* query<{ seq: unknown }>(
    sql`select ${d.select('d', 'seq')} from ${d.sql} d${path} where ${where} and not (${isHeld}) limit ${DELIVERIES_PER_BATCH}`,
  );
  const locked = found.length
    ? yield* query<{ seq: unknown }>(
        sql`select ${d.select('d', 'seq')} from ${d.sql} d${d.byKey} where d.${d.$.seq} ${inList(found.map(({ seq }) => seq))} and not (${isHeld}) order by d.${d.$.seq}${database.forUpdate}`,
      )
    : [];
  if (locked.length) {
    const seqs = inList(locked.map(({ seq }) => seq));
    yield* execute(sql`delete from ${a.sql} where ${a.$.deliverySeq} ${seqs}`);
    yield* execute(sql`delete from ${d.sql} where ${d.$.seq} ${seqs}`);
    return { deliveries: locked.length, isWaiting: false };
  }
  const [held] = yield* query<{ seq: unknown }>(
    sql`select ${d.select('d', 'seq')} from ${d.sql} d${path} where ${where} limit 1`,
  );
  return { isWaiting: held !== undefined };
}
