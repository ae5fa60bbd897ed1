/** What a conversion was doing when it failed: taking images, making rows of them again, or writing their events. */
type ConversionStep = 'taking' | 'reading' | 'writing';

/** What PostgreSQL says of values: data exceptions, constraints, limits that one row exceeds, and internal errors of types. */
const POSTGRES_DATA = /^(?:22|23|54|P0|XX)/;
/** The connection, the server or its files, and transactions that may be run again. `57014` is a statement that took too long. */
const POSTGRES_TROUBLE = /^(?:08|25|28|3D|40|53|55|57P|58)/;
/** `EPIPE` is none. */
const SQLSTATE = /^(?=.*\d)[\dA-Z]{5}$/;
const SQLITE_DATA = /^SQLITE_(?:ERROR|CONSTRAINT|TOOBIG|MISMATCH)/;
/** MySQL and MariaDB: incorrect, too long, out of range, constraints, SIGNAL, invalid JSON or geometry, and larger than a packet. */
const MYSQL_DATA = new Set([
  1048, 1062, 1153, 1264, 1265, 1292, 1300, 1301, 1366, 1367, 1406, 1411, 1416, 1452, 1643, 1644, 1690, 3037, 3140,
  3141, 3156, 3157, 3636, 3819, 3903, 3904, 4025, 4036, 4037, 4038, 4039, 4040, 4042, 4044, 4078, 4079,
]);
/** MySQL and MariaDB: connections, shutdown, a full disk, read-only, locks. */
const MYSQL_TROUBLE = new Set([
  1021, 1030, 1037, 1038, 1040, 1041, 1043, 1044, 1045, 1053, 1077, 1078, 1079, 1080, 1114, 1129, 1130, 1152, 1158,
  1159, 1160, 1161, 1203, 1205, 1206, 1213, 1223, 1226, 1290, 1317, 1836, 1927, 3168, 3572, 4031,
]);

/** How far a conversion has come, for whoever catches its error. */
export interface Progress {
  step: ConversionStep;
  /** Thrown by our own code or the application's, not by the database. */
  thrown?: unknown;
}

/**
 * Whether an error that an image meets alone is that image's fault, so that it is set aside and the next one goes on. Otherwise the
 * database is at fault, and every other image would meet the same.
 *
 * Reading is what depends on the image: its table, its types, the rights on them. There everything is its fault that is not trouble with
 * the server. Events are all written to one table, so there only what is said of values counts.
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
  // Drivers give no code when they have lost their connection, or one of the operating system's.
  if (typeof code !== 'string') return false;
  if (code.startsWith('SQLITE')) return SQLITE_DATA.test(code);
  if (!SQLSTATE.test(code)) return false;
  return isReading ? !POSTGRES_TROUBLE.test(code) : POSTGRES_DATA.test(code);
}
