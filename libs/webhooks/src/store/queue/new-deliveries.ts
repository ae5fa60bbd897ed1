import sql, { type Sql } from 'sql-template-tag';
import { newId } from '../../ids.js';
import type { ReadCandidate } from './candidates.js';
import { chunks, inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { skipConflict } from '../database/dialect-sql.js';
import { insertFromRows } from '../database/json-rows.js';
import { expectDeliveries } from '../listeners/listener-state.js';
import type { ReadEvent } from '../outbox/outbox-events.js';
import { query, type Script, together } from '../database/script.js';

/** `lastErrorCode` of a delivery that the listener's format could not render. */
export const FORMAT_FAILED = 'FORMAT_FAILED';

/** The part of an event that a payload format gets, in stored form. */
export interface RenderedEvent {
  readonly id: string;
  readonly type: string;
  readonly payload: string;
  readonly context: string | null;
}

/** Renders the body in a listener's format. `null`: the event's own payload. Throws the error of the format. */
export type BodyOf = (format: string, event: RenderedEvent) => string | null;

/** A delivery to insert. */
export interface NewDelivery {
  readonly id: string;
  readonly event: ReadEvent;
  readonly listener: ReadCandidate;
  readonly orderKey: Buffer | null;
  readonly body: string | null;
  /** The format that rendered the body; `null` without a body. */
  readonly format: string | null;
  state: 'due' | 'leased' | 'discarded';
}

/** A delivery of one event to one listener that wants it, with a body if the listener's format is not the standard format. */
export function newDelivery(
  event: ReadEvent,
  listener: ReadCandidate,
  bodyOf: BodyOf,
  unrendered: { listenerId: string; eventId: string; error: unknown }[],
): NewDelivery {
  const isOrdered = Number(event.ordered) === 1 || listener.ordering === 'entity';
  const orderKey = isOrdered ? event.orderKey : null;
  const delivery: NewDelivery = { id: newId('dlv'), event, listener, orderKey, body: null, format: null, state: 'due' };
  try {
    const body = bodyOf(listener.format, event);
    if (body === null) return delivery;
    return { ...delivery, body, format: listener.format };
  } catch (error) {
    unrendered.push({ listenerId: listener.id, eventId: event.id, error });
    return { ...delivery, state: 'discarded' };
  }
}

/**
 * Whether the claim must find this delivery: it has no lease. This includes deliveries of a listener that this transaction saw as not
 * active: another transaction, which did not see the delivery, may have activated it.
 */
export function isDue({ state }: NewDelivery): boolean {
  return state === 'due';
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
  readonly event: { readonly seq: unknown; readonly type: string };
  readonly listener: { readonly id: string; readonly owner: string | null; readonly ownerKey: Buffer | null };
  readonly orderKey: Buffer | null;
  readonly body: string | null;
  readonly format: string | null;
  readonly state: 'due' | 'leased' | 'discarded';
}

/**
 * @param after statements that are always sent afterwards, and whether they end the transaction
 * @returns the sequences of the deliveries that did not exist yet, by id
 */
export function* insertDeliveries(
  database: Database,
  deliveries: readonly DeliveryValues[],
  { now, leaseMs, leaseToken }: { now: number; leaseMs: number; leaseToken: string },
  after: { readonly statements: readonly Sql[]; readonly isEnd: boolean } = { statements: [], isEnd: false },
): Script<Map<string, string>> {
  const { deliveries: d } = database.tables;
  const { $ } = d;
  const seqs = new Map<string, string>();
  const inserts: Sql[] = [];
  for (const some of chunks(deliveries, DELIVERIES_PER_STATEMENT, ({ body }) => body?.length ?? 0)) {
    const insertion = insertFromRows(
      database,
      'deliveries',
      {
        id: 'text',
        eventSeq: 'bigint',
        listenerId: 'text',
        type: 'text',
        owner: 'text',
        ownerKey: 'hash',
        orderKey: 'hash',
        state: 'text',
        body: 'text',
        format: 'text',
        attempts: 0,
        retries: 0,
        nextAt: now,
        leaseToken: 'text',
        leaseUntil: 'bigint',
        lastErrorCode: 'text',
        finishedAt: 'bigint',
        createdAt: now,
      },
      some.map(({ id, event, listener, orderKey, body, format, state }) => ({
        id,
        eventSeq: String(event.seq),
        listenerId: listener.id,
        type: event.type,
        owner: listener.owner,
        ownerKey: hex(listener.ownerKey),
        orderKey: hex(orderKey),
        state,
        body,
        format,
        leaseToken: state === 'leased' ? leaseToken : null,
        leaseUntil: state === 'leased' ? now + leaseMs : null,
        lastErrorCode: state === 'discarded' ? FORMAT_FAILED : null,
        finishedAt: state === 'discarded' ? now : null,
      })),
    );
    const insert = sql`${insertion}${skipConflict(database.dialect, [$.eventSeq, $.listenerId])}`;
    if (database.dialect !== 'mysql') {
      inserts.push(sql`${insert} returning ${$.seq} ${d.as('seq')}, ${$.id} ${d.as('id')}`);
      continue;
    }
    yield insert;
    const made = yield* query<{ seq: unknown; id: string }>(
      sql`select ${d.select('d', 'seq', 'id')} from ${d.sql} d where d.${d.$.id} ${inList(some.map(({ id }) => id))}`,
    );
    for (const { seq, id } of made) seqs.set(id, String(seq));
  }
  const results = yield* together([...inserts, ...after.statements], after);
  for (const { rows } of results.slice(0, inserts.length)) {
    for (const { seq, id } of rows as { seq: unknown; id: string }[]) seqs.set(id, String(seq));
  }
  return seqs;
}

function hex(bytes: Uint8Array | null): string | null {
  return bytes && Buffer.from(bytes).toString('hex');
}
