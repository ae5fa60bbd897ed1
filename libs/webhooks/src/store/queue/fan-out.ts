import sql, { type Sql } from 'sql-template-tag';
import { newLease } from '../../ids.js';
import { type CircuitPolicy, isOpen } from '../../health/circuit.js';
import { candidates, type KnownPaths, type ReadCandidate, selectPaths, wants } from './candidates.js';
import { messageOf } from '../../foreign-text.js';
import type { RoutePath } from '../../routing/route-key.js';
import { inList } from '../database/chunks.js';
import type { ClaimedDelivery } from './claimed-delivery.js';
import type { Database } from '../database/database.js';
import { atTimesOf } from '../database/event-times.js';
import { isWaiting, type BodyOf } from './rendered-body.js';
import {
  expectDue,
  hasRow,
  insertDeliveries,
  isDue,
  type NewDelivery,
  newDelivery,
  type Unrendered,
} from './new-deliveries.js';
import { isClaimable } from '../outbox/event-state.js';
import { type ClaimedEvent, type ReadEvent, readEvent } from '../outbox/outbox-events.js';
import {
  deletingRows,
  lockOutbox,
  movingCursor,
  markingDamaged,
  type LockedOutbox,
  type OutboxEvent,
} from '../outbox/outbox-rows.js';
import { BatchLeases } from '../outbox/batch-leases.js';
import { type EventLease } from '../outbox/leases.js';
import { type DeliveryKey, findExisting } from './existing-deliveries.js';
import { type Room, RoomLeft } from './room.js';
import { query, type Script } from '../database/script.js';
import { compareSequences } from '../database/sequence.js';

/** An event that could not be routed. */
interface Damaged {
  readonly id: string;
  readonly type: string;
  readonly error: unknown;
}

export interface FanOutResult {
  /** The number of events taken from the outbox, including events without listeners. */
  readonly events: number;
  /** Types of the claimed events, for {@link FanOutOptions.likelyTypes} of the next fan-out. */
  readonly types: ReadonlySet<string>;
  /** The sequence after which claimed events did not fit into the round; `null` if all claimed events were processed. */
  readonly leftAfterSeq: number | null;
  /** Every delivery that was routed, with or without a row. */
  readonly made: readonly NewDelivery[];
  /** Deliveries that this process sends now. Most of them have no row yet. The lease of their event protects them. */
  readonly leased: readonly ClaimedDelivery[];
  /** Whether deliveries were inserted without a lease. Such deliveries wait for a claim. */
  readonly hasDue: boolean;
  /** Whether a wide event was left for `fanOutWide`. */
  readonly hasWide: boolean;
  /** Events that could not be routed. They are marked as damaged, and need your attention. */
  readonly damaged: readonly Damaged[];
  /** Deliveries whose format threw. They are `discarded`. */
  readonly unrendered: readonly Unrendered[];
}

/** The events that a claim found. The claim is reported before the other steps of the fan-out run. */
export interface Claimed {
  /** The sequence of the last event that was found, even if another worker has this event. `null` if no event was found. */
  readonly lastSeq: number | null;
  readonly count: number;
}

export interface FanOutOptions {
  readonly now: number;
  /** The maximum number of events. */
  readonly limit: number;
  /** Types that the events are likely to have. The payload paths of these types are read together with the claim. */
  readonly likelyTypes?: ReadonlySet<string>;
  /** Only events after this sequence. See `OutboxCursor`. */
  readonly afterSeq?: number;
  /** Only events with these ids (inline mode). Default: the oldest events that can be claimed. */
  readonly only?: readonly string[];
  /** Deliveries that fit into the room are sent by this process; the others become due. */
  readonly room: Room;
  readonly leaseMs: number;
  readonly circuit: CircuitPolicy;
  readonly bodyOf: BodyOf;
  /** Called after the claim. From this moment on, another fan-out finds other events. */
  readonly claimed?: (claimed: Claimed) => void;
}

/**
 * After this many claims without a record, an event is marked as damaged, because it has probably crashed each process that claimed it.
 */
const MAX_CLAIMS = 5;

