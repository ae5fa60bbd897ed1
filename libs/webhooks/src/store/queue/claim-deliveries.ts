import sql, { join, raw, type Sql } from 'sql-template-tag';
import { isOpen, type CircuitPolicy } from '../../health/circuit.js';
import { afterHandshake } from '../../health/handshake-pause.js';
import { allowanceOf, limitOf } from '../../health/rate-limit.js';
import { newLease } from '../../ids.js';
import { readSecrets, type StoredSecret } from '../../secrets/stored-secrets.js';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { parseSending, selectSending, type SendingState } from '../system/sending.js';
import { databaseMs } from '../database/database-time.js';
import { isClaimable, isWide } from '../outbox/event-state.js';
import { firstImage } from '../outbox/images.js';
import type { OutboxLease } from '../outbox/outbox-rows.js';
import {
  claimReadyListeners,
  expectDeliveries,
  nextDueOf,
  readyFrom,
  writeListenerStates,
} from '../listeners/listener-state.js';
import type { ListenerState } from '../../health/listener-state.js';
import { DISCARD_BATCH, discardDue } from '../listeners/listener-rows.js';
import { discardErased } from './erase-content.js';
import { type Room, RoomLeft } from './room.js';
import { execute, query, type Script } from '../database/script.js';
import { numberOrNull } from '../database/number-or-null.js';

/** The properties of a listener that sending needs. */
export interface ListenerTarget {
  readonly id: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** The secrets in stored form. The secrets are sealed if the application has keys for sealing. */
  readonly secrets: readonly StoredSecret[];
  readonly schemes: readonly string[];
  /** The credentials that the receiver's server requires in addition to signatures, in stored form. See `listener-auth.ts`. */
  readonly auth: string | null;
  /** The client certificate and the certificate authorities of the listener, in stored form. See `listener-tls.ts`. */
  readonly tls: string | null;
  readonly format: string;
  readonly handshake: string;
  /** Whether requests include the event's sequence. */
  readonly sendsSequence: boolean;
  /** Whether the listener's last attempt had failed when this row was read. Then the next success changes the health of the listener. */
  readonly isFailing: boolean;
}

/** A delivery that this process may send now, with everything that sending needs. */
export interface ClaimedDelivery {
  /** The sequence of the delivery's row; `null` if the delivery has no row yet. The record of its first attempt inserts the row. */
  readonly seq: string | null;
  readonly id: string;
  readonly leaseToken: string;
  /** The lease of the event, if the delivery has no row. */
  readonly lease: OutboxLease | null;
  /** When the event was routed. */
  readonly routedAt: number;
  /** The number of attempts before this attempt. */
  readonly attempts: number;
  /** The number of attempts since the schedule began, or since a resend restarted the schedule. */
  readonly retries: number;
  readonly type: string;
  readonly owner: string | null;
  readonly event: {
    readonly id: string;
    readonly seq: string;
    readonly payload: string;
    /** Time of the event, in ms since 1970. */
    readonly createdAt: number;
    /** The context and the depth of the event, in stored form. */
    readonly context: string | null;
    /** Whether the event is an example event from `sendTest`. */
    readonly isTest: boolean;
  };
  readonly body: string;
  /** The format that rendered the body. The listener may have another format now. `null`: the body is the event's own text. */
  readonly format: string | null;
  /** Whether later deliveries of the same row wait for this delivery. */
  readonly isOrdered: boolean;
  /** For a listener with a rate limit: the longest time between the claim and the start of the request. */
  readonly startWithinMs?: number | null;
  readonly listener: ListenerTarget;
}

/** A handshake that this process may attempt now. */
export interface ClaimedHandshake {
  readonly listener: ListenerTarget;
  readonly owner: string | null;
  /** After this time another process may attempt the handshake. The value also identifies this attempt. */
  readonly leaseUntil: number;
  /** The number of attempts that failed before this attempt. */
  readonly failures: number;
}

/** The columns of a {@link ListenerTarget}. */
export const TARGET_COLUMNS = [
  'id',
  'url',
  'headers',
  'secrets',
  'schemes',
  'auth',
  'tls',
  'format',
  'handshake',
  'sequence',
] as const;
export type TargetRow = Record<Exclude<(typeof TARGET_COLUMNS)[number], 'sequence' | 'auth' | 'tls'>, string> & {
  auth: string | null;
  tls: string | null;
  sequence: unknown;
};

