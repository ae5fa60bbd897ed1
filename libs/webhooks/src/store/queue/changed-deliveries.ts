import sql, { join, type Sql } from 'sql-template-tag';
import { ownerKeyOf } from '../../hash.js';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { query, type Script } from '../database/script.js';
import { deliveryColumns, type AttemptRow, type DeliveryRow } from './delivery-rows.js';

/** Selects rows of one owner or of one listener. Without both, all rows are selected. */
export interface ReadScope {
  readonly owner: string | null;
  readonly listenerId: string | null;
}

/** The rows after one sequence, up to and including another sequence. */
export interface SequenceRange {
  readonly after: number;
  readonly upTo: number;
}

/** An attempt without the answer of the receiver and without headers. */
export type BriefAttemptRow = Omit<AttemptRow, 'response' | 'details' | 'trigger' | 'triggeredBy'>;

/** A delivery with one of its attempts. */
export type AttemptedDeliveryRow = DeliveryRow &
  BriefAttemptRow &
  Pick<AttemptRow, 'trigger' | 'triggeredBy'> & { attemptSeq: unknown };

/** A delivery, with its first attempt if both were recorded together; otherwise `outcome` is `null`. */
export type NewDeliveryRow = DeliveryRow & Omit<BriefAttemptRow, 'outcome'> & { outcome: string | null };

const ATTEMPT = ['outcome', 'status', 'errorCode', 'errorDetail', 'durationMs', 'startedAt'] as const;

/** The largest sequence of the table; 0 for an empty table. */
export function* lastSequence(database: Database, table: 'deliveries' | 'attempts'): Script<number> {
  const t = database.tables[table];
  const [row] = yield* query<{ last: unknown }>(sql`select max(t.${t.$.seq}) ${t.as('last')} from ${t.sql} t`);
  return Number(row?.last ?? 0);
}

/**
 * Reads deliveries of these scopes without an attempt, and deliveries that were inserted together with their first attempt. {@link
 * readAttempted} finds all other attempts.
 */
export function* readNewDeliveries(
  database: Database,
  scopes: readonly ReadScope[],
  { after, upTo }: SequenceRange,
): Script<NewDeliveryRow[]> {
  const { deliveries: d } = database.tables;
  return yield* query<NewDeliveryRow>(
    sql`select ${deliveryColumns(database)}, 1 ${d.as('number')}, 0 ${d.as('superseded')}, ${d.select('d', ...ATTEMPT)} from ${d.sql} d${d.byKey} where d.${d.$.seq} > ${after} and d.${d.$.seq} <= ${upTo} and (d.${d.$.attempts} = 0 or d.${d.$.outcome} is not null) and ${within(database, scopes)} order by d.${d.$.seq}`,
  );
}

/** Reads attempts that have a row, with their deliveries, in the order in which they were stored. */
export function* readAttempted(
  database: Database,
  scopes: readonly ReadScope[],
  { after, upTo }: SequenceRange,
): Script<AttemptedDeliveryRow[]> {
  const { attempts: a, deliveries: d } = database.tables;
  const columns = a.select('a', 'number', 'superseded', 'trigger', 'triggeredBy', ...ATTEMPT);
  return yield* query<AttemptedDeliveryRow>(
    sql`select ${deliveryColumns(database)}, a.${a.$.seq} ${a.as('attemptSeq')}, ${columns} from ${a.sql} a${a.byKey} join ${d.sql} d on d.${d.$.id} = a.${a.$.deliveryId} where a.${a.$.seq} > ${after} and a.${a.$.seq} <= ${upTo} and ${within(database, scopes)} order by a.${a.$.seq}`,
  );
}

/** The condition for deliveries `d` of one of these scopes. */
function within({ tables: { deliveries: d } }: Database, scopes: readonly ReadScope[]): Sql {
  const owners = [...new Set(scopes.flatMap(({ owner }) => (owner === null ? [] : [owner])))];
  const listenerIds = scopes.flatMap(({ owner, listenerId }) =>
    owner !== null || listenerId === null ? [] : [listenerId],
  );
  if (scopes.some(({ owner, listenerId }) => owner === null && listenerId === null)) return sql`1 = 1`;
  const some: Sql[] = [];
  if (owners.length) some.push(sql`d.${d.$.ownerKey} ${inList(owners.map(ownerKeyOf))}`);
  if (listenerIds.length) some.push(sql`d.${d.$.listenerId} ${inList([...new Set(listenerIds)])}`);
  return some.length ? sql`(${join(some, ' or ')})` : sql`1 = 0`;
}
