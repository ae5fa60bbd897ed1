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
  /** Events taken from the outbox, whether anybody wanted them or not. */
  readonly events: number;
  /** Types of what was claimed, for {@link FanOutOptions.likelyTypes} of the next. */
  readonly types: ReadonlySet<string>;
  /** Sequence after which some were claimed and not looked at, as the round was full; `null` when all were. */
  readonly leftAfterSeq: number | null;
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

/** What a claim has found, told before anything else is done with it. */
export interface Claimed {
  /** Sequence of the last event found, also if another worker has it; `null` when there was none. */
  readonly lastSeq: number | null;
  readonly count: number;
}

export interface FanOutOptions {
  readonly now: number;
  /** The most events to take. */
  readonly limit: number;
  /** Types that the events are likely to have: then nothing has to be asked between the claim and the routes. */
  readonly likelyTypes?: ReadonlySet<string>;
  /** Looks only at events after this sequence: see `OutboxCursor`. */
  readonly afterSeq?: number;
  /** Only these event ids (the inline mode); otherwise the oldest pending ones are taken. */
  readonly only?: readonly string[];
  /** Deliveries that fit into it are leased as they are made; the others become due. */
  readonly room: Room;
  readonly leaseMs: number;
  readonly circuit: CircuitPolicy;
  readonly bodyOf: BodyOf;
  /** Called when the events are claimed: from then on another fan-out would find others. */
  readonly claimed?: (claimed: Claimed) => void;
}

/**
 * Takes events from the outbox and makes a delivery for each listener that wants one, in one transaction: an event is
 * either pending, or routed with all its deliveries there.
 *
 * What this process can send now is leased as it is inserted, which saves the claim: for most deliveries this insert and
 * their record are all that is ever written.
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

  const early = yield* outOfOrder(database, { routed, wide, deliveries });
  const isTimely = (event: ReadEvent) => !early.has(event);
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
    if (delivery.state === 'leased' && seq !== undefined) leased.push(claimedAtOnce(delivery, seq, leaseToken));
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
  const left = new RoomLeft(room);
  for (const delivery of deliveries) {
    const { listener, orderKey } = delivery;
    // Behind what is due already, unless somebody waits for this one.
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

function claimedAtOnce(
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

/** Events that are this transaction's now, and what is known of the routes of the types that they were likely to have. */
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
  // InnoDB locks every index record that a locking read passes: candidates are found by a plain read, and locked by key.
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
