import sql, { bulk, join, type Sql } from 'sql-template-tag';
import { ownerKeyOf, tupleHash } from '../../hash.js';
import type { RoutePath } from '../../routing/route-key.js';
import { resealed as resealedDocument } from '../../secrets/sealed-document.js';
import type { Sealing } from '../../secrets/sealing.js';
import { readSecrets, resealedSecrets, verifiableSecrets, writeSecrets } from '../../secrets/stored-secrets.js';
import { canBeStored } from '../database/can-be-stored.js';
import { chunks, inList } from '../database/chunks.js';
import { isAfter, type PagePosition } from '../database/page.js';
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

/** A listener as its row holds it; JSON columns as text. */
export interface ListenerRow {
  seq: unknown;
  id: string;
  owner: string | null;
  url: string;
  patterns: string;
  filter: string;
  /** The `where` as it was given, for showing it again. */
  definition: string;
  name: string | null;
  externalId: string | null;
  /** JSON. */
  metadata: string | null;
  description: string | null;
  headers: string;
  secrets: string;
  schemes: string;
  /** `null`: its server asks for nothing. */
  auth: string | null;
  /** `null`: no client certificate, and the public authorities. */
  tls: string | null;
  format: string;
  ordering: string;
  sequence: unknown;
  /** `{ limit, perSeconds }` as JSON. */
  rateLimit: string | null;
  handshake: string;
  /** Why its last handshake failed. */
  handshakeError: string | null;
  /** Requests a minute that its receiver granted. */
  allowedRate: unknown;
  state: string;
  disabledReason: string | null;
  createdAt: unknown;
  updatedAt: unknown;
  /** Of its row in the queue of listeners, see `ListenerState`. */
  failuresInARow: unknown;
  failingSince: unknown;
  pausedUntil: unknown;
  readyAt: unknown;
}

/** What a new listener, or one that changes, brings along. */
export type ListenerValues = Omit<ListenerRow, 'seq' | 'createdAt' | 'updatedAt' | (typeof HEALTH)[number]> & {
  /** As {@link externalKeyOf} makes it. */
  externalKey: Buffer | null;
};

const COLUMNS = [
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
  'ordering',
  'sequence',
  'rateLimit',
  'handshake',
  'handshakeError',
  'allowedRate',
  'state',
  'disabledReason',
  'createdAt',
  'updatedAt',
] as const;

const HEALTH = ['failuresInARow', 'failingSince', 'pausedUntil', 'readyAt'] as const;

/** By subqueries, not by a join: only the listener's row is to be locked, and MariaDB has no words for that. */
function selectRow({ tables }: Database): Sql {
  const { listeners: l, listenerState: s } = tables;
  const health = HEALTH.map(
    (property) =>
      sql`(select s.${s.$[property]} from ${s.sql} s where s.${s.$.listenerId} = l.${l.$.id}) ${l.as(property)}`,
  );
  return join([l.select('l', ...COLUMNS), ...health]);
}

/** Which listeners a caller may see: `undefined` all, a string those of one owner. */
export type OwnerScope = string | undefined;

/** The sequence of the newest event; 0 when there is none. */
export function* lastSequence(database: Database): Script<unknown> {
  const { events } = database.tables;
  const [last] = yield* query<{ seq: unknown }>(
    sql`select max(e.${events.$.seq}) ${events.as('seq')} from ${events.sql} e`,
  );
  return last?.seq ?? 0;
}

/** @param seen the newest event that others have committed, where this transaction may not see it */
export function* insertListener(
  database: Database,
  row: ListenerValues,
  routes: { keys: readonly Buffer[]; paths: readonly RoutePath[] },
  now: number,
  seen: unknown = 0,
): Script<void> {
  const { sql: path, $ } = database.tables.listeners;
  // What has happened by now is not for it, although it may not be routed yet. Told by sequence, since no two clocks agree;
  // an event that is being written at this moment may go either way.
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
    row.ordering,
    row.sequence,
    row.rateLimit,
    row.handshake,
    row.handshakeError,
    row.allowedRate,
    row.state,
    row.disabledReason,
    afterSeq,
    now,
    now,
  ];
  yield sql`insert into ${path} (${$.id}, ${$.owner}, ${$.ownerKey}, ${$.url}, ${$.patterns}, ${$.filter}, ${$.definition}, ${$.name}, ${$.externalId}, ${$.externalKey}, ${$.metadata}, ${$.description}, ${$.headers}, ${$.secrets}, ${$.schemes}, ${$.auth}, ${$.tls}, ${$.format}, ${$.ordering}, ${$.sequence}, ${$.rateLimit}, ${$.handshake}, ${$.handshakeError}, ${$.allowedRate}, ${$.state}, ${$.disabledReason}, ${$.afterSeq}, ${$.createdAt}, ${$.updatedAt}) values ${bulk([values])}`;
  yield* insertListenerState(database, row.id, row.state === 'pending' ? now : null);
  yield* insertRoutes(database, row.id, routes);
}

