import {
  ARCHIVE_VERSION,
  type ArchivedAttempt,
  type ArchivedDelivery,
  type ArchivedEvent,
  type ArchiveLine,
} from '../archive/archive-lines.js';
import type { Database } from '../store/database/database.js';
import { numberOrNull } from '../store/database/number-or-null.js';
import {
  readArchivedDeliveries,
  readArchivedEvents,
  startOf,
  type ArchivedAttemptRow,
  type ArchivedDeliveryRow,
  type ArchivedEventRow,
  type ArchiveSelection,
  type DeliveryPosition,
} from '../store/queue/archive-rows.js';
import { FROM_DELIVERY_ROW } from '../store/queue/delivery-rows.js';
import { readDetails } from '../store/queue/stored-details.js';
import type { PagePosition } from '../store/database/page.js';
import type { HeldChore } from './held-chore.js';

/** What a file has. */
export interface FileContents {
  events: number;
  deliveries: number;
  attempts: number;
  /** Whether the file has every row of its day that existed when it was read. */
  isWhole: boolean;
}

/**
 * The lines of a file, as text. Each page is read when the reader of the lines has taken those before, so that a slow store slows the
 * reading down.
 *
 * @param contents is filled while the lines are read
 */
export async function* linesOfFile(
  chore: HeldChore,
  database: Database,
  { name, selection, contents }: { name: string; selection: ArchiveSelection; contents: FileContents },
): AsyncGenerator<string> {
  yield lineOf({ kind: 'archive', version: ARCHIVE_VERSION, name });
  for (let after: PagePosition | null = startOf(selection); after;) {
    const from: PagePosition = after;
    const { events, next, isWhole } = await chore.transaction(() => readArchivedEvents(database, selection, from));
    contents.events += events.length;
    contents.isWhole &&= isWhole;
    for (const event of events) yield lineOf(eventLine(event));
    after = next;
  }
  for (let after: DeliveryPosition | null = { ...startOf(selection), listenerId: '' }; after;) {
    const from: DeliveryPosition = after;
    const { deliveries, attempts, next, isWhole } = await chore.transaction(() =>
      readArchivedDeliveries(database, selection, from),
    );
    contents.isWhole &&= isWhole;
    const attemptsOf = byDelivery(attempts);
    for (const delivery of deliveries) {
      const own = [...firstAttempt(delivery), ...(attemptsOf.get(delivery.id) ?? [])];
      contents.deliveries++;
      contents.attempts += own.length;
      yield lineOf(deliveryLine(delivery));
      for (const attempt of own) yield lineOf(attemptLine(attempt));
    }
    after = next;
  }
  const { events, deliveries, attempts } = contents;
  yield lineOf({ kind: 'end', events, deliveries, attempts });
}

function byDelivery(attempts: readonly ArchivedAttemptRow[]): ReadonlyMap<string, ArchivedAttemptRow[]> {
  const lists = new Map<string, ArchivedAttemptRow[]>();
  for (const attempt of attempts) {
    const list = lists.get(attempt.deliveryId);
    if (list) list.push(attempt);
    else lists.set(attempt.deliveryId, [attempt]);
  }
  return lists;
}

/** A stored list of names. In the row of a damaged event it may be any text, which must not stop the archive. */
function listOf(text: string | null): string[] | null {
  try {
    const list: unknown = text === null ? null : JSON.parse(text);
    return Array.isArray(list) ? list.map(String) : null;
  } catch {
    return null;
  }
}

function lineOf(line: ArchiveLine): string {
  return `${JSON.stringify(line)}\n`;
}

function eventLine(row: ArchivedEventRow): ArchivedEvent {
  const { orderKey } = row;
  return {
    kind: 'event',
    id: row.id,
    type: row.type,
    superTypes: listOf(row.superTypes) ?? [],
    audience: row.audience,
    owner: row.owner,
    orderKey: orderKey === null ? null : Buffer.from(orderKey).toString('hex'),
    ordered: Number(row.ordered) === 1,
    timestamp: time(row.createdAt),
    payload: row.payload,
    thinPayload: row.thinPayload,
    droppedFields: listOf(row.droppedFields),
    context: row.context,
    erasedAt: timeOrNull(row.erasedAt),
    damaged: row.reason,
  };
}

function deliveryLine(row: ArchivedDeliveryRow): ArchivedDelivery {
  return {
    kind: 'delivery',
    id: row.id,
    eventId: row.eventId,
    listenerId: row.listenerId,
    type: row.type,
    owner: row.owner,
    state: row.state,
    attemptCount: Number(row.attempts),
    body: row.body,
    format: row.format,
    version: numberOrNull(row.version),
    lastStatus: numberOrNull(row.lastStatus),
    lastErrorCode: row.lastErrorCode,
    createdAt: time(row.createdAt),
    finishedAt: timeOrNull(row.finishedAt),
  };
}

/** An attempt that was recorded together with its delivery is in the row of the delivery. */
function firstAttempt({ id, outcome, ...row }: ArchivedDeliveryRow): ArchivedAttemptRow[] {
  return outcome === null ? [] : [{ ...row, ...FROM_DELIVERY_ROW, outcome, deliveryId: id, number: 1, superseded: 0 }];
}

function attemptLine(row: ArchivedAttemptRow): ArchivedAttempt {
  const details = readDetails(row.details);
  return {
    kind: 'attempt',
    deliveryId: row.deliveryId,
    number: Number(row.number),
    outcome: row.outcome,
    status: numberOrNull(row.status),
    errorCode: row.errorCode,
    errorDetail: row.errorDetail,
    durationMs: Number(row.durationMs),
    response: row.response,
    superseded: Number(row.superseded) === 1,
    startedAt: time(row.startedAt),
    trigger: (row.trigger ?? 'schedule') as ArchivedAttempt['trigger'],
    triggeredBy: row.triggeredBy,
    url: details?.url ?? null,
    requestHeaders: details?.request ?? null,
    responseHeaders: details?.response ?? null,
    omittedHeaders: details?.omitted ?? 0,
    phases: details?.phases ?? null,
  };
}

function time(ms: unknown): string {
  return new Date(Number(ms)).toISOString();
}

function timeOrNull(ms: unknown): string | null {
  return ms === null ? null : time(ms);
}
