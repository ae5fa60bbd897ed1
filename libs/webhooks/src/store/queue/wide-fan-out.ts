import sql, { join, raw } from 'sql-template-tag';
import { droppedPaths, keysOfEvent } from '../../routing/route-key.js';
import type { Database } from '../database/database.js';
import { expectDue, insertDeliveries, newDelivery, type BodyOf } from './new-deliveries.js';
import {
  pathsInUse,
  readCandidate,
  selectCandidates,
  readCandidates,
  wants,
  type Candidate,
  type ReadCandidate,
} from './candidates.js';
import { readEvent, selectEvent, setState, type ClaimedEvent, type ReadEvent } from '../outbox/outbox-events.js';
import type { FanOutResult } from './fan-out.js';
import { execute, query, type Script } from '../database/script.js';

/** The default size of a page. A page is one transaction, and must not block others for long. */
export const LISTENERS_PER_PAGE = 1_000;

export interface WideFanOutResult extends Pick<FanOutResult, 'damaged' | 'unrendered' | 'hasDue'> {
  /** Whether there is more to do, for this event or another. */
  readonly hasMore: boolean;
}

/**
 * Fans out one page of a wide event, which `fanOut` has moved to the state `routing`. It inserts the deliveries in the order of the listeners'
 * ids and stores the last id in the event. So a process that dies halfway leaves no gap and no duplicate. The deliveries are not leased
 * here: the claim divides the slots among all deliveries.
 */
export function* fanOutWide(
  database: Database,
  { now, bodyOf, limit = LISTENERS_PER_PAGE }: { now: number; bodyOf: BodyOf; limit?: number },
): Script<WideFanOutResult> {
  const claimed = yield* claimWideEvent(database);
  if (!claimed) return { damaged: [], unrendered: [], hasDue: false, hasMore: false };
  const event = resultOf(() => readEvent(claimed));
  if ('error' in event) return yield* markDamaged(database, claimed, event.error);
  const page = yield* nextPage(database, event.value, claimed.routedThrough ?? '', limit);
  const unrendered: { listenerId: string; eventId: string; error: unknown }[] = [];
  const judged = resultOf(() =>
    page.listeners
      .filter((listener) => wants(listener, event.value))
      .map((listener) => newDelivery(event.value, listener, bodyOf, unrendered)),
  );
  if ('error' in judged) return yield* markDamaged(database, claimed, judged.error);
  yield* insertDeliveries(database, judged.value, { now: now, leaseMs: 0, leaseToken: '' });
  if (page.through === null) yield* setState(database, [claimed], 'routed');
  else {
    const { sql: path, $ } = database.tables.events;
    yield* execute(sql`update ${path} set ${$.routedThrough} = ${page.through} where ${$.seq} = ${claimed.seq}`);
  }
  const due = yield* expectDue(database, judged.value, now);
  return { damaged: [], unrendered, hasDue: due > 0, hasMore: true };
}

/** Keeps errors of the event apart from errors of the database, which make the script run again. */
function resultOf<T>(work: () => T): { value: T } | { error: unknown } {
  try {
    return { value: work() };
  } catch (error) {
    return { error };
  }
}

function* markDamaged(database: Database, { seq, id, type }: WideEvent, error: unknown): Script<WideFanOutResult> {
  yield* setState(database, [{ seq }], 'damaged');
  return { damaged: [{ id, type, error }], unrendered: [], hasDue: false, hasMore: true };
}

interface WideEvent extends ClaimedEvent {
  /** Id of the last listener that was processed. */
  readonly routedThrough: string | null;
}

function* claimWideEvent(database: Database): Script<WideEvent | undefined> {
  const { events: e } = database.tables;
  const isRouting = sql`e.${e.$.state} = 'routing'`;
  const columns = sql`${selectEvent(database)}, ${e.select('e', 'routedThrough')}`;
  if (database.dialect !== 'mysql') {
    const [event] = yield* query<WideEvent>(
      sql`select ${columns} from ${e.sql} e where ${isRouting} order by e.${e.$.seq} limit 1${database.skipLocked}`,
    );
    return event;
  }
  // As in `fanOut`: a plain read, then locks by primary key.
  const found = yield* query<{ seq: unknown }>(
    sql`select ${e.select('e', 'seq')} from ${e.sql} e where ${isRouting} order by e.${e.$.seq} limit 8`,
  );
  for (const { seq } of found) {
    const [event] = yield* query<WideEvent>(
      sql`select ${columns} from ${e.sql} e where e.${e.$.seq} = ${seq} and ${isRouting}${database.skipLocked}`,
    );
    if (event) return event;
  }
  return undefined;
}

interface WebhookPage {
  readonly listeners: readonly ReadCandidate[];
  /** Id of the last listener of the page; `null` on the last page. */
  readonly through: string | null;
}

/** The next listeners by id: through the routes, or all listeners if a routed value was too large to store. */
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
  // One index range per key: with `in`, the database would sort all routes for each page.
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
