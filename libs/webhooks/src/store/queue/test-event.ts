import { ownerKeyOf } from '../../hash.js';
import type { JsonObject } from '../../json.js';
import { newId } from '../../ids.js';
import { eventRow, insertEvents } from '../outbox/event-rows.js';
import sql from 'sql-template-tag';
import type { Database } from '../database/database.js';
import { insertDeliveries, type BodyOf } from './new-deliveries.js';
import { endPause, expectDeliveries } from '../listeners/listener-state.js';
import type { ListenerRow } from '../listeners/listener-rows.js';
import { execute, query, type Script } from '../database/script.js';

/** The default type of an event from `sendTest`. */
export const TEST_EVENT_TYPE = 'webhook.test';

const NO_LIMITS = { maxPayloadBytes: Infinity, maxStoredBytes: Infinity };

/** The content of an example event. */
export interface TestExample {
  readonly type: string;
  readonly data: JsonObject;
  readonly previous?: JsonObject;
}

/** Stores an example event for one listener; the fan-out skips it. @returns the id of its delivery */
export function* storeTestEvent(
  database: Database,
  { listener, example }: { listener: ListenerRow; example: TestExample },
  now: number,
  bodyOf: BodyOf,
): Script<string> {
  const event = {
    id: newId('evt'),
    type: example.type,
    timestamp: new Date(now).toISOString(),
    data: example.data,
    ...(example.previous ? { previous: example.previous } : {}),
    owner: listener.owner,
    context: null,
  };
  const source = {
    event,
    superTypes: [],
    audience: 'test' as const,
    orderKey: null,
    isOrdered: false,
    dedupeKey: null,
    depth: 0,
    createdAt: now,
  };
  yield insertEvents(database.tables, [eventRow(source, [], NO_LIMITS)]);
  const { events: e } = database.tables;
  // No other transaction sees it as `pending`: the transaction that inserted it is still open.
  yield* execute(sql`update ${e.sql} set ${e.$.state} = ${'routed'} where ${e.$.id} = ${event.id}`);
  const [row] = yield* query<{ seq: unknown; payload: string }>(
    sql`select ${e.select('e', 'seq', 'payload')} from ${e.sql} e where e.${e.$.id} = ${event.id}`,
  );
  let body: string | null = null;
  let isRendered = true;
  try {
    body = bodyOf(listener.format, { id: event.id, type: event.type, payload: row?.payload ?? '', context: null });
  } catch {
    isRendered = false; // the test shows this: the delivery has the error code
  }
  const deliveryId = newId('dlv');
  const ownerKey = listener.owner === null ? null : ownerKeyOf(listener.owner);
  const delivery = {
    id: deliveryId,
    event: { seq: row?.seq, type: event.type },
    listener: { id: listener.id, owner: listener.owner, ownerKey },
    orderKey: null,
    body,
    format: body === null ? null : listener.format,
    state: isRendered ? ('due' as const) : ('discarded' as const),
  };
  yield* insertDeliveries(database, [delivery], { now, leaseMs: 0, leaseToken: '' });
  if (!isRendered) return deliveryId;
  yield* expectDeliveries(database, new Map([[listener.id, now]]));
  yield* endPause(database, listener.id, deliveryId, now);
  return deliveryId;
}
