import sql, { join } from 'sql-template-tag';
import { ownerKeyOf } from '../../hash.js';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import type { PagePosition } from '../database/page.js';
import { execute, query, type Script } from '../database/script.js';
import { lockListenerStates, refreshReadyAt } from '../listeners/listener-state.js';
import { endExpiredLeases, LEASES_PER_BATCH } from '../outbox/expired-leases.js';
import { lockUnfinished } from '../outbox/leases.js';
import { deletingRows } from '../outbox/outbox-rows.js';
import { isInFlight } from './erase-owner.js';

/** `lastErrorCode` of a delivery that was pending when the content of its event was erased. */
const CONTENT_ERASED = 'CONTENT_ERASED';

/** The maximum number of events that one transaction erases. */
const EVENTS_PER_BATCH = 50;
/** The maximum number of deliveries whose content one transaction erases. One event may have a hundred thousand deliveries. */
const DELIVERIES_PER_BATCH = 500;
/** The maximum number of events that one transaction reads to find the events of a row. */
const SCANNED_PER_BATCH = 5_000;

/** The events whose content is erased: one event, the events of one row, or the events of one owner. */
export interface ErasedEvents {
  readonly eventId?: string | undefined;
  readonly orderKey?: Buffer | undefined;
  readonly owner?: string | undefined;
  /** Created before this time, in ms since 1970. */
  readonly until: number;
}

/** The last event that is erased. With `listenerId`, the deliveries of this event are erased up to this listener. */
export interface ErasePosition extends PagePosition {
  readonly listenerId?: string;
}

export interface EraseBatch {
  /** The number of events whose content was erased. */
  readonly count: number;
  /** Where the next batch begins; `null` after the last batch. */
  readonly next: ErasePosition | null;
  /** Whether a delivery is being sent. Its attempt must be recorded before its content can be erased. */
  readonly isWaiting: boolean;
  /** The number of discarded deliveries, by listener. */
  readonly discarded: ReadonlyMap<string, number>;
}

interface FoundEvent {
  seq: unknown;
  id: string;
  owner: string | null;
  createdAt: unknown;
}

/**
 * Erases the content of a batch of events: payload, context, bodies and answers. The rows stay, so that the log shows what was sent and
 * when. Pending deliveries are discarded, and an event that is not routed yet gets no deliveries. The deliveries of an
 * event that a process is sending have no rows yet, so their answers are erased afterwards.
 *
 * The event is erased before its deliveries. From then on, a claim finds no content and discards the delivery.
 */
export function* eraseContent(
  database: Database,
  events: ErasedEvents,
  { after, now, limit = EVENTS_PER_BATCH }: { after: ErasePosition; now: number; limit?: number | undefined },
): Script<EraseBatch> {
  const { found, end } = yield* findEvents(database, events, after, Math.min(limit, EVENTS_PER_BATCH));
  const discarded = new Map<string, number>();
  let count = 0;
  let room = DELIVERIES_PER_BATCH;
  for (const { seq, createdAt } of found) {
    const position = { at: Number(createdAt), seq: String(seq) };
    const erased = yield* eraseEvent(database, seq, now);
    if (erased.isNew) count++;
    if (erased.isInFlight) return { count, next: { ...position, listenerId: '' }, isWaiting: true, discarded };
    const isBegun = after.listenerId !== undefined && after.seq === position.seq;
    const from = isBegun ? (after.listenerId ?? '') : '';
    const page = yield* erasePage(database, { seq, createdAt }, { after: from, limit: room, now });
    for (const [id, n] of page.discarded) discarded.set(id, (discarded.get(id) ?? 0) + n);
    if (page.next !== null) {
      return { count, next: { ...position, listenerId: page.next }, isWaiting: page.isWaiting, discarded };
    }
    room -= page.count;
    if (room <= 0) return { count, next: position, isWaiting: false, discarded };
  }
  return { count, next: end, isWaiting: false, discarded };
}

