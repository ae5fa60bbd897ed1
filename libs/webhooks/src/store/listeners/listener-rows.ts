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
  /** The `where` in its original form, for display. */
  definition: string;
  name: string | null;
  externalId: string | null;
  /** JSON. */
  metadata: string | null;
  description: string | null;
  headers: string;
  secrets: string;
  schemes: string;
  /** `null`: its server requires no credentials. */
  auth: string | null;
  /** `null`: no client certificate, and the public certificate authorities. */
  tls: string | null;
  format: string;
  ordering: string;
  sequence: unknown;
  /** `{ limit, perSeconds }` as JSON. */
  rateLimit: string | null;
  handshake: string;
  /** The error of the last handshake. */
  handshakeError: string | null;
  /** Requests per minute that its receiver granted. */
  allowedRate: unknown;
  state: string;
  disabledReason: string | null;
  createdAt: unknown;
  updatedAt: unknown;
  /** From its row in the listener queue; see `ListenerState`. */
  failuresInARow: unknown;
  failingSince: unknown;
  pausedUntil: unknown;
  readyAt: unknown;
}

/** The values of a new or changed listener. */
export type ListenerValues = Omit<ListenerRow, 'seq' | 'createdAt' | 'updatedAt' | (typeof HEALTH)[number]> & {
  /** From {@link externalKeyOf}. */
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

/** Uses subqueries and no join: only the listener's row must be locked, and MariaDB has no syntax for that in a join. */
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

/** The sequence of the newest event; 0 if there is none. */
export function* lastSequence(database: Database): Script<unknown> {
  const { events } = database.tables;
  const [last] = yield* query<{ seq: unknown }>(
    sql`select max(e.${events.$.seq}) ${events.as('seq')} from ${events.sql} e`,
  );
  return last?.seq ?? 0;
}

/** @param seen sequence of the newest event that others have committed and that this transaction may not see */
export function* insertListener(
  database: Database,
  row: ListenerValues,
  routes: { keys: readonly Buffer[]; paths: readonly RoutePath[] },
  now: number,
  seen: unknown = 0,
): Script<void> {
  const { sql: path, $ } = database.tables.listeners;
  // Earlier events are not for this listener, even if they are not routed yet. The sequence decides, because clocks differ. An event that
  // is being written at this moment may be included or not.
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

/** Counts the listeners of an owner. A concurrent call waits for this transaction if the owner already has a listener. */
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

/** The hash that makes an external id unique for its owner: it depends on the exact text, whatever the collation is. */
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
  // Compare once more with ===: a collation treats some different texts as equal.
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
  // As literal text, because the partial index of disabled listeners has this condition.
  if (options.state === 'disabled') where.push(sql`l.${l.$.state} = 'disabled'`);
  else if (options.state !== undefined) where.push(sql`l.${l.$.state} = ${options.state}`);
  if (options.after) where.push(isAfter(database.dialect, sql`l.${l.$.createdAt}`, sql`l.${l.$.seq}`, options.after));
  const rows = yield* query<Omit<ListenerRow, (typeof HEALTH)[number]>>(
    sql`select ${l.select('l', ...COLUMNS)} from ${l.sql} l${path} where ${join(where, ' and ')} order by l.${l.$.createdAt} desc, l.${l.$.seq} desc limit ${options.limit}`,
  );
  return yield* withHealth(database, rows);
}

/** Uses a separate statement: with outdated statistics, PostgreSQL would join a page with the whole table of states. */
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

/** Rows that one transaction reseals. Each row is decrypted, encrypted again, and locked meanwhile. */
const RESEAL_BATCH = 100;

/** The result of {@link resealListeners}. */
export interface ResealedPage {
  /** The number of rows that were written. */
  readonly resealed: number;
  /** Listeners with a secret that could not be decrypted. */
  readonly unreadable: readonly string[];
  /** Where the next page begins; `null` after the last one. */
  readonly last: string | null;
}

/**
 * Encrypts the secrets of a page of listeners with the first key, in the order of `seq`, and removes secrets that are no longer used.
 * Secrets that cannot be decrypted stay unchanged.
 *
 * @param options `after`: `last` of the previous page, '0' for the first page
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
    const newSecrets = resealedSecrets(secrets, { sealing, now, listenerId: id });
    const newAuth = resealedDocument(auth, { sealing, use: 'auth', listenerId: id, url });
    const newTls = resealedDocument(tls, { sealing, use: 'tls', listenerId: id, url });
    if (!newSecrets.isReadable || !newAuth.isReadable || !newTls.isReadable) unreadable.push(id);
    if (newSecrets.text === secrets && newAuth.text === auth && newTls.text === tls) continue;
    resealed++;
    yield* execute(
      sql`update ${l.sql} set ${l.$.secrets} = ${newSecrets.text}, ${l.$.auth} = ${newAuth.text}, ${l.$.tls} = ${newTls.text} where ${l.$.seq} = ${seq}`,
    );
  }
  return { resealed, unreadable, last: rows.length < RESEAL_BATCH ? null : String(rows.at(-1)?.seq) };
}

/** Rows that one transaction checks for secrets to erase. */
const ERASE_BATCH = 100;

/**
 * Erases rotated secrets from a page of listeners, in the order of `seq`, if they neither sign nor are accepted by the verify view any
 * more. Their times decide it, so no key is needed.
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
    // Lock only these rows, and read them again: a rotation may have changed them meanwhile.
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
 * Removes a listener: the row stays for its delivery log, and the routes are deleted. {@link discardDue} discards its due deliveries, here
 * or in the next claim.
 */
export function* removeListener(database: Database, id: string, now: number): Script<void> {
  const { listeners: l } = database.tables;
  yield* execute(
    sql`update ${l.sql} set ${l.$.deletedAt} = ${now}, ${l.$.externalKey} = null, ${l.$.updatedAt} = ${now} where ${l.$.id} = ${id}`,
  );
  yield* deleteRoutes(database, id);
  yield* expectDeliveries(database, new Map([[id, now]]));
}

/** Disables a listener: its due deliveries are held because of its state. @returns whether it was enabled before */
export function* disableListener(database: Database, id: string, reason: string, now: number): Script<boolean> {
  const { sql: path, $ } = database.tables.listeners;
  const changed = yield* execute(
    sql`update ${path} set ${$.state} = ${'disabled'}, ${$.disabledReason} = ${reason}, ${$.updatedAt} = ${now} where ${$.id} = ${id} and ${$.state} <> ${'disabled'} and ${$.deletedAt} is null`,
  );
  return changed > 0;
}

/**
 * Call it after this transaction made a listener active or pending. Held deliveries may be sent again, and the failures are reset.
 *
 * @param handshakeAt when the handshake is attempted. Held deliveries are sent only afterwards. If the backoff of the previous handshake is
 * longer, the attempt is later. `null`: no handshake
 * @param countFrom ignore failures of attempts that began before this time: they belong to the previous URL
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
 * Discards due deliveries of a listener, the longest due first.
 *
 * @param upTo only deliveries of events up to this sequence
 * @returns the number of deliveries; fewer than `limit` at the end
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
