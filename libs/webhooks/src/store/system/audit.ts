import sql, { join } from 'sql-template-tag';
import type { JsonObject } from '../../json.js';
import { DAY } from '../../time.js';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { isAfter, type PagePosition } from '../database/page.js';
import { execute, query, type Script } from '../database/script.js';

/** The names of all changes that the audit log contains. A name is never used for another change. */
export const AUDIT_ACTIONS = [
  'listener.created',
  'listener.updated',
  'listener.removed',
  'listener.enabled',
  'listener.disabled',
  'listener.secret_rotated',
  'listener.signing_key_rotated',
  'secrets.resealed',
  'delivery.resent',
  'delivery.discarded',
  'deliveries.recovered',
  'deliveries.replayed',
  'deliveries.discarded',
  'event.sent',
  'event.erased',
  'events.restored',
  'task.created',
  'task.cancelled',
  'sending.paused',
  'sending.resumed',
  'session.created',
  'session.revoked',
  'sessions.revoked',
  'owner.erased',
  'chores.run',
  'damaged.retried',
] as const;

export type AuditAction = (typeof AUDIT_ACTIONS)[number];

/** How long the rows are kept. */
export const AUDIT_KEPT_MS = 365 * DAY;
const PRUNED_AT_ONCE = 1_000;

/** One change. Details of the change. They never contain a secret, a URL, a header or a payload, because these may contain tokens. */
export interface AuditEntry {
  /** Who made the change; `null` if the application gave no name. */
  readonly actor: string | null;
  readonly action: AuditAction;
  /** The id of the changed object, or an owner; `null` if the change concerns the whole instance. */
  readonly target: string | null;
  readonly details?: JsonObject;
}

export interface AuditRow {
  readonly seq: unknown;
  readonly actor: string | null;
  readonly action: string;
  readonly target: string | null;
  readonly details: string | null;
  readonly createdAt: unknown;
}

const MAX_LENGTH = 255;

/** Notes a change. Call it in the transaction of the change. */
export function* writeAudit(database: Database, entry: AuditEntry, now: number): Script<void> {
  const { sql: path, $ } = database.tables.audit;
  const details = entry.details === undefined ? null : clean(JSON.stringify(entry.details));
  yield sql`insert into ${path} (${$.actor}, ${$.action}, ${$.target}, ${$.details}, ${$.createdAt}) values (${auditText(entry.actor)}, ${entry.action}, ${auditText(entry.target)}, ${details}, ${now})`;
}

/** PostgreSQL refuses NUL, and databases cannot store halves of surrogate pairs. */
function clean(text: string): string {
  return text.replaceAll(/[\0\p{Surrogate}]/gu, '\ufffd');
}

/** A name or an id in a form that the columns can store. */
export function auditText(text: string | null): string | null {
  return text === null ? null : clean(text.slice(0, MAX_LENGTH));
}

export interface AuditFilterRow {
  readonly action?: string;
  readonly target?: string;
  readonly actor?: string;
  readonly since?: number;
  readonly until?: number;
}

/** Newest first. */
export function* listAudit(
  database: Database,
  filter: AuditFilterRow,
  after: PagePosition | null,
  limit: number,
): Script<AuditRow[]> {
  const { audit: a } = database.tables;
  const where = [sql`1 = 1`];
  for (const key of ['action', 'target', 'actor'] as const) {
    if (filter[key] !== undefined) where.push(sql`a.${a.$[key]} = ${filter[key]}`);
  }
  if (filter.since !== undefined) where.push(sql`a.${a.$.createdAt} >= ${filter.since}`);
  if (filter.until !== undefined) where.push(sql`a.${a.$.createdAt} < ${filter.until}`);
  if (after) where.push(isAfter(database.dialect, sql`a.${a.$.createdAt}`, sql`a.${a.$.seq}`, after));
  return yield* query<AuditRow>(
    sql`select ${a.select('a', 'seq', 'actor', 'action', 'target', 'details', 'createdAt')} from ${a.sql} a where ${join(where, ' and ')} order by a.${a.$.createdAt} desc, a.${a.$.seq} desc limit ${limit}`,
  );
}

/** Deletes old rows. @returns whether there may be more */
export function* pruneAudit(database: Database, before: number): Script<boolean> {
  const { audit: a } = database.tables;
  const rows = yield* query<{ seq: unknown }>(
    sql`select ${a.select('a', 'seq')} from ${a.sql} a where a.${a.$.createdAt} < ${before} order by a.${a.$.createdAt} limit ${PRUNED_AT_ONCE}`,
  );
  if (rows.length) yield* execute(sql`delete from ${a.sql} where ${a.$.seq} ${inList(rows.map(({ seq }) => seq))}`);
  return rows.length === PRUNED_AT_ONCE;
}
