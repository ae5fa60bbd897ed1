import { WebhooksError } from '../../errors.js';

/** The fields of a driver's error. `code` has an SQLSTATE or a name. On MySQL and MariaDB, `errno` has a number. */
interface DriverError {
  readonly code?: unknown;
  readonly errno?: unknown;
}

/**
 * The server did not answer in time, and its connection was closed. The client cannot know whether the server ran the statement. @internal
 */
export class DatabaseTimeoutError extends WebhooksError {
  constructor(what: string, limitMs: number) {
    super(
      'DATABASE_TIMEOUT',
      `The database did not ${what} within ${limitMs / 1_000} s. The connection was closed, and the work is retried on a new connection. Check the network between this process and the database.`,
      { details: { limitMs } },
    );
  }
}

/** Errors after which the same transaction may succeed on a retry. */
const RETRYABLE_CODES = new Set<unknown>([
  '40001', // serialization_failure
  '40P01', // deadlock_detected
  '55P03', // lock_not_available: only if the application sets a `lock_timeout`
  1213, // ER_LOCK_DEADLOCK
  1205, // ER_LOCK_WAIT_TIMEOUT
]);

/** Whether a transaction that failed with this error can be retried. */
export function isRetryable(error: unknown): boolean {
  const { code, errno } = driverError(error);
  return (
    RETRYABLE_CODES.has(code) ||
    RETRYABLE_CODES.has(errno) ||
    (typeof code === 'string' && code.startsWith('SQLITE_BUSY'))
  );
}

const UNIQUE_VIOLATIONS = new Set<unknown>(['23505', 1062, 'SQLITE_CONSTRAINT_UNIQUE']);

/** Whether a statement failed because of a unique index. */
export function isUniqueViolation(error: unknown): boolean {
  const { code, errno } = driverError(error);
  return UNIQUE_VIOLATIONS.has(code) || UNIQUE_VIOLATIONS.has(errno);
}

/** Codes of PostgreSQL: duplicate_table, duplicate_object, duplicate_schema, and unique_violation for a row of its catalogue. */
const ALREADY_CREATED = new Set<unknown>(['42P07', '42710', '42P06', '23505']);

/** Whether PostgreSQL refused to create a table, an index or a schema because another transaction has created it. */
export function isAlreadyCreated(error: unknown): boolean {
  return ALREADY_CREATED.has(driverError(error).code);
}

/**
 * Codes of errors about a missing table or column. PostgreSQL: undefined_table, undefined_column. MySQL and MariaDB: ER_NO_SUCH_TABLE,
 * ER_BAD_FIELD_ERROR.
 */
const MISSING = new Set<unknown>(['42P01', '42703', 1146, 1054]);

/**
 * Whether a table or a column of a statement does not exist. The syntax of the statement must be correct, because SQLite has one code for
 * every statement that it cannot prepare. A database that is down or refuses reads has other codes.
 */
export function isMissingTable(error: unknown): boolean {
  const { code, errno } = driverError(error);
  return MISSING.has(code) || MISSING.has(errno) || code === 'SQLITE_ERROR';
}

/** SQLSTATE classes of PostgreSQL: data exceptions, constraints, and limits that one row exceeds. */
const POSTGRES_DATA = /^(?:22|23|54)[0-9A-Z]{3}$/;
const SQLITE_DATA = /^SQLITE_(?:CONSTRAINT|TOOBIG|MISMATCH|RANGE)/;
/**
 * Error numbers of MySQL and MariaDB for values: an incorrect, too long or out-of-range value, a violated constraint, invalid JSON, and a
 * value larger than a packet.
 */
const MYSQL_DATA = new Set([
  1048, 1062, 1153, 1264, 1292, 1300, 1366, 1406, 1451, 1452, 1690, 3140, 3141, 3819, 4025, 4038, 4079,
]);

/**
 * Whether the values of the statement caused the error. Then other values may succeed. Otherwise the database or the connection is the
 * cause: a lost connection, a server that refuses writes, a full disk, or a missing table.
 */
export function isFaultOfData(error: unknown): boolean {
  const { code, errno } = driverError(error);
  if (typeof errno === 'number') return MYSQL_DATA.has(errno);
  if (typeof code === 'string') return POSTGRES_DATA.test(code) || SQLITE_DATA.test(code);
  // The error is not from a server: JavaScript could not build the statement.
  return error instanceof TypeError || error instanceof RangeError || error instanceof SyntaxError;
}

/** The error of the driver, even if TypeORM has wrapped it. */
function driverError(error: unknown): DriverError {
  return ((error as { driverError?: DriverError } | null)?.driverError ?? error ?? {}) as DriverError;
}

/** Codes of Node.js for sockets and DNS, and codes of the drivers for lost connections and full pools. */
const UNREACHABLE = new Set<unknown>([
  ...['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH'],
  ...['PROTOCOL_CONNECTION_LOST', 'ER_CON_COUNT_ERROR', 'SQLITE_BUSY', 'SQLITE_CANTOPEN'],
]);
/** SQLSTATE: connection exceptions, too many connections, a server that starts or stops. */
const POSTGRES_AWAY = /^(?:08|53|57P)[0-9A-Z]+$/;

/** Whether the database cannot be reached now, so that the same call may succeed later. */
export function isUnavailable(error: unknown): boolean {
  if (error instanceof DatabaseTimeoutError || isRetryable(error)) return true;
  const { code } = driverError(error);
  if (error instanceof AggregateError) return error.errors.some(isUnavailable);
  return UNREACHABLE.has(code) || (typeof code === 'string' && POSTGRES_AWAY.test(code));
}