/** Counts the next of these events whose content is not erased yet. @returns their times, and where the next batch begins */
export function* countErasable(
  database: Database,
  events: ErasedEvents,
  after: PagePosition,
  limit: number,
): Script<{ times: readonly number[]; next: PagePosition | null }> {
  const { found, end } = yield* findEvents(database, events, after, limit, true);
  return { times: found.map(({ createdAt }) => Number(createdAt)), next: end };
}

function* findEvents(
  database: Database,
  { eventId, orderKey, owner, until }: ErasedEvents,
  after: ErasePosition,
  limit: number,
  isDryRun = false,
): Script<{ found: readonly FoundEvent[]; end: PagePosition | null }> {
  const { events: e } = database.tables;
  const [at, seq] = [sql`e.${e.$.createdAt}`, sql`e.${e.$.seq}`];
  // An event with `listenerId` is not finished, so it is found again.
  const isNext = after.listenerId === undefined ? sql`>` : sql`>=`;
  const where = [
    sql`${at} >= ${after.at} and ${at} < ${until} and (${at} > ${after.at} or ${seq} ${isNext} ${after.seq})`,
    ...(eventId === undefined ? [] : [sql`e.${e.$.id} = ${eventId}`]),
    ...(owner === undefined ? [] : [sql`e.${e.$.ownerKey} = ${ownerKeyOf(owner)}`]),
  ];
  const path = owner === undefined ? sql`` : e.through('ownerKey', 'createdAt', 'seq');
  const inOrder = sql`order by ${at}, ${seq}`;
  const scanned =
    orderKey === undefined
      ? []
      : yield* query<{ createdAt: unknown; seq: unknown }>(
          sql`select ${e.select('e', 'createdAt', 'seq')} from ${e.sql} e${path} where ${join(where, ' and ')} ${inOrder} limit 1 offset ${SCANNED_PER_BATCH - 1}`,
        );
  const [last] = scanned;
  if (last) where.push(sql`${at} <= ${last.createdAt} and (${at} < ${last.createdAt} or ${seq} <= ${last.seq})`);
  if (orderKey !== undefined) where.push(sql`e.${e.$.orderKey} = ${orderKey}`);
  if (isDryRun) where.push(sql`e.${e.$.erasedAt} is null`);
  const rows = yield* query<FoundEvent>(
    sql`select ${e.select('e', 'seq', 'id', 'owner', 'createdAt')} from ${e.sql} e${path} where ${join(where, ' and ')} ${inOrder} limit ${limit}`,
  );
  const lastRow = rows.at(-1);
  const end = lastRow && rows.length === limit ? positionOf(lastRow) : last ? positionOf(last) : null;
  // Compare once more with ===: a collation treats some different texts as equal.
  const isSame = (row: FoundEvent) =>
    (eventId === undefined || row.id === eventId) && (owner === undefined || row.owner === owner);
  return { found: rows.filter(isSame), end };
}

function positionOf({ createdAt, seq }: { createdAt: unknown; seq: unknown }): PagePosition {
  return { at: Number(createdAt), seq: String(seq) };
}

/** @returns whether this call erased the event (and not an earlier call), and whether a process is sending it */
function* eraseEvent(database: Database, seq: unknown, now: number): Script<{ isNew: boolean; isInFlight: boolean }> {
  const { events: e, damaged: x } = database.tables;
  yield* endExpiredLeases(database, now, LEASES_PER_BATCH);
  const isLeased = (yield* lockUnfinished(database, [seq])).size > 0;
  if (!isLeased) for (const statement of deletingRows(database, [seq])) yield statement;
  // The reason may quote the content.
  yield* execute(sql`update ${x.sql} set ${x.$.reason} = ${'its content was erased'} where ${x.$.seq} = ${seq}`);
  const changed = yield* execute(
    sql`update ${e.sql} set ${e.$.payload} = ${null}, ${e.$.thinPayload} = ${null}, ${e.$.droppedFields} = ${null}, ${e.$.context} = ${null}, ${e.$.erasedAt} = ${now} where ${e.$.seq} = ${seq} and ${e.$.erasedAt} is null`,
  );
  return { isNew: changed > 0, isInFlight: isLeased };
}

