import sql from 'sql-template-tag';
import { EVERY_OWNER_KEY, ownerKeyOf } from '../../hash.js';
import { matchesAnyPattern } from '../../routing/route-key.js';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { atTimes } from '../database/event-times.js';
import { byteLength } from '../database/dialect-sql.js';
import { withinBytes } from '../outbox/event-bytes.js';
import { insertDeliveries, isDue, newDelivery, type NewDelivery } from './new-deliveries.js';
import type { BodyOf } from './rendered-body.js';
import { isOfEvent } from '../outbox/delete-events.js';
import { readEventStates, type EventState } from '../outbox/event-state.js';
import { lockUnfinished } from '../outbox/leases.js';
import { readEvent, typesOf, type ClaimedEvent, selectEvent } from '../outbox/outbox-events.js';
import { wants, type ReadCandidate } from './candidates.js';
import { expectDeliveries } from '../listeners/listener-state.js';
import type { PagePosition } from '../database/page.js';
import { query, type Script } from '../database/script.js';
import { compareSequences } from '../database/sequence.js';

/** The maximum number of events that one transaction reads. */
const EVENTS_PER_BATCH = 200;

export interface ReplayResult {
  /**
   * The number of deliveries that were inserted and are waiting to be sent. In a dry run, the number of deliveries that would be inserted.
   */
  readonly made: number;
  /** The position at which the next batch begins; `null` at the end. */
  readonly next: PagePosition | null;
  /** In a dry run, the times of the events of these deliveries, in ms since 1970. */
  readonly times?: readonly number[];
}

export interface ReplayOptions {
  readonly after: PagePosition;
  readonly until: number;
  readonly now: number;
  readonly bodyOf: BodyOf;
  /** The person or program that asked for the work. */
  readonly actor: string | null;
  readonly isDryRun?: boolean | undefined;
  /** Only events of these types. */
  readonly types?: readonly string[] | undefined;
  /** Only events of this row. */
  readonly orderKey?: Buffer | undefined;
  /** The maximum number of events. */
  readonly limit?: number | undefined;
}

/** The columns of an event that decide whether it is replayed. */
export interface PastEvent {
  seq: unknown;
  type: string;
  superTypes: string | null;
  orderKey: Uint8Array | null;
  createdAt: unknown;
}

type SizedEvent = PastEvent & { bytes: unknown };

/**
 * Inserts deliveries of past events for one listener. The events must match the listener, and must have no delivery to this listener yet.
 * The rules of the fan-out apply, except that the events may be older than the listener. Several events of one row keep their order if the
 * listener has an order.
 *
 * An unfinished event is included only if it is older than the listener: no fan-out would deliver it. The fan-out delivers newer events in
 * their order, and a replay would overtake it. The events are locked, so that no claim or record changes their state meanwhile, and so that
 * retention does not delete them.
 */
export function* replayEvents(
  database: Database,
  listener: ReadCandidate,
  options: ReplayOptions,
): Script<ReplayResult> {
  const limit = Math.min(options.limit ?? EVENTS_PER_BATCH, EVENTS_PER_BATCH);
  const past = yield* pastEvents(database, { ...options, limit, owner: listener.owner });
  const batch = withinBytes(past);
  const last = batch.at(-1);
  const isAll = past.length < limit && batch.length === past.length;
  const next = last && !isAll ? { at: Number(last.createdAt), seq: String(last.seq) } : null;
  const isOnlyBatch = isAll && options.after.seq === '0';
  return { ...(yield* replayThese(database, listener, batch, { ...options, isOnlyBatch })), next };
}

/** As {@link replayEvents}, for events that are known. @param options `isOnlyBatch`: no other events are replayed with these */
export function* replayThese(
  database: Database,
  listener: ReadCandidate,
  events: readonly PastEvent[],
  options: Pick<ReplayOptions, 'now' | 'bodyOf' | 'actor' | 'isDryRun' | 'types' | 'orderKey'> & {
    readonly isOnlyBatch: boolean;
  },
): Script<Omit<ReplayResult, 'next'>> {
  const { events: e } = database.tables;
  const typed = events.filter((event) => isWanted(event, listener, options));
  const stateOf = yield* statesOf(database, typed, !options.isDryRun);
  const wanted = typed.filter(({ seq }) => isReplayed(stateOf(seq), compareSequences(seq, listener.afterSeq) > 0));
  if (!wanted.length) return { made: 0 };
  const rows = yield* query<ClaimedEvent>(
    sql`select ${selectEvent(database)} from ${e.sql} e where e.${e.$.seq} ${inList(wanted.map(({ seq }) => seq))}${atTimes(
      database,
      sql`e.${e.$.createdAt}`,
      wanted.map(({ createdAt }) => createdAt),
    )} order by e.${e.$.seq}${options.isDryRun ? sql`` : database.forUpdate}`,
  );
  const everything = { ...listener, afterSeq: 0 };
  const deliveries: NewDelivery[] = [];
  for (const row of rows) {
    try {
      const event = readEvent(row);
      // If the format throws an error, the delivery is discarded. A later call of `recover` renders the body again.
      if (wants(everything, event)) {
        deliveries.push(newDelivery(event, everything, options.bodyOf, []));
      }
    } catch {
      continue; // a damaged event, or an event that the fan-out will mark as damaged
    }
  }
  if (!deliveries.length) return { made: 0 };
  if (options.isDryRun) {
    const times = yield* timesOfNew(database, listener, deliveries.filter(isDue));
    return { made: times.length, times };
  }
  const { now } = options;
  const triggered = { trigger: 'replay', by: options.actor } as const;
  const ordered = (options.isOnlyBatch ? withoutNeedlessOrder(deliveries) : deliveries).map((one) => ({
    ...one,
    triggered,
  }));
  const seqs = yield* insertDeliveries(database, ordered, { now, leaseMs: 0, leaseToken: '' });
  const made = ordered.filter(({ id, state }) => state === 'due' && seqs.has(id)).length;
  if (made) yield* expectDeliveries(database, new Map([[listener.id, now]]));
  return { made };
}

