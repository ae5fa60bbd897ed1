import sql, { join, raw } from 'sql-template-tag';
import { droppedPaths, keysOfEvent } from '../../routing/route-key.js';
import type { Database } from '../database/database.js';
import { expectDue, insertDeliveries, newDelivery, type Unrendered } from './new-deliveries.js';
import type { BodyOf } from './rendered-body.js';
import {
  pathsInUse,
  readCandidate,
  selectCandidates,
  readCandidates,
  wants,
  type Candidate,
  type ReadCandidate,
} from './candidates.js';
import { isWide } from '../outbox/event-state.js';
import { readEvent, type ReadEvent } from '../outbox/outbox-events.js';
import { deletingRows, lockOutbox, movingCursor, markingDamaged, type OutboxEvent } from '../outbox/outbox-rows.js';
import { messageOf } from '../../foreign-text.js';
import type { FanOutResult } from './fan-out.js';
import { query, type Script } from '../database/script.js';

/** The default size of a page. A page is one transaction, and must not block other transactions for long. */
export const LISTENERS_PER_PAGE = 1_000;

export interface WideFanOutResult extends Pick<FanOutResult, 'made' | 'damaged' | 'unrendered' | 'hasDue'> {
  /** Whether there is more work to do, for this event or another wide event. */
  readonly hasMore: boolean;
}

/**
 * Fans out one page of a wide event, which `fanOut` has marked as wide. It inserts the deliveries in the order of the listeners' ids and
 * stores the last id in the outbox. So a process that dies halfway leaves no gap and no duplicate. The deliveries are not leased
 * here: the claim divides the slots among all deliveries.
 */
export function* fanOutWide(
  database: Database,
  { now, bodyOf, limit = LISTENERS_PER_PAGE }: { now: number; bodyOf: BodyOf; limit?: number },
): Script<WideFanOutResult> {
  const { events, orphans } = yield* lockOutbox(database, { where: isWide(database), limit: 1, isAwaited: true });
  for (const statement of deletingRows(database, orphans)) yield statement;
  const [claimed] = events;
  if (!claimed) return { made: [], damaged: [], unrendered: [], hasDue: false, hasMore: orphans.length > 0 };
  const event = resultOf(() => readEvent(claimed));
  if ('error' in event) return yield* markDamaged(database, claimed, event.error, now);
  const page = yield* nextPage(database, event.value, claimed.routedThrough ?? '', limit);
  const unrendered: Unrendered[] = [];
  const judged = resultOf(() =>
    page.listeners
      .filter((listener) => wants(listener, event.value))
      .map((listener) => newDelivery(event.value, listener, bodyOf, unrendered)),
  );
  if ('error' in judged) return yield* markDamaged(database, claimed, judged.error, now);
  yield* insertDeliveries(database, judged.value, { now: now, leaseMs: 0, leaseToken: '' });
  const seqs = [claimed.seq];
  const moving = page.through === null ? deletingRows(database, seqs) : movingCursor(database, seqs, page.through);
  for (const statement of moving) yield statement;
  const due = yield* expectDue(database, judged.value, now);
  return { made: judged.value, damaged: [], unrendered, hasDue: due > 0, hasMore: true };
}

/** Separates errors of the event from errors of the database. After an error of the database, the script runs again. */
function resultOf<T>(work: () => T): { value: T } | { error: unknown } {
  try {
    return { value: work() };
  } catch (error) {
    return { error };
  }
}

function* markDamaged(database: Database, event: OutboxEvent, error: unknown, now: number): Script<WideFanOutResult> {
  const { id, type } = event;
  for (const statement of markingDamaged(database, [{ event, reason: messageOf(error) }], now)) yield statement;
  return { made: [], damaged: [{ id, type, error }], unrendered: [], hasDue: false, hasMore: true };
}

interface WebhookPage {
  readonly listeners: readonly ReadCandidate[];
  /** The id of the last listener of the page; `null` on the last page. */
  readonly through: string | null;
}

/** The next listeners by id. The routes give these listeners. If a routed value was too large to store, every listener is a candidate. */
function* nextPage(database: Database, event: ReadEvent, after: string, limit: number): Script<WebhookPage> {
  const { listeners: l, routes: r } = database.tables;
  const paths = yield* pathsInUse(database, [event]);
  if (droppedPaths(event, paths).length) {
    const rows = yield* query<Candidate>(
      sql`${selectCandidates(database)} and l.${l.$.id} > ${after} order by l.${l.$.id} limit ${limit}`,
    );
    const last = rows.length < limit ? undefined : rows.at(-1);
    return { listeners: rows.map((row) => readCandidate(row)), through: last?.id ?? null };
  }
  const keys = keysOfEvent(event, paths);
  if (!keys.length) return { listeners: [], through: null };
  // Use one index range per key. With `in`, the database would sort all routes for each page.
  const branches = keys.map(
    (key, n) =>
      sql`select * from (select ${r.select('r', 'listenerId')} from ${r.sql} r where r.${r.$.key} = ${key} and r.${r.$.listenerId} > ${after} order by r.${r.$.listenerId} limit ${limit}) ${raw(`b${n}`)}`,
  );
  const found = yield* query<{ listenerId: string }>(join(branches, ' union all '));
  const ids = [...new Set(found.map(({ listenerId }) => listenerId))].toSorted().slice(0, limit);
  const listeners = yield* readCandidates(database, ids);
  return {
    listeners: [...listeners.values()],
    through: ids.length < limit ? null : (ids.at(-1) ?? null),
  };
}