/** The result for one page of an event's deliveries. `next`: the last listener that is done; `null` after the last delivery. */
interface ErasedPage {
  readonly count: number;
  readonly next: string | null;
  readonly isWaiting: boolean;
  readonly discarded: ReadonlyMap<string, number>;
}

/** Erases the content of the next deliveries of an event, in the order of their listeners, up to a delivery that is being sent. */
function* erasePage(
  database: Database,
  event: Pick<FoundEvent, 'seq' | 'createdAt'>,
  { after, limit, now }: { after: string; limit: number; now: number },
): Script<ErasedPage> {
  const { deliveries: d } = database.tables;
  const page = sql`where d.${d.$.eventAt} = ${event.createdAt} and d.${d.$.eventSeq} = ${event.seq} and d.${d.$.listenerId} > ${after} order by d.${d.$.listenerId} limit ${limit}`;
  const found = yield* query<{ listenerId: string; state: string }>(
    sql`select ${d.select('d', 'listenerId', 'state')} from ${d.sql} d ${page}`,
  );
  const nothing = { count: 0, isWaiting: false, discarded: new Map<string, number>() };
  if (!found.length) return { ...nothing, next: null };
  // Lock the listeners first, in the same order as a claim locks them.
  const isPending = (state: string) => state === 'due' || state === 'leased';
  yield* lockListenerStates(
    database,
    found.filter(({ state }) => isPending(state)).map(({ listenerId }) => listenerId),
  );
  const locked = yield* query<{ seq: unknown; id: string; listenerId: string; state: string; inFlight: unknown }>(
    sql`select ${d.select('d', 'seq', 'id', 'listenerId', 'state')}, case when ${isInFlight(database, now)} then 1 else 0 end ${d.as('inFlight')} from ${d.sql} d ${page}${database.forUpdate}`,
  );
  const firstInFlight = locked.findIndex(({ inFlight }) => Number(inFlight) === 1);
  const done = firstInFlight === -1 ? locked : locked.slice(0, firstInFlight);
  const pending = done.filter(({ state }) => isPending(state));
  yield* clear(database, done, pending, now);
  const discarded = new Map(pending.map(({ listenerId }) => [listenerId, 1]));
  const next = firstInFlight === -1 && locked.length < limit ? null : (done.at(-1)?.listenerId ?? after);
  return { count: done.length, next, isWaiting: firstInFlight !== -1, discarded };
}

function* clear(
  database: Database,
  done: readonly { seq: unknown; id: string }[],
  pending: readonly { seq: unknown; listenerId: string }[],
  now: number,
): Script<void> {
  const { deliveries: d, attempts: a } = database.tables;
  if (!done.length) return;
  const seqs = inList(done.map(({ seq }) => seq));
  yield* execute(
    sql`update ${a.sql} set ${a.$.response} = ${null}, ${a.$.details} = ${null} where ${a.$.deliveryId} ${inList(done.map(({ id }) => id))} and (${a.$.response} is not null or ${a.$.details} is not null)`,
  );
  yield* execute(
    sql`update ${d.sql} set ${d.$.body} = ${null}, ${d.$.response} = ${null} where ${d.$.seq} ${seqs} and (${d.$.body} is not null or ${d.$.response} is not null)`,
  );
  yield* discardErased(
    database,
    pending.map(({ seq }) => seq),
    now,
  );
  yield* refreshReadyAt(
    database,
    pending.map(({ listenerId }) => listenerId),
  );
}

/** Discards deliveries of erased events. */
export function* discardErased(database: Database, seqs: readonly unknown[], now: number): Script<void> {
  if (!seqs.length) return;
  const { sql: path, byKey, $ } = database.tables.deliveries;
  yield* execute(
    sql`update ${path}${byKey} set ${$.state} = ${'discarded'}, ${$.lastErrorCode} = ${CONTENT_ERASED}, ${$.body} = ${null}, ${$.finishedAt} = ${now}, ${$.leaseToken} = ${null}, ${$.leaseUntil} = ${null} where ${$.seq} ${inList(seqs)}`,
  );
}
