import sql, { raw, type Sql } from 'sql-template-tag';
import { newId } from '../ids.js';
import { patternsMatching } from '../events/event-type.js';
import type { JsonObject } from '../events/json.js';
import type { Audience } from '../events/webhook-event.js';
import { isOpen, type CircuitPolicy } from '../listeners/circuit.js';
import { matchesFilter, type Filter } from '../listeners/filter.js';
import { droppedPaths, keysOfEvent, matchesAnyPattern, reaches, type RoutePath } from '../listeners/route-key.js';
import { chunks, inList } from './chunks.js';
import {
  TARGET_COLUMNS,
  toTarget,
  type ClaimedDelivery,
  type ListenerTarget,
  type Room,
  type TargetRow,
} from './claim-deliveries.js';
import type { Database } from './database.js';
import { skipConflict } from './dialect-sql.js';
import { insertFromRows } from './json-rows.js';
import { expectDeliveries } from './listener-state.js';
import { execute, query, type Script } from './script.js';

/** `lastError` of a delivery that its listener's format could not render. */
export const FORMAT_FAILED = 'FORMAT_FAILED';

/** Renders what a listener's format sends. `null`: the event's own payload. Throws when the format does. */
export type BodyOf = (format: string, event: { id: string; type: string; payload: string }) => string | null;

export interface FanOutResult {
  /** Events taken from the outbox, whether anybody wanted them or not. */
  readonly events: number;
  /** Sequence of the last of them; `null` when there was none. */
  readonly lastSeq: number | null;
  /** Deliveries that were made and leased at once: to be sent by this process. */
  readonly leased: readonly ClaimedDelivery[];
  /** Whether deliveries were made that wait to be claimed. */
  readonly hasDue: boolean;
  /** Events that could not be read; they are `damaged` now, and wait for somebody to look. */
  readonly damaged: readonly { id: string; type: string; error: unknown }[];
  /** Deliveries whose format threw; they are `discarded`. */
  readonly unrendered: readonly { listenerId: string; eventId: string; error: unknown }[];
}

export interface FanOutOptions {
  readonly now: number;
  /** The most events to take. */
  readonly limit: number;
  /** Looks only at events after this sequence: see `OutboxCursor`. */
  readonly afterSeq?: number;
  /** Only these event ids (the inline mode); otherwise the oldest pending ones are taken. */
  readonly only?: readonly string[];
  /** Deliveries that fit into it are leased as they are made; the others become due. */
  readonly room: Room;
  readonly leaseMs: number;
  readonly circuit: CircuitPolicy;
  readonly bodyOf: BodyOf;
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
  ordered: unknown;
  payload: string;
  thinPayload: string | null;
  droppedFields: string | null;
}

interface ReadEvent extends ClaimedEvent {
  types: string[];
  data: JsonObject;
  previous?: JsonObject;
  dropped?: ReadonlySet<string>;
}

interface Candidate extends TargetRow {
  owner: string | null;
  ownerKey: Buffer | null;
  patterns: string;
  filter: string;
  ordering: string;
  rateLimit: string | null;
  state: string;
  /** Sequence of the last event before the listener was made. */
  afterSeq: unknown;
  readyAt: unknown;
  pausedUntil: unknown;
  failuresInARow: unknown;
}

interface ReadListener extends Omit<Candidate, 'patterns' | 'filter' | 'afterSeq' | 'failuresInARow'> {
  patterns: string[];
  filter: Filter;
  afterSeq: number;
  target: ListenerTarget;
  isFree: boolean;
  /** Why its row cannot be read. */
  unreadable?: unknown;
}

/** A delivery to be made. */
interface NewDelivery {
  readonly id: string;
  readonly event: ReadEvent;
  readonly listener: ReadListener;
  readonly orderKey: Buffer | null;
  readonly body: string | null;
  state: 'due' | 'leased' | 'discarded';
}

/**
 * Takes events from the outbox and makes a delivery for each listener that wants one, in one transaction: an event is
 * either pending, or routed with all its deliveries there.
 *
 * What this process can send now is leased as it is inserted, which saves the claim: for most deliveries this insert and
 * their record are all that is ever written.
 */
