import sql, { type Sql } from 'sql-template-tag';
import type { EVENT_TRANSITIONS } from '../../health/transitions.js';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { query, type Script } from '../database/script.js';
import { anyLease, namedIn } from './leases.js';

/**
 * The state of an event, which no column stores:
 *
 * - `pending`: in the outbox, not claimed yet
 * - `in_flight`: a lease names it, because its deliveries are being sent; or it is in the outbox again after its lease expired; or its
 *   listeners are being paged through
 * - `damaged`: it could not be routed
 * - `delivered`: each of its deliveries has a row
 */
export type EventState = Exclude<keyof typeof EVENT_TRANSITIONS, 'new'>;

/**
 * Reads the states of events. This is the only function that determines the state of an event.
 *
 * One statement reads all tables, because an event moves between them: two statements could miss it in both.
 */
export function* readEventStates(database: Database, seqs: readonly unknown[]): Script<(seq: unknown) => EventState> {
  const { outbox: o, damaged: x, leases: l } = database.tables;
  const states = new Map<string, EventState>();
  if (seqs.length) {
    const among = inList(seqs);
    const rows = yield* query<{ seq: unknown; claims: unknown; routedThrough: string | null; events: string | null }>(
      sql`select ${o.select('o', 'seq', 'claims', 'routedThrough')}, ${NO_TEXT} ${l.as('events')} from ${o.sql} o where o.${o.$.seq} ${among}
        union all select x.${x.$.seq}, null, null, null from ${x.sql} x where x.${x.$.seq} ${among}
        union all select null, null, null, l.${l.$.events} from ${l.sql} l where ${anyLease(database)}`,
    );
    for (const seq of namedIn(
      rows.flatMap(({ events }) => events ?? []),
      seqs,
    ))
      states.set(seq, 'in_flight');
    for (const { seq, claims, routedThrough } of rows) {
      if (seq === null) continue;
      if (claims === null) states.set(String(seq), 'damaged');
      else states.set(String(seq), Number(claims) > 0 || routedThrough !== null ? 'in_flight' : 'pending');
    }
  }
  return (seq) => states.get(String(seq)) ?? 'delivered';
}

/** In a `union`, PostgreSQL takes the type of a column from its first part. */
const NO_TEXT = sql`cast(null as char)`;

/** The condition for an outbox row `o` that can be claimed. A wide event that is being paged through is left to `fanOutWide`. */
export function isClaimable({ tables: { outbox: o } }: Database): Sql {
  return sql`o.${o.$.routedThrough} is null`;
}

/** The condition for the outbox row `o` of a wide event. */
export function isWide({ tables: { outbox: o } }: Database): Sql {
  return sql`o.${o.$.routedThrough} is not null`;
}
