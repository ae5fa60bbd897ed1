import sql from 'sql-template-tag';
import type { Database } from './database.js';
import { query, type Script } from './script.js';

/** Of the tables as this version of the library knows them. A migration that is added makes it one more. */
export const SCHEMA_VERSION = 1;

/** What the tables say of themselves. */
export interface StandingVersion {
  readonly version: number;
  /** No process that knows an older version of the tables may work with them. */
  readonly oldestProcess: number;
}

/**
 * Reads the version of the tables, and writes it where there is none yet. Each migration after the first inserts a row of its own; the
 * highest numbers count.
 */
export function* readSchemaVersion(database: Database): Script<StandingVersion> {
  const { schemaVersion: v } = database.tables;
  const [row] = yield* query<{ version: unknown; oldest: unknown }>(
    sql`select max(v.${v.$.version}) as version, max(v.${v.$.oldestProcess}) as oldest from ${v.sql} v`,
  );
  if (row && row.version !== null) return { version: Number(row.version), oldestProcess: Number(row.oldest) };
  yield sql`insert into ${v.sql} (${v.$.version}, ${v.$.oldestProcess}) values (${SCHEMA_VERSION}, ${1})`;
  return { version: SCHEMA_VERSION, oldestProcess: 1 };
}