/**
 * Claims events of the outbox and routes them, in one transaction.
 *
 * A delivery that this process can send now gets no row: the lease of its event covers it, and its record inserts it with the outcome. Every
 * other delivery is inserted as due. A routed event leaves the outbox: a lease names it, or all of its deliveries have a row. A delivery
 * whose body is not the event's own text is inserted before it is sent, with its own lease, so that a repeat after a crash has the same bytes.
 */
export function* fanOut(database: Database, options: FanOutOptions): Script<FanOutResult> {
  const { locked, paths } = yield* claimEvents(database, options);
  const { events, damaged } = readAll(locked.events);
  const { listenersOf, wide, left } = yield* candidates(database, events, paths);
  const reclaimed = events.filter(({ claims }) => Number(claims) > 0);
  const existing = yield* findExisting(database, reclaimed);
  const { routed, unrendered } = deliveriesOf(listenersOf, { bodyOf: options.bodyOf, existing, damaged });
  const overtaking = yield* findOvertaking(database, { routed, wide });
  const isTimely = (event: ReadEvent) => !overtaking.has(event);
  const timely = new Map([...routed].filter(([event]) => isTimely(event)));
  const made = [...timely.values()].flat();
  leaseWhatFits(made, options);
  const leases = leaseUnstored(timely, reclaimed);
  const wideEvents = wide.filter(isTimely);
  const leased = yield* insertRouted(database, made, { ...options, leases }, [
    ...markingDamaged(database, damaged.map(withReason), options.now),
    ...movingCursor(database, seqsOf(wideEvents), ''),
    ...leases.inserting(database, options.now + options.leaseMs),
    ...deletingRows(database, [...locked.orphans, ...seqsOf(timely.keys())]),
  ]);
  return {
    types: new Set(events.flatMap(({ types }) => types)),
    events: damaged.length + timely.size + wideEvents.length + locked.orphans.length,
    leftAfterSeq: seqBefore(left[0], locked.events),
    made,
    leased,
    hasDue: made.some(isDue),
    hasWide: wideEvents.length > 0,
    damaged: damaged.map(({ event: { id, type }, error }) => ({ id, type, error })),
    unrendered,
  };
}

type DamagedEvent = { readonly event: ClaimedEvent; readonly error: unknown };

/** Parses the events that a claim has found. */
function readAll(found: readonly OutboxEvent[]): { events: (OutboxEvent & ReadEvent)[]; damaged: DamagedEvent[] } {
  const events: (OutboxEvent & ReadEvent)[] = [];
  const damaged: DamagedEvent[] = [];
  for (const event of found) {
    try {
      if (Number(event.claims) >= MAX_CLAIMS) throw new Error(`it was claimed ${MAX_CLAIMS} times without a record`);
      events.push(readEvent(event));
    } catch (error) {
      damaged.push({ event, error });
    }
  }
  return { events, damaged };
}

function withReason({ event, error }: DamagedEvent) {
  return { event, reason: messageOf(error) };
}

/** The deliveries of each event, without those that exist. An event that cannot be judged is added to the damaged ones. */
function deliveriesOf(
  listenersOf: ReadonlyMap<ReadEvent, readonly ReadCandidate[]>,
  {
    bodyOf,
    existing,
    damaged,
  }: { bodyOf: BodyOf; existing: ReadonlyMap<DeliveryKey, unknown>; damaged: DamagedEvent[] },
): { routed: Map<ReadEvent, NewDelivery[]>; unrendered: Unrendered[] } {
  const routed = new Map<ReadEvent, NewDelivery[]>();
  const unrendered: Unrendered[] = [];
  for (const [event, listeners] of listenersOf) {
    try {
      const wanting = listeners.filter((one) => wants(one, event) && !existing.has(`${String(event.seq)} ${one.id}`));
      routed.set(
        event,
        wanting.map((listener) => newDelivery(event, listener, bodyOf, unrendered)),
      );
    } catch (error) {
      damaged.push({ event, error });
    }
  }
  return { routed, unrendered };
}

