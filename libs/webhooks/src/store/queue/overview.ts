import sql from 'sql-template-tag';
import { ownerKeyOf } from '../../hash.js';
import type { Database } from '../database/database.js';
import { numberOrNull } from '../database/number-or-null.js';
import { readLastErrors } from '../listeners/listener-health.js';
import { query, type Script } from '../database/script.js';
import { sealingKeyOf } from '../../secrets/sealing.js';
import { readSecrets } from '../../secrets/stored-secrets.js';

/** The pending work that {@link readOverview} finds. Times are in milliseconds since 1970. */
export interface Overview {
  /** The number of events that are not routed yet, and the time of the oldest of these events. */
  readonly events: { readonly pending: number; readonly oldestAt: number | null };
  readonly due: number;
  /** The time from which the first of the due deliveries could have been sent. */
  readonly oldestDueAt: number | null;
  readonly leased: number;
  /** The number of due deliveries whose listeners are not active. */
  readonly held: number;
  readonly listeners: { readonly active: number; readonly pending: number; readonly disabled: number };
}

/** Counts the pending work. Reads the indexes of unfinished rows, and one row for each listener. */
export function* readOverview(database: Database): Script<Overview> {
  const events = yield* pendingEvents(database);
  const { due, oldestDueAt, held } = yield* dueDeliveries(database);
  const { deliveries: d } = database.tables;
  const leased = yield* count(database, sql`${d.sql} t where t.${d.$.state} = 'leased'`);
  return { events, due, oldestDueAt, leased, held, listeners: yield* listenerStates(database) };
}

/** Counts damaged events, and damaged images of triggers. */
export function* countDamaged(database: Database): Script<{ readonly events: number; readonly images: number }> {
  const { damaged: x, images: i } = database.tables;
  return {
    events: yield* count(database, sql`${x.sql} t`),
    images: yield* count(database, sql`${i.sql} t where t.${i.$.reason} is not null`),
  };
}

function* pendingEvents(database: Database): Script<Overview['events']> {
  const { outbox: o } = database.tables;
  const [row] = yield* query<{ count: unknown; oldest: unknown }>(
    sql`select count(*) ${o.as('count')}, min(o.${o.$.eventAt}) ${o.as('oldest')} from ${o.sql} o`,
  );
  return { pending: Number(row?.count), oldestAt: numberOrNull(row?.oldest ?? null) };
}

function* dueDeliveries(database: Database): Script<Pick<Overview, 'due' | 'oldestDueAt' | 'held'>> {
  const { deliveries: d, listeners: l } = database.tables;
  const rows = yield* query<{ state: string | null; count: unknown; oldest: unknown }>(
    sql`select l.${l.$.state} ${d.as('state')}, count(*) ${d.as('count')}, min(d.${d.$.nextAt}) ${d.as('oldest')} from ${d.sql} d left join ${l.sql} l on l.${l.$.id} = d.${d.$.listenerId} where d.${d.$.state} = 'due' group by l.${l.$.state}`,
  );
  const active = rows.find(({ state }) => state === 'active');
  const all = rows.reduce((sum, row) => sum + Number(row.count), 0);
  const due = Number(active?.count ?? 0);
  return { due, oldestDueAt: numberOrNull(active?.oldest ?? null), held: all - due };
}

function* count(database: Database, from: ReturnType<typeof sql>): Script<number> {
  const [row] = yield* query<{ count: unknown }>(
    sql`select count(*) ${database.tables.events.as('count')} from ${from}`,
  );
  return Number(row?.count);
}

function* listenerStates(database: Database): Script<Overview['listeners']> {
  const { listeners: l } = database.tables;
  const rows = yield* query<{ state: string; count: unknown }>(
    sql`select l.${l.$.state} ${l.as('state')}, count(*) ${l.as('count')} from ${l.sql} l where l.${l.$.deletedAt} is null group by l.${l.$.state}`,
  );
  const of = (name: string) => Number(rows.find(({ state }) => state === name)?.count ?? 0);
  return { active: of('active'), pending: of('pending'), disabled: of('disabled') };
}