/** How many listeners an owner has. Whoever makes another one at the same time waits until it can be counted, after the first. */
export function* countListeners(database: Database, owner: string): Script<number> {
  const { listeners: l } = database.tables;
  const ofOwner = sql`from ${l.sql} l${l.through('ownerKey', 'createdAt', 'seq')} where l.${l.$.ownerKey} = ${ownerKeyOf(owner)} and l.${l.$.deletedAt} is null`;
  yield sql`select ${l.select('l', 'seq')} ${ofOwner} order by l.${l.$.createdAt}, l.${l.$.seq} limit 1${database.forUpdate}`;
  const [row] = yield* query<{ count: unknown }>(sql`select count(*) ${l.as('count')} ${ofOwner}`);
  return Number(row?.count);
}

/** Locks the row, so that two changes of one listener do not mix. */
export function* lockListener(database: Database, id: string, scope: OwnerScope): Script<ListenerRow | undefined> {
  return yield* selectListener(database, id, scope, database.forUpdate);
}

/** What makes an external id unique for its owner: exactly as it is written, whatever the collation. */
export function externalKeyOf(owner: string | null, externalId: string): Buffer {
  return owner === null ? tupleHash('external', externalId) : tupleHash('external', externalId, owner);
}

/** The listener that has an external id now. */
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
  // Once more with ===: what a collation takes for equal is not.
  if (!row || row.id !== id || (scope !== undefined && row.owner !== scope)) return undefined;
  return row;
}

/** Newest first. */
export function* listListeners(
  database: Database,
  options: { scope: OwnerScope; state?: string; after: PagePosition | null; limit: number },
): Script<ListenerRow[]> {
  const { listeners: l } = database.tables;
  const where = [sql`l.${l.$.deletedAt} is null`];
  let path = l.through('createdAt', 'seq');
  if (options.state === 'disabled') path = l.through('state', 'createdAt', 'seq');
  if (options.scope !== undefined) path = l.through('ownerKey', 'createdAt', 'seq');
  if (options.scope !== undefined) where.push(sql`l.${l.$.ownerKey} = ${ownerKeyOf(options.scope)}`);
  // In words, as the index of the disabled ones has it.
  if (options.state === 'disabled') where.push(sql`l.${l.$.state} = 'disabled'`);
  else if (options.state !== undefined) where.push(sql`l.${l.$.state} = ${options.state}`);
  if (options.after) where.push(isAfter(database.dialect, sql`l.${l.$.createdAt}`, sql`l.${l.$.seq}`, options.after));
  const rows = yield* query<Omit<ListenerRow, (typeof HEALTH)[number]>>(
    sql`select ${l.select('l', ...COLUMNS)} from ${l.sql} l${path} where ${join(where, ' and ')} order by l.${l.$.createdAt} desc, l.${l.$.seq} desc limit ${options.limit}`,
  );
  return yield* withHealth(database, rows);
}

/** By a statement of its own: with outdated statistics PostgreSQL joins a page with the whole table of states. */
function* withHealth(
  database: Database,
  rows: readonly Omit<ListenerRow, (typeof HEALTH)[number]>[],
): Script<ListenerRow[]> {
  const { listenerState: s } = database.tables;
  const states = new Map<string, ListenerRow>();
  for (const some of chunks(rows.map(({ id }) => id))) {
    const found = yield* query<ListenerRow & { listenerId: string }>(
      sql`select ${s.select('s', 'listenerId', ...HEALTH)} from ${s.sql} s where s.${s.$.listenerId} ${inList(some)}`,
    );
    for (const { listenerId, ...state } of found) states.set(listenerId, state as ListenerRow);
  }
  return rows.map((row) => ({ ...row, ...(states.get(row.id) as ListenerRow) }));
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
  sets.push(sql`${$.updatedAt} = ${now}`);
  yield* execute(sql`update ${path} set ${join(sets)} where ${$.id} = ${id}`);
  if (!routes) return;
  yield* deleteRoutes(database, id);
  yield* insertRoutes(database, id, routes);
}