export function* fanOut(database: Database, options: FanOutOptions): Script<FanOutResult> {
  const claimed = yield* claimEvents(database, options);
  const damaged: { id: string; type: string; error: unknown }[] = [];
  const unrendered: { listenerId: string; eventId: string; error: unknown }[] = [];
  const broken: ClaimedEvent[] = [];
  const spoil = (event: ClaimedEvent, error: unknown) => {
    broken.push(event);
    damaged.push({ id: event.id, type: event.type, error });
  };
  const events: ReadEvent[] = [];
  for (const event of claimed) {
    try {
      events.push(read(event));
    } catch (error) {
      spoil(event, error);
    }
  }

  const listenersOf = yield* candidates(database, options, events);
  const deliveries: NewDelivery[] = [];
  const routed: ReadEvent[] = [];
  for (const event of events) {
    const of: NewDelivery[] = [];
    try {
      for (const listener of listenersOf.get(event) ?? []) {
        if (wants(listener, event)) of.push(newDelivery(event, listener, options.bodyOf, unrendered));
      }
    } catch (error) {
      spoil(event, error);
      continue;
    }
    routed.push(event);
    deliveries.push(...of);
  }

  const early = yield* outOfOrder(database, routed, deliveries);
  const made = deliveries.filter(({ event }) => !early.has(event));
  const leaseToken = newId('lease');
  leaseWhatFits(made, options);
  const seqs = yield* insertDeliveries(database, made, { now: options.now, leaseMs: options.leaseMs, leaseToken });
  yield* setState(
    database,
    routed.filter((event) => !early.has(event)),
    'routed',
  );
  yield* setState(database, broken, 'damaged');
  const due = made.filter(({ state, listener }) => state === 'due' && listener.state === 'active');
  yield* expectDeliveries(database, new Map(due.map(({ listener }) => [listener.id, options.now])));

  const leased: ClaimedDelivery[] = [];
  for (const delivery of made) {
    const seq = seqs.get(delivery.id);
    if (delivery.state === 'leased' && seq !== undefined) leased.push(claimedAtOnce(delivery, seq, leaseToken));
  }
  const last = claimed.at(-1);
  return {
    events: claimed.length - early.size,
    lastSeq: last && !early.size ? Number(last.seq) : null,
    leased,
    hasDue: due.length > 0,
    damaged,
    unrendered,
  };
}

/** @throws what the filter does, or why the listener cannot be read: whether the event is for it, nobody knows */
function wants(listener: ReadListener, event: ReadEvent): boolean {
  if (listener.unreadable !== undefined) throw listener.unreadable;
  return (
    Number(event.seq) > listener.afterSeq &&
    reaches(event, listener.owner) &&
    matchesAnyPattern(listener.patterns, event.types) &&
    matchesFilter(listener.filter, event)
  );
}

function newDelivery(
  event: ReadEvent,
  listener: ReadListener,
  bodyOf: BodyOf,
  unrendered: { listenerId: string; eventId: string; error: unknown }[],
): NewDelivery {
  const isOrdered = Number(event.ordered) === 1 || listener.ordering === 'entity';
  const delivery = { id: newId('dlv'), event, listener, orderKey: isOrdered ? event.orderKey : null };
  try {
    return { ...delivery, body: bodyOf(listener.format, event), state: 'due' };
  } catch (error) {
    unrendered.push({ listenerId: listener.id, eventId: event.id, error });
    return { ...delivery, body: null, state: 'discarded' };
  }
}

/**
 * Ordered events that another worker's claim has overtaken: an earlier one of their row is still pending, so they are left
 * in the outbox. Few can be before ours and not with us: those that other workers hold at this moment.
 */
function* outOfOrder(
  database: Database,
  events: readonly ReadEvent[],
  deliveries: readonly NewDelivery[],
): Script<Set<ReadEvent>> {
  const early = new Set<ReadEvent>();
  const ordered = new Set(deliveries.filter(({ orderKey }) => orderKey !== null).map(({ event }) => event));
  const last = events.at(-1);
  if (!ordered.size || !last || database.dialect === 'sqlite') return early;
  const { events: e } = database.tables;
  const pending = yield* query<{ seq: unknown; orderKey: Uint8Array | null }>(
    sql`select ${e.select('e', 'seq', 'orderKey')} from ${e.sql} e where e.${e.$.state} = 'pending' and e.${e.$.seq} <= ${last.seq} order by e.${e.$.seq}`,
  );
  const ours = new Set(events.map(({ seq }) => String(seq)));
  const firstOf = new Map<string, number>();
  for (const { seq, orderKey } of pending) {
    if (orderKey === null || ours.has(String(seq))) continue;
    const key = Buffer.from(orderKey).toString('hex');
    if (!firstOf.has(key)) firstOf.set(key, Number(seq));
  }
  for (const event of ordered) {
    const first = event.orderKey && firstOf.get(Buffer.from(event.orderKey).toString('hex'));
    if (typeof first === 'number' && first < Number(event.seq)) early.add(event);
  }
  return early;
}

/** Leases what this process has room for, except where something else has to be asked first: that goes through the claim. */
function leaseWhatFits(deliveries: readonly NewDelivery[], { room, now, only }: FanOutOptions): void {
  let left = room.total;
  const taken = new Map<string, number>();
  for (const delivery of deliveries) {
    const { listener, orderKey } = delivery;
    // Behind what is due already, unless somebody waits for this one.
    const isNext = only !== undefined || listener.readyAt === null || Number(listener.readyAt) > now;
    if (delivery.state !== 'due' || orderKey !== null || !listener.isFree || !isNext || left < 1) continue;
    const count = taken.get(listener.id) ?? 0;
    if (count >= room.of(listener.id)) continue;
    delivery.state = 'leased';
    taken.set(listener.id, count + 1);
    left--;
  }
}

