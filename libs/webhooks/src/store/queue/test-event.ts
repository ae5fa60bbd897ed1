import { ownerKeyOf } from '../../hash.js';
import type { JsonObject } from '../../json.js';
import { deliveryId, newId } from '../../ids.js';
import { eventRow, insertedSequences, payloadOf } from '../outbox/event-rows.js';
import type { Database } from '../database/database.js';
import { insertDeliveries } from './new-deliveries.js';
import { OWN_TEXT, renderFailureOf, type BodyOf, type RenderFailure } from './rendered-body.js';
import { endPause, expectDeliveries } from '../listeners/listener-state.js';
import type { ListenerRow } from '../listeners/listener-rows.js';
import type { Script } from '../database/script.js';

/** The default type of an event from `sendTest`. */
export const TEST_EVENT_TYPE = 'webhook.test';

const NO_LIMITS = { maxPayloadBytes: Infinity, maxStoredBytes: Infinity };

/** The content of an example event. */
export interface TestExample {
  readonly type: string;
  readonly data: JsonObject;
  readonly previous?: JsonObject;
  /** The version of `data`. */
  readonly version: number;
  /** Pinned versions, in stored form, in place of the listener's. */
  readonly versions?: string | null;
}

/** Stores an example event for one listener, without an outbox row: no fan-out finds it. @returns the id of its delivery */
export function* storeTestEvent(
  database: Database,
  { listener, example, actor }: { listener: ListenerRow; example: TestExample; actor: string | null },
  now: number,
  bodyOf: BodyOf,
): Script<string> {
  const event = {
    id: newId('evt', now),
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
    version: example.version,
    createdAt: now,
  };
  const row = eventRow(source, [], NO_LIMITS);
  const [inserted] = yield* insertedSequences(database, [row]);
  const choice = {
    format: listener.format,
    versions: example.versions === undefined ? listener.versions : example.versions,
  };
  let rendered = OWN_TEXT;
  let errorCode: RenderFailure | null = null;
  try {
    rendered = bodyOf(choice, { id: event.id, type: event.type, payload: payloadOf(row), context: null });
  } catch (error) {
    errorCode = renderFailureOf(error); // the test event still shows this: its delivery has the error code
  }
  const id = deliveryId({ id: event.id, createdAt: now }, listener.id);
  const ownerKey = listener.owner === null ? null : ownerKeyOf(listener.owner);
  const delivery = {
    id,
    event: { seq: inserted?.seq, type: event.type, createdAt: now },
    listener: { id: listener.id, owner: listener.owner, ownerKey },
    orderKey: null,
    ...rendered,
    errorCode,
    state: errorCode === null ? ('due' as const) : ('discarded' as const),
    triggered: { trigger: 'test' as const, by: actor },
  };
  yield* insertDeliveries(database, [delivery], { now, leaseMs: 0, leaseToken: '' });
  if (errorCode !== null) return id;
  yield* expectDeliveries(database, new Map([[listener.id, now]]));
  yield* endPause(database, listener.id, id, now);
  return id;
}