/** Rows that one transaction seals anew: each is decrypted and encrypted again, and locked meanwhile. */
const RESEAL_BATCH = 100;

/** What {@link resealListeners} did. */
export interface ResealedPage {
  /** Rows that were written. */
  readonly resealed: number;
  /** Listeners of which something could not be read. */
  readonly unreadable: readonly string[];
  /** Where the next page begins; `null` after the last one. */
  readonly last: string | null;
}

/**
 * Seals what a page of listeners keeps secret with the first key, in the order of `seq`, and forgets what is of no use any more. What
 * cannot be read is left as it is.
 *
 * @param options `after`: `last` of the page before, '0' for the first one
 */
export function* resealListeners(
  database: Database,
  { sealing, now, after }: { sealing: Sealing; now: number; after: string },
): Script<ResealedPage> {
  const { listeners: l } = database.tables;
  const rows = yield* query<Pick<ListenerRow, 'seq' | 'id' | 'url' | 'secrets' | 'auth' | 'tls'>>(
    sql`select ${l.select('l', 'seq', 'id', 'url', 'secrets', 'auth', 'tls')} from ${l.sql} l where l.${l.$.seq} > ${after} order by l.${l.$.seq} limit ${RESEAL_BATCH}${database.forUpdate}`,
  );
  const unreadable: string[] = [];
  let resealed = 0;
  for (const { seq, id, url, secrets, auth, tls } of rows) {
    const anew = resealedSecrets(secrets, { sealing, now, listenerId: id });
    const anewAuth = resealedDocument(auth, { sealing, use: 'auth', listenerId: id, url });
    const anewTls = resealedDocument(tls, { sealing, use: 'tls', listenerId: id, url });
    if (!anew.isReadable || !anewAuth.isReadable || !anewTls.isReadable) unreadable.push(id);
    if (anew.text === secrets && anewAuth.text === auth && anewTls.text === tls) continue;
    resealed++;
    yield* execute(
      sql`update ${l.sql} set ${l.$.secrets} = ${anew.text}, ${l.$.auth} = ${anewAuth.text}, ${l.$.tls} = ${anewTls.text} where ${l.$.seq} = ${seq}`,
    );
  }
  return { resealed, unreadable, last: rows.length < RESEAL_BATCH ? null : String(rows.at(-1)?.seq) };
}

/** Rows that one transaction looks through for secrets to erase. */
const ERASE_BATCH = 100;

/**
 * Erases from a page of listeners, in the order of `seq`, the rotated secrets that neither sign nor answer the verify view any
 * more. They are told by their times: no key is needed.
 *
 * @param options `after`: the sequence of the last one before the page
 * @returns the sequence of its last one; `null` when that was the end
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
    // Only these are locked, and read once more: a rotation may have come between.
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
    return text; // a row that somebody changed by hand
  }
}

/** The row stays for the log of its deliveries; its routes go. What waits for it is discarded by {@link discardDue}, here or in the next claim. */
export function* removeListener(database: Database, id: string, now: number): Script<void> {
  const { listeners: l } = database.tables;
  yield* execute(
    sql`update ${l.sql} set ${l.$.deletedAt} = ${now}, ${l.$.externalKey} = null, ${l.$.updatedAt} = ${now} where ${l.$.id} = ${id}`,
  );
  yield* deleteRoutes(database, id);
  yield* expectDeliveries(database, new Map([[id, now]]));
}

/** Stops a listener: what is due to it is held, by its state alone. @returns whether it was not disabled until now */
export function* disableListener(database: Database, id: string, reason: string, now: number): Script<boolean> {
  const { sql: path, $ } = database.tables.listeners;
  const changed = yield* execute(
    sql`update ${path} set ${$.state} = ${'disabled'}, ${$.disabledReason} = ${reason}, ${$.updatedAt} = ${now} where ${$.id} = ${id} and ${$.state} <> ${'disabled'} and ${$.deletedAt} is null`,
  );
  return changed > 0;
}

/**
 * After a listener was made active or pending in this transaction: what was held may go, and its failures are forgotten.
 *
 * @param handshakeAt when its handshake is tried, before what was held may go, unless the pause after the last one is not over;
 * `null`: it has none to pass
 * @param countFrom failures of attempts that began before are those of another URL, and say nothing
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

/** How many deliveries one transaction discards. */
export const DISCARD_BATCH = 1_000;

/**
 * Discards some of what is due to a listener, the longest due first.
 *
 * @param upTo only deliveries of events up to this sequence
 * @returns how many; fewer than `limit` when that was all
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