export function toTarget(row: TargetRow, isFailing: boolean): ListenerTarget {
  return {
    id: row.id,
    url: row.url,
    headers: JSON.parse(row.headers) as Record<string, string>,
    secrets: readSecrets(row.secrets),
    schemes: JSON.parse(row.schemes) as string[],
    auth: row.auth,
    tls: row.tls,
    format: row.format,
    handshake: row.handshake,
    sendsSequence: Number(row.sequence) === 1,
    isFailing,
  };
}

interface ListenerRow extends TargetRow {
  owner: string | null;
  state: string;
  rateLimit: string | null;
  allowedRate: unknown;
  deletedAt: unknown;
}

interface ClaimRow {
  seq: unknown;
  id: string;
  listenerId: string;
  attempts: unknown;
  retries: unknown;
  type: string;
  owner: string | null;
  orderKey: Uint8Array | null;
  body: string | null;
  format: string | null;
  eventSeq: unknown;
  eventId: string;
  eventCreatedAt: unknown;
  createdAt: unknown;
  payload: string;
  thinPayload: string | null;
  context: string | null;
  audience: string;
  erasedAt: unknown;
}

/** The number of deliveries that may be sent to one listener now, and the time of the listener's next check. */
interface Share {
  readonly state: ListenerState;
  readonly target: ListenerTarget;
  readonly rate: ReturnType<typeof allowanceOf> | null;
  readonly isProbe: boolean;
  readonly owner: string | null;
  allowed: number;
}

/** The default number of listeners in one claim. One statement has a branch for each listener. */
export const LISTENERS_PER_CLAIM = 64;
/**
 * The time until the next check of a listener, for two cases. In the first case, due deliveries wait for earlier deliveries of their row.
 * Another process may finish the earlier deliveries without a notice to this process. In the second case, there was no slot for a
 * handshake.
 */
const RECHECK_MS = 1_000;

/**
 * Leases due deliveries to this process until `now + leaseMs`. The claim takes the listeners that have waited longest, and leases some
 * deliveries of each of these listeners.
 *
 * The queue row of each listener is locked during the claim, so two processes never claim deliveries of one listener at the same time.
 * Therefore order, rate limits and the single probe of an open circuit hold across processes.
 *
 * A listener with a pending handshake is claimed in the same way, but without its due deliveries.
 *
 * @param options `listeners`: how many listeners are read, each by a branch of one statement; `handshakes`: how many handshakes this
 * process has slots for
 * @returns the deliveries; `isExhaustive` is false if more listeners may be ready
 */
export function* claimDeliveries(
  database: Database,
  options: {
    now: number;
    leaseMs: number;
    room: Room;
    listeners?: number;
    circuit: CircuitPolicy;
    handshakes: number;
  },
): Script<{ deliveries: ClaimedDelivery[]; handshakes: ClaimedHandshake[]; isExhaustive: boolean }> {
  const { now, leaseMs, room } = options;
  const limit = Math.min(room.total, options.listeners ?? LISTENERS_PER_CLAIM);
  const ready = yield* claimReadyListeners(database, { now, limit, except: room.full, exceptOwners: room.fullOwners });
  if (!ready.length) return { deliveries: [], handshakes: [], isExhaustive: true };
  const { shares, idle, handshakes } = yield* sharesOf(database, ready, options);
  yield* writeListenerStates(database, idle);
  const seqs = yield* dueSeqs(database, shares, now);
  const leaseToken = newLease();
  const leased = seqs.length ? yield* lease(database, seqs, leaseToken, now + leaseMs) : [];
  const rows = leased.filter(({ erasedAt }) => erasedAt === null);
  yield* discardErased(
    database,
    leased.filter(({ erasedAt }) => erasedAt !== null).map(({ seq }) => seq),
    now,
  );
  const shareOf = new Map(shares.map((share) => [share.target.id, share]));
  yield* requeueListeners(database, shares, rows, options);
  return {
    deliveries: rows.map((row) => {
      const { target, rate } = shareOf.get(row.listenerId) as Share;
      return { ...claimed(row, target, leaseToken), startWithinMs: rate?.startWithinMs ?? null };
    }),
    handshakes,
    isExhaustive: ready.length < limit,
  };
}

