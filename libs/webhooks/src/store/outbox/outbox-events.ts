import type { Sql } from 'sql-template-tag';
import type { JsonObject } from '../../json.js';
import type { Audience } from '../../events/webhook-event.js';
import type { Database } from '../database/database.js';

/** An event's row in the form that the fan-out claims. */
export interface ClaimedEvent {
  seq: unknown;
  id: string;
  type: string;
  superTypes: string | null;
  audience: Audience;
  owner: string | null;
  orderKey: Buffer | null;
  ordered: unknown;
  payload: string | null;
  thinPayload: string | null;
  droppedFields: string | null;
  context: string | null;
  createdAt: unknown;
}

/** An event whose payload is parsed. */
export interface ReadEvent extends ClaimedEvent {
  types: string[];
  payload: string;
  data: JsonObject;
  previous?: JsonObject;
  dropped?: ReadonlySet<string>;
}

/** The columns of a {@link ClaimedEvent}; the alias of the table is `e`. */
export function selectEvent(database: Database): Sql {
  return database.tables.events.select(
    'e',
    ...(['seq', 'id', 'type', 'superTypes', 'audience', 'owner', 'orderKey', 'ordered'] as const),
    ...(['payload', 'thinPayload', 'droppedFields', 'context', 'createdAt'] as const),
  );
}

/** @throws if the payload is no JSON or has no data: the event is damaged */
export function readEvent<E extends ClaimedEvent>(event: E): E & ReadEvent {
  const { payload } = event;
  if (payload === null) throw new TypeError('it has no payload');
  const { data, previous } = JSON.parse(payload) as { data?: JsonObject; previous?: JsonObject | null };
  if (typeof data !== 'object') throw new TypeError('its payload has no data');
  const dropped = event.droppedFields === null ? undefined : new Set(JSON.parse(event.droppedFields) as string[]);
  // The row comes last. V8 (Node.js 20) takes 2 us to add properties after a spread, and 0.2 us in this order.
  return { types: typesOf(event), data, previous: previous ?? undefined, dropped, ...event, payload };
}

/** Returns the type of the event, and then the types of its parent classes. */
export function typesOf({ type, superTypes }: Pick<ClaimedEvent, 'type' | 'superTypes'>): string[] {
  return [type, ...(superTypes === null ? [] : (JSON.parse(superTypes) as string[]))];
}
