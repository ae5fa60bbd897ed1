import { WebhooksError } from '../../errors.js';

/** What drivers say of an error: SQLSTATE or a name in `code`, and a number in `errno` where the server is MySQL or MariaDB. */
interface DriverError {
  readonly code?: unknown;
  readonly errno?: unknown;
}

/** A server said nothing for so long that its connection was closed. Whether it did what it was asked is not known. @internal */
export class DatabaseTimeoutError extends WebhooksError {
  constructor(what: string, limitMs: number) {
    super(
      'DATABASE_TIMEOUT',
      `The database did not ${what} within ${limitMs / 1_000} s. The connection was closed; the work is tried again on a new one. Check the network between this process and the database.`,
      { details: { limitMs } },
    );
  }
}

/** Errors after which the same transaction may succeed when it runs again. */
const RETRYABLE_CODES = new Set<unknown>([
  '40001', // serialization_failure
  '40P01', // deadlock_detected
  '55P03', // lock_not_available: only where the application sets a `lock_timeout`
  1213, // ER_LOCK_DEADLOCK
  1205, // ER_LOCK_WAIT_TIMEOUT
]);

/** Whether a transaction that failed so may simply run again. */
export function isRetryable(error: unknown): boolean {
  const { code, errno } = driverError(error);
  return (
    RETRYABLE_CODES.has(code) ||
    RETRYABLE_CODES.has(errno) ||
    (typeof code === 'string' && code.startsWith('SQLITE_BUSY'))
  );
}

const UNIQUE_VIOLATIONS = new Set<unknown>(['23505', 1062, 'SQLITE_CONSTRAINT_UNIQUE']);

/** Whether a statement would have broken a unique index. */
export function isUniqueViolation(error: unknown): boolean {
  const { code, errno } = driverError(error);
  return UNIQUE_VIOLATIONS.has(code) || UNIQUE_VIOLATIONS.has(errno);
}

/** PostgreSQL: undefined_table, undefined_column. MySQL and MariaDB: ER_NO_SUCH_TABLE, ER_BAD_FIELD_ERROR. */
const MISSING = new Set<unknown>(['42P01', '42703', 1146, 1054]);

/**
 * Whether a statement that is known to be correct names a table or a column that is not there. SQLite has one code for all that it cannot
 * prepare. A database that is down, or refuses to be read, has other codes.
 */
export function isMissingTable(error: unknown): boolean {
  const { code, errno } = driverError(error);
  return MISSING.has(code) || MISSING.has(errno) || code === 'SQLITE_ERROR';
}

/** What PostgreSQL says of values: data exceptions, constraints, and limits that one row exceeds. */
const POSTGRES_DATA = /^(?:22|23|54)[0-9A-Z]{3}$/;
const SQLITE_DATA = /^SQLITE_(?:CONSTRAINT|TOOBIG|MISMATCH|RANGE)/;
/** MySQL and MariaDB: incorrect, too long, out of range, a broken constraint, invalid JSON, and larger than a packet. */
const MYSQL_DATA = new Set([
  1048, 1062, 1153, 1264, 1292, 1300, 1366, 1406, 1451, 1452, 1690, 3140, 3141, 3819, 4025, 4038, 4079,
]);

/**
 * Whether the values of a statement are at fault, so that other values may fare better. Otherwise the database, or the way to it, is: a
 * lost connection, a server that refuses writes, a full disk, a missing table.
 */
export function isFaultOfData(error: unknown): boolean {
  const { code, errno } = driverError(error);
  if (typeof errno === 'number') return MYSQL_DATA.has(errno);
  if (typeof code === 'string') return POSTGRES_DATA.test(code) || SQLITE_DATA.test(code);
  // No server said it: JavaScript could not make the statement.
  return error instanceof TypeError || error instanceof RangeError || error instanceof SyntaxError;
}

/** What the driver said, also where TypeORM has wrapped it. */
function driverError(error: unknown): DriverError {
  return ((error as { driverError?: DriverError } | null)?.driverError ?? error ?? {}) as DriverError;
}
