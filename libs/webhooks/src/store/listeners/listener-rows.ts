import sql, { bulk, join, type Sql } from 'sql-template-tag';
import { ownerKeyOf, tupleHash } from '../../hash.js';
import type { RoutePath } from '../../routing/route-key.js';
import { resealed as resealedDocument } from '../../secrets/sealed-document.js';
import type { Sealing } from '../../secrets/sealing.js';
import { readSecrets, resealedSecrets, verifiableSecrets, writeSecrets } from '../../secrets/stored-secrets.js';
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

/** The maximum number of rows that one transaction reseals. Each row is decrypted, encrypted again, and locked in the meantime. */
const RESEAL_BATCH = 100;

/** The result of {@link resealListeners}. */
export interface ResealedPage {
  /** The number of rows that were written. In a dry run, the number of rows that would be written. */
  readonly resealed: number;
  /** Listeners with a secret that could not be decrypted. */
  readonly unreadable: readonly string[];
  /** The position at which the next page begins; `null` after the last page. */
  readonly last: string | null;
}

/**
 * Encrypts the secrets of a page of listeners with the first key, in the order of `seq`. Removes secrets that are no longer used. Secrets
 * that cannot be decrypted stay unchanged.
 *
 * @param options `after`: `last` of the previous page, '0' for the first page; `isDryRun`: only count the rows
 */
export function* resealListeners(
  database: Database,
  { sealing, now, after, isDryRun }: { sealing: Sealing; now: number; after: string; isDryRun: boolean },
): Script<ResealedPage> {
  const { listeners: l } = database.tables;
  const rows = yield* query<Pick<ListenerRow, 'seq' | 'id' | 'url' | 'secrets' | 'auth' | 'tls'>>(
    sql`select ${l.select('l', 'seq', 'id', 'url', 'secrets', 'auth', 'tls')} from ${l.sql} l where l.${l.$.seq} > ${after} order by l.${l.$.seq} limit ${RESEAL_BATCH}${isDryRun ? sql`` : database.forUpdate}`,
  );
  const unreadable: string[] = [];
  let resealed = 0;
  for (const { seq, id, url, secrets, auth, tls } of rows) {
    const newSecrets = resealedSecrets(secrets, { sealing, now, listenerId: id });
    const newAuth = resealedDocument(auth, { sealing, use: 'auth', listenerId: id, url });
    const newTls = resealedDocument(tls, { sealing, use: 'tls', listenerId: id, url });
    if (!newSecrets.isReadable || !newAuth.isReadable || !newTls.isReadable) unreadable.push(id);
    if (newSecrets.text === secrets && newAuth.text === auth && newTls.text === tls) continue;
    resealed++;
    if (isDryRun) continue;
    yield* execute(
      sql`update ${l.sql} set ${l.$.secrets} = ${newSecrets.text}, ${l.$.auth} = ${newAuth.text}, ${l.$.tls} = ${newTls.text} where ${l.$.seq} = ${seq}`,
    );
  }
  return { resealed, unreadable, last: rows.length < RESEAL_BATCH ? null : String(rows.at(-1)?.seq) };
}

/** The maximum number of rows that one transaction checks for secrets to erase. */
const ERASE_BATCH = 100;

/**
 * Erases rotated secrets from a page of listeners, in the order of `seq`. A secret is erased if it no longer signs and if the verify view
 * no longer accepts the secret. The stored times decide this, so no key is needed.
 *
 * @param options `after`: the last sequence of the previous page
 * @returns the last sequence of this page; `null` at the end
 */
export function* eraseSecrets(
  database: Database,
  { now, after }: { now: number; after: number },
): Script<number | null> {
  const { listeners: l } = database.tables;
  const page = yield* query<{ seq: unknown; secrets: string }>(
    sql`select ${l.select('l', 'seq', 'secrets')} from ${l.sql} l where l.${l.$.seq} > ${after} order by l.${l.$.seq} limit ${ERASE_BATCH}`,
  );
  const outdated = page.filter(({ secrets }) => withoutErased(secrets, now) !== secrets).map(({ seq }) => seq);
  if (outdated.length) {
    // Lock only these rows and read them again, because a rotation may have changed the rows in the meantime.
    const rows = yield* query<{ seq: unknown; secrets: string }>(
      sql`select ${l.select('l', 'seq', 'secrets')} from ${l.sql} l where l.${l.$.seq} ${inList(outdated)} order by l.${l.$.seq}${database.forUpdate}`,
    );
    for (const { seq, secrets } of rows) {
      yield* execute(
        sql`update ${l.sql} set ${l.$.secrets} = ${withoutErased(secrets, now)} where ${l.$.seq} = ${seq}`,
      );
    }
  }
  return page.length < ERASE_BATCH ? null : Number(page.at(-1)?.seq);
}

function withoutErased(text: string, now: number): string {
  try {
    const secrets = readSecrets(text);
    const left = verifiableSecrets(secrets, now);
    return left.length === secrets.length ? text : writeSecrets(left);
  } catch {
    return text; // the row was edited by hand
  }
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
