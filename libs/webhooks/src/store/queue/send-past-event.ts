import sql from 'sql-template-tag';
import { compareSequences } from '../database/sequence.js';
import type { Database } from '../database/database.js';
import { query, type Script } from '../database/script.js';
import { expectDeliveries } from '../listeners/listener-state.js';
import { readEventStates } from '../outbox/event-state.js';
import { lockUnfinished } from '../outbox/leases.js';
import { readEvent, selectEvent, type ClaimedEvent } from '../outbox/outbox-events.js';
import { readCandidateById, wants } from './candidates.js';
import { insertDeliveries, newDelivery } from './new-deliveries.js';
import { renderFailureOf, type BodyOf, type RenderFailure } from './rendered-body.js';

/** Why a past event is not sent. */
export interface Refusal {
  readonly refused:
    | ('EVENT_NOT_WANTED' | 'EVENT_NOT_ROUTED' | 'EVENT_DAMAGED')
    | ('DELIVERY_EXISTS' | 'CONTENT_ERASED')
    | RenderFailure;
  readonly erasedAt?: unknown;
  /** The delivery that exists. */
  readonly deliveryId?: string;
  /** The error of the payload format or of the version. */
  readonly cause?: unknown;
}

/**
 * Inserts a delivery of one past event for one listener, by the rules of `replayEvents`. The event is locked, so that no claim, record,
 * retention or erasure of it runs in the meantime.
 */
export function* sendPastEvent(
  database: Database,
  eventSeq: unknown,
  listenerId: string,
  { now, bodyOf, actor }: { now: number; bodyOf: BodyOf; actor: string | null },
): Script<Refusal | { readonly deliveryId: string }> {
  const { events: e } = database.tables;
  const listener = yield* readCandidateById(database, listenerId);
  yield* lockUnfinished(database, [eventSeq]);
  const [row] = yield* query<ClaimedEvent & { erasedAt: unknown }>(
    sql`select ${selectEvent(database)}, ${e.select('e', 'erasedAt')} from ${e.sql} e${e.byKey} where e.${e.$.seq} = ${eventSeq}${database.forUpdate}`,
  );
  if (!row || !listener || row.audience === 'test') return { refused: 'EVENT_NOT_WANTED' };
  if (row.erasedAt !== null) return { refused: 'CONTENT_ERASED', erasedAt: row.erasedAt };
  const state = (yield* readEventStates(database, [eventSeq]))(eventSeq);
  if (state === 'damaged') return { refused: 'EVENT_DAMAGED' };
  const existing = yield* existingDelivery(database, row, listenerId);
  if (existing !== undefined) return { refused: 'DELIVERY_EXISTS', deliveryId: existing };
  const everything = { ...listener, afterSeq: 0 };
  let event: ReturnType<typeof readEvent>;
  try {
    event = readEvent(row);
    if (!wants(everything, event)) return { refused: 'EVENT_NOT_WANTED' };
  } catch {
    return { refused: 'EVENT_DAMAGED' };
  }
  if (state !== 'delivered' && compareSequences(row.seq, listener.afterSeq) > 0) return { refused: 'EVENT_NOT_ROUTED' };
  const unrendered: { listenerId: string; eventId: string; error: unknown }[] = [];
  const delivery = { ...newDelivery(event, everything, bodyOf, unrendered), orderKey: null };
  const [failure] = unrendered;
  if (failure) return { refused: renderFailureOf(failure.error), cause: failure.error };
  yield* insertDeliveries(database, [{ ...delivery, triggered: { trigger: 'replay', by: actor } }], {
    now,
    leaseMs: 0,
    leaseToken: '',
  });
  yield* expectDeliveries(database, new Map([[listener.id, now]]));
  return { deliveryId: delivery.id };
}

function* existingDelivery(
  database: Database,
  { seq, createdAt }: ClaimedEvent,
  listenerId: string,
): Script<string | undefined> {
  const { deliveries: d } = database.tables;
  const [row] = yield* query<{ id: string }>(
    sql`select ${d.select('d', 'id')} from ${d.sql} d where d.${d.$.eventAt} = ${createdAt} and d.${d.$.eventSeq} = ${seq} and d.${d.$.listenerId} = ${listenerId}`,
  );
  return row?.id;
}
