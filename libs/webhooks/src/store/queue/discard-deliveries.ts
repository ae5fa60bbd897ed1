import sql from 'sql-template-tag';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import type { PagePosition } from '../database/page.js';
import { execute, query, type Script } from '../database/script.js';
import { refreshReadyAt } from '../listeners/listener-state.js';
import { stateOf } from './delivery-rows.js';
import type { BulkBatch } from './recover-deliveries.js';
import { selectDeliveries, type DeliverySelection } from './select-deliveries.js';

export interface DiscardOptions {
  readonly selection: DeliverySelection;
  /** The end of the previous batch. For the first batch, the start of the period. */
  readonly after: PagePosition;
  readonly now: number;
  readonly limit?: number | undefined;
}

export interface DiscardBatch extends BulkBatch {
  /** The number of discarded deliveries, by listener. */
  readonly discarded: ReadonlyMap<string, number>;
}

/**
 * Discards a batch of pending deliveries. The oldest delivery comes first. A plain read finds the deliveries, and a second statement locks
 * the deliveries by key. Rows that another transaction has locked are skipped, because a process is about to send the deliveries of these
 * rows.
 */
export function* discardDeliveries(
  database: Database,
  { selection, after, now, limit }: DiscardOptions,
): Script<DiscardBatch> {
  const { rows, next } = yield* selectDeliveries(database, selection, after, limit);
  const discarded = yield* discardSeqs(
    database,
    rows.map(({ seq }) => seq),
    now,
  );
  return { count: [...discarded.values()].reduce((sum, count) => sum + count, 0), next, discarded };
}

/** Discards those of these deliveries that are pending and not locked. @returns the number of discarded deliveries, by listener */
export function* discardSeqs(
  database: Database,
  seqs: readonly unknown[],
  now: number,
): Script<ReadonlyMap<string, number>> {
  const { deliveries: d } = database.tables;
  const discarded = new Map<string, number>();
  if (!seqs.length) return discarded;
  const inOrder = seqs.toSorted((a, b) => Number(a) - Number(b));
  const locked = yield* query<{ seq: unknown; listenerId: string }>(
    sql`select ${d.select('d', 'seq', 'listenerId')} from ${d.sql} d where d.${d.$.seq} ${inList(inOrder)} and ${stateOf(database)} = ${'due'} order by d.${d.$.seq}${database.skipLocked}`,
  );
  if (!locked.length) return discarded;
  yield* execute(
    sql`update ${d.sql} set ${d.$.state} = ${'discarded'}, ${d.$.finishedAt} = ${now} where ${d.$.seq} ${inList(locked.map(({ seq }) => seq))}`,
  );
  for (const { listenerId } of locked) discarded.set(listenerId, (discarded.get(listenerId) ?? 0) + 1);
  yield* refreshReadyAt(database, [...discarded.keys()]);
  return discarded;
}
