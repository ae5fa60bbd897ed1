import sql, { bulk, join, type Sql } from 'sql-template-tag';
import { ownerKeyOf, tupleHash } from '../../hash.js';
import type { RoutePath } from '../../routing/route-key.js';
import { canBeStored } from '../database/can-be-stored.js';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { skipConflict } from '../database/dialect-sql.js';
import {
  expectDeliveries,
  insertListenerState,
  lockListenerStates,
  nextDueOf,
  writeListenerStates,
} from './listener-state.js';
import { execute, query, type Script } from '../database/script.js';

/** A listener in the form of its row. JSON columns are text. */
export interface ListenerRow {
  seq: unknown;
  id: string;
  owner: string | null;
  url: string;
  patterns: string;
  filter: string;
  /** The `where` in its original form, for display. */
  definition: string;
  name: string | null;
  externalId: string | null;
  /** Metadata as JSON. */
  metadata: string | null;
  description: string | null;
  headers: string;
  secrets: string;
  schemes: string;
  /** The credentials for the server of the receiver. `null` means that the server requires no credentials. */
  auth: string | null;
  /** `null` means that there is no client certificate, and that the public certificate authorities apply. */
  tls: string | null;
  format: string;
  /** The pinned versions: `"latest"` or an object of types, as JSON. */
  versions: string | null;
  ordering: string;
  sequence: unknown;
  /** `{ limit, perSeconds }` as JSON. */
  rateLimit: string | null;
  handshake: string;
  /** The error of the last handshake. */
  handshakeError: string | null;
  /** The number of requests per minute that the receiver allows. */
  allowedRate: unknown;
  state: string;
  disabledReason: string | null;
  /** 1 for a new listener; one more with each change of its row. */
  revision: unknown;
  createdAt: unknown;
  updatedAt: unknown;
  /** The next values come from the listener's row in the listener queue. See `ListenerState`. */
  failuresInARow: unknown;
  failingSince: unknown;
  pausedUntil: unknown;
  readyAt: unknown;
}

/** The values of a new or changed listener. */
export type ListenerValues = Omit<
  ListenerRow,
  'seq' | 'revision' | 'createdAt' | 'updatedAt' | (typeof HEALTH)[number]
> & {
  /** The hash from {@link externalKeyOf}. */
  externalKey: Buffer | null;
};

/** The columns of {@link ListenerRow}. */
export const COLUMNS = [
  'seq',
  'id',
  'owner',
  'url',
  'patterns',
  'filter',
  'definition',
  'name',
  'externalId',
  'metadata',
  'description',
  'headers',
  'secrets',
  'schemes',
  'auth',
  'tls',
  'format',
  'versions',
  'ordering',
  'sequence',
  'rateLimit',
  'handshake',
  'handshakeError',
  'allowedRate',
  'state',
  'disabledReason',
  'revision',
  'createdAt',
  'updatedAt',
] as const;

/** The properties of {@link ListenerRow} that are in the listener queue. */
export const HEALTH = ['failuresInARow', 'failingSince', 'pausedUntil', 'readyAt'] as const;

/**
 * Selects a row with subqueries and not with a join. Only the listener's row must be locked, and MariaDB has no syntax to lock one table of
 * a join.
 */
function selectRow({ tables }: Database): Sql {
  const { listeners: l, listenerState: s } = tables;
  const health = HEALTH.map(
    (property) =>
      sql`(select s.${s.$[property]} from ${s.sql} s where s.${s.$.listenerId} = l.${l.$.id}) ${l.as(property)}`,
  );
  return join([l.select('l', ...COLUMNS), ...health]);
}

/** The listeners that a caller may see: `undefined` for all, or the listeners of one owner. */
export type OwnerScope = string | undefined;

/** The sequence of the newest event; 0 if there is no event. */
export function* lastSequence(database: Database): Script<unknown> {
  const { events } = database.tables;
  const [last] = yield* query<{ seq: unknown }>(
    sql`select max(e.${events.$.seq}) ${events.as('seq')} from ${events.sql} e`,
  );
  return last?.seq ?? 0;
}

