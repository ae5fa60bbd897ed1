import sql, { join, raw, type Sql } from 'sql-template-tag';
import { isOpen, type CircuitPolicy } from '../../health/circuit.js';
import { afterHandshake } from '../../health/handshake-pause.js';
import { allowanceOf, limitOf } from '../../health/rate-limit.js';
import { newLease } from '../../ids.js';
import { inList } from '../database/chunks.js';
import { jsonRows } from '../database/json-rows.js';
import type { Database } from '../database/database.js';
import { atSameTime, atTimes } from '../database/event-times.js';
import {
  claimReadyListeners,
  claimTheseListeners,
  nextDueOf,
  readyFrom,
  writeListenerStates,
} from '../listeners/listener-state.js';
import type { ListenerState } from '../../health/listener-state.js';
import { DISCARD_BATCH, discardDue } from '../listeners/listener-rows.js';
import { execute, query, type Script } from '../database/script.js';
import type { ClaimedDelivery, ClaimedHandshake } from './claimed-delivery.js';
import { discardErased } from './erase-content.js';
import { type ListenerTarget, TARGET_COLUMNS, type TargetRow, toTarget } from './listener-target.js';
import type { AttemptTrigger } from '../../attempt-trigger.js';
import type { BodyOf } from './rendered-body.js';
import { renderWaiting, type Waiting } from './render-waiting.js';
import { divideSlots, type Room, RoomLeft } from './room.js';

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
  trigger: AttemptTrigger | null;
  triggeredBy: string | null;
  type: string;
  owner: string | null;
  orderKey: Uint8Array | null;
  body: string | null;
  format: string | null;
  version: unknown;
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

/** The result of {@link claimDeliveries}. */
export interface ClaimedBatch {
  readonly deliveries: ClaimedDelivery[];
  /** Deliveries that wait on, because this process does not offer their version. */
  readonly waiting: readonly Waiting[];
  readonly handshakes: ClaimedHandshake[];
  /** Whether no more listeners are ready. */
  readonly isExhaustive: boolean;
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
 * process has slots for; `bodyOf`: renders a body that another process could not render; `only`: the claim takes these listeners and
 * searches for no others
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
    bodyOf: BodyOf;
    only?: readonly string[];
  },
): Script<ClaimedBatch> {
  const { now, leaseMs, room, only } = options;
  const limit = only ? Infinity : Math.min(room.total, options.listeners ?? LISTENERS_PER_CLAIM);
  const { full: except, fullOwners: exceptOwners } = room;
  const ready = only
    ? yield* claimTheseListeners(
        database,
        only.filter((id) => !except.includes(id)),
        { now, exceptOwners },
      )
    : yield* claimReadyListeners(database, { now, limit, except, exceptOwners });
  if (!ready.length) return { deliveries: [], waiting: [], handshakes: [], isExhaustive: true };
  const { shares, idle, handshakes } = yield* sharesOf(database, ready, options);
  yield* writeListenerStates(database, idle);
  const due = yield* findDue(database, shares, now);
  const leaseToken = newLease();
  const leased = due.length ? yield* lease(database, due, leaseToken, now + leaseMs) : [];
  yield* discardErased(
    database,
    leased.filter(({ erasedAt }) => erasedAt !== null).map(({ seq }) => seq),
    now,
  );
  const shareOf = new Map(shares.map((share) => [share.target.id, share]));
  const { rendered: rows, waiting } = yield* renderWaiting(
    database,
    leased.filter(({ erasedAt }) => erasedAt === null),
    (id) => (shareOf.get(id) as Share).target,
    options,
  );
  yield* requeueListeners(database, shares, rows, options);
  return {
    deliveries: rows.map((row) => {
      const share = shareOf.get(row.listenerId) as Share;
      return { ...claimed(row, share, leaseToken), startWithinMs: share.rate?.startWithinMs ?? null };
    }),
    waiting,
    handshakes,
    isExhaustive: ready.length < limit,
  };
}

/** Decides what each ready listener may get. */
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

/** A due delivery. */
interface DueRow {
  readonly seq: unknown;
  /** The time of its event. Only read if the tables are partitioned: otherwise the index alone answers. */
  readonly eventAt?: unknown;
}

