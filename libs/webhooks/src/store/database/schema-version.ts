import sql from 'sql-template-tag';
import type { Database } from './database.js';
import { query, type Script } from './script.js';

/** The version of the tables that this release of the library knows. Each new migration increases it by 1. */
export const SCHEMA_VERSION = 1;

/** The version that is stored in the database. */
export interface StoredSchemaVersion {
  readonly version: number;
  /** The oldest version of the tables that a process must know to work with them. */
  readonly oldestProcess: number;
}

/**
 * Reads the version of the tables, and stores it if there is none yet. Each migration after the first inserts another row; the highest
 * numbers count.
 */
export function* readSchemaVersion(database: Database): Script<StoredSchemaVersion> {
  const { schemaVersion: v } = database.tables;
  const [row] = yield* query<{ version: unknown; oldest: unknown }>(
    sql`select max(v.${v.$.version}) as version, max(v.${v.$.oldestProcess}) as oldest from ${v.sql} v`,
  );
  if (row && row.version !== null) return { version: Number(row.version), oldestProcess: Number(row.oldest) };
  yield sql`insert into ${v.sql} (${v.$.version}, ${v.$.oldestProcess}) values (${SCHEMA_VERSION}, ${1})`;
  return { version: SCHEMA_VERSION, oldestProcess: 1 };
}
