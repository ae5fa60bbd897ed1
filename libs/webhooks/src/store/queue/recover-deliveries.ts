import sql from 'sql-template-tag';
import { ownerKeyOf } from '../../hash.js';
import { canBeStored } from '../database/can-be-stored.js';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { rearmDelivery, stateOf } from './delivery-rows.js';
import { FORMAT_FAILED, type BodyOf, type RenderedEvent } from './new-deliveries.js';
import { expectDeliveries } from '../listeners/listener-state.js';
import type { OwnerScope } from '../listeners/listener-rows.js';
import type { PagePosition } from '../database/page.js';
import { execute, query, type Script } from '../database/script.js';

/** Deliveries that one transaction makes due again. */
const RECOVERED_PER_BATCH = 500;

export interface RecoverOptions {
  readonly scope: OwnerScope;
  readonly listenerId: string | undefined;
  readonly states: readonly string[];
  /** The end of the previous batch; the first batch begins at `since`. */
  readonly after: PagePosition;
  readonly until: number;
  readonly now: number;
  readonly bodyOf: BodyOf;
  /** Only deliveries with fewer attempts. Default: any number. */
  readonly attemptsBelow?: number | undefined;
}

interface FailedRow {
  seq: unknown;
  id: string;
  listenerId: string;
  owner: string | null;
  lastErrorCode: string | null;
  createdAt: unknown;
  eventSeq: unknown;
}

/**
 * Makes a batch of finished deliveries due again, restarts their schedule, and removes them from any order. It skips deliveries of removed
 * listeners, and deliveries that their format cannot render. It finds them by a plain read and then locks them by key, and skips rows that
 * another transaction has locked.
 */
export function* recoverDeliveries(
  database: Database,
  options: RecoverOptions,
): Script<{ recovered: number; next: PagePosition | null }> {
  const { deliveries: d } = database.tables;
  const { scope, now } = options;
  const found = yield* failedDeliveries(database, options);
  const last = found.at(-1);
  const next =
    last && found.length === RECOVERED_PER_BATCH ? { at: Number(last.createdAt), seq: String(last.seq) } : null;
  if (!found.length) return { recovered: 0, next };
  const formats = yield* formatsOf(
    database,
    found.map(({ listenerId }) => listenerId),
  );
  // Compare once more with ===: a collation treats some different texts as equal.
  const permitted = found.filter((row) => formats.has(row.listenerId) && (scope === undefined || row.owner === scope));
  if (!permitted.length) return { recovered: 0, next };
  const locked = yield* query<{ seq: unknown }>(
    sql`select ${d.select('d', 'seq')} from ${d.sql} d where d.${d.$.seq} ${inList(permitted.map(({ seq }) => seq))} and ${stateOf(database)} ${inList(options.states)} order by d.${d.$.seq}${database.skipLocked}`,
  );
  const lockedSeqs = new Set(locked.map(({ seq }) => String(seq)));
  const rows = permitted.filter(({ seq }) => lockedSeqs.has(String(seq)));
  const plain = rows.filter(({ lastErrorCode }) => lastErrorCode !== FORMAT_FAILED);
  let recovered = plain.length;
  if (plain.length) {
    const seqs = plain.map(({ seq }) => seq).toSorted((a, b) => Number(a) - Number(b));
    yield* execute(
      sql`update ${d.sql} set ${d.$.state} = ${'due'}, ${d.$.retries} = 0, ${d.$.nextAt} = ${now}, ${d.$.orderKey} = ${null}, ${d.$.finishedAt} = ${null} where ${d.$.seq} ${inList(seqs)}`,
    );
    yield* expectDeliveries(database, new Map(plain.map(({ listenerId }) => [listenerId, now])));
  }
  for (const row of rows) {
    const format = formats.get(row.listenerId);
    if (row.lastErrorCode !== FORMAT_FAILED || format === undefined) continue;
    const body = yield* render(database, row, format, options.bodyOf);
    if (body !== undefined && (yield* rearmDelivery(database, row, now, { body, format }))) recovered++;
  }
  return { recovered, next };
}

function* failedDeliveries(
  database: Database,
  { scope, listenerId, states, after, until, attemptsBelow }: RecoverOptions,
): Script<FailedRow[]> {
  if (!canBeStored(listenerId ?? '')) return [];
  const { deliveries: d } = database.tables;
  const ofOwner = scope === undefined ? sql`` : sql` and d.${d.$.ownerKey} = ${ownerKeyOf(scope)}`;
  const ofListener = listenerId === undefined ? sql`` : sql` and d.${d.$.listenerId} = ${listenerId}`;
  const ofAttempts = attemptsBelow === undefined ? sql`` : sql` and d.${d.$.attempts} < ${attemptsBelow}`;
  return yield* query<FailedRow>(
    sql`select ${d.select('d', 'seq', 'id', 'listenerId', 'owner', 'lastErrorCode', 'createdAt', 'eventSeq')} from ${d.sql} d
    where d.${d.$.createdAt} >= ${after.at} and d.${d.$.createdAt} < ${until} and (d.${d.$.createdAt} > ${after.at} or d.${d.$.seq} > ${after.seq})
      and ${stateOf(database)} ${inList(states)}${ofOwner}${ofListener}${ofAttempts}
    order by d.${d.$.createdAt}, d.${d.$.seq} limit ${RECOVERED_PER_BATCH}`,
  );
}

/** The formats of these listeners, without removed listeners. */
function* formatsOf(database: Database, listenerIds: readonly string[]): Script<Map<string, string>> {
  const { listeners: l } = database.tables;
  const rows = yield* query<{ id: string; format: string }>(
    sql`select ${l.select('l', 'id', 'format')} from ${l.sql} l where l.${l.$.id} ${inList([...new Set(listenerIds)])} and l.${l.$.deletedAt} is null`,
  );
  return new Map(rows.map(({ id, format }) => [id, format]));
}

/** @returns `undefined` if the format still throws */
function* render(
  database: Database,
  { eventSeq }: FailedRow,
  format: string,
  bodyOf: BodyOf,
): Script<string | null | undefined> {
  const { events: e } = database.tables;
  const [event] = yield* query<RenderedEvent>(
    sql`select ${e.select('e', 'id', 'type', 'payload', 'context')} from ${e.sql} e where e.${e.$.seq} = ${eventSeq}`,
  );
  try {
    return event && bodyOf(format, event);
  } catch {
    return undefined;
  }
}