/** The times of the events that have no delivery to this listener yet. */
function* timesOfNew(
  database: Database,
  { id }: ReadCandidate,
  deliveries: readonly NewDelivery[],
): Script<readonly number[]> {
  if (!deliveries.length) return [];
  const { deliveries: d, events: e } = database.tables;
  const seqs = deliveries.map(({ event }) => event.seq);
  const rows = yield* query<{ eventSeq: unknown }>(
    sql`select ${d.select('d', 'eventSeq')} from ${e.sql} e${e.byKey} join ${d.sql} d on ${isOfEvent(database)} and d.${d.$.listenerId} = ${id} where e.${e.$.seq} ${inList(seqs)}`,
  );
  const existing = new Set(rows.map(({ eventSeq }) => String(eventSeq)));
  return deliveries.filter(({ event }) => !existing.has(String(event.seq))).map(({ event }) => Number(event.createdAt));
}

interface PastEventsOptions extends Pick<ReplayOptions, 'after' | 'until'> {
  readonly limit: number;
  /**
   * The owner of the listener. Only events for this owner are read. So the cost of a replay depends only on the events of this customer.
   */
  readonly owner: string | null;
}

/**
 * Reads past events in the order of their time. The time has an index. If a machine with a wrong clock wrote an event, the time of the
 * wrong clock counts.
 */
function* pastEvents(database: Database, options: PastEventsOptions): Script<SizedEvent[]> {
  const { owner } = options;
  if (owner === null) return yield* pastEventsOf(database, options, null);
  const ofOwner = yield* pastEventsOf(database, options, ownerKeyOf(owner));
  const ofEveryOwner = yield* pastEventsOf(database, options, EVERY_OWNER_KEY);
  const isEarlier = (a: PastEvent, b: PastEvent) =>
    Number(a.createdAt) - Number(b.createdAt) || compareSequences(a.seq, b.seq);
  return [...ofOwner, ...ofEveryOwner].toSorted(isEarlier).slice(0, options.limit);
}

function* pastEventsOf(
  database: Database,
  { after, until, limit }: PastEventsOptions,
  ownerKey: Buffer | null,
): Script<SizedEvent[]> {
  const { events: e } = database.tables;
  const path = ownerKey === null ? sql`` : e.through('ownerKey', 'createdAt', 'seq');
  const isOwners = ownerKey === null ? sql`` : sql`e.${e.$.ownerKey} = ${ownerKey} and `;
  const isAfter = sql`e.${e.$.createdAt} >= ${after.at} and e.${e.$.createdAt} < ${until} and (e.${e.$.createdAt} > ${after.at} or e.${e.$.seq} > ${after.seq})`;
  // An example event is only for the listener that it was made for.
  const isReal = sql`e.${e.$.audience} <> 'test' and e.${e.$.erasedAt} is null`;
  return yield* query<SizedEvent>(
    sql`select ${e.select('e', 'seq', 'type', 'superTypes', 'orderKey', 'createdAt')}, ${byteLength(database.dialect, sql`e.${e.$.payload}`)} ${e.as('bytes')} from ${e.sql} e${path} where ${isOwners}${isAfter} and ${isReal} order by e.${e.$.createdAt}, e.${e.$.seq} limit ${limit}`,
  );
}

/**
 * Removes the order from a delivery that is the only delivery of its row. Such a delivery need not wait for deliveries that were sent in
 * the meantime.
 */
function withoutNeedlessOrder(deliveries: readonly NewDelivery[]): NewDelivery[] {
  const counts = new Map<string, number>();
  const keyOf = ({ orderKey }: NewDelivery) => (orderKey === null ? '' : Buffer.from(orderKey).toString('hex'));
  for (const delivery of deliveries) counts.set(keyOf(delivery), (counts.get(keyOf(delivery)) ?? 0) + 1);
  return deliveries.map((delivery) => (counts.get(keyOf(delivery)) === 1 ? { ...delivery, orderKey: null } : delivery));
}

/** Reads the states of events. @param isLocked whether to lock them first */
function* statesOf(
  database: Database,
  events: readonly PastEvent[],
  isLocked: boolean,
): Script<(seq: unknown) => EventState> {
  const seqs = events.map(({ seq }) => seq);
  if (isLocked) yield* lockUnfinished(database, seqs);
  return yield* readEventStates(database, seqs);
}

/** @param isNewer than the listener: then the fan-out delivers an event that is still in the outbox */
function isReplayed(state: EventState, isNewer: boolean): boolean {
  return state === 'delivered' || (state !== 'damaged' && !isNewer);
}

function isWanted(
  event: PastEvent,
  listener: ReadCandidate,
  { types, orderKey }: Pick<ReplayOptions, 'types' | 'orderKey'>,
): boolean {
  if (types && !types.includes(event.type)) return false;
  if (orderKey && (event.orderKey === null || !orderKey.equals(event.orderKey))) return false;
  try {
    return matchesAnyPattern(listener.patterns, typesOf(event));
  } catch {
    return false;
  }
}
