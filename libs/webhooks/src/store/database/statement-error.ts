/**
 * The fields in which drivers and TypeORM keep the values of a statement or the row that failed. Secrets of listeners are among these
 * values: `parameters` of TypeORM, `sql` of mysql2 with the values inserted, `detail` ("Failing row contains …") and `where` ("… portal
 * with parameters: …") of PostgreSQL.
 */
const VALUES = ['parameters', 'sql', 'detail', 'where', 'hint', 'internalQuery'] as const;

/** Removes the values of the statement from an error. Code, message and statement text stay. */
export function withoutValues(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  for (const one of [error, (error as { driverError?: unknown }).driverError]) {
    if (typeof one !== 'object' || one === null) continue;
    for (const key of VALUES) delete (one as Record<string, unknown>)[key];
  }
  return error;
}
