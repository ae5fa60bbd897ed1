/**
 * Where drivers and TypeORM keep what a statement was given, or the row that it was about. Secrets of listeners are among it: the
 * parameters of TypeORM, `sql` of mysql2 with its values filled in, `detail` ("Failing row contains …") and `where` ("… portal with
 * parameters: …") of PostgreSQL.
 */
const VALUES = ['parameters', 'sql', 'detail', 'where', 'hint', 'internalQuery'] as const;

/** The same error without any value of its statement: code, message and the statement's text stay. */
export function withoutValues(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  for (const one of [error, (error as { driverError?: unknown }).driverError]) {
    if (typeof one !== 'object' || one === null) continue;
    for (const key of VALUES) delete (one as Record<string, unknown>)[key];
  }
  return error;
}
