import sql, { type Sql } from 'sql-template-tag';
import { EVERY_OWNER_KEY, ownerKeyOf } from '../../hash.js';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { execute, query, type Script } from '../database/script.js';
import { deleteEvents, isOfEvent } from '../outbox/delete-events.js';
import { endExpiredLeases, LEASES_PER_BATCH } from '../outbox/expired-leases.js';
import { lockUnfinished, readLeasedSequences } from '../outbox/leases.js';
import { deletingRows } from '../outbox/outbox-rows.js';

/** The maximum number of rows that one transaction deletes. Dependent rows, such as the attempts of a delivery, do not count. */
const LISTENERS_PER_BATCH = 100;
const EVENTS_PER_BATCH = 200;
const DELIVERIES_PER_BATCH = 500;

/** The number of rows that one transaction deleted. */
export interface ErasedBatch {
  readonly listeners?: number;
  readonly deliveries?: number;
  readonly events?: number;
  /** Whether only deliveries that are being sent are left. These deliveries stay until their attempts are recorded. */
  readonly isWaiting: boolean;
}

/** Deletes listeners of an owner, also removed listeners, with their state and routes. These listeners get no more requests. */
export function* eraseListeners(database: Database, owner: string): Script<ErasedBatch> {
  const { listeners: l, listenerState: s, routes: r, stats: t } = database.tables;
  const rows = yield* query<{ seq: unknown; id: string }>(
    sql`select ${l.select('l', 'seq', 'id')} from ${l.sql} l${l.through('ownerKey', 'createdAt', 'seq')} where l.${l.$.ownerKey} = ${ownerKeyOf(owner)} order by l.${l.$.createdAt}, l.${l.$.seq} limit ${LISTENERS_PER_BATCH}`,
  );
  if (!rows.length) return { isWaiting: false };
  const ids = inList(rows.map(({ id }) => id));
  for (const table of [r, s, t]) yield* execute(sql`delete from ${table.sql} where ${table.$.listenerId} ${ids}`);
  yield* execute(sql`delete from ${l.sql} where ${l.$.id} ${ids}`);
  return { listeners: rows.length, isWaiting: false };
}

/**
 * Deletes deliveries to an owner's listeners, with their attempts. It waits for events in flight that may match these listeners, because
 * their deliveries have no rows yet.
 *
 * @param now leases that expired before this time are ignored
 */
export function* eraseDeliveries(database: Database, owner: string, now: number): Script<ErasedBatch> {
  const { deliveries: d } = database.tables;
  const { deliveries = 0, isWaiting } = yield* deleteDeliveries(database, {
    now,
    from: sql`${d.sql} d${d.through('ownerKey', 'createdAt', 'seq')}`,
    where: sql`d.${d.$.ownerKey} = ${ownerKeyOf(owner)}`,
  });
  if (deliveries) return { deliveries, isWaiting: false };
  yield* endExpiredLeases(database, now, LEASES_PER_BATCH);
  return { isWaiting: isWaiting || (yield* isSending(database, owner)) };
}

/** Whether a process is sending an event that may match the listeners of an owner. */
function* isSending(database: Database, owner: string): Script<boolean> {
  const { events: e } = database.tables;
  for (const some of chunks(yield* readLeasedSequences(database))) {
    const found = yield* query(
      sql`select ${e.select('e', 'seq')} from ${e.sql} e where e.${e.$.seq} ${inList(some)} and e.${e.$.ownerKey} ${inList([ownerKeyOf(owner), EVERY_OWNER_KEY])} limit 1`,
    );
    if (found.length) return true;
  }
  return false;
}

/** Deletes events of an owner's rows, with all their deliveries, including deliveries to listeners of other owners. */
export function* eraseEvents(database: Database, owner: string, now: number): Script<ErasedBatch> {
  const { events: e, deliveries: d } = database.tables;
  const found = yield* query<{ seq: unknown; dedupeKey: Buffer | null; createdAt: unknown }>(
    sql`select ${e.select('e', 'seq', 'dedupeKey', 'createdAt')} from ${e.sql} e${e.through('ownerKey', 'createdAt', 'seq')} where e.${e.$.ownerKey} = ${ownerKeyOf(owner)} order by e.${e.$.createdAt}, e.${e.$.seq} limit ${EVENTS_PER_BATCH}`,
  );
  if (!found.length) return { isWaiting: false };
  yield* endExpiredLeases(database, now, LEASES_PER_BATCH);
  const inFlight = yield* lockUnfinished(
    database,
    found.map(({ seq }) => seq),
  );
  const events = found.filter(({ seq }) => !inFlight.has(String(seq)));
  if (!events.length) return { isWaiting: true };
  const seqs = inList(events.map(({ seq }) => seq));
  const { deliveries = 0, isWaiting } = yield* deleteDeliveries(database, {
    now,
    from: sql`${e.sql} e join ${d.sql} d on ${isOfEvent(database)}`,
    where: sql`e.${e.$.seq} ${seqs}`,
  });
  const left = yield* query<{ seq: unknown }>(
    sql`select ${e.select('e', 'seq')} from ${e.sql} e${e.byKey} where e.${e.$.seq} ${seqs} and exists (select 1 from ${d.sql} d where ${isOfEvent(database)})`,
  );
  const isLeft = new Set(left.map(({ seq }) => String(seq)));
  const unneeded = events.filter(({ seq }) => !isLeft.has(String(seq)));
  yield* deleteEvents(database, unneeded);
  for (const statement of deletingRows(
    database,
    unneeded.map(({ seq }) => seq),
  ))
    yield statement;
  return { events: unneeded.length, deliveries, isWaiting: (isWaiting || inFlight.size > 0) && !unneeded.length };
}

/** Whether a process is sending the delivery `d`. An expired lease does not count. */
export function isInFlight({ tables: { deliveries: d } }: Database, now: number): Sql {
  return sql`(d.${d.$.state} = ${'leased'} and d.${d.$.leaseUntil} > ${now})`;
}

function* deleteDeliveries(
  database: Database,
  { now, from, where }: { now: number; from: Sql; where: Sql },
): Script<ErasedBatch> {
  const { deliveries: d, attempts: a } = database.tables;
  const found = yield* query<{ seq: unknown; id: string }>(
    sql`select ${d.select('d', 'seq', 'id')} from ${from} where ${where} and not ${isInFlight(database, now)} limit ${DELIVERIES_PER_BATCH}`,
  );
  const locked = found.length
    ? yield* query<{ seq: unknown; id: string }>(
        sql`select ${d.select('d', 'seq', 'id')} from ${d.sql} d${d.byKey} where d.${d.$.seq} ${inList(found.map(({ seq }) => seq))} and not ${isInFlight(database, now)} order by d.${d.$.seq}${database.forUpdate}`,
      )
    : [];
  if (locked.length) {
    const seqs = inList(locked.map(({ seq }) => seq));
    yield* execute(sql`delete from ${a.sql} where ${a.$.deliveryId} ${inList(locked.map(({ id }) => id))}`);
    yield* execute(sql`delete from ${d.sql} where ${d.$.seq} ${seqs}`);
    return { deliveries: locked.length, isWaiting: false };
  }
  const [held] = yield* query<{ seq: unknown }>(
    sql`select ${d.select('d', 'seq')} from ${from} where ${where} limit 1`,
  );
  return { isWaiting: held !== undefined };
}