/** @param seen the sequence of the newest event that other transactions have committed. This transaction may not see that event */
export function* insertListener(
  database: Database,
  row: ListenerValues,
  routes: { keys: readonly Buffer[]; paths: readonly RoutePath[] },
  now: number,
  seen: unknown = 0,
): Script<void> {
  const { sql: path, $ } = database.tables.listeners;
  // Earlier events are not for this listener, even if these events are not routed yet. The sequence decides which events are earlier,
  // because clocks differ. An event that is being written at this moment may or may not count as earlier.
  const last = yield* lastSequence(database);
  const afterSeq = BigInt(String(last)) > BigInt(String(seen)) ? last : seen;
  const values = [
    row.id,
    row.owner,
    row.owner === null ? null : ownerKeyOf(row.owner),
    row.url,
    row.patterns,
    row.filter,
    row.definition,
    row.name,
    row.externalId,
    row.externalKey,
    row.metadata,
    row.description,
    row.headers,
    row.secrets,
    row.schemes,
    row.auth,
    row.tls,
    row.format,
    row.versions,
    row.ordering,
    row.sequence,
    row.rateLimit,
    row.handshake,
    row.handshakeError,
    row.allowedRate,
    row.state,
    row.disabledReason,
    1,
    afterSeq,
    now,
    now,
  ];
  yield sql`insert into ${path} (${$.id}, ${$.owner}, ${$.ownerKey}, ${$.url}, ${$.patterns}, ${$.filter}, ${$.definition}, ${$.name}, ${$.externalId}, ${$.externalKey}, ${$.metadata}, ${$.description}, ${$.headers}, ${$.secrets}, ${$.schemes}, ${$.auth}, ${$.tls}, ${$.format}, ${$.versions}, ${$.ordering}, ${$.sequence}, ${$.rateLimit}, ${$.handshake}, ${$.handshakeError}, ${$.allowedRate}, ${$.state}, ${$.disabledReason}, ${$.revision}, ${$.afterSeq}, ${$.createdAt}, ${$.updatedAt}) values ${bulk([values])}`;
  yield* insertListenerState(database, row.id, row.state === 'pending' ? now : null);
  yield* insertRoutes(database, row.id, routes);
}

/** Counts the listeners of an owner. A concurrent call for this owner waits until this transaction ends. */
export function* countListeners(database: Database, owner: string): Script<number> {
  yield* lockCount(database, owner);
  const { listeners: l } = database.tables;
  // At InnoDB's REPEATABLE READ, a read without a lock would not see newer listeners. REPEATABLE READ is the default of a caller's
  // transaction.
  const current = database.dialect === 'mysql' ? sql` lock in share mode` : sql``;
  const [row] = yield* query<{ count: unknown }>(
    sql`select count(*) ${l.as('count')} from ${l.sql} l${l.through('ownerKey', 'createdAt', 'seq')} where l.${l.$.ownerKey} = ${ownerKeyOf(owner)} and l.${l.$.deletedAt} is null${current}`,
  );
  return Number(row?.count);
}

/**
 * Takes a lock that ends with the transaction. Before its first listener, an owner has no row that could be locked.
 *
 * On MySQL and MariaDB only locks of rows end with the transaction, so all owners share one row. SQLite allows one writer, so no lock is
 * needed.
 */
function* lockCount(database: Database, owner: string): Script<void> {
  const { schemaVersion: v } = database.tables;
  if (database.dialect === 'postgres') {
    const lock = tupleHash('count of listeners', v.sql.text, owner).readBigInt64BE();
    yield sql`select pg_advisory_xact_lock(${lock.toString()})`;
  } else if (database.dialect === 'mysql') {
    yield sql`select v.${v.$.version} from ${v.sql} v order by v.${v.$.version}${database.forUpdate}`;
  }
}

/** Locks the row, so that two concurrent changes of one listener run one after the other. */
export function* lockListener(database: Database, id: string, scope: OwnerScope): Script<ListenerRow | undefined> {
  return yield* selectListener(database, id, scope, database.forUpdate);
}

/** The hash that makes an external id unique for its owner. The hash depends on the exact text and not on a collation. */
export function externalKeyOf(owner: string | null, externalId: string): Buffer {
  return owner === null ? tupleHash('external', externalId) : tupleHash('external', externalId, owner);
}

/** The listener that currently has an external id. */
export function* readByExternalKey(database: Database, key: Buffer): Script<ListenerRow | undefined> {
  const { listeners: l } = database.tables;
  const [row] = yield* query<ListenerRow>(
    sql`select ${selectRow(database)} from ${l.sql} l where l.${l.$.externalKey} = ${key} and l.${l.$.deletedAt} is null`,
  );
  return row;
}

export function* readListener(database: Database, id: string, scope: OwnerScope): Script<ListenerRow | undefined> {
  return yield* selectListener(database, id, scope, sql``);
}

function* selectListener(
  database: Database,
  id: string,
  scope: OwnerScope,
  lock: Sql,
): Script<ListenerRow | undefined> {
  if (!canBeStored(id)) return undefined;
  const { listeners: l } = database.tables;
  const [row] = yield* query<ListenerRow>(
    sql`select ${selectRow(database)} from ${l.sql} l where l.${l.$.id} = ${id} and l.${l.$.deletedAt} is null${lock}`,
  );
  // Compare the values again with ===, because a collation treats some different texts as equal.
  if (!row || row.id !== id || (scope !== undefined && row.owner !== scope)) return undefined;
  return row;
}

export function* updateListener(
  database: Database,
  id: string,
  values: Partial<ListenerValues>,
  routes: { keys: readonly Buffer[]; paths: readonly RoutePath[] } | null,
  now: number,
): Script<void> {
  const { sql: path, $ } = database.tables.listeners;
  const sets = Object.entries(values).map(
    ([property, value]) => sql`${($ as Record<string, Sql>)[property]} = ${value as unknown}`,
  );
  sets.push(sql`${$.revision} = ${$.revision} + 1`, sql`${$.updatedAt} = ${now}`);
  yield* execute(sql`update ${path} set ${join(sets)} where ${$.id} = ${id}`);
  if (!routes) return;
  yield* deleteRoutes(database, id);
  yield* insertRoutes(database, id, routes);
}

