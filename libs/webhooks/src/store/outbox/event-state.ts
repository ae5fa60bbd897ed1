import sql, { type Sql } from 'sql-template-tag';
import type { EVENT_TRANSITIONS } from '../../health/transitions.js';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { query, type Script } from '../database/script.js';

/**
 * The state of an event, which no column stores:
 *
 * - `pending`: in the outbox, not claimed yet
 * - `in_flight`: in the outbox, and its deliveries are being sent, or its listeners are being paged through
 * - `damaged`: it could not be routed
 * - `delivered`: each of its deliveries has a row
 */
export type EventState = Exclude<keyof typeof EVENT_TRANSITIONS, 'new'>;

/** Reads the states of events. This is the only function that determines the state of an event. */
export function* readEventStates(database: Database, seqs: readonly unknown[]): Script<(seq: unknown) => EventState> {
  const { outbox: o, damaged: x } = database.tables;
  const states = new Map<string, EventState>();
  if (seqs.length) {
    const rows = yield* query<{ seq: unknown; claims: unknown; routedThrough: string | null }>(
      sql`select ${o.select('o', 'seq', 'claims', 'routedThrough')} from ${o.sql} o where o.${o.$.seq} ${inList(seqs)}`,
    );
    for (const { seq, claims, routedThrough } of rows) {
      states.set(String(seq), Number(claims) > 0 || routedThrough !== null ? 'in_flight' : 'pending');
    }
    const damaged = yield* query<{ seq: unknown }>(
      sql`select ${x.select('x', 'seq')} from ${x.sql} x where x.${x.$.seq} ${inList(seqs)}`,
    );
    for (const { seq } of damaged) states.set(String(seq), 'damaged');
  }
  return (seq) => states.get(String(seq)) ?? 'delivered';
}

/** The condition for an outbox row `o` that can be claimed. A wide event that is being paged through is left to `fanOutWide`. */
export function isClaimable({ tables: { outbox: o } }: Database, now: number): Sql {
  return sql`o.${o.$.leaseUntil} <= ${now} and o.${o.$.routedThrough} is null`;
}

/** The condition for an outbox row `o` whose event is not routed yet, or not to all listeners. */
export function isNotRouted({ tables: { outbox: o } }: Database, now: number): Sql {
  return sql`(o.${o.$.leaseUntil} <= ${now} or o.${o.$.routedThrough} is not null)`;
}

/** The condition for the outbox row `o` of a wide event. */
export function isWide({ tables: { outbox: o } }: Database): Sql {
  return sql`o.${o.$.routedThrough} is not null`;
}
