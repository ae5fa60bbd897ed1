/** The step in which a conversion failed: taking images from the table, reading images as rows, or writing the events of the images. */
type ConversionStep = 'taking' | 'reading' | 'writing';

/**
 * SQLSTATE classes of PostgreSQL for errors about values: data exceptions, constraints, limits that one row exceeds, and internal errors of
 * types.
 */
const POSTGRES_DATA = /^(?:22|23|54|P0|XX)/;
/**
 * SQLSTATE classes of PostgreSQL for errors about the connection, the server or its files, and about transactions that can be retried. One
 * of them is `57014`, the timeout of a statement.
 */
const POSTGRES_TROUBLE = /^(?:08|25|28|3D|40|53|55|57|58)/;
/** An SQLSTATE has at least one digit, so a code of the operating system such as `EPIPE` does not match. */
const SQLSTATE = /^(?=.*\d)[\dA-Z]{5}$/;
const SQLITE_DATA = /^SQLITE_(?:ERROR|CONSTRAINT|TOOBIG|MISMATCH)/;
/**
 * Error numbers of MySQL and MariaDB for errors about values: an incorrect value, a value that is too long or out of range, constraints,
 * SIGNAL, invalid JSON or geometry, and a value larger than a packet.
 */
const MYSQL_DATA = new Set([
  1048, 1062, 1153, 1264, 1265, 1292, 1300, 1301, 1366, 1367, 1406, 1411, 1416, 1452, 1643, 1644, 1690, 3037, 3140,
  3141, 3156, 3157, 3636, 3819, 3903, 3904, 4025, 4036, 4037, 4038, 4039, 4040, 4042, 4044, 4078, 4079,
]);
/**
 * Error numbers of MySQL and MariaDB for errors about connections, shutdown, a full disk, read-only mode, locks and the timeout of a
 * statement (MariaDB 1969, MySQL 3024). Also the error number of a Galera node that is not part of its cluster (1047).
 */
const MYSQL_TROUBLE = new Set([
  1020, 1021, 1030, 1037, 1038, 1040, 1041, 1043, 1044, 1045, 1047, 1053, 1077, 1078, 1079, 1080, 1114, 1129, 1130,
  1135, 1152, 1156, 1157, 1158, 1159, 1160, 1161, 1180, 1184, 1203, 1205, 1206, 1213, 1223, 1226, 1290, 1317, 1792,
  1836, 1927, 1969, 3024, 3168, 3169, 3572, 4031,
]);

/**
 * The progress of a conversion. The conversion updates this object in place. So code that catches an error of the conversion can read the
 * progress.
 */
export interface Progress {
  step: ConversionStep;
  /** The error, if this library or the application threw it. `undefined` if the database reported the error. */
  thrown?: unknown;
}

/**
 * Whether one image is the cause of an error. The image was converted alone. If the image is the cause, the image is marked as damaged and
 * the next image is converted. Otherwise the database is the cause, and every other image would fail with the same error.
 *
 * The step of reading depends on the image: on its table, the types of the table and the rights on the table. So in this step the image is
 * the cause of every error that is not about the server. The step of writing puts all events into the same table. So in this step the image
 * is the cause only of errors about values.
 */
export function isFaultOfImage(error: unknown, { step, thrown }: Progress): boolean {
  if (step === 'taking') return false;
  if (thrown === error) return true;
  const { driverError = error } = error as { driverError?: unknown };
  const { code, errno } = driverError as { code?: unknown; errno?: unknown };
  const isReading = step === 'reading';
  if (typeof errno === 'number' && errno > 0) {
    return isReading ? errno < 5_000 && !MYSQL_TROUBLE.has(errno) : MYSQL_DATA.has(errno);
  }
  // After a lost connection, a driver gives no code, or gives a code of the operating system.
  if (typeof code !== 'string') return false;
  if (code.startsWith('SQLITE')) return SQLITE_DATA.test(code);
  if (!SQLSTATE.test(code)) return false;
  return isReading ? !POSTGRES_TROUBLE.test(code) : POSTGRES_DATA.test(code);
}