/**
 * Removes a listener. The row stays for the delivery log, and the routes are deleted. {@link discardDue} discards the due deliveries of the
 * listener, here or in the next claim.
 */
export function* removeListener(database: Database, id: string, now: number): Script<void> {
  const { listeners: l } = database.tables;
  yield* execute(
    sql`update ${l.sql} set ${l.$.deletedAt} = ${now}, ${l.$.externalKey} = null, ${l.$.updatedAt} = ${now} where ${l.$.id} = ${id}`,
  );
  yield* deleteRoutes(database, id);
  yield* expectDeliveries(database, new Map([[id, now]]));
}

/** Disables a listener. The due deliveries of a disabled listener are held. @returns whether the listener was enabled before */
export function* disableListener(database: Database, id: string, reason: string, now: number): Script<boolean> {
  const { sql: path, $ } = database.tables.listeners;
  const changed = yield* execute(
    sql`update ${path} set ${$.state} = ${'disabled'}, ${$.disabledReason} = ${reason}, ${$.revision} = ${$.revision} + 1, ${$.updatedAt} = ${now} where ${$.id} = ${id} and ${$.state} <> ${'disabled'} and ${$.deletedAt} is null`,
  );
  return changed > 0;
}

/**
 * Must be called after this transaction has made a listener active or pending. The held deliveries of the listener may be sent again, and
 * its failures are reset.
 *
 * @param handshakeAt the time of the handshake attempt. Held deliveries are sent only after the handshake. If the backoff of the previous
 * handshake ends later, the attempt is made at the end of that backoff. `null`: no handshake
 * @param countFrom failures of attempts that began before this time are ignored, because these attempts belong to the previous URL
 */
export function* resumeListener(
  database: Database,
  id: string,
  handshakeAt: number | null = null,
  countFrom: number | null = null,
): Script<void> {
  const states = yield* lockListenerStates(database, [id]);
  const next = yield* nextDueOf(database, [id]);
  const healthy = { failuresInARow: 0, failingSince: null, failuresCountFrom: countFrom, pausedUntil: null };
  yield* writeListenerStates(
    database,
    states.map((state) => ({
      ...state,
      ...healthy,
      handshakeAt: handshakeAt === null ? null : Math.max(handshakeAt, state.handshakeFrom ?? 0),
      readyAt: next.get(id) ?? null,
    })),
  );
}

/** The maximum number of deliveries that one transaction discards. */
export const DISCARD_BATCH = 1_000;

/**
 * Discards due deliveries of a listener. The delivery that has been due for the longest time comes first.
 *
 * @param upTo only deliveries of events up to this sequence
 * @returns the number of discarded deliveries. If the number is below `limit`, no due delivery is left
 */
export function* discardDue(
  database: Database,
  listenerId: string,
  options: { now: number; limit: number; upTo?: string },
): Script<number> {
  const { deliveries: d } = database.tables;
  const upTo = options.upTo === undefined ? sql`` : sql` and d.${d.$.eventSeq} <= ${options.upTo}`;
  const found = yield* query<{ seq: unknown }>(
    sql`select ${d.select('d', 'seq')} from ${d.sql} d${d.through('listenerId', 'state', 'nextAt', 'seq')} where d.${d.$.listenerId} = ${listenerId} and d.${d.$.state} = 'due'${upTo} order by d.${d.$.nextAt}, d.${d.$.seq} limit ${options.limit}`,
  );
  if (!found.length) return 0;
  const seqs = found.map(({ seq }) => seq).toSorted((a, b) => Number(a) - Number(b));
  yield* execute(
    sql`update ${d.sql}${d.byKey} set ${d.$.state} = ${'discarded'}, ${d.$.finishedAt} = ${options.now} where ${d.$.seq} ${inList(seqs)} and ${d.$.state} = ${'due'}`,
  );
  return found.length;
}

function* deleteRoutes(database: Database, listenerId: string): Script<void> {
  const { sql: path, $ } = database.tables.routes;
  yield* execute(sql`delete from ${path} where ${$.listenerId} = ${listenerId}`);
}

function* insertRoutes(
  database: Database,
  listenerId: string,
  { keys, paths }: { keys: readonly Buffer[]; paths: readonly RoutePath[] },
): Script<void> {
  const { routes: r, routePaths: p } = database.tables;
  for (const some of chunks(keys, 1_000)) {
    yield sql`insert into ${r.sql} (${r.$.key}, ${r.$.listenerId}) values ${bulk(some.map((key) => [key, listenerId]))}${skipConflict(database.dialect, [r.$.key, r.$.listenerId])}`;
  }
  const sorted = paths.toSorted((a, b) => (a.pattern + a.path < b.pattern + b.path ? -1 : 1));
  for (const some of chunks(sorted, 1_000)) {
    yield sql`insert into ${p.sql} (${p.$.pattern}, ${p.$.path}) values ${bulk(some.map(({ pattern, path }) => [pattern, path]))}${skipConflict(database.dialect, [p.$.pattern, p.$.path])}`;
  }
}