/** Leases the events with deliveries that this process sends without a row. */
function leaseUnstored(
  routed: ReadonlyMap<ReadEvent, readonly NewDelivery[]>,
  reclaimed: readonly (OutboxEvent & ReadEvent)[],
): BatchLeases {
  const claims = new Map<ReadEvent, number>(reclaimed.map((event) => [event, Number(event.claims)]));
  const leases = new BatchLeases();
  for (const [event, deliveries] of routed) {
    const unstored = deliveries.filter((one) => !hasRow(one)).length;
    const { seq, createdAt } = event;
    if (unstored) leases.add({ seq, createdAt, claims: claims.get(event) ?? 0 }, unstored);
  }
  return leases;
}

function seqsOf(events: Iterable<ReadEvent>): unknown[] {
  return [...events].map(({ seq }) => seq);
}

/** The sequence after which a claim continues, so that it begins with this event; `null` without an event. */
function seqBefore(event: ReadEvent | undefined, found: readonly OutboxEvent[]): number | null {
  if (!event) return null;
  return Number(found[found.findIndex(({ id }) => id === event.id) - 1]?.seq ?? 0);
}

/** Inserts the deliveries that need a row, and sends other statements with them. @returns those that this process sends */
function* insertRouted(
  database: Database,
  made: readonly NewDelivery[],
  { now, leaseMs, leases }: FanOutOptions & { readonly leases: BatchLeases },
  statements: readonly Sql[],
): Script<ClaimedDelivery[]> {
  const token = newLease();
  const ofRows = { now, leaseMs, leaseToken: token };
  const seqs = yield* insertDeliveries(database, made.filter(hasRow), ofRows, { statements, isEnd: !made.some(isDue) });
  yield* expectDue(database, made, now);
  const leased: ClaimedDelivery[] = [];
  for (const delivery of made) {
    if (delivery.state === 'unstored') {
      const lease = leases.of(delivery.event) as EventLease;
      leased.push(toClaimedDelivery(delivery, { seq: null, token: lease.token, now, lease }));
    } else if (delivery.state === 'leased' && seqs.has(delivery.id)) {
      leased.push(toClaimedDelivery(delivery, { seq: seqs.get(delivery.id) as string, token, now, lease: null }));
    }
  }
  return leased;
}

/**
 * How many unclaimed events before ours are checked: events that other workers are claiming at this moment, and events that they left. An
 * ordered event that comes after more unclaimed events than this is not routed yet.
 */
const UNCLAIMED_LOOKED_AT = 5_000;

/**
 * Finds ordered events that have overtaken an earlier, unclaimed event of their row. The earlier event is unclaimed because another worker
 * is just claiming it, because an inline delivery came first, or because it is a wide event. The overtaking events stay in the outbox, and
 * a later fan-out takes them. An earlier event that is already claimed needs no check, because its claim has inserted its ordered
 * deliveries.
 *
 * The earlier event is always visible here: its writer held the lock on the row until its commit, so it was committed before our event
 * could be written. After the earlier event is claimed, the claim of deliveries sees its deliveries.
 */
function* findOvertaking(
  database: Database,
  { routed, wide }: { routed: ReadonlyMap<ReadEvent, readonly NewDelivery[]>; wide: readonly ReadEvent[] },
): Script<Set<ReadEvent>> {
  // For a wide event it is not known yet which of its listeners want order.
  const ordered = wide.filter(({ orderKey }) => orderKey !== null);
  for (const [event, deliveries] of routed)
    if (deliveries.some(({ orderKey }) => orderKey !== null)) ordered.push(event);
  const last = ordered
    .map(({ seq }) => seq)
    .toSorted(compareSequences)
    .at(-1);
  if (last === undefined) return new Set();
  const { outbox: o } = database.tables;
  const unclaimed = yield* query<{ seq: unknown; orderKey: Uint8Array | null }>(
    sql`select ${o.select('o', 'seq', 'orderKey')} from ${o.sql} o where (o.${o.$.claims} = 0 or o.${o.$.routedThrough} is not null) and o.${o.$.seq} < ${last} order by o.${o.$.seq} limit ${UNCLAIMED_LOOKED_AT}`,
  );
  const seenUpTo = unclaimed.length === UNCLAIMED_LOOKED_AT ? unclaimed.at(-1)?.seq : last;
  const ours = new Set([...routed.keys()].map(({ seq }) => String(seq)));
  const firstOf = new Map<string, unknown>();
  for (const { seq, orderKey } of unclaimed) {
    const key = orderKey && Buffer.from(orderKey).toString('hex');
    if (key && !ours.has(String(seq)) && !firstOf.has(key)) firstOf.set(key, seq);
  }
  const isOvertaking = ({ seq, orderKey }: ReadEvent) => {
    const first = orderKey && firstOf.get(Buffer.from(orderKey).toString('hex'));
    return (first && compareSequences(first, seq) < 0) || compareSequences(seq, seenUpTo) > 0;
  };
  return new Set(ordered.filter(isOvertaking));
}

