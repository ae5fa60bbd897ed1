import sql from 'sql-template-tag';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { atTimesOf } from '../database/event-times.js';
import { lockLeases } from '../outbox/leases.js';
import { numberOf, type AttemptRecord, type RecordResult } from './attempt-record.js';
import { query, type Script } from '../database/script.js';

/** The records that an earlier try has stored. */
export interface StoredAttempts {
  /** The records that are stored. */
  readonly stored: ReadonlySet<AttemptRecord>;
  /** The stored records whose deliveries changed their state. */
  readonly moved: ReadonlySet<AttemptRecord>;
}

/**
 * Finds the records that an earlier transaction has stored. The COMMIT of that transaction was sent, and the answer was lost.
 *
 * That transaction may still run on a connection that this process has closed. So the leases are locked first, which waits for
 * its end. The next statements see what it committed.
 */
export function* findStoredAttempts(database: Database, records: readonly AttemptRecord[]): Script<StoredAttempts> {
  const { deliveries: d, attempts: a } = database.tables;
  const known = new Map(
    records.map((record) => [keyOf(record.delivery.id, numberOf(record), record.startedAt), record]),
  );
  const stored = new Set<AttemptRecord>();
  const moved = new Set<AttemptRecord>();
  const find = (id: string, number: unknown, startedAt: unknown, superseded: unknown) => {
    const record = known.get(keyOf(id, number, startedAt));
    if (!record) return;
    stored.add(record);
    if (Number(superseded) === 0) moved.add(record);
  };
  yield* lockLeases(
    database,
    records.flatMap(({ delivery }) => delivery.lease ?? []),
  );
  const seqs = records.flatMap(({ delivery }) => delivery.seq ?? []).toSorted((x, y) => Number(x) - Number(y));
  for (const some of chunks(seqs)) {
    yield sql`select ${d.select('d', 'seq')} from ${d.sql} d${d.byKey} where d.${d.$.seq} ${inList(some)} order by d.${d.$.seq}${database.forUpdate}`;
  }
  for (const some of chunks(records)) {
    const given = some.map(({ delivery }) => delivery.id);
    const ids = inList(given);
    const first = yield* query<{ id: string; startedAt: unknown }>(
      sql`select ${d.select('d', 'id', 'startedAt')} from ${d.sql} d where d.${d.$.id} ${ids}${atTimesOf(database, sql`d.${d.$.eventAt}`, given)}`,
    );
    for (const { id, startedAt } of first) find(id, 1, startedAt, 0);
    const others = yield* query<{ deliveryId: string; number: unknown; startedAt: unknown; superseded: unknown }>(
      sql`select ${a.select('a', 'deliveryId', 'number', 'startedAt', 'superseded')} from ${a.sql} a where a.${a.$.deliveryId} ${ids}${atTimesOf(database, sql`a.${a.$.eventAt}`, given)}`,
    );
    for (const { deliveryId, number, startedAt, superseded } of others) find(deliveryId, number, startedAt, superseded);
  }
  return { stored, moved };
}

/** The attempt of another worker may have the same delivery and number, but another start time. */
function keyOf(id: string, number: unknown, startedAt: unknown): string {
  return `${id}:${String(number)}:${String(startedAt)}`;
}

/**
 * Reads how an earlier transaction changed the listeners of these records. That transaction has stored the records, and its answer was
 * lost.
 */
export function* readVerdicts(
  database: Database,
  records: readonly AttemptRecord[],
  now: number,
): Script<Pick<RecordResult, 'paused' | 'disabled'>> {
  const failed = records.filter(({ outcome }) => outcome !== 'accepted');
  const ids = [...new Set(failed.map(({ delivery }) => delivery.listener.id))];
  const paused = new Set<string>();
  const disabled: { listenerId: string; reason: string }[] = [];
  if (!ids.length) return { paused, disabled };
  const since = Math.min(...failed.map(({ startedAt }) => startedAt));
  const { listeners: l, listenerState: s } = database.tables;
  for (const some of chunks(ids)) {
    const rows = yield* query<{
      id: string;
      state: string;
      disabledReason: string | null;
      updatedAt: unknown;
      pausedUntil: unknown;
    }>(
      sql`select ${l.select('l', 'id', 'state', 'disabledReason', 'updatedAt')}, ${s.select('s', 'pausedUntil')} from ${l.sql} l join ${s.sql} s on s.${s.$.listenerId} = l.${l.$.id} where l.${l.$.id} ${inList(some)}`,
    );
    for (const { id, state, disabledReason, updatedAt, pausedUntil } of rows) {
      if (Number(pausedUntil ?? 0) > now) paused.add(id);
      const isNew = state === 'disabled' && Number(updatedAt) >= since;
      if (isNew) disabled.push({ listenerId: id, reason: disabledReason ?? '' });
    }
  }
  return { paused, disabled };
}