/** Divides the slots. No listener gets a second slot before every listener has one slot. */
function* sharesOf(
  database: Database,
  ready: readonly ListenerState[],
  options: { now: number; leaseMs: number; room: Room; circuit: CircuitPolicy; handshakes: number },
): Script<{ shares: Share[]; idle: ListenerState[]; handshakes: ClaimedHandshake[] }> {
  const { now, room, circuit } = options;
  const { listeners: l } = database.tables;
  // Read the listeners by a separate statement after the lock. This statement sees the changes of a transaction that held the lock before.
  const rows = yield* query<ListenerRow>(
    sql`select ${l.select('l', ...TARGET_COLUMNS, 'owner', 'state', 'rateLimit', 'allowedRate', 'deletedAt')} from ${l.sql} l where l.${l.$.id} ${inList(ready.map((state) => state.listenerId))}`,
  );
  const listeners = new Map(rows.map((row) => [row.id, row]));
  const shares: Share[] = [];
  const idle: ListenerState[] = [];
  const handshakes: ClaimedHandshake[] = [];
  for (const state of ready) {
    const row = listeners.get(state.listenerId);
    if (!row || row.deletedAt !== null) {
      const count = yield* discardDue(database, state.listenerId, { now, limit: DISCARD_BATCH });
      idle.push({ ...state, readyAt: count === DISCARD_BATCH ? now : null, handshakeAt: null });
    } else if (row.state === 'pending') {
      const hasRoom = handshakes.length < options.handshakes;
      const leaseUntil = now + options.leaseMs;
      const begun = { ...afterHandshake(state, now), handshakeAt: leaseUntil };
      idle.push(hasRoom ? begun : { ...state, handshakeAt: now + RECHECK_MS });
      if (!hasRoom) continue;
      const listener = toTarget(row, false);
      handshakes.push({ listener, owner: row.owner, leaseUntil, failures: state.failuresInARow });
    } else if (row.state !== 'active') {
      idle.push({ ...state, readyAt: null, handshakeAt: null });
    } else if (state.pausedUntil !== null && state.pausedUntil > now) {
      idle.push({ ...state, readyAt: state.pausedUntil });
    } else {
      const limit = limitOf(row.rateLimit, row.allowedRate === null ? null : Number(row.allowedRate));
      const rate = limit && allowanceOf(limit, state.rateTaken, now);
      const isProbe = isOpen(state.failuresInARow, circuit);
      const allowed = Math.min(isProbe ? 1 : Infinity, rate?.allowed ?? Infinity);
      const target = toTarget(row, state.failuresInARow > 0);
      shares.push({ state, target, rate, isProbe, owner: row.owner, allowed });
    }
  }
  divideSlots(shares, new RoomLeft(room));
  return { shares, idle, handshakes };
}

function divideSlots(shares: readonly Share[], left: RoomLeft): void {
  let waiting = shares.map((share) => ({
    share,
    of: { id: share.target.id, owner: share.owner },
    wanted: share.allowed,
  }));
  for (const { share } of waiting) share.allowed = 0;
  while (left.total > 0 && waiting.length) {
    const each = Math.max(1, Math.floor(left.total / waiting.length));
    for (const { share, of: target, wanted } of waiting) {
      const given = Math.min(each, wanted - share.allowed, left.ofListener(target));
      share.allowed += given;
      left.take(target, given);
    }
    waiting = waiting.filter(({ share, of: target, wanted }) => share.allowed < wanted && left.ofListener(target) > 0);
  }
}

function* dueSeqs(database: Database, shares: readonly Share[], now: number): Script<unknown[]> {
  const asked = shares.filter((share) => share.allowed > 0);
  if (!asked.length) return [];
  const { deliveries: d } = database.tables;
  const branches = asked.map(
    ({ target, allowed }, n) =>
      sql`select * from (select ${d.select('d', 'seq')} from ${d.sql} d${d.through('listenerId', 'state', 'nextAt', 'seq')} where d.${d.$.listenerId} = ${target.id} and d.${d.$.state} = 'due' and d.${d.$.nextAt} <= ${now}${isFirstOfItsRow(database)} order by d.${d.$.nextAt}, d.${d.$.seq} limit ${allowed}) ${raw(`b${n}`)}`,
  );
  const found = yield* query<{ seq: unknown }>(join(branches, ' union all '));
  return found.map(({ seq }) => seq);
}

/**
 * The condition for an ordered delivery: no earlier delivery of its listener and row is unfinished. The claim checks this condition each
 * time.
 */