function* findDue(database: Database, shares: readonly Share[], now: number): Script<DueRow[]> {
  const asked = shares.filter((share) => share.allowed > 0);
  if (!asked.length) return [];
  const { deliveries: d } = database.tables;
  if (database.isPartitioned) return yield* findDueInPartitions(database, asked, now);
  const branches = asked.map(
    ({ target, allowed }, n) =>
      sql`select * from (select ${d.select('d', 'seq')} from ${d.sql} d${d.through('listenerId', 'state', 'nextAt', 'seq')} where d.${d.$.listenerId} = ${target.id} and d.${d.$.state} = 'due' and d.${d.$.nextAt} <= ${now}${isFirstOfItsRow(database)} order by d.${d.$.nextAt}, d.${d.$.seq} limit ${allowed}) ${raw(`b${n}`)}`,
  );
  return yield* query<DueRow>(join(branches, ' union all '));
}

/**
 * A due delivery may belong to an event of any day. So this statement searches the index of each partition. It has one branch for all
 * listeners: PostgreSQL would plan each partition again for each further branch.
 */
function* findDueInPartitions(database: Database, asked: readonly Share[], now: number): Script<DueRow[]> {
  const { deliveries: d } = database.tables;
  const shares = jsonRows(
    database.dialect,
    { listener: 'text', allowed: 'bigint' },
    asked.map(({ target, allowed }) => ({ listener: target.id, allowed })),
  );
  return yield* query<DueRow>(
    sql`select b.* from ${shares} cross join lateral (select ${d.select('d', 'seq', 'eventAt')} from ${d.sql} d where d.${d.$.listenerId} = r.listener and d.${d.$.state} = 'due' and d.${d.$.nextAt} <= ${now}${isFirstOfItsRow(database)} order by d.${d.$.nextAt}, d.${d.$.seq} limit r.allowed) b`,
  );
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

function* lease(database: Database, due: readonly DueRow[], token: string, until: number): Script<ClaimRow[]> {
  const { deliveries: d, events: e } = database.tables;
  const seqs = due.map(({ seq }) => seq);
  const times = due.map(({ eventAt }) => eventAt);
  // With the plain column and outdated statistics, PostgreSQL would read its index of due deliveries instead of the primary key.
  yield* execute(
    sql`update ${d.sql}${d.byKey} set ${d.$.state} = ${'leased'}, ${d.$.leaseToken} = ${token}, ${d.$.leaseUntil} = ${until} where ${d.$.seq} ${inList(seqs)} and coalesce(${d.$.state}, '') = ${'due'}${atTimes(database, d.$.eventAt, times)}`,
  );
  const columns = d.select(
    'd',
    ...([
      'seq',
      'id',
      'listenerId',
      'attempts',
      'retries',
      'trigger',
      'triggeredBy',
      'type',
      'owner',
      'orderKey',
      'body',
      'format',
      'version',
      'eventSeq',
      'createdAt',
    ] as const),
  );
  return yield* query<ClaimRow>(
    sql`select ${columns}, e.${e.$.id} ${e.as('eventId')}, e.${e.$.createdAt} ${e.as('eventCreatedAt')}, ${e.select('e', 'payload', 'thinPayload', 'context', 'audience', 'erasedAt')}
    from ${d.sql} d${d.byKey} join ${e.sql} e on e.${e.$.seq} = d.${d.$.eventSeq}${atSameTime(database, sql`e.${e.$.createdAt}`, sql`d.${d.$.eventAt}`)}${atTimes(database, sql`e.${e.$.createdAt}`, times)}
    where d.${d.$.seq} ${inList(seqs)} and d.${d.$.leaseToken} = ${token}${atTimes(database, sql`d.${d.$.eventAt}`, times)} order by d.${d.$.nextAt}, d.${d.$.seq}`,
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

function claimed(row: ClaimRow, { target, isProbe }: Share, leaseToken: string): ClaimedDelivery {
  // The schedule makes the attempts after the attempt that was asked for.
  const asked = Number(row.retries) === 0 ? row.trigger : null;
  return {
    seq: String(row.seq),
    id: row.id,
    leaseToken,
    lease: null,
    routedAt: Number(row.createdAt),
    attempts: Number(row.attempts),
    retries: Number(row.retries),
    trigger: asked ?? (isProbe ? 'probe' : null),
    triggeredBy: asked === null ? null : row.triggeredBy,
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
    version: row.version === null ? null : Number(row.version),
    isOrdered: row.orderKey !== null,
    listener: target,
  };
}
