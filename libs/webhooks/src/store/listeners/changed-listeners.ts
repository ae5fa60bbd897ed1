import sql, { join, type Sql } from 'sql-template-tag';
import { ownerKeyOf } from '../../hash.js';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { query, type Script } from '../database/script.js';

/** A listener that was created, changed or removed. */
export interface ChangedListenerRow {
  id: string;
  owner: string | null;
  state: string;
  disabledReason: string | null;
  revision: unknown;
  updatedAt: unknown;
  deletedAt: unknown;
}

/** @param owners only listeners of these owners; `null`: every listener */
export function* readChangedListeners(
  database: Database,
  owners: readonly string[] | null,
  { after, upTo, limit }: { readonly after: number; readonly upTo: number; readonly limit: number },
): Script<ChangedListenerRow[]> {
  const { listeners: l } = database.tables;
  const where: Sql[] = [sql`l.${l.$.updatedAt} > ${after}`, sql`l.${l.$.updatedAt} <= ${upTo}`];
  if (owners !== null) where.push(sql`l.${l.$.ownerKey} ${inList(owners.map(ownerKeyOf))}`);
  return yield* query<ChangedListenerRow>(
    sql`select ${l.select('l', 'id', 'owner', 'state', 'disabledReason', 'revision', 'updatedAt', 'deletedAt')} from ${l.sql} l${l.through('updatedAt', 'seq')} where ${join(where, ' and ')} order by l.${l.$.updatedAt}, l.${l.$.seq} limit ${limit}`,
  );
}
