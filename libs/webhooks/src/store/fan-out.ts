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
import { compareSequences } from './sequence.js';

/** `lastError` of a delivery that its listener's format could not render. */
export const FORMAT_FAILED = 'FORMAT_FAILED';

/** Renders what a listener's format sends. `null`: the event's own payload. Throws when the format does. */
export type BodyOf = (format: string, event: { id: string; type: string; payload: string }) => string | null;

export interface FanOutResult {
  /** Events taken from the outbox, whether anybody wanted them or not. */
  readonly events: number;
  /** Sequence of the last one looked at, taken or left for later; `null` when there was none. */
  readonly lastSeq: number | null;
  /** Deliveries that were made and leased at once: to be sent by this process. */
  readonly leased: readonly ClaimedDelivery[];
  /** Whether deliveries were made that wait to be claimed. */
  readonly hasDue: boolean;
  /** Whether an event was set aside for `fanOutWide`. */
  readonly hasWide: boolean;
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

export interface ClaimedEvent {
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
  createdAt: unknown;
}

export interface ReadEvent extends ClaimedEvent {
  types: string[];
  data: JsonObject;
  previous?: JsonObject;
  dropped?: ReadonlySet<string>;
}

export interface Candidate extends TargetRow {
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

export interface ReadListener extends Omit<Candidate, 'patterns' | 'filter' | 'failuresInARow'> {
  patterns: string[];
  filter: Filter;
  failuresInARow: number;
  target: ListenerTarget;
  /** Why its row cannot be read. */
  unreadable?: unknown;
}

/** A delivery to be made. */
export interface NewDelivery {
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
      events.push(readEvent(event));
    } catch (error) {
      spoil(event, error);
    }
  }

  const { listenersOf, wide, left } = yield* candidates(database, events);
  const deliveries: NewDelivery[] = [];
  const routed: ReadEvent[] = [];
  for (const [event, listeners] of listenersOf) {
    const of: NewDelivery[] = [];
    try {
      for (const listener of listeners) {
        if (wants(listener, event)) of.push(newDelivery(event, listener, options.bodyOf, unrendered));
      }
    } catch (error) {
      spoil(event, error);
      continue;
    }
    routed.push(event);
    deliveries.push(...of);
  }

  const early = yield* outOfOrder(database, { routed, wide, deliveries });
  const isTimely = (event: ReadEvent) => !early.has(event);
  const made = deliveries.filter(({ event }) => isTimely(event));
  const leaseToken = newId('lease');
  leaseWhatFits(made, options);
  const seqs = yield* insertDeliveries(database, made, { now: options.now, leaseMs: options.leaseMs, leaseToken });
  yield* setState(database, routed.filter(isTimely), 'routed');
  yield* setState(database, wide.filter(isTimely), 'routing');
  yield* setState(database, broken, 'damaged');
  const due = yield* expectDue(database, made, options.now);

  const leased: ClaimedDelivery[] = [];
  for (const delivery of made) {
    const seq = seqs.get(delivery.id);
    if (delivery.state === 'leased' && seq !== undefined) leased.push(claimedAtOnce(delivery, seq, leaseToken));
  }
  // The next look begins behind what was left for later, and before what this one did not get to.
  const [first] = left;
  const lastLookedAt = first ? claimed[claimed.findIndex(({ id }) => id === first.id) - 1] : claimed.at(-1);
  return {
    events: broken.length + [...routed, ...wide].filter(isTimely).length,
    lastSeq: lastLookedAt === undefined ? null : Number(lastLookedAt.seq),
    leased,
    hasDue: due > 0,
    hasWide: wide.some(isTimely),
    damaged,
    unrendered,
  };
}

/** Deliveries that wait are looked for by the claim. @returns how many do */
export function* expectDue(database: Database, made: readonly NewDelivery[], now: number): Script<number> {
  const due = made.filter(({ state, listener }) => state === 'due' && listener.state === 'active');
  yield* expectDeliveries(database, new Map(due.map(({ listener }) => [listener.id, now])));
  return due.length;
}

/**
 * Whether a listener is to hear of an event: the one place that decides it.
 *
 * @throws what the filter does, or why the listener cannot be read: whether the event is for it, nobody knows
 */
export function wants(listener: ReadListener, event: ReadEvent): boolean {
  if (listener.unreadable !== undefined) throw listener.unreadable;
  return (
    compareSequences(event.seq, listener.afterSeq) > 0 &&
    reaches(event, listener.owner) &&
    matchesAnyPattern(listener.patterns, event.types) &&
    matchesFilter(listener.filter, event)
  );
}

