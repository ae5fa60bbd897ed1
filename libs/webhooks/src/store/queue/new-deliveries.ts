import sql, { type Sql } from 'sql-template-tag';
import { deliveryId } from '../../ids.js';
import type { ReadCandidate } from './candidates.js';
import { chunks } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { skipConflict } from '../database/dialect-sql.js';
import { insertFromRows, jsonRows } from '../database/json-rows.js';
import { expectDeliveries } from '../listeners/listener-state.js';
import { OWN_TEXT, renderFailureOf, type BodyOf, type RenderFailure } from './rendered-body.js';
import type { ReadEvent } from '../outbox/outbox-events.js';
import { query, type Script, together } from '../database/script.js';
import { auditText } from '../system/audit.js';
import type { Triggered } from '../../attempt-trigger.js';

/** A delivery whose format or version threw. It is `discarded`. */
export interface Unrendered {
  readonly listenerId: string;
  readonly eventId: string;
  readonly error: unknown;
}

/** A delivery to insert. */
export interface NewDelivery {
  readonly id: string;
  readonly event: ReadEvent;
  readonly listener: ReadCandidate;
  readonly orderKey: Buffer | null;
  readonly body: string | null;
  readonly format: string | null;
  readonly version: number | null;
  /** The error code of a delivery that is `discarded`. */
  readonly errorCode: RenderFailure | null;
  /** `unstored`: this process sends it without a row. `leased`: this process sends it, and it has a row because of its body. */
  state: 'due' | 'leased' | 'unstored' | 'discarded';
}

/**
 * Creates a delivery of one event to one matching listener. The delivery has a body if the listener's format is not the standard format, or
 * if the listener has an older version.
 */
export function newDelivery(
  event: ReadEvent,
  listener: ReadCandidate,
  bodyOf: BodyOf,
  unrendered: Unrendered[],
): NewDelivery {
  const isOrdered = Number(event.ordered) === 1 || listener.ordering === 'entity';
  const orderKey = isOrdered ? event.orderKey : null;
  const id = deliveryId(event, listener.id);
  const delivery = { id, event, listener, orderKey };
  try {
    const { body, format, version } = bodyOf(listener, event);
    return { ...delivery, body, format, version, errorCode: null, state: 'due' };
  } catch (error) {
    unrendered.push({ listenerId: listener.id, eventId: event.id, error });
    return { ...delivery, ...OWN_TEXT, errorCode: renderFailureOf(error), state: 'discarded' };
  }
}

/**
 * Whether a claim must find this delivery, because the delivery has no lease. If the listener is not active in this transaction, the
 * delivery counts, too. Another transaction may have activated the listener without seeing the delivery.
 */
export function isDue({ state }: NewDelivery): boolean {
  return state === 'due';
}

/** Whether this transaction inserts the delivery. */
export function hasRow({ state }: NewDelivery): boolean {
  return state !== 'unstored';
}

/** Makes the listeners of the due deliveries ready for the claim. @returns the number of due deliveries */
export function* expectDue(database: Database, made: readonly NewDelivery[], now: number): Script<number> {
  const due = made.filter(isDue);
  yield* expectDeliveries(database, new Map(due.map(({ listener }) => [listener.id, now])));
  return due.length;
}

const DELIVERIES_PER_STATEMENT = 1_000;

/** The values of a delivery, for {@link insertDeliveries}. */
export interface DeliveryValues {
  readonly id: string;
  readonly event: { readonly seq: unknown; readonly type: string; readonly createdAt: unknown };
  readonly listener: { readonly id: string; readonly owner: string | null; readonly ownerKey: Buffer | null };
  readonly orderKey: Buffer | null;
  readonly body: string | null;
  readonly format: string | null;
  readonly version: number | null;
  readonly errorCode: RenderFailure | null;
  readonly state: NewDelivery['state'];
  /** When the event was routed. Default: now. */
  readonly routedAt?: number;
  /** What makes the first attempt. Default: the schedule. */
  readonly triggered?: Triggered;
}

/** The times and the token that {@link insertDeliveries} writes. */
interface RowLease {
  readonly now: number;
  readonly leaseMs: number;
  readonly leaseToken: string;
}

