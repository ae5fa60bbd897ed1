import sql from 'sql-template-tag';
import type { Database } from './database.js';
import { query, type Script } from './script.js';

/** The version of the tables that this release of the library knows. Each new migration increases it by 1. */
export const SCHEMA_VERSION = 3;

/** The oldest version of the tables that this release can use, and the oldest version that a process must know to use the current tables. */
export const OLDEST_VERSION = 3;

/** The version that is stored in the database. */
export interface StoredSchemaVersion {
  readonly version: number;
  /** The oldest version of the tables that a process must know to work with them. */
  readonly oldestProcess: number;
}

/** Reads the version of the tables. `null` if no process has stored a version yet. */
export function* storedSchemaVersion(database: Database): Script<StoredSchemaVersion | null> {
  const { schemaVersion: v } = database.tables;
  const [row] = yield* query<{ version: unknown; oldest: unknown }>(
    sql`select max(v.${v.$.version}) as version, max(v.${v.$.oldestProcess}) as oldest from ${v.sql} v`,
  );
  if (!row || row.version === null) return null;
  return { version: Number(row.version), oldestProcess: Number(row.oldest) };
}

/**
 * Reads the version of the tables. Stores the version if no version is stored yet. Each migration after the first inserts another row, and
 * the highest numbers count.
 */
export function* readSchemaVersion(database: Database): Script<StoredSchemaVersion> {
  const stored = yield* storedSchemaVersion(database);
  if (stored) return stored;
  const { schemaVersion: v } = database.tables;
  yield sql`insert into ${v.sql} (${v.$.version}, ${v.$.oldestProcess}) values (${SCHEMA_VERSION}, ${OLDEST_VERSION})`;
  return { version: SCHEMA_VERSION, oldestProcess: OLDEST_VERSION };
}