export function newDelivery(
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
 * How many unfinished events before ours are looked at: those that we and others hold at this moment, a batch each, and what they
 * left. Of what comes after so many, an ordered event is not routed yet.
 */
const UNFINISHED_LOOKED_AT = 5_000;

/**
 * Ordered events that have overtaken an earlier one of their row, which is not routed yet: another worker has claimed it, an inline
 * delivery is ahead of its turn, or it is so wide that it is fanned out by itself. They are left in the outbox, where a later look
 * finds them.
 *
 * The earlier event is seen here, whatever the other worker does: it was committed before ours could be written, since its
 * writer held the row until then; and once it is not pending for us, its deliveries are there for the claim to see.
 */
function* outOfOrder(
  database: Database,
  {
    routed,
    wide,
    deliveries,
  }: { routed: readonly ReadEvent[]; wide: readonly ReadEvent[]; deliveries: readonly NewDelivery[] },
): Script<Set<ReadEvent>> {
  const early = new Set<ReadEvent>();
  // Which of its listeners want order is not known yet of a wide one.
  const ordered = new Set(wide.filter(({ orderKey }) => orderKey !== null));
  for (const { event, orderKey } of deliveries) if (orderKey !== null) ordered.add(event);
  if (!ordered.size) return early;
  const { events: e } = database.tables;
  const last = [...ordered]
    .map(({ seq }) => seq)
    .toSorted(compareSequences)
    .at(-1);
  const ours = new Set(routed.map(({ seq }) => String(seq)));
  const firstOf = new Map<string, unknown>();
  let seenUpTo: unknown = last;
  for (const state of ["'pending'", "'routing'"]) {
    const unfinished = yield* query<{ seq: unknown; orderKey: Uint8Array | null }>(
      sql`select ${e.select('e', 'seq', 'orderKey')} from ${e.sql} e where e.${e.$.state} = ${raw(state)} and e.${e.$.seq} < ${last} order by e.${e.$.seq} limit ${UNFINISHED_LOOKED_AT}`,
    );
    if (unfinished.length === UNFINISHED_LOOKED_AT) {
      seenUpTo = [seenUpTo, unfinished.at(-1)?.seq].toSorted(compareSequences)[0];
    }
    for (const { seq, orderKey } of unfinished) {
      if (orderKey === null || ours.has(String(seq))) continue;
      const key = Buffer.from(orderKey).toString('hex');
      const first = firstOf.get(key);
      if (first === undefined || compareSequences(seq, first) < 0) firstOf.set(key, seq);
    }
  }
  for (const event of ordered) {
    const first = event.orderKey && firstOf.get(Buffer.from(event.orderKey).toString('hex'));
    const isOvertaking = first !== undefined && first !== null && compareSequences(first, event.seq) < 0;
    if (isOvertaking || compareSequences(event.seq, seenUpTo) > 0) early.add(event);
  }
  return early;
}

/** Leases what this process has room for, except where something else has to be asked first: that goes through the claim. */
function leaseWhatFits(deliveries: readonly NewDelivery[], { room, now, only, circuit }: FanOutOptions): void {
  let left = room.total;
  const taken = new Map<string, number>();
  for (const delivery of deliveries) {
    const { listener, orderKey } = delivery;
    // Behind what is due already, unless somebody waits for this one.
    const isNext = only !== undefined || listener.readyAt === null || Number(listener.readyAt) > now;
    if (delivery.state !== 'due' || orderKey !== null || !isNext || left < 1) continue;
    if (!isFree(listener, now, circuit)) continue;
    const count = taken.get(listener.id) ?? 0;
    if (count >= room.of(listener.id)) continue;
    delivery.state = 'leased';
    taken.set(listener.id, count + 1);
    left--;
  }
}

function isFree(listener: ReadListener, now: number, circuit: CircuitPolicy): boolean {
  return (
    listener.state === 'active' &&
    listener.rateLimit === null &&
    Number(listener.pausedUntil ?? 0) <= now &&
    !isOpen(listener.failuresInARow, circuit)
  );
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
    event: { id: event.id, seq: String(event.seq), payload: event.payload, createdAt: Number(event.createdAt) },
    body: body ?? event.thinPayload ?? event.payload,
    isOrdered: false,
    listener: listener.target,
  };
}