function isFirstOfItsRow(database: Database): Sql {
  const { deliveries: d } = database.tables;
  const noEarlier = (isUnfinished: string) =>
    sql`not exists (select 1 from ${d.sql} p${d.through('listenerId', 'orderKey', 'state', 'eventSeq')} where p.${d.$.listenerId} = d.${d.$.listenerId} and p.${d.$.orderKey} = d.${d.$.orderKey} and p.${d.$.eventSeq} < d.${d.$.eventSeq} and p.${d.$.state} ${raw(isUnfinished)})`;
  // With `in`, MariaDB would read every past delivery of a row. SQLite uses the partial index only for exactly this text.
  const isFirst =
    database.dialect === 'mysql'
      ? sql`${noEarlier("= 'due'")} and ${noEarlier("= 'leased'")}`
      : noEarlier("in ('due', 'leased')");
  return sql` and (d.${d.$.orderKey} is null or (${isFirst}))`;
}

function* lease(database: Database, seqs: readonly unknown[], token: string, until: number): Script<ClaimRow[]> {
  const { deliveries: d, events: e } = database.tables;
  // With the plain column and outdated statistics, PostgreSQL would read its index of due deliveries instead of the primary key.
  yield* execute(
    sql`update ${d.sql}${d.byKey} set ${d.$.state} = ${'leased'}, ${d.$.leaseToken} = ${token}, ${d.$.leaseUntil} = ${until} where ${d.$.seq} ${inList(seqs)} and coalesce(${d.$.state}, '') = ${'due'}`,
  );
  const columns = d.select(
    'd',
    ...([
      'seq',
      'id',
      'listenerId',
      'attempts',
      'retries',
      'type',
      'owner',
      'orderKey',
      'body',
      'format',
      'eventSeq',
      'createdAt',
    ] as const),
  );
  return yield* query<ClaimRow>(
    sql`select ${columns}, e.${e.$.id} ${e.as('eventId')}, e.${e.$.createdAt} ${e.as('eventCreatedAt')}, ${e.select('e', 'payload', 'thinPayload', 'context', 'audience', 'erasedAt')}
    from ${d.sql} d${d.byKey} join ${e.sql} e on e.${e.$.seq} = d.${d.$.eventSeq}
    where d.${d.$.seq} ${inList(seqs)} and d.${d.$.leaseToken} = ${token} order by d.${d.$.nextAt}, d.${d.$.seq}`,
  );
}

/** Returns the listeners to the queue. Each listener gets the time of its next check. */
function* requeueListeners(
  database: Database,
  shares: readonly Share[],
  rows: readonly ClaimRow[],
  { now, leaseMs }: { now: number; leaseMs: number },
): Script<void> {
  const next = yield* nextDueOf(
    database,
    shares.map(({ target }) => target.id),
  );
  const taken = new Map<string, number>();
  for (const { listenerId } of rows) taken.set(listenerId, (taken.get(listenerId) ?? 0) + 1);
  yield* writeListenerStates(
    database,
    shares.map(({ state, target, rate, isProbe, allowed }) => {
      const count = taken.get(target.id) ?? 0;
      // No second probe is sent until the first probe is recorded or the lease of the first probe has expired.
      const pausedUntil = isProbe && count ? now + leaseMs : state.pausedUntil;
      // This time puts the listener behind the listeners that have waited longer. A due delivery that the claim did not find waits for an
      // earlier delivery of its row.
      const notBefore = Math.max(
        now,
        pausedUntil ?? 0,
        rate?.nextAt(count) ?? 0,
        count < allowed ? now + RECHECK_MS : 0,
      );
      const nextAt = next.get(target.id);
      return {
        ...state,
        pausedUntil,
        rateTaken: rate && count ? rate.takenAfter(count) : state.rateTaken,
        readyAt: nextAt === undefined || nextAt > now ? readyFrom(nextAt, pausedUntil) : notBefore,
      };
    }),
  );
}

function claimed(row: ClaimRow, listener: ListenerTarget, leaseToken: string): ClaimedDelivery {
  return {
    seq: String(row.seq),
    id: row.id,
    leaseToken,
    lease: null,
    routedAt: Number(row.createdAt),
    attempts: Number(row.attempts),
    retries: Number(row.retries),
    type: row.type,
    owner: row.owner,
    event: {
      id: row.eventId,
      seq: String(row.eventSeq),
      payload: row.payload,
      createdAt: Number(row.eventCreatedAt),
      context: row.context,
      isTest: row.audience === 'test',
    },
    body: row.body ?? row.thinPayload ?? row.payload,
    format: row.format,
    isOrdered: row.orderKey !== null,
    listener,
  };
}

