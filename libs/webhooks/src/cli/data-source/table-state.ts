import type { Database } from '../../store/database/database.js';
import { missingTables } from '../../store/database/database.js';
import { missingIndexes } from '../../store/database/missing-indexes.js';
import { SCHEMA_VERSION, storedSchemaVersion } from '../../store/database/schema-version.js';

/** How the tables in the database compare with the tables that this release knows. */
export interface TableState {
  readonly prefix: string;
  /** Tables that are missing or lack a column. */
  readonly missing: readonly string[];
  /** The statements that create the indexes that are missing. Empty if a table is missing. */
  readonly missingIndexes: readonly string[];
  /** The version of the tables; 0 if some are missing. */
  readonly version: number;
  /** The version that this release knows. */
  readonly known: number;
  /** The oldest version that a process must know. */
  readonly oldestProcess: number;
}

/** Reads the state of the tables in the database. Changes nothing. */
export async function tableState(database: Database, prefix: string): Promise<TableState> {
  const known = SCHEMA_VERSION;
  const missing = await missingTables(database);
  if (missing.length) return { prefix, missing, missingIndexes: [], version: 0, known, oldestProcess: 0 };
  const indexes = await database.single(() => missingIndexes(database));
  // No process has started yet: the first one stores the version.
  const stored = await database.single(() => storedSchemaVersion(database));
  return {
    prefix,
    missing,
    missingIndexes: indexes,
    version: stored?.version ?? known,
    known,
    oldestProcess: stored?.oldestProcess ?? 1,
  };
}

export function isComplete({ missing, missingIndexes: indexes }: TableState): boolean {
  return missing.length + indexes.length === 0;
}
