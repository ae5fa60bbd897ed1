// Base64. cspell:ignore Vjcm
import sql, { type Sql } from 'sql-template-tag';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { eventRow, storeEvents } from '../../libs/webhooks/src/store/outbox/event-rows.js';
import { fromRuns } from '../../libs/webhooks/src/store/outbox/sequence-runs.js';
import type { Audience } from '../../libs/webhooks/src/events/webhook-event.js';
import { newId } from '../../libs/webhooks/src/ids.js';
import type { CircuitPolicy } from '../../libs/webhooks/src/health/circuit.js';
import type { Filter } from '../../libs/webhooks/src/routing/filter.js';
import { routesOf } from '../../libs/webhooks/src/routing/route-key.js';
import { writeSecrets } from '../../libs/webhooks/src/secrets/stored-secrets.js';
import { isFileSqlite, isolateSqlite } from '../../libs/webhooks/src/sqlite/isolate-sqlite.js';
import type { ClaimedDelivery } from '../../libs/webhooks/src/store/queue/claimed-delivery.js';
import type { Room } from '../../libs/webhooks/src/store/queue/room.js';
import type { Database } from '../../libs/webhooks/src/store/database/database.js';
import type { BodyOf } from '../../libs/webhooks/src/store/queue/rendered-body.js';
import { insertListener, type ListenerValues } from '../../libs/webhooks/src/store/listeners/listener-rows.js';
import type { AttemptRecord } from '../../libs/webhooks/src/store/queue/attempt-record.js';
import { query } from '../../libs/webhooks/src/store/database/script.js';
import { ServerDatabase } from '../../libs/webhooks/src/store/database/server-database.js';
import { SqliteDatabase } from '../../libs/webhooks/src/store/database/sqlite-database.js';
import { arePartitioned, createPartitioned } from '../support/partitioned.js';

/** A store without an application: a data source in place of the application's, and the module's own. */
export interface OpenStore {
  readonly application: DataSource;
  readonly database: Database;
  close(): Promise<void>;
}

/** @param times of rows, in ms since 1970. If the tables have partitions, the days around these times have one */
export async function openStore(
  options: DataSourceOptions,
  { poolSize = 3, synchronize = true, entities = [] as readonly unknown[], times = [] as readonly number[] } = {},
): Promise<OpenStore> {
  if (arePartitioned && options.type === 'postgres' && synchronize) await createPartitioned(options, {}, times);
  const application = await new DataSource({ ...options, synchronize, entities } as DataSourceOptions).initialize();
  if (application.options.type === 'better-sqlite3' && isFileSqlite(application)) isolateSqlite(application);
  const database =
    application.options.type === 'better-sqlite3'
      ? await SqliteDatabase.open(application, {})
      : await ServerDatabase.open(application, {}, poolSize);
  return {
    application,
    database,
    async close() {
      await database.close();
      await application.destroy();
    },
  };
}

/** Opens after ten failures, which is the default, and never disables a listener. */
export const CIRCUIT: CircuitPolicy = {
  failures: 10,
  cooldownMs: 10_000,
  maxCooldownMs: 60_000,
  disableAfterMs: Number.MAX_SAFE_INTEGER,
};

export const LEASE_MS = 60_000;

/** Room with `total` slots, of which one listener gets at most `each`. */
export function roomFor(total: number, each = total): Room {
  return { total, ofListener: () => each, ofOwner: () => Infinity, full: [], fullOwners: [] };
}

export const NO_ROOM = roomFor(0);

/** The standard format: the body is the event's own text. */
export const OWN_TEXT: BodyOf = () => ({ body: null, format: null, version: null });

export interface ListenerOptions {
  owner?: string | null;
  patterns?: string[];
  filter?: Filter;
  ordering?: 'none' | 'entity';
  rateLimit?: { limit: number; perSeconds: number } | null;
  format?: string;
}

export function listenerValues(options: ListenerOptions = {}): ListenerValues {
  const { owner = null, patterns = ['order.created'], filter = [], ordering = 'none', rateLimit = null } = options;
  return {
    id: newId('lst'),
    owner,
    url: 'https://example.com/hooks',
    patterns: JSON.stringify(patterns),
    filter: JSON.stringify(filter),
    definition: '{}',
    ...{ name: null, externalId: null, externalKey: null, metadata: null },
    description: null,
    headers: '{}',
    secrets: writeSecrets([{ value: 'whsec_c2VjcmV0', createdAt: 0, expiresAt: null }]),
    auth: null,
    tls: null,
    schemes: '["standard"]',
    format: options.format ?? 'standard',
    versions: null,
    ordering,
    sequence: 0,
    rateLimit: rateLimit && JSON.stringify(rateLimit),
    handshake: 'none',
    handshakeError: null,
    allowedRate: null,
    state: 'active',
    disabledReason: null,
  };
}

