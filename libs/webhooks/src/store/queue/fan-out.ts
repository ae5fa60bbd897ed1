import sql, { raw } from 'sql-template-tag';
import { newId } from '../../ids.js';
import { type CircuitPolicy, isOpen } from '../../health/circuit.js';
import { candidates, type KnownPaths, type ReadCandidate, selectPaths, wants } from './candidates.js';
import type { RoutePath } from '../../routing/route-key.js';
import { inList } from '../database/chunks.js';
import type { ClaimedDelivery } from './claim-deliveries.js';
import type { Database } from '../database/database.js';
import { type BodyOf, expectDue, insertDeliveries, isDue, type NewDelivery, newDelivery } from './new-deliveries.js';
import { type ClaimedEvent, type ReadEvent, readEvent, selectEvent, settingState } from '../outbox/outbox-events.js';
import { type Room, RoomLeft } from './room.js';
import { query, type Script, together } from '../database/script.js';
import { compareSequences } from '../database/sequence.js';

export interface FanOutResult {
  /** Events taken from the outbox, including events without listeners. */
  readonly events: number;
  /** Types of the claimed events, for {@link FanOutOptions.likelyTypes} of the next fan-out. */
  readonly types: ReadonlySet<string>;
  /** The sequence after which claimed events did not fit into the round; `null` if all were processed. */
  readonly leftAfterSeq: number | null;
  /** Deliveries that were inserted with a lease: this process sends them. */
  readonly leased: readonly ClaimedDelivery[];
  /** Whether deliveries were inserted without a lease. They wait for a claim. */
  readonly hasDue: boolean;
  /** Whether a wide event was left for `fanOutWide`. */
  readonly hasWide: boolean;
  /** Events that could not be read. They are `damaged` now, and need your attention. */
  readonly damaged: readonly { id: string; type: string; error: unknown }[];
  /** Deliveries whose format threw. They are `discarded`. */
  readonly unrendered: readonly { listenerId: string; eventId: string; error: unknown }[];
}

/** The events that a claim found, reported before the rest of the fan-out. */
export interface Claimed {
  /** Sequence of the last event found, even if another worker has it; `null` if there was none. */
  readonly lastSeq: number | null;
  readonly count: number;
}

export interface FanOutOptions {
  readonly now: number;
  /** The maximum number of events. */
  readonly limit: number;
  /** Types that the events are likely to have. Their paths are read together with the claim. */
  readonly likelyTypes?: ReadonlySet<string>;
  /** Only events after this sequence: see `OutboxCursor`. */
  readonly afterSeq?: number;
  /** Only events with these ids (inline mode). Default: the oldest pending events. */
  readonly only?: readonly string[];
  /** Deliveries that fit into the room are inserted with a lease; the others become due. */
  readonly room: Room;
  readonly leaseMs: number;
  readonly circuit: CircuitPolicy;
  readonly bodyOf: BodyOf;
  /** Called after the claim: from then on another fan-out finds other events. */
  readonly claimed?: (claimed: Claimed) => void;
}

/**
 * Takes events from the outbox and inserts a delivery for each listener that wants one, in one transaction: an event is either pending,
 * or routed with all its deliveries.
 *
 * Deliveries that this process can send now are inserted with a lease, which saves the claim. For most deliveries, this insert and the
 * record of the attempt are the only writes.
 */
export function* fanOut(database: Database, options: FanOutOptions): Script<FanOutResult> {
  const { claimed, paths } = yield* claimEvents(database, options);
  const damaged: { id: string; type: string; error: unknown }[] = [];
  const unrendered: { listenerId: string; eventId: string; error: unknown }[] = [];
  const damagedEvents: ClaimedEvent[] = [];
  const markDamaged = (event: ClaimedEvent, error: unknown) => {
    damagedEvents.push(event);
    damaged.push({ id: event.id, type: event.type, error });
  };
  const events: ReadEvent[] = [];
  for (const event of claimed) {
    try {
      events.push(readEvent(event));
    } catch (error) {
      markDamaged(event, error);
    }
  }

  const { listenersOf, wide, left } = yield* candidates(database, events, paths);
  const deliveries: NewDelivery[] = [];
  const routed: ReadEvent[] = [];
  for (const [event, listeners] of listenersOf) {
    const rendered: NewDelivery[] = [];
    try {
      for (const listener of listeners) {
        if (wants(listener, event)) rendered.push(newDelivery(event, listener, options.bodyOf, unrendered));
      }
    } catch (error) {
      markDamaged(event, error);
      continue;
    }
    routed.push(event);
    deliveries.push(...rendered);
  }

  const overtaking = yield* findOvertaking(database, { routed, wide, deliveries });
  const isTimely = (event: ReadEvent) => !overtaking.has(event);
  const made = deliveries.filter(({ event }) => isTimely(event));
  const leaseToken = newId('lease');
  leaseWhatFits(made, options);
  const hasDue = made.some(isDue);
  const seqs = yield* insertDeliveries(
    database,
    made,
    { now: options.now, leaseMs: options.leaseMs, leaseToken },
    {
      statements: [
        ...settingState(database, routed.filter(isTimely), 'routed'),
        ...settingState(database, wide.filter(isTimely), 'routing'),
        ...settingState(database, damagedEvents, 'damaged'),
      ],
      isEnd: !hasDue,
    },
  );
  yield* expectDue(database, made, options.now);

  const leased: ClaimedDelivery[] = [];
  for (const delivery of made) {
    const seq = seqs.get(delivery.id);
    if (delivery.state === 'leased' && seq !== undefined) leased.push(toClaimedDelivery(delivery, seq, leaseToken));
  }
  const [first] = left;
  const lastLookedAt = first && claimed[claimed.findIndex(({ id }) => id === first.id) - 1];
  return {
    types: new Set(events.flatMap(({ types }) => types)),
    events: damagedEvents.length + [...routed, ...wide].filter(isTimely).length,
    leftAfterSeq: first ? Number(lastLookedAt?.seq ?? 0) : null,
    leased,
    hasDue,
    hasWide: wide.some(isTimely),
    damaged,
    unrendered,
  };
}

