import sql, { raw } from 'sql-template-tag';
import { newId } from '../ids.js';
import { inList } from './chunks.js';
import type { Database } from './database.js';
import { execute, query, type Script } from './script.js';

/** A delivery that this process may send now, with all that is needed to send it. */
export interface ClaimedDelivery {
  readonly seq: string;
  readonly id: string;
  readonly leaseToken: string;
  /** Attempts made before this one. */
  readonly attempts: number;
  /** Attempts since the schedule began, or began again by a resend. */
  readonly retries: number;
  readonly type: string;
  readonly owner: string | null;
  readonly event: { readonly id: string; readonly payload: string };
  readonly body: string;
  readonly listener: {
    readonly id: string;
    readonly url: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly secrets: string;
    readonly schemes: readonly string[];
    readonly format: string;
  };
}

interface ClaimRow {
  seq: unknown;
  id: string;
  attempts: unknown;
  retries: unknown;
  type: string;
  owner: string | null;
  body: string | null;
  eventId: string;
  payload: string;
  thinPayload: string | null;
  listenerId: string;
  url: string;
  headers: string;
  secrets: string;
  schemes: string;
  format: string;
}

/**
 * Leases due deliveries, the longest due first, to this process until `now + leaseMs`. Those whose lease ran out are due
 * again: their worker is dead, or so late that the fencing token makes its record void.
 *
 * @param only restricts it to deliveries of these event ids (the inline mode)
 */
export function* claimDeliveries(
  database: Database,
  options: { now: number; leaseMs: number; limit: number; only?: readonly string[] },
): Script<ClaimedDelivery[]> {
  const { deliveries: d, events: e } = database.tables;
  const { now, limit } = options;
  const due = sql`d.${d.$.state} = ${'due'} and d.${d.$.nextAt} <= ${now}`;
  const expired = sql`d.${d.$.state} = ${'leased'} and d.${d.$.leaseUntil} <= ${now}`;
  const wanted = options.only
    ? sql` and d.${d.$.eventSeq} in (select e.${e.$.seq} from ${e.sql} e where e.${e.$.id} ${inList(options.only)})`
    : sql``;
  const seqs: unknown[] = [];
  // One after the other, so that each keeps to its own index.
  for (const { claimable, by } of [
    { claimable: due, by: d.$.nextAt },
    { claimable: expired, by: d.$.leaseUntil },
  ]) {
    if (seqs.length >= limit) break;
    const found = yield* query<{ seq: unknown }>(
      sql`select ${d.select('d', 'seq')} from ${d.sql} d where ${claimable}${wanted} order by d.${by}, d.${d.$.seq} limit ${limit - seqs.length}`,
    );
    if (!found.length) continue;
    const candidates = found.map(({ seq }) => seq);
    if (database.dialect === 'sqlite') {
      seqs.push(...candidates);
      continue;
    }
    const locked = yield* query<{ seq: unknown }>(
      sql`select ${d.select('d', 'seq')} from ${d.sql} d where d.${d.$.seq} ${inList(candidates)} and ${claimable} order by d.${d.$.seq}${raw(database.skipLocked)}`,
    );
    seqs.push(...locked.map(({ seq }) => seq));
  }
  if (!seqs.length) return [];

  const leaseToken = newId('lease');
  yield* execute(
    sql`update ${d.sql} set ${d.$.state} = ${'leased'}, ${d.$.leaseToken} = ${leaseToken}, ${d.$.leaseUntil} = ${now + options.leaseMs} where ${d.$.seq} ${inList(seqs)}`,
  );
  return yield* readClaimed(database, seqs, leaseToken);
}

function* readClaimed(database: Database, seqs: readonly unknown[], leaseToken: string): Script<ClaimedDelivery[]> {
  const { deliveries: d, events: e, listeners: l } = database.tables;
  const rows = yield* query<ClaimRow>(
    sql`select ${d.select('d', 'seq', 'id', 'attempts', 'retries', 'type', 'owner', 'body')}, e.${e.$.id} ${e.as('eventId')}, ${e.select('e', 'payload', 'thinPayload')}, l.${l.$.id} ${l.as('listenerId')}, ${l.select('l', 'url', 'headers', 'secrets', 'schemes', 'format')}
    from ${d.sql} d
    join ${e.sql} e on e.${e.$.seq} = d.${d.$.eventSeq}
    join ${l.sql} l on l.${l.$.id} = d.${d.$.listenerId}
    where d.${d.$.seq} ${inList(seqs)} order by d.${d.$.seq}`,
  );
  return rows.map((row) => ({
    seq: String(row.seq),
    id: row.id,
    leaseToken,
    attempts: Number(row.attempts),
    retries: Number(row.retries),
    type: row.type,
    owner: row.owner,
    event: { id: row.eventId, payload: row.payload },
    body: row.body ?? row.thinPayload ?? row.payload,
    listener: {
      id: row.listenerId,
      url: row.url,
      headers: JSON.parse(row.headers) as Record<string, string>,
      secrets: row.secrets,
      schemes: JSON.parse(row.schemes) as string[],
      format: row.format,
    },
  }));
}

/** When the next delivery becomes due, or a lease runs out; `null` when nothing waits. */
export function* nextDueAt(database: Database): Script<number | null> {
  const { sql: path, $ } = database.tables.deliveries;
  const [due] = yield* query<{ at: unknown }>(
    sql`select min(${$.nextAt}) as at from ${path} where ${$.state} = ${'due'}`,
  );
  return due?.at === null || due?.at === undefined ? null : Number(due.at);
}
