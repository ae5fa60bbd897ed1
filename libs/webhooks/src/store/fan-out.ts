import sql, { bulk, raw, type Sql } from 'sql-template-tag';
import { newId } from '../ids.js';
import { patternsMatching } from '../events/event-type.js';
import type { JsonObject } from '../events/json.js';
import type { Audience } from '../events/webhook-event.js';
import { matchesFilter, type Filter } from '../listeners/filter.js';
import { droppedPaths, keysOfEvent, matchesAnyPattern, reaches, type RoutePath } from '../listeners/route-key.js';
import { chunks, inList } from './chunks.js';
import type { Database } from './database.js';
import { skipConflict } from './dialect-sql.js';
import { execute, query, type Script } from './script.js';

/** `lastError` of a delivery that its listener's format could not render. */
export const FORMAT_FAILED = 'FORMAT_FAILED';

/** Renders what a listener's format sends. `null`: the event's own payload. Throws when the format does. */
export type BodyOf = (format: string, event: { id: string; type: string; payload: string }) => string | null;

export interface FanOutResult {
  /** Events taken from the outbox, whether anybody wanted them or not. */
  readonly events: number;
  readonly deliveries: number;
  /** Events that could not be read; they are `damaged` now, and wait for somebody to look. */
  readonly damaged: readonly { id: string; error: unknown }[];
  /** Deliveries whose format threw; they are `discarded`. */
  readonly unrendered: readonly { listenerId: string; eventId: string; error: unknown }[];
}

interface ClaimedEvent {
  seq: unknown;
  id: string;
  type: string;
  superTypes: string | null;
  audience: Audience;
  owner: string | null;
  ownerKey: Buffer | null;
  orderKey: Buffer | null;
  payload: string;
  droppedFields: string | null;
}

interface ReadEvent extends ClaimedEvent {
  types: string[];
  data: JsonObject;
  previous?: JsonObject;
  dropped?: ReadonlySet<string>;
}

interface Candidate {
  id: string;
  owner: string | null;
  ownerKey: Buffer | null;
  patterns: string;
  filter: string;
  format: string;
  /** Sequence of the last event before the listener was made. */
  afterSeq: unknown;
}

interface ReadListener extends Omit<Candidate, 'patterns' | 'filter'> {
  patterns: string[];
  filter: Filter;
}

/**
 * Takes events from the outbox and makes a delivery for each listener that wants one, in one transaction: an event is
 * either pending, or routed with all its deliveries there.
 *
 * @param only restricts it to these event ids (the inline mode); otherwise the oldest pending ones are taken
 */
export function* fanOut(
  database: Database,
  options: { now: number; limit: number; only?: readonly string[]; bodyOf: BodyOf },
): Script<FanOutResult> {
  const claimed = yield* claimEvents(database, options.limit, options.only);
  const damaged: { id: string; error: unknown }[] = [];
  const unrendered: { listenerId: string; eventId: string; error: unknown }[] = [];
  const events: ReadEvent[] = [];
  for (const event of claimed) {
    try {
      events.push(read(event));
    } catch (error) {
      damaged.push({ id: event.id, error });
    }
  }

  const listenersOf = yield* candidates(database, events);
  const rows: unknown[][] = [];
  for (const event of events) {
    for (const listener of listenersOf.get(event) ?? []) {
      if (Number(event.seq) <= Number(listener.afterSeq) || !reaches(event, listener.owner)) continue;
      if (!matchesAnyPattern(listener.patterns, event.types) || !matchesFilter(listener.filter, event)) continue;
      let body: string | null = null;
      let state = 'due';
      try {
        body = options.bodyOf(listener.format, event);
      } catch (error) {
        state = 'discarded';
        unrendered.push({ listenerId: listener.id, eventId: event.id, error });
      }
      rows.push(deliveryValues(event, listener, state, body, options.now));
    }
  }
  yield* insertDeliveries(database, rows);
  yield* setState(database, events, 'routed');
  yield* setState(
    database,
    claimed.filter((event) => damaged.some(({ id }) => id === event.id)),
    'damaged',
  );
  return { events: claimed.length, deliveries: rows.length - unrendered.length, damaged, unrendered };
}

function* claimEvents(database: Database, limit: number, only?: readonly string[]): Script<ClaimedEvent[]> {
  const { events } = database.tables;
  const columns = events.select(
    'e',
    ...(['seq', 'id', 'type', 'superTypes', 'audience', 'owner', 'ownerKey', 'orderKey', 'payload'] as const),
    'droppedFields',
  );
  const isPending = sql`e.${events.$.state} = ${'pending'}`;
  const wanted = only ? sql`${isPending} and e.${events.$.id} ${inList(only)}` : isPending;
  if (database.dialect !== 'mysql') {
    return yield* query<ClaimedEvent>(
      sql`select ${columns} from ${events.sql} e where ${wanted} order by e.${events.$.seq} limit ${limit}${raw(database.skipLocked)}`,
    );
  }
  // InnoDB locks every index record that a locking read passes: candidates are found by a plain read, and locked by key.
  const found = yield* query<{ seq: unknown }>(
    sql`select ${events.select('e', 'seq')} from ${events.sql} e where ${wanted} order by e.${events.$.seq} limit ${limit}`,
  );
  if (!found.length) return [];
  return yield* query<ClaimedEvent>(
    sql`select ${columns} from ${events.sql} e where e.${events.$.seq} ${inList(found.map(({ seq }) => seq))} and ${isPending} order by e.${events.$.seq}${raw(database.skipLocked)}`,
  );
}

