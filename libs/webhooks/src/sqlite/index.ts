export { SqliteLockTimeoutError, SqliteTransactionLostError } from './errors.js';
export { isFileSqlite, isolateSqlite, sqliteWriterLock, type IsolateSqliteOptions } from './isolate-sqlite.js';
export { SqliteWriterLock, type LockOrigin } from './sqlite-writer-lock.js';
