import sql, { type Sql } from 'sql-template-tag';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { atTimesOf } from '../database/event-times.js';
import type { PagePosition } from '../database/page.js';
import { execute, query, type Script } from '../database/script.js';
import { expectDeliveries } from '../listeners/listener-state.js';
import { rearmDelivery, stateOf, triggeredBy } from './delivery-rows.js';
import {
  isRenderFailure,
  type BodyChoice,
  type BodyOf,
  type RenderedBody,
  type RenderedEvent,
} from './rendered-body.js';
import { selectDeliveries, type DeliverySelection, type SelectedDelivery } from './select-deliveries.js';

export interface RecoverOptions {
  readonly selection: DeliverySelection;
  /** The end of the previous batch. For the first batch, the start of the period. */
  readonly after: PagePosition;
  readonly now: number;
  readonly bodyOf: BodyOf;
  /** The person or program that asked for the work. */
  readonly actor: string | null;
  readonly limit?: number | undefined;
}

/** The result of one batch of bulk work. */
export interface BulkBatch {
  /** The number of rows that were changed or made. */
  readonly count: number;
  /** Where the next batch begins; `null` after the last batch. */
  readonly next: PagePosition | null;
}

/**
 * A batch of finished deliveries becomes due again, and their retry schedule starts from the beginning. These deliveries no longer belong to
 * an ordered sequence. Deliveries of removed listeners, deliveries of erased events and deliveries that their format cannot render are
 * skipped. A plain read finds the deliveries, and a second statement locks the deliveries by key. Rows that another transaction has locked
 * are skipped.
 */
export function* recoverDeliveries(database: Database, options: RecoverOptions): Script<BulkBatch> {
  const { deliveries: d } = database.tables;
  const { selection, now } = options;
  const triggered = { trigger: 'recover', by: options.actor } as const;
  const { rows: found, next } = yield* selectDeliveries(database, selection, options.after, options.limit);
  if (!found.length) return { count: 0, next };
  const choices = yield* choicesOf(
    database,
    found.map(({ listenerId }) => listenerId),
  );
  const erased = yield* erasedOf(
    database,
    found.map(({ eventSeq }) => eventSeq),
  );
  const wanted = found.filter((row) => choices.has(row.listenerId) && !erased.has(String(row.eventSeq)));
  if (!wanted.length) return { count: 0, next };
  const at = (column: Sql) =>
    atTimesOf(
      database,
      column,
      wanted.map(({ id }) => id),
    );
  const locked = yield* query<{ seq: unknown }>(
    sql`select ${d.select('d', 'seq')} from ${d.sql} d where d.${d.$.seq} ${inList(wanted.map(({ seq }) => seq))}${at(sql`d.${d.$.eventAt}`)} and ${stateOf(database)} ${inList(selection.states)} order by d.${d.$.seq}${database.skipLocked}`,
  );
  const lockedSeqs = new Set(locked.map(({ seq }) => String(seq)));
  const rows = wanted.filter(({ seq }) => lockedSeqs.has(String(seq)));
  const plain = rows.filter(({ lastErrorCode }) => !isRenderFailure(lastErrorCode));
  let count = plain.length;
  if (plain.length) {
    const seqs = plain.map(({ seq }) => seq).toSorted((a, b) => Number(a) - Number(b));
    yield* execute(
      sql`update ${d.sql} set ${d.$.state} = ${'due'}, ${d.$.retries} = 0, ${d.$.nextAt} = ${now}, ${d.$.orderKey} = ${null}, ${d.$.finishedAt} = ${null}, ${triggeredBy(database, triggered)} where ${d.$.seq} ${inList(seqs)}${at(d.$.eventAt)}`,
    );
    yield* expectDeliveries(database, new Map(plain.map(({ listenerId }) => [listenerId, now])));
  }
  for (const row of rows) {
    const choice = choices.get(row.listenerId);
    if (!isRenderFailure(row.lastErrorCode) || choice === undefined) continue;
    const rendered = yield* render(database, row, choice, options.bodyOf);
    if (rendered && (yield* rearmDelivery(database, row, now, triggered, rendered))) count++;
  }
  return { count, next };
}

/** The formats and versions of these listeners. Removed listeners are left out. */
function* choicesOf(database: Database, listenerIds: readonly string[]): Script<Map<string, BodyChoice>> {
  const { listeners: l } = database.tables;
  const rows = yield* query<BodyChoice & { id: string }>(
    sql`select ${l.select('l', 'id', 'format', 'versions')} from ${l.sql} l where l.${l.$.id} ${inList([...new Set(listenerIds)])} and l.${l.$.deletedAt} is null`,
  );
  return new Map(rows.map((row) => [row.id, row]));
}

/** The events of this list whose content was erased. */
function* erasedOf(database: Database, eventSeqs: readonly unknown[]): Script<Set<string>> {
  const { events: e } = database.tables;
  const rows = yield* query<{ seq: unknown }>(
    sql`select ${e.select('e', 'seq')} from ${e.sql} e${e.byKey} where e.${e.$.seq} ${inList(eventSeqs)} and e.${e.$.erasedAt} is not null`,
  );
  return new Set(rows.map(({ seq }) => String(seq)));
}

/** Renders the body again. @returns `undefined` if the format or the version still throws an error */
function* render(
  database: Database,
  { eventSeq }: SelectedDelivery,
  choice: BodyChoice,
  bodyOf: BodyOf,
): Script<RenderedBody | undefined> {
  const { events: e } = database.tables;
  const [event] = yield* query<RenderedEvent>(
    sql`select ${e.select('e', 'id', 'type', 'payload', 'context')} from ${e.sql} e where e.${e.$.seq} = ${eventSeq} and e.${e.$.erasedAt} is null`,
  );
  try {
    return event && bodyOf(choice, event);
  } catch {
    return undefined;
  }
}
