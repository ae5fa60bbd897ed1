/**
 * The fields of an error in which drivers and TypeORM keep the values of a statement, or the row that failed. These values may contain
 * secrets of listeners. TypeORM uses `parameters`. mysql2 uses `sql`, with the values inserted. PostgreSQL uses `detail` ("Failing row
 * contains …") and `where` ("… portal with parameters: …").
 */
const VALUES = ['parameters', 'sql', 'detail', 'where', 'hint', 'internalQuery'] as const;

/** Removes the values of the statement from an error. The code, the message and the statement text stay. */
export function withoutValues(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  for (const one of [error, (error as { driverError?: unknown }).driverError]) {
    if (typeof one !== 'object' || one === null) continue;
    for (const key of VALUES) delete (one as Record<string, unknown>)[key];
  }
  return error;
}