function claimedAtOnce({ id, event, listener, body }: NewDelivery, seq: string, leaseToken: string): ClaimedDelivery {
  return {
    seq,
    id,
    leaseToken,
    attempts: 0,
    retries: 0,
    type: event.type,
    owner: listener.owner,
    event: { id: event.id, seq: String(event.seq), payload: event.payload },
    body: body ?? event.thinPayload ?? event.payload,
    isOrdered: false,
    listener: listener.target,
  };
}

function* claimEvents(database: Database, { limit, only, afterSeq }: FanOutOptions): Script<ClaimedEvent[]> {
  const { events } = database.tables;
  const columns = events.select(
    'e',
    ...([
      'seq',
      'id',
      'type',
      'superTypes',
      'audience',
      'owner',
      'ownerKey',
      'orderKey',
      'ordered',
      'payload',
    ] as const),
    ...(['thinPayload', 'droppedFields'] as const),
  );
  const isPending = sql`e.${events.$.state} = 'pending'`;
  const after = afterSeq === undefined ? sql`` : sql` and e.${events.$.seq} > ${afterSeq}`;
  const wanted = only ? sql`${isPending} and e.${events.$.id} ${inList(only)}` : sql`${isPending}${after}`;
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
  const { data, previous } = JSON.parse(event.payload) as { data?: JsonObject; previous?: JsonObject };
  if (typeof data !== 'object') throw new TypeError('its payload has no data');
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
function* candidates(
  database: Database,
  options: FanOutOptions,
  events: readonly ReadEvent[],
): Script<Map<ReadEvent, ReadListener[]>> {
  const result = new Map<ReadEvent, ReadListener[]>();
  if (!events.length) return result;
  const { routes, routePaths } = database.tables;
  const types = new Set(events.flatMap((event) => event.types));
  const patterns = [...new Set([...types].flatMap(patternsMatching))];
  // Read in the transaction of the claim and never kept: a listener made by another process a moment ago counts.
  const paths = yield* query<RoutePath>(
    sql`select ${routePaths.select('p', 'pattern', 'path')} from ${routePaths.sql} p where p.${routePaths.$.pattern} ${inList(patterns)}`,
  );
  if (!paths.length) return result;

  const eventsByKey = new Map<string, ReadEvent[]>();
  const keys: Buffer[] = [];
  for (const event of events) {
    for (const key of keysOfEvent(event, paths)) {
      const text = key.toString('latin1');
      const sharing = eventsByKey.get(text);
      if (sharing) sharing.push(event);
      else {
        eventsByKey.set(text, [event]);
        keys.push(key);
      }
    }
  }
  const idsByKey: { events: readonly ReadEvent[]; listenerId: string }[] = [];
  for (const some of chunks(keys)) {
    const found = yield* query<{ key: Uint8Array; listenerId: string }>(
      sql`select ${routes.select('r', 'key', 'listenerId')} from ${routes.sql} r where r.${routes.$.key} ${inList(some)}`,
    );
    for (const { key, listenerId } of found) {
      idsByKey.push({ events: eventsByKey.get(Buffer.from(key).toString('latin1')) ?? [], listenerId });
    }
  }
  const listeners = yield* standingListeners(database, options, [
    ...new Set(idsByKey.map((found) => found.listenerId)),
  ]);
  for (const { events: keyed, listenerId } of idsByKey) {
    const listener = listeners.get(listenerId);
    if (!listener) continue;
    for (const event of keyed) {
      const of = result.get(event);
      if (!of) result.set(event, [listener]);
      // Two patterns of one listener.
      else if (!of.includes(listener)) of.push(listener);
    }
  }
  for (const event of events) {
    // A value that was too large to store gives no key: then every listener is a candidate.
    if (droppedPaths(event, paths).length) result.set(event, yield* everyListener(database, options));
  }
  return result;
}

function* standingListeners(
  database: Database,
  options: FanOutOptions,
  ids: readonly string[],
): Script<Map<string, ReadListener>> {
  const { listeners } = database.tables;
  const found = new Map<string, ReadListener>();
  for (const some of chunks(ids)) {
    const rows = yield* query<Candidate>(sql`${selectStanding(database)} and l.${listeners.$.id} ${inList(some)}`);
    for (const row of rows) found.set(row.id, readListener(row, options));
  }
  return found;
}

function* everyListener(database: Database, options: FanOutOptions): Script<ReadListener[]> {
  const rows = yield* query<Candidate>(selectStanding(database));
  return rows.map((row) => readListener(row, options));
}

/** Disabled ones too: what happens meanwhile is held for them. */
function selectStanding(database: Database): Sql {
  const { listeners: l, listenerState: s } = database.tables;
  const columns = l.select(
    'l',
    ...TARGET_COLUMNS,
    ...(['owner', 'ownerKey', 'patterns', 'filter', 'ordering', 'rateLimit', 'state', 'afterSeq'] as const),
  );
  return sql`select ${columns}, ${s.select('s', 'readyAt', 'pausedUntil', 'failuresInARow')} from ${l.sql} l join ${s.sql} s on s.${s.$.listenerId} = l.${l.$.id} where l.${l.$.deletedAt} is null`;
}

function readListener(row: Candidate, options: FanOutOptions): ReadListener {
  try {
    return parseListener(row, options);
  } catch (unreadable) {
    const { id, url, format } = row;
    const target = { id, url, format, headers: {}, secrets: [], schemes: [], isFailing: false };
    return { ...row, patterns: [], filter: [], afterSeq: 0, target, isFree: false, unreadable };
  }
}

function parseListener(row: Candidate, { now, circuit }: FanOutOptions): ReadListener {
  const failures = Number(row.failuresInARow);
  return {
    ...row,
    patterns: JSON.parse(row.patterns) as string[],
    filter: JSON.parse(row.filter) as Filter,
    afterSeq: Number(row.afterSeq),
    target: toTarget(row, failures > 0),
    isFree:
      row.state === 'active' &&
      row.rateLimit === null &&
      Number(row.pausedUntil ?? 0) <= now &&
      !isOpen(failures, circuit),
  };
}

const DELIVERIES_PER_STATEMENT = 1_000;

/** What a delivery is made of, for {@link insertDeliveries}. */
export interface DeliveryValues {
  readonly id: string;
  readonly event: { readonly seq: unknown; readonly type: string };
  readonly listener: { readonly id: string; readonly owner: string | null; readonly ownerKey: Buffer | null };
  readonly orderKey: Buffer | null;
  readonly body: string | null;
  readonly state: 'due' | 'leased' | 'discarded';
}

/** @returns sequences by id, of those that were not there yet */
export function* insertDeliveries(
  database: Database,
  deliveries: readonly DeliveryValues[],
  { now, leaseMs, leaseToken }: { now: number; leaseMs: number; leaseToken: string },
): Script<Map<string, string>> {
  const { deliveries: d } = database.tables;
  const { $ } = d;
  const seqs = new Map<string, string>();
  for (const some of chunks(deliveries, DELIVERIES_PER_STATEMENT)) {
    const insertion = insertFromRows(
      database,
      'deliveries',
      {
        ...({ id: 'text', eventSeq: 'bigint', listenerId: 'text', type: 'text', owner: 'text' } as const),
        ...({ ownerKey: 'hash', orderKey: 'hash', state: 'text', body: 'text', attempts: 0, retries: 0 } as const),
        ...({ nextAt: now, leaseToken: 'text', leaseUntil: 'bigint', lastError: 'text' } as const),
        ...({ finishedAt: 'bigint', createdAt: now } as const),
      },
      some.map(({ id, event, listener, orderKey, body, state }) => ({
        id,
        eventSeq: Number(event.seq),
        listenerId: listener.id,
        type: event.type,
        owner: listener.owner,
        ownerKey: hex(listener.ownerKey),
        orderKey: hex(orderKey),
        state,
        body,
        leaseToken: state === 'leased' ? leaseToken : null,
        leaseUntil: state === 'leased' ? now + leaseMs : null,
        lastError: state === 'discarded' ? FORMAT_FAILED : null,
        finishedAt: state === 'discarded' ? now : null,
      })),
    );
    const insert = sql`${insertion}${skipConflict(database.dialect, [$.eventSeq, $.listenerId])}`;
    let made: { seq: unknown; id: string }[];
    if (database.dialect === 'mysql') {
      yield insert;
      made = yield* query(
        sql`select ${d.select('d', 'seq', 'id')} from ${d.sql} d where d.${$.id} ${inList(some.map(({ id }) => id))}`,
      );
    } else {
      made = yield* query(sql`${insert} returning ${$.seq} ${d.as('seq')}, ${$.id} ${d.as('id')}`);
    }
    for (const { seq, id } of made) seqs.set(id, String(seq));
  }
  return seqs;
}

function* setState(database: Database, events: readonly ClaimedEvent[], state: string): Script<void> {
  const { sql: path, $ } = database.tables.events;
  for (const some of chunks(events)) {
    yield* execute(sql`update ${path} set ${$.state} = ${state} where ${$.seq} ${inList(some.map(({ seq }) => seq))}`);
  }
}

function hex(bytes: Uint8Array | null): string | null {
  return bytes && Buffer.from(bytes).toString('hex');
}