/** @returns its id */
export async function addListener(database: Database, now: number, options: ListenerOptions = {}): Promise<string> {
  const { owner = null, patterns = ['order.created'], filter = [] } = options;
  const values = listenerValues(options);
  await database.transaction(() => insertListener(database, values, routesOf({ owner, patterns, filter }), now));
  return values.id;
}

export interface EventOptions {
  type?: string;
  data?: Record<string, string | number | null>;
  owner?: string | null;
  audience?: Audience;
  /** Names the row of the event. */
  row?: string;
  createdAt?: number;
}

/** An event row in the form in which capture creates it. */
export function anEvent(options: EventOptions = {}) {
  const { type = 'order.created', data = { id: 1 }, owner = null, createdAt = 0, row } = options;
  const audience = options.audience ?? (owner === null ? 'application' : 'owner');
  return eventRow(
    {
      event: {
        id: newId('evt', createdAt),
        type,
        timestamp: new Date(createdAt).toISOString(),
        data,
        owner,
        context: null,
      },
      superTypes: [],
      audience,
      orderKey: row === undefined ? null : Buffer.alloc(16, row),
      isOrdered: false,
      dedupeKey: null,
      depth: 0,
      createdAt,
    },
    ['id'],
    { maxPayloadBytes: Infinity, maxStoredBytes: Infinity },
  );
}

/** @returns their ids */
export async function addEvents(database: Database, count: number, options: EventOptions = {}): Promise<string[]> {
  const rows = Array.from({ length: count }, () => anEvent(options));
  await database.transaction(() => storeEvents(database, rows));
  return rows.map((row) => row.source.event.id);
}

/** The result of an attempt, for `recordAttempts`. */
export function attemptOf(delivery: ClaimedDelivery, now: number, options: Partial<AttemptRecord> = {}): AttemptRecord {
  return {
    delivery,
    wasFailing: delivery.listener.isFailing,
    outcome: 'accepted',
    status: 200,
    errorCode: null,
    errorDetail: null,
    durationMs: 5,
    response: 'ok',
    retryAfterMs: null,
    startedAt: now,
    next: { state: 'succeeded', at: now },
    ...options,
  };
}

/** A failed attempt with a retry after `delayMs`. */
export function failureOf(delivery: ClaimedDelivery, now: number, delayMs: number): AttemptRecord {
  return attemptOf(delivery, now, {
    outcome: 'rejected',
    status: 500,
    errorCode: 'HTTP_STATUS',
    next: { state: 'due', at: now + delayMs },
  });
}

/** Rows of a statement that the test itself sends. */
export function rowsOf<R = Record<string, unknown>>(database: Database, statement: Sql): Promise<R[]> {
  return database.transaction(() => query<R>(statement));
}

export async function run(database: Database, statement: Sql): Promise<void> {
  await database.transaction(function* () {
    yield statement;
  });
}

/** Every delivery, in the order of insertion. */
export async function deliveriesOf(database: Database) {
  const { deliveries: d } = database.tables;
  const rows = await rowsOf<{
    seq: unknown;
    id: string;
    eventSeq: unknown;
    listenerId: string;
    state: string;
    attempts: unknown;
    nextAt: unknown;
    leaseToken: string | null;
    leaseUntil: unknown;
    body: string | null;
    lastErrorCode: string | null;
  }>(
    database,
    sql`select ${d.select('d', 'seq', 'id', 'eventSeq', 'listenerId', 'state', 'attempts', 'nextAt', 'leaseToken', 'leaseUntil', 'body', 'lastErrorCode')} from ${d.sql} d order by d.${d.$.seq}`,
  );
  return rows.map((row) => ({
    ...row,
    seq: String(row.seq),
    eventSeq: String(row.eventSeq),
    attempts: Number(row.attempts),
    nextAt: Number(row.nextAt),
    leaseUntil: row.leaseUntil === null ? null : Number(row.leaseUntil),
  }));
}

/** Every event that is in the outbox, or that a lease names, in the order of the events. In the outbox, `leaseUntil` is 0. */
export async function unfinishedOf(database: Database) {
  const { outbox: o, leases: l } = database.tables;
  const waiting = await rowsOf<{ seq: unknown; claims: unknown }>(
    database,
    sql`select ${o.select('o', 'seq', 'claims')} from ${o.sql} o`,
  );
  const leases = await rowsOf<{ claims: unknown; leaseUntil: unknown; events: string }>(
    database,
    sql`select ${l.select('l', 'claims', 'leaseUntil', 'events')} from ${l.sql} l`,
  );
  const unfinished = [
    ...waiting.map(({ seq, claims }) => ({ seq: String(seq), claims: Number(claims), leaseUntil: 0 })),
    ...leases.flatMap(({ claims, leaseUntil, events }) =>
      [...fromRuns(events)].map((seq) => ({ seq, claims: Number(claims), leaseUntil: Number(leaseUntil) })),
    ),
  ];
  return unfinished.toSorted((a, b) => Number(a.seq) - Number(b.seq));
}
