import sql, { type Sql } from 'sql-template-tag';
import { EVERY_OWNER_KEY, ownerKeyOf } from '../../hash.js';
import { matchesAnyPattern } from '../../routing/route-key.js';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { insertDeliveries, newDelivery, type BodyOf, type NewDelivery } from './new-deliveries.js';
import { readEvent, typesOf, type ClaimedEvent, selectEvent } from '../outbox/outbox-events.js';
import { wants, type ReadCandidate } from './candidates.js';
import { expectDeliveries } from '../listeners/listener-state.js';
import type { PagePosition } from '../database/page.js';
import { query, type Script } from '../database/script.js';
import { compareSequences } from '../database/sequence.js';

/** Events that one transaction reads. */
const EVENTS_PER_BATCH = 200;
/** Payloads that one transaction reads, in bytes; at least one event. */
const BYTES_PER_BATCH = 8 * 1_024 * 1_024;

export interface ReplayResult {
  /** Deliveries that were inserted and are waiting to be sent. */
  readonly made: number;
  /** Where to continue; `null` at the end. */
  readonly next: PagePosition | null;
}

interface PastEvent {
  seq: unknown;
  type: string;
  superTypes: string | null;
  state: string;
  createdAt: unknown;
  bytes: unknown;
}

/**
 * Inserts deliveries of past events for one listener that wants them and has none yet. It uses the rules of the fan-out, except that the
 * events may be older than the listener. Several events of one row keep their order if the listener has an order.
 *
 * An event that is not routed yet is included only if it is older than the listener: no fan-out would deliver it. The fan-out delivers
 * newer events in their order, and a replay would overtake it. An event's row is locked, so that retention does not delete it meanwhile.
 */
export function* replayEvents(
  database: Database,
  listener: ReadCandidate,
  options: { after: PagePosition; until: number; now: number; bodyOf: BodyOf },
): Script<ReplayResult> {
  const { events: e } = database.tables;
  const past = yield* pastEvents(database, { ...options, owner: listener.owner });
  const batch = withinBytes(past);
  const wanted = batch.filter((event) => isOfType(event, listener) && !isStillToBeRouted(event, listener));
  const last = batch.at(-1);
  const isAll = past.length < EVENTS_PER_BATCH && batch.length === past.length;
  const next = last && !isAll ? { at: Number(last.createdAt), seq: String(last.seq) } : null;
  if (!wanted.length) return { made: 0, next };

  const rows = yield* query<ClaimedEvent>(
    sql`select ${selectEvent(database)} from ${e.sql} e where e.${e.$.seq} ${inList(wanted.map(({ seq }) => seq))} order by e.${e.$.seq}${database.forUpdate}`,
  );
  const everything = { ...listener, afterSeq: 0 };
  const deliveries: NewDelivery[] = [];
  for (const row of rows) {
    try {
      const event = readEvent(row);
      // If the format throws, the delivery is discarded, and `recover` renders it again.
      if (wants(everything, event)) {
        deliveries.push(newDelivery(event, everything, options.bodyOf, []));
      }
    } catch {
      continue; // a damaged event, or an event that the fan-out will mark as damaged
    }
  }
  if (!deliveries.length) return { made: 0, next };
  const { now } = options;
  const isOnlyBatch = isAll && options.after.seq === '0';
  const ordered = isOnlyBatch ? withoutNeedlessOrder(deliveries) : deliveries;
  const seqs = yield* insertDeliveries(database, ordered, { now, leaseMs: 0, leaseToken: '' });
  const made = ordered.filter(({ id, state }) => state === 'due' && seqs.has(id)).length;
  if (made) yield* expectDeliveries(database, new Map([[listener.id, now]]));
  return { made, next };
}

interface PastEventsOptions {
  readonly after: PagePosition;
  readonly until: number;
  /** Owner of the listener: only events for this owner are read, so that the cost of a replay depends only on this customer's events. */
  readonly owner: string | null;
}

/** In the order of their time, which has an index. A row from a machine with a wrong clock is sorted by that clock. */
function* pastEvents(database: Database, options: PastEventsOptions): Script<PastEvent[]> {
  const { owner } = options;
  if (owner === null) return yield* pastEventsOf(database, options, null);
  const ofOwner = yield* pastEventsOf(database, options, ownerKeyOf(owner));
  const ofEveryOwner = yield* pastEventsOf(database, options, EVERY_OWNER_KEY);
  const isEarlier = (a: PastEvent, b: PastEvent) =>
    Number(a.createdAt) - Number(b.createdAt) || compareSequences(a.seq, b.seq);
  return [...ofOwner, ...ofEveryOwner].toSorted(isEarlier).slice(0, EVENTS_PER_BATCH);
}

function* pastEventsOf(
  database: Database,
  { after, until }: PastEventsOptions,
  ownerKey: Buffer | null,
): Script<PastEvent[]> {
  const { events: e } = database.tables;
  const path = ownerKey === null ? sql`` : e.through('ownerKey', 'createdAt', 'seq');
  const isOwners = ownerKey === null ? sql`` : sql`e.${e.$.ownerKey} = ${ownerKey} and `;
  const isAfter = sql`e.${e.$.createdAt} >= ${after.at} and e.${e.$.createdAt} < ${until} and (e.${e.$.createdAt} > ${after.at} or e.${e.$.seq} > ${after.seq})`;
  // An example event is only for the listener that it was made for.
  const isReal = sql`e.${e.$.audience} <> 'test' and e.${e.$.state} <> 'damaged'`;
  return yield* query<PastEvent>(
    sql`select ${e.select('e', 'seq', 'type', 'superTypes', 'state', 'createdAt')}, ${byteLength(database, sql`e.${e.$.payload}`)} ${e.as('bytes')} from ${e.sql} e${path} where ${isOwners}${isAfter} and ${isReal} order by e.${e.$.createdAt}, e.${e.$.seq} limit ${EVENTS_PER_BATCH}`,
  );
}

function byteLength(database: Database, text: Sql): Sql {
  // SQLite has octet_length only since 3.43.
  return database.dialect === 'sqlite' ? sql`length(cast(${text} as blob))` : sql`octet_length(${text})`;
}

function withinBytes(events: readonly PastEvent[]): readonly PastEvent[] {
  let bytes = 0;
  const end = events.findIndex((event, n) => (bytes += Number(event.bytes)) > BYTES_PER_BATCH && n > 0);
  return end === -1 ? events : events.slice(0, end);
}

/** A single delivery of a row need not wait for deliveries that were sent since. */
function withoutNeedlessOrder(deliveries: readonly NewDelivery[]): NewDelivery[] {
  const counts = new Map<string, number>();
  const keyOf = ({ orderKey }: NewDelivery) => (orderKey === null ? '' : Buffer.from(orderKey).toString('hex'));
  for (const delivery of deliveries) counts.set(keyOf(delivery), (counts.get(keyOf(delivery)) ?? 0) + 1);
  return deliveries.map((delivery) => (counts.get(keyOf(delivery)) === 1 ? { ...delivery, orderKey: null } : delivery));
}

/** Whether a fan-out will insert its delivery. */
function isStillToBeRouted({ state, seq }: PastEvent, { afterSeq }: ReadCandidate): boolean {
  return (state === 'pending' || state === 'routing') && compareSequences(seq, afterSeq) > 0;
}

function isOfType(event: PastEvent, listener: ReadCandidate): boolean {
  try {
    return matchesAnyPattern(listener.patterns, typesOf(event));
  } catch {
    return false;
  }
}