function read(event: ClaimedEvent): ReadEvent {
  const { data, previous } = JSON.parse(event.payload) as { data: JsonObject; previous?: JsonObject };
  const superTypes = event.superTypes === null ? [] : (JSON.parse(event.superTypes) as string[]);
  return {
    ...event,
    types: [event.type, ...superTypes],
    data,
    ...(previous ? { previous } : {}),
    ...(event.droppedFields === null ? {} : { dropped: new Set(JSON.parse(event.droppedFields) as string[]) }),
  };
}

/** The listeners that the routes find for each event. They are candidates: owner and filter are judged on each again. */
function* candidates(database: Database, events: readonly ReadEvent[]): Script<Map<ReadEvent, ReadListener[]>> {
  const result = new Map<ReadEvent, ReadListener[]>();
  if (!events.length) return result;
  const { routes, routePaths } = database.tables;
  const patterns = [...new Set(events.flatMap((event) => event.types).flatMap(patternsMatching))];
  // Read in the transaction of the claim and never kept: a listener made by another process a moment ago counts.
  const paths = yield* query<RoutePath>(
    sql`select ${routePaths.select('p', 'pattern', 'path')} from ${routePaths.sql} p where p.${routePaths.$.pattern} ${inList(patterns)}`,
  );
  if (!paths.length) return result;

  const eventsByKey = new Map<string, ReadEvent[]>();
  const keys: Buffer[] = [];
  for (const event of events) {
    for (const key of keysOfEvent(event, paths)) {
      const hex = key.toString('hex');
      const sharing = eventsByKey.get(hex);
      if (sharing) sharing.push(event);
      else {
        eventsByKey.set(hex, [event]);
        keys.push(key);
      }
    }
  }
  const listenerIds = new Map<ReadEvent, Set<string>>(events.map((event) => [event, new Set()]));
  for (const some of chunks(keys)) {
    const found = yield* query<{ key: Uint8Array; listenerId: string }>(
      sql`select ${routes.select('r', 'key', 'listenerId')} from ${routes.sql} r where r.${routes.$.key} ${inList(some)}`,
    );
    for (const { key, listenerId } of found) {
      for (const event of eventsByKey.get(Buffer.from(key).toString('hex')) ?? []) {
        listenerIds.get(event)?.add(listenerId);
      }
    }
  }
  const listeners = yield* activeListeners(database, [
    ...new Set([...listenerIds.values()].flatMap((ids) => [...ids])),
  ]);
  for (const event of events) {
    const of = [...(listenerIds.get(event) ?? [])]
      .map((id) => listeners.get(id))
      .filter((found) => found !== undefined);
    result.set(event, of);
  }
  for (const event of events) {
    // A value that was too large to store gives no key: then every active listener is a candidate.
    if (droppedPaths(event, paths).length) result.set(event, yield* everyActiveListener(database));
  }
  return result;
}

function* activeListeners(database: Database, ids: readonly string[]): Script<Map<string, ReadListener>> {
  const { listeners } = database.tables;
  const found = new Map<string, ReadListener>();
  for (const some of chunks(ids)) {
    const rows = yield* query<Candidate>(sql`${selectActive(database)} and l.${listeners.$.id} ${inList(some)}`);
    for (const row of rows) found.set(row.id, readListener(row));
  }
  return found;
}

function* everyActiveListener(database: Database): Script<ReadListener[]> {
  const rows = yield* query<Candidate>(selectActive(database));
  return rows.map(readListener);
}

function selectActive(database: Database): Sql {
  const { listeners } = database.tables;
  const columns = listeners.select('l', 'id', 'owner', 'ownerKey', 'patterns', 'filter', 'format', 'afterSeq');
  return sql`select ${columns} from ${listeners.sql} l where l.${listeners.$.state} = ${'active'} and l.${listeners.$.deletedAt} is null`;
}

function readListener(row: Candidate): ReadListener {
  return { ...row, patterns: JSON.parse(row.patterns) as string[], filter: JSON.parse(row.filter) as Filter };
}

function deliveryValues(event: ReadEvent, listener: ReadListener, state: string, body: string | null, now: number) {
  return [
    newId('dlv'),
    event.seq,
    listener.id,
    event.type,
    listener.owner,
    listener.ownerKey,
    event.orderKey,
    state,
    body,
    0,
    0,
    now,
    state === 'discarded' ? FORMAT_FAILED : null,
    now,
  ];
}

/** Rows of 14 parameters. */
const DELIVERIES_PER_STATEMENT = 400;

export function* insertDeliveries(database: Database, rows: readonly unknown[][]): Script<void> {
  const { sql: path, $ } = database.tables.deliveries;
  for (const some of chunks(rows, DELIVERIES_PER_STATEMENT)) {
    yield sql`insert into ${path} (${$.id}, ${$.eventSeq}, ${$.listenerId}, ${$.type}, ${$.owner}, ${$.ownerKey}, ${$.orderKey}, ${$.state}, ${$.body}, ${$.attempts}, ${$.retries}, ${$.nextAt}, ${$.lastError}, ${$.createdAt}) values ${bulk(some)}${skipConflict(database.dialect, [$.eventSeq, $.listenerId])}`;
  }
}

function* setState(database: Database, events: readonly ClaimedEvent[], state: string): Script<void> {
  const { sql: path, $ } = database.tables.events;
  for (const some of chunks(events)) {
    yield* execute(sql`update ${path} set ${$.state} = ${state} where ${$.seq} ${inList(some.map(({ seq }) => seq))}`);
  }
}