/**
 * How many unfinished events before ours are checked: a batch in each of the workers at this moment, and events that they left. An ordered
 * event that comes after more unfinished events than this is not routed yet.
 */
const UNFINISHED_LOOKED_AT = 5_000;

/**
 * Finds ordered events that have overtaken an earlier event of their row, which is not routed yet: another worker has claimed it, an inline
 * delivery came early, or it is a wide event. The overtaking events stay in the outbox, and a later fan-out takes them.
 *
 * The earlier event is visible here, whatever the other worker does. It was committed before ours could be written, because its writer held
 * the row until then. Once it is no longer pending for us, the claim sees its deliveries.
 */
function* findOvertaking(
  database: Database,
  {
    routed,
    wide,
    deliveries,
  }: { routed: readonly ReadEvent[]; wide: readonly ReadEvent[]; deliveries: readonly NewDelivery[] },
): Script<Set<ReadEvent>> {
  const overtaking = new Set<ReadEvent>();
  // For a wide event it is not known yet which of its listeners want order.
  const ordered = new Set(wide.filter(({ orderKey }) => orderKey !== null));
  for (const { event, orderKey } of deliveries) if (orderKey !== null) ordered.add(event);
  if (!ordered.size) return overtaking;
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
    if (isOvertaking || compareSequences(event.seq, seenUpTo) > 0) overtaking.add(event);
  }
  return overtaking;
}

/** Leases the deliveries that this process has slots for. If order, rate limit or circuit must be checked first, the claim does it. */
function leaseWhatFits(deliveries: readonly NewDelivery[], { room, now, only, circuit }: FanOutOptions): void {
  const left = new RoomLeft(room);
  for (const delivery of deliveries) {
    const { listener, orderKey } = delivery;
    // After the deliveries that are already due, except in inline mode, where a caller waits for this delivery.
    const isNext = only !== undefined || listener.readyAt === null || Number(listener.readyAt) > now;
    if (delivery.state !== 'due' || orderKey !== null || !isNext || left.total < 1) continue;
    if (!isFree(listener, now, circuit) || left.ofListener(listener) < 1) continue;
    delivery.state = 'leased';
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
  { id, event, listener, body, format }: NewDelivery,
  seq: string,
  leaseToken: string,
): ClaimedDelivery {
  return {
    seq,
    id,
    leaseToken,
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
    isOrdered: false,
    listener: listener.target,
  };
}

/** Events that this transaction has claimed, and the paths of the types that were likely. */
interface ClaimedEvents {
  readonly claimed: readonly ClaimedEvent[];
  readonly paths: KnownPaths;
}

const NO_TYPES: ReadonlySet<string> = new Set();
const NO_PATHS: KnownPaths = { types: NO_TYPES, paths: [] };

function* claimEvents(
  database: Database,
  { limit, only, afterSeq, claimed, likelyTypes = NO_TYPES }: FanOutOptions,
): Script<ClaimedEvents> {
  const { events } = database.tables;
  const columns = selectEvent(database);
  const isPending = sql`e.${events.$.state} = 'pending'`;
  const after = afterSeq === undefined ? sql`` : sql` and e.${events.$.seq} > ${afterSeq}`;
  const wanted = only ? sql`${isPending} and e.${events.$.id} ${inList(only)}` : sql`${isPending}${after}`;
  const report = (found: readonly { seq?: unknown }[]) => {
    const last = found.at(-1);
    claimed?.({ lastSeq: last === undefined ? null : Number(last.seq), count: found.length });
  };
  if (database.dialect !== 'mysql') {
    const claim = sql`select ${columns} from ${events.sql} e where ${wanted} order by e.${events.$.seq} limit ${limit}${database.skipLocked}`;
    const [rows, paths] = yield* together(likelyTypes.size ? [claim, selectPaths(database, likelyTypes)] : [claim], {
      isEnd: false,
    });
    report(rows?.rows ?? []);
    return {
      claimed: (rows?.rows ?? []) as unknown as ClaimedEvent[],
      paths: paths ? { types: likelyTypes, paths: paths.rows as unknown as RoutePath[] } : NO_PATHS,
    };
  }
  // InnoDB locks every index record that a locking read passes: find candidates by a plain read, then lock them by key.
  const found = yield* query<{ seq: unknown }>(
    sql`select ${events.select('e', 'seq')} from ${events.sql} e where ${wanted} order by e.${events.$.seq} limit ${limit}`,
  );
  if (!found.length) {
    report(found);
    return { claimed: [], paths: NO_PATHS };
  }
  const rows = yield* query<ClaimedEvent>(
    sql`select ${columns} from ${events.sql} e${events.byKey} where e.${events.$.seq} ${inList(found.map(({ seq }) => seq))} and ${isPending} order by e.${events.$.seq}${database.skipLocked}`,
  );
  report(found);
  return { claimed: rows, paths: NO_PATHS };
}