/** The columns of a {@link ClaimedEvent}, of `e`. */
export function selectEvent(database: Database): Sql {
  return database.tables.events.select(
    'e',
    ...(['seq', 'id', 'type', 'superTypes', 'audience', 'owner', 'ownerKey', 'orderKey', 'ordered'] as const),
    ...(['payload', 'thinPayload', 'droppedFields', 'createdAt'] as const),
  );
}

function* claimEvents(database: Database, { limit, only, afterSeq }: FanOutOptions): Script<ClaimedEvent[]> {
  const { events } = database.tables;
  const columns = selectEvent(database);
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
    sql`select ${columns} from ${events.sql} e${events.byKey} where e.${events.$.seq} ${inList(found.map(({ seq }) => seq))} and ${isPending} order by e.${events.$.seq}${raw(database.skipLocked)}`,
  );
}

/** @throws when its text is no JSON, or without data: the event is damaged */
export function readEvent(event: ClaimedEvent): ReadEvent {
  const { data, previous } = JSON.parse(event.payload) as { data?: JsonObject; previous?: JsonObject };
  if (typeof data !== 'object') throw new TypeError('its payload has no data');
  return {
    ...event,
    types: typesOf(event),
    data,
    ...(previous ? { previous } : {}),
    ...(event.droppedFields === null ? {} : { dropped: new Set(JSON.parse(event.droppedFields) as string[]) }),
  };
}

/** Its own type, then the types of its parents. */
export function typesOf({ type, superTypes }: Pick<ClaimedEvent, 'type' | 'superTypes'>): string[] {
  return [type, ...(superTypes === null ? [] : (JSON.parse(superTypes) as string[]))];
}

/** Pairs of an event and a listener that one round judges: what bounds its memory and its time, whoever listens to what. */
const PAIRS_PER_ROUND = 5_000;
/** An event that more listeners may want than this is fanned out by itself, page by page. */
const NARROW = 1_000;

/** What the routes find. */
interface Candidates {
  /** The listeners of each event. They are candidates: owner and filter are judged on each again. */
  readonly listenersOf: ReadonlyMap<ReadEvent, readonly ReadListener[]>;
  /** Events for `fanOutWide`. */
  readonly wide: readonly ReadEvent[];
  /** What this round does not get to. */
  readonly left: readonly ReadEvent[];
}

function* candidates(database: Database, events: readonly ReadEvent[]): Script<Candidates> {
  const paths = yield* pathsInUse(database, events);
  const wide: ReadEvent[] = [];
  const routable: ReadEvent[] = [];
  // A value that was too large to store gives no key: then every listener is a candidate.
  for (const event of events) (droppedPaths(event, paths).length ? wide : routable).push(event);
  const listenersOf = new Map<ReadEvent, ReadListener[]>();
  const idsOf = yield* listenerIdsOf(database, routable, paths);
  const narrow = new Map<ReadEvent, ReadonlySet<string>>();
  let pairs = 0;
  for (const [event, ids] of idsOf) {
    if (ids === 'wide' || ids.size > NARROW) {
      wide.push(event);
      continue;
    }
    pairs += ids.size;
    if (pairs > PAIRS_PER_ROUND) break;
    narrow.set(event, ids);
  }
  const listeners = yield* standingListeners(database, [...new Set([...narrow.values()].flatMap((ids) => [...ids]))]);
  for (const [event, ids] of narrow) {
    listenersOf.set(
      event,
      [...ids].flatMap((id) => listeners.get(id) ?? []),
    );
  }
  const looked = new Set([...narrow.keys(), ...wide]);
  return {
    listenersOf,
    wide: wide.toSorted((a, b) => compareSequences(a.seq, b.seq)),
    left: events.filter((event) => !looked.has(event)),
  };
}

/** Read in the transaction of the claim and never kept: a listener made by another process a moment ago counts. */
export function* pathsInUse(database: Database, events: readonly ReadEvent[]): Script<RoutePath[]> {
  const { routePaths: p } = database.tables;
  const types = new Set(events.flatMap((event) => event.types));
  if (!types.size) return [];
  const patterns = [...new Set([...types].flatMap(patternsMatching))];
  return yield* query<RoutePath>(
    sql`select ${p.select('p', 'pattern', 'path')} from ${p.sql} p where p.${p.$.pattern} ${inList(patterns)}`,
  );
}

/**
 * The ids of the listeners that the routes find for each of the first of these events: all of them, or as many as the rows
 * that one round reads can tell of. An event that alone has more rows is `'wide'`.
 */
