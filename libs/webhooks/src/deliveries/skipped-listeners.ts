import { failedConditions } from '../routing/failed-conditions.js';
import { matchesAnyPattern, reaches, type AddressedEvent } from '../routing/route-key.js';
import type { Database } from '../store/database/database.js';
import { page, type PagePosition, type WebhookPage } from '../store/database/page.js';
import type { Script } from '../store/database/script.js';
import { compareSequences } from '../store/database/sequence.js';
import { listListeners } from '../store/listeners/listed-listeners.js';
import { readListener, type ListenerRow, type OwnerScope } from '../store/listeners/listener-rows.js';
import { readContents, readListedEvent, type ShownEventRow } from '../store/outbox/listed-events.js';
import { readEvent, typesOf, type ReadEvent } from '../store/outbox/outbox-events.js';
import { readCandidates, type ReadCandidate } from '../store/queue/candidates.js';
import { readListenersWithDelivery } from '../store/queue/existing-deliveries.js';
import type { SkippedReason } from './skipped-reason.js';

/** A listener that has no delivery of an event. */
export interface SkippedListener {
  readonly listenerId: string;
  readonly reason: SkippedReason;
  /** With `FILTER_NOT_MATCHED`: the conditions that do not hold, such as `status.changedTo`. Else empty. */
  readonly failedOn: readonly string[];
}

export interface SkippedListenerFilter {
  /** Only this listener, also if the event is not for its owner. */
  listenerId?: string;
}

interface Asked {
  readonly eventId: string;
  readonly scope: OwnerScope;
  readonly listenerId: string | undefined;
}

/** @returns `undefined` if there is no such event in this scope */
export function* readSkipped(
  database: Database,
  { eventId, scope, listenerId }: Asked,
  after: PagePosition | null,
  limit: number,
): Script<WebhookPage<SkippedListener> | undefined> {
  const event = yield* readListedEvent(database, eventId, scope);
  if (!event) return undefined;
  const rows =
    listenerId === undefined
      ? yield* listReachable(database, event, scope, { after, limit: limit + 1 })
      : [yield* readListener(database, listenerId, scope)].filter((row) => row !== undefined);
  const positionOf = (row: ListenerRow) => ({ at: Number(row.createdAt), seq: String(row.seq) });
  const { items, next } = page(rows, limit, positionOf, (row) => row);
  const ids = items.map(({ id }) => id);
  const received = yield* readListenersWithDelivery(database, event, ids);
  const left = ids.filter((id) => !received.has(id));
  const listeners = yield* readCandidates(database, left);
  const content = yield* readContent(database, event);
  const inOrder = left.map((id) => listeners.get(id)).filter((listener) => listener !== undefined);
  return { items: inOrder.map((listener) => skipped(listener, event, content)), next };
}

/** Reads each kind of listeners in the order of its index, and merges them: no index contains an owner's and the application's together. */
function* listReachable(
  database: Database,
  event: AddressedEvent,
  scope: OwnerScope,
  part: { readonly after: PagePosition | null; readonly limit: number },
): Script<ListenerRow[]> {
  const rows: ListenerRow[] = [];
  for (const one of scope === undefined ? scopesOf(event) : [scope]) {
    rows.push(...(yield* listListeners(database, { scope: one, ...part })));
  }
  // Compare owners once more with ===: two owners could have one key.
  const visible = rows.filter((row) => scope === undefined || row.owner === scope);
  return visible.toSorted(newestFirst).slice(0, part.limit);
}

/** Whose listeners an event may reach: those of an owner, those of the application (`null`), or all (`undefined`). */
function scopesOf({ audience, owner }: AddressedEvent): readonly (OwnerScope | null)[] {
  if (audience === 'every' || audience === 'test') return [undefined];
  const ofOwner = audience === 'application' || owner === null ? [] : [owner];
  return audience === 'owner_only' ? ofOwner : [...ofOwner, null];
}

function newestFirst(a: ListenerRow, b: ListenerRow): number {
  return Number(b.createdAt) - Number(a.createdAt) || compareSequences(b.seq, a.seq);
}

/** @returns `null` if the event cannot be read */
function* readContent(database: Database, { seq }: ShownEventRow): Script<ReadEvent | null> {
  const [row] = yield* readContents(database, [seq]);
  try {
    return row ? readEvent(row) : null;
  } catch {
    return null;
  }
}

function skipped(listener: ReadCandidate, event: ShownEventRow, content: ReadEvent | null): SkippedListener {
  const { id: listenerId } = listener;
  const because = (reason: SkippedReason, failedOn: readonly string[] = []) => ({ listenerId, reason, failedOn });
  if (event.audience === 'test') return because('TEST_EVENT');
  if (!reaches(event, listener.owner)) return because('OTHER_OWNER');
  if (listener.unreadable !== undefined) return because('LISTENER_DAMAGED');
  if (!matchesAnyPattern(listener.patterns, typesOf(event))) return because('TYPE_NOT_SUBSCRIBED');
  if (event.erasedAt !== null) return because('CONTENT_ERASED');
  if (content === null || event.state === 'damaged') return because('EVENT_DAMAGED');
  const failedOn = failedConditions(listener.filter, content);
  if (failedOn.length) return because('FILTER_NOT_MATCHED', failedOn);
  if (compareSequences(event.seq, listener.afterSeq) <= 0) return because('CREATED_LATER');
  return because(event.state === 'delivered' ? 'MATCHES_NOW' : 'NOT_ROUTED');
}