/** A listener whose last attempts failed. */
export interface FailingListener {
  readonly id: string;
  readonly url: string;
  readonly name: string | null;
  readonly owner: string | null;
  readonly state: string;
  readonly failuresInARow: number;
  readonly failingSince: number | null;
  readonly pausedUntil: number | null;
  /** The error code of the listener's last failed delivery. */
  readonly lastErrorCode: string | null;
}

type FailingRow = Record<keyof FailingListener, unknown> &
  Pick<FailingListener, 'id' | 'url' | 'name' | 'owner' | 'state'>;

/**
 * The listeners that fail. The listener that has failed for the longest time comes first.
 *
 * @param scope only listeners of this owner
 */
export function* readFailingListeners(database: Database, limit: number, scope?: string): Script<FailingListener[]> {
  const { listenerState: s, listeners: l } = database.tables;
  const columns = sql`${l.select('l', 'id', 'url', 'name', 'owner', 'state')}, ${s.select('s', 'failuresInARow', 'failingSince', 'pausedUntil')}`;
  const isFailing = sql`s.${s.$.failingSince} is not null and l.${l.$.deletedAt} is null`;
  const from =
    scope === undefined
      ? sql`${s.sql} s join ${l.sql} l on l.${l.$.id} = s.${s.$.listenerId} where ${isFailing}`
      : sql`${l.sql} l${l.through('ownerKey', 'createdAt', 'seq')} join ${s.sql} s on s.${s.$.listenerId} = l.${l.$.id} where l.${l.$.ownerKey} = ${ownerKeyOf(scope)} and ${isFailing}`;
  const rows = yield* query<FailingRow>(
    sql`select ${columns} from ${from} order by s.${s.$.failingSince} limit ${limit}`,
  );
  const errors = yield* readLastErrors(
    database,
    rows.map(({ id }) => id),
  );
  return rows.map(({ id, url, name, owner, state, ...health }) => ({
    ...{ id, url, name, owner, state },
    failuresInARow: Number(health.failuresInARow),
    failingSince: numberOrNull(health.failingSince),
    pausedUntil: numberOrNull(health.pausedUntil),
    lastErrorCode: errors.get(id) ?? null,
  }));
}

/** The maximum number of listeners that one statement reads. */
const LISTENERS_PER_PAGE = 500;

/** The columns of a listener that show its types and its keys. */
export interface ListenerSettings {
  readonly seq: string;
  readonly id: string;
  readonly patterns: readonly string[];
  readonly isOwned: boolean;
  /** The pinned versions, in stored form. */
  readonly versions: string | null;
  /** The ids of the keys that sealed the listener's secrets. `null` for a secret that is not sealed. */
  readonly keyIds: readonly (string | null)[];
}

interface ListenerSettingsRow {
  readonly seq: unknown;
  readonly id: string;
  readonly owner: string | null;
  readonly patterns: string;
  readonly secrets: string;
  readonly versions: string | null;
}

/**
 * A page of the listeners that are not removed.
 *
 * @param after `seq` of the last listener of the page before; `'0'` for the first page
 * @returns an empty list at the end
 */
export function* readListenerSettings(database: Database, after: string): Script<ListenerSettings[]> {
  const { listeners: l } = database.tables;
  const rows = yield* query<ListenerSettingsRow>(
    sql`select ${l.select('l', 'seq', 'id', 'owner', 'patterns', 'secrets', 'versions')} from ${l.sql} l where l.${l.$.seq} > ${after} and l.${l.$.deletedAt} is null order by l.${l.$.seq} limit ${LISTENERS_PER_PAGE}`,
  );
  return rows.map(({ seq, id, owner, patterns, secrets, versions }) => ({
    seq: String(seq),
    id,
    isOwned: owner !== null,
    versions,
    patterns: JSON.parse(patterns) as string[],
    keyIds: keyIdsOf(secrets),
  }));
}

function keyIdsOf(secrets: string): (string | null)[] {
  try {
    return readSecrets(secrets).map(({ value }) => sealingKeyOf(value));
  } catch {
    return []; // the row was edited by hand
  }
}