/**
 * Marks the deliveries that this process has slots for. Deliveries whose order, rate limit or circuit must be checked first are left to the
 * claim.
 */
function leaseWhatFits(deliveries: readonly NewDelivery[], { room, now, only, circuit }: FanOutOptions): void {
  const left = new RoomLeft(room);
  for (const delivery of deliveries) {
    const { listener, orderKey, body } = delivery;
    // The claim renders it, or leaves it to another process.
    if (isWaiting(delivery)) continue;
    // Place it behind the deliveries that are already due, except in inline mode, where a caller waits for it.
    const isNext = only !== undefined || listener.readyAt === null || Number(listener.readyAt) > now;
    if (delivery.state !== 'due' || orderKey !== null || !isNext || left.total < 1) continue;
    if (!isFree(listener, now, circuit) || left.ofListener(listener) < 1) continue;
    delivery.state = body === null ? 'unstored' : 'leased';
    left.take(listener);
  }
}

function isFree(listener: ReadCandidate, now: number, circuit: CircuitPolicy): boolean {
  return (
    listener.state === 'active' &&
    listener.rateLimit === null &&
    listener.allowedRate === null &&
    Number(listener.pausedUntil ?? 0) <= now &&
    !isOpen(listener.failuresInARow, circuit)
  );
}

function toClaimedDelivery(
  { id, event, listener, body, format, version }: NewDelivery,
  { seq, token, now, lease }: { seq: string | null; token: string; now: number; lease: EventLease | null },
): ClaimedDelivery {
  return {
    seq,
    id,
    leaseToken: token,
    lease,
    routedAt: now,
    attempts: 0,
    retries: 0,
    type: event.type,
    owner: listener.owner,
    event: {
      id: event.id,
      seq: String(event.seq),
      payload: event.payload,
      createdAt: Number(event.createdAt),
      context: event.context,
      isTest: false,
    },
    body: body ?? event.thinPayload ?? event.payload,
    format,
    version,
    isOrdered: false,
    listener: listener.target,
  };
}

/** The events that this transaction has locked, and the payload paths of the likely types. */
interface ClaimedEvents {
  readonly locked: LockedOutbox;
  readonly paths: KnownPaths;
}

const NO_TYPES: ReadonlySet<string> = new Set();

function* claimEvents(
  database: Database,
  { limit, only, afterSeq, claimed, likelyTypes = NO_TYPES }: FanOutOptions,
): Script<ClaimedEvents> {
  const { outbox: o, events: e } = database.tables;
  const after = afterSeq === undefined ? sql`` : sql` and o.${o.$.seq} > ${afterSeq}`;
  const among = only
    ? sql` and o.${o.$.seq} in (select x.${e.$.seq} from ${e.sql} x where x.${e.$.id} ${inList(only)}${atTimesOf(database, sql`x.${e.$.createdAt}`, only)})`
    : after;
  const locked = yield* lockOutbox(database, {
    where: sql`${isClaimable(database)}${among}`,
    limit,
    beside: likelyTypes.size ? selectPaths(database, likelyTypes) : undefined,
  });
  const last = locked.found.at(-1);
  claimed?.({ lastSeq: last === undefined ? null : Number(last), count: locked.found.length });
  const known = locked.beside as readonly RoutePath[] | undefined;
  return { locked, paths: { types: known ? likelyTypes : NO_TYPES, paths: known ?? [] } };
}