function* listenerIdsOf(
  database: Database,
  events: readonly ReadEvent[],
  paths: readonly RoutePath[],
): Script<Map<ReadEvent, Set<string> | 'wide'>> {
  const { routes: r } = database.tables;
  for (let some = events; ; some = some.slice(0, Math.ceil(some.length / 2))) {
    const idsOf = new Map(some.map((event) => [event, new Set<string>()] as const));
    const eventsOf = new Map<string, ReadEvent[]>();
    const keys: Buffer[] = [];
    for (const event of some) {
      for (const key of keysOfEvent(event, paths)) {
        const text = key.toString('latin1');
        const sharing = eventsOf.get(text);
        if (sharing) sharing.push(event);
        else {
          eventsOf.set(text, [event]);
          keys.push(key);
        }
      }
    }
    let left = PAIRS_PER_ROUND;
    for (const chunk of chunks(keys)) {
      const found = yield* query<{ key: Uint8Array; listenerId: string }>(
        sql`select ${r.select('r', 'key', 'listenerId')} from ${r.sql} r where r.${r.$.key} ${inList(chunk)} limit ${left + 1}`,
      );
      left -= found.length;
      if (left < 0) break;
      for (const { key, listenerId } of found) {
        for (const event of eventsOf.get(Buffer.from(key).toString('latin1')) ?? []) idsOf.get(event)?.add(listenerId);
      }
    }
    if (left >= 0) return idsOf;
    if (some.length === 1) return new Map(some.map((event) => [event, 'wide'] as const));
  }
}

export function* standingListeners(database: Database, ids: readonly string[]): Script<Map<string, ReadListener>> {
  const { listeners } = database.tables;
  const found = new Map<string, ReadListener>();
  for (const some of chunks(ids)) {
    const rows = yield* query<Candidate>(sql`${selectStanding(database)} and l.${listeners.$.id} ${inList(some)}`);
    for (const row of rows) found.set(row.id, readListener(row));
  }
  return found;
}

/** Disabled ones too: what happens meanwhile is held for them. */
export function selectStanding(database: Database): Sql {
  const { listeners: l, listenerState: s } = database.tables;
  const columns = l.select(
    'l',
    ...TARGET_COLUMNS,
    ...(['owner', 'ownerKey', 'patterns', 'filter', 'ordering', 'rateLimit', 'state', 'afterSeq'] as const),
  );
  return sql`select ${columns}, ${s.select('s', 'readyAt', 'pausedUntil', 'failuresInARow')} from ${l.sql} l join ${s.sql} s on s.${s.$.listenerId} = l.${l.$.id} where l.${l.$.deletedAt} is null`;
}

/** A listener as events are judged by it, also one that is disabled; `undefined` when it was removed, or never was. */
export function* standingListener(database: Database, id: string): Script<ReadListener | undefined> {
  const { listeners: l } = database.tables;
  const [row] = yield* query<Candidate>(sql`${selectStanding(database)} and l.${l.$.id} = ${id}`);
  return row && readListener(row);
}

export function readListener(row: Candidate): ReadListener {
  try {
    return parseListener(row);
  } catch (unreadable) {
    const { id, url, format } = row;
    const target = { id, url, format, headers: {}, secrets: [], schemes: [], sendsSequence: false, isFailing: false };
    return { ...row, patterns: [], filter: [], failuresInARow: 0, target, unreadable };
  }
}

function parseListener(row: Candidate): ReadListener {
  const failuresInARow = Number(row.failuresInARow);
  return {
    ...row,
    patterns: JSON.parse(row.patterns) as string[],
    filter: JSON.parse(row.filter) as Filter,
    failuresInARow,
    target: toTarget(row, failuresInARow > 0),
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
  for (const some of chunks(deliveries, DELIVERIES_PER_STATEMENT, ({ body }) => body?.length ?? 0)) {
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
        eventSeq: String(event.seq),
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

export function* setState(
  database: Database,
  events: readonly { readonly seq: unknown }[],
  state: 'routing' | 'routed' | 'damaged',
): Script<void> {
  const { sql: path, byKey, $ } = database.tables.events;
  for (const some of chunks(events)) {
    yield* execute(
      sql`update ${path}${byKey} set ${$.state} = ${state} where ${$.seq} ${inList(some.map(({ seq }) => seq))}`,
    );
  }
}

function hex(bytes: Uint8Array | null): string | null {
  return bytes && Buffer.from(bytes).toString('hex');
}