/**
 * Makes deliveries due again if their lease has expired. The worker of such a delivery is dead, or is so late that its lease token is no
 * longer valid.
 *
 * @returns the number of deliveries
 */
export function* reclaimExpired(database: Database, now: number, limit: number): Script<number> {
  const { deliveries: d } = database.tables;
  const found = yield* query<{ seq: unknown }>(
    sql`select ${d.select('d', 'seq')} from ${d.sql} d where d.${d.$.state} = 'leased' and d.${d.$.leaseUntil} <= ${now} order by d.${d.$.leaseUntil} limit ${limit}`,
  );
  if (!found.length) return 0;
  const locked = yield* query<{ seq: unknown; listenerId: string }>(
    sql`select ${d.select('d', 'seq', 'listenerId')} from ${d.sql} d${d.byKey} where d.${d.$.seq} ${inList(found.map(({ seq }) => seq))} and d.${d.$.state} = ${'leased'} and d.${d.$.leaseUntil} <= ${now} order by d.${d.$.seq}${database.skipLocked}`,
  );
  if (!locked.length) return 0;
  yield* execute(
    sql`update ${d.sql}${d.byKey} set ${d.$.state} = ${'due'}, ${d.$.leaseToken} = ${null}, ${d.$.leaseUntil} = ${null} where ${d.$.seq} ${inList(locked.map(({ seq }) => seq))}`,
  );
  yield* expectDeliveries(database, new Map(locked.map(({ listenerId }) => [listenerId, now])));
  return locked.length;
}

/** The pending work that an idle dispatcher must find. A `null` means that there is no work of this kind. */
export interface Outlook {
  /** Whether an event can be claimed: it is new, or the lease of another process has expired. */
  readonly hasEvents: boolean;
  /** Whether an image is waiting for its conversion to events. */
  readonly hasImages: boolean;
  /** Whether a wide event is being fanned out. */
  readonly hasWide: boolean;
  /** The time at which the next listener must be checked. */
  readonly readyAt: number | null;
  /** The time at which the first lease of a delivery expires, or the lease of the first event of the outbox. */
  readonly leaseUntil: number | null;
  /** Whether sending is paused. */
  readonly sending: SendingState;
  /** The time of the database. */
  readonly databaseMs: number;
}

/**
 * Reads the outlook by one query. An idle dispatcher sends no other statement. @param tablePaths the tables whose images this process
 * converts
 */
export function* readOutlook(database: Database, now: number, tablePaths: readonly string[] = []): Script<Outlook> {
  const { outbox: o, deliveries: d, listenerState: s } = database.tables;
  const [row] = yield* query<{
    event: unknown;
    first: unknown;
    image: unknown;
    wide: unknown;
    ready: unknown;
    lease: unknown;
    sending: string | null;
    now: unknown;
  }>(
    sql`select (select o.${o.$.seq} from ${o.sql} o where ${isClaimable(database, now)} order by o.${o.$.seq} limit 1) as event, (select o.${o.$.leaseUntil} from ${o.sql} o order by o.${o.$.seq} limit 1) as first, ${tablePaths.length ? firstImage(database, tablePaths) : sql`null`} as image, (select o.${o.$.seq} from ${o.sql} o where ${isWide(database)} order by o.${o.$.seq} limit 1) as wide, (select min(s.${s.$.readyAt}) from ${s.sql} s) as ready, (select d.${d.$.leaseUntil} from ${d.sql} d where d.${d.$.state} = 'leased' order by d.${d.$.leaseUntil} limit 1) as lease, ${selectSending(database)} as sending, ${databaseMs(database.dialect)} as now`,
  );
  return {
    hasEvents: numberOrNull(row?.event) !== null,
    hasImages: numberOrNull(row?.image) !== null,
    hasWide: numberOrNull(row?.wide) !== null,
    readyAt: numberOrNull(row?.ready),
    leaseUntil: earlier(numberOrNull(row?.lease), numberOrNull(row?.first)),
    sending: parseSending(row?.sending),
    databaseMs: Number(row?.now),
  };
}

/** The earlier of two times. An event that no process has claimed has the time 0. */
function earlier(a: number | null, b: number | null): number | null {
  const times = [a, b].filter((time) => time !== null && time > 0) as number[];
  return times.length ? Math.min(...times) : null;
}
