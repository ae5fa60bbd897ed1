import sql from 'sql-template-tag';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import type { AttemptRecord, RecordResult } from './attempt-record.js';
import { query, type Script } from '../database/script.js';

/** The records that an earlier try has stored. */
export interface StoredAttempts {
  /** Records that are stored. */
  readonly stored: ReadonlySet<AttemptRecord>;
  /** The stored records whose deliveries changed their state. */
  readonly moved: ReadonlySet<AttemptRecord>;
}

/**
 * Finds the records that an earlier transaction has stored: its COMMIT was sent, and the answer was lost.
 *
 * That transaction may still run on a connection that this process has closed. So the deliveries are locked first, which waits for its end.
 * The next statement sees what it committed.
 */
export function* findStoredAttempts(database: Database, records: readonly AttemptRecord[]): Script<StoredAttempts> {
  const { deliveries: d, attempts: a } = database.tables;
  const known = new Map(records.map((record) => [keyOf(record), record]));
  const stored = new Set<AttemptRecord>();
  const moved = new Set<AttemptRecord>();
  const seqs = records.map(({ deliverySeq }) => deliverySeq).toSorted((x, y) => Number(x) - Number(y));
  for (const some of chunks(seqs)) {
    yield sql`select ${d.select('d', 'seq')} from ${d.sql} d${d.byKey} where d.${d.$.seq} ${inList(some)} order by d.${d.$.seq}${database.forUpdate}`;
    const rows = yield* query<{ deliverySeq: unknown; number: unknown; startedAt: unknown; superseded: unknown }>(
      sql`select ${a.select('a', 'deliverySeq', 'number', 'startedAt', 'superseded')} from ${a.sql} a where a.${a.$.deliverySeq} ${inList(some)}`,
    );
    for (const row of rows) {
      const record = known.get(keyOf(row));
      if (!record) continue;
      stored.add(record);
      if (Number(row.superseded) === 0) moved.add(record);
    }
  }
  return { stored, moved };
}

/** The attempt of another worker may have the same delivery and number, but another start time. */
function keyOf({
  deliverySeq,
  number,
  startedAt,
}: {
  deliverySeq: unknown;
  number: unknown;
  startedAt: unknown;
}): string {
  return `${String(deliverySeq)}:${String(number)}:${String(startedAt)}`;
}

/** Reads how an earlier transaction, which stored these records and whose answer was lost, changed their listeners. */
export function* readVerdicts(
  database: Database,
  records: readonly AttemptRecord[],
  now: number,
): Script<Pick<RecordResult, 'paused' | 'disabled'>> {
  const failed = records.filter(({ outcome }) => outcome !== 'accepted');
  const ids = [...new Set(failed.map(({ listenerId }) => listenerId))];
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