const ROW_COLUMNS = {
  id: 'text',
  eventSeq: 'bigint',
  eventAt: 'bigint',
  listenerId: 'text',
  type: 'text',
  owner: 'text',
  ownerKey: 'hash',
  orderKey: 'hash',
  state: 'text',
  body: 'text',
  format: 'text',
  version: 'bigint',
  attempts: 0,
  retries: 0,
  leaseToken: 'text',
  leaseUntil: 'bigint',
  lastErrorCode: 'text',
  finishedAt: 'bigint',
  createdAt: 'bigint',
  trigger: 'text',
  triggeredBy: 'text',
} as const;

function rowOf(delivery: DeliveryValues, { now, leaseMs, leaseToken }: RowLease) {
  const { id, event, listener, orderKey, body, format, version, errorCode, state, routedAt, triggered } = delivery;
  return {
    id,
    eventSeq: String(event.seq),
    eventAt: Number(event.createdAt),
    listenerId: listener.id,
    type: event.type,
    owner: listener.owner,
    ownerKey: hex(listener.ownerKey),
    orderKey: hex(orderKey),
    state,
    body,
    format,
    version,
    leaseToken: state === 'leased' ? leaseToken : null,
    leaseUntil: state === 'leased' ? now + leaseMs : null,
    lastErrorCode: errorCode,
    finishedAt: state === 'discarded' ? now : null,
    createdAt: routedAt ?? now,
    trigger: triggered?.trigger ?? null,
    triggeredBy: auditText(triggered?.by ?? null),
  };
}

/**
 * Inserts deliveries.
 *
 * @param after statements that are always sent afterwards, and whether these statements end the transaction
 * @returns the sequences of the deliveries that did not exist yet, by id
 */
export function* insertDeliveries(
  database: Database,
  deliveries: readonly DeliveryValues[],
  lease: RowLease,
  after: { readonly statements: readonly Sql[]; readonly isEnd: boolean } = { statements: [], isEnd: false },
): Script<Map<string, string>> {
  const { deliveries: d } = database.tables;
  const { $ } = d;
  const seqs = new Map<string, string>();
  const inserts: Sql[] = [];
  for (const some of chunks(deliveries, DELIVERIES_PER_STATEMENT, ({ body }) => body?.length ?? 0)) {
    const rows = some.map((delivery) => rowOf(delivery, lease));
    const insertion = insertFromRows(database, 'deliveries', { ...ROW_COLUMNS, nextAt: lease.now }, rows);
    const insert = sql`${insertion}${skipConflict(database.dialect, [$.eventAt, $.eventSeq, $.listenerId])}`;
    if (database.dialect === 'mysql') {
      for (const [id, seq] of yield* insertUnreturned(database, some, insert)) seqs.set(id, seq);
    } else {
      inserts.push(sql`${insert} returning ${$.seq} ${d.as('seq')}, ${$.id} ${d.as('id')}`);
    }
  }
  const results = yield* together([...inserts, ...after.statements], after);
  for (const { rows } of results.slice(0, inserts.length)) {
    for (const { seq, id } of rows as { seq: unknown; id: string }[]) seqs.set(id, String(seq));
  }
  return seqs;
}

/**
 * Inserts deliveries on MySQL and MariaDB, and reads their sequences before and afterwards: an id is the same for the same event and listener,
 * so a row may have existed before.
 */
function* insertUnreturned(
  database: Database,
  deliveries: readonly DeliveryValues[],
  insert: Sql,
): Script<Map<string, string>> {
  const { deliveries: d } = database.tables;
  // With a list of ids and outdated statistics, MariaDB would read the whole index.
  const ids = jsonRows(
    database.dialect,
    { id: 'text' },
    deliveries.map(({ id }) => ({ id })),
  );
  const read = sql`select ${d.select('d', 'seq', 'id')} from ${ids} straight_join ${d.sql} d${d.through('id')} on d.${d.$.id} = r.id`;
  const before = new Set((yield* query<{ id: string }>(read)).map(({ id }) => id));
  yield insert;
  const rows = yield* query<{ seq: unknown; id: string }>(read);
  return new Map(rows.filter(({ id }) => !before.has(id)).map(({ seq, id }) => [id, String(seq)]));
}

function hex(bytes: Uint8Array | null): string | null {
  return bytes && Buffer.from(bytes).toString('hex');
}
