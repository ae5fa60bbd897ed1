import sql from 'sql-template-tag';
import { tupleHash } from '../../hash.js';
import type { Database } from '../database/database.js';
import { inList } from '../database/chunks.js';
import { execute, query, type Script } from '../database/script.js';

/** The revoked sessions: one session, or all sessions of an owner that were created before the revocation. */
export type RevokedSessions = { readonly id: string } | { readonly owner: string };

function keyOf(revoked: RevokedSessions): Buffer {
  return 'id' in revoked ? tupleHash('session', revoked.id) : tupleHash('sessions of', revoked.owner);
}

/** @param times `expiresAt`: when the last of these sessions expires by itself */
export function* revokeSessions(
  database: Database,
  revoked: RevokedSessions,
  { now, expiresAt }: { now: number; expiresAt: number },
): Script<void> {
  const { sql: path, $ } = database.tables.revokedSessions;
  yield* pruneRevocations(database, now);
  yield* execute(sql`delete from ${path} where ${$.key} = ${keyOf(revoked)}`);
  yield* execute(
    sql`insert into ${path} (${$.key}, ${$.revokedAt}, ${$.expiresAt}) values (${keyOf(revoked)}, ${now}, ${expiresAt})`,
  );
}

/** Deletes revocations of sessions that have expired. */
export function* pruneRevocations(database: Database, now: number): Script<void> {
  const { sql: path, $ } = database.tables.revokedSessions;
  yield* execute(sql`delete from ${path} where ${$.expiresAt} < ${now}`);
}

/** Whether a session was revoked by its id, or with all sessions of its owner. */
export function* isRevoked(
  database: Database,
  session: { readonly id: string; readonly owner: string | null; readonly createdAt: number },
): Script<boolean> {
  const { revokedSessions: r } = database.tables;
  const byId = keyOf({ id: session.id });
  const keys = session.owner === null ? [byId] : [byId, keyOf({ owner: session.owner })];
  const rows = yield* query<{ key: Uint8Array; revokedAt: unknown }>(
    sql`select ${r.select('r', 'key', 'revokedAt')} from ${r.sql} r where r.${r.$.key} ${inList(keys)}`,
  );
  return rows.some(({ key, revokedAt }) => byId.equals(key) || Number(revokedAt) >= session.createdAt);
}
