import { WebhooksError } from '../errors.js';

/**
 * A write waited longer than `lockTimeoutMs` for an earlier writer, in this process or in another. Nothing was written, so the write may be
 * retried.
 *
 * If a statement waited, TypeORM throws a `QueryFailedError` with the same `code`, `SQLITE_LOCK_TIMEOUT`. The `driverError` of the
 * `QueryFailedError` is this error.
 */
export class SqliteLockTimeoutError extends WebhooksError {
  constructor(message: string, options: { cause?: unknown; details: Readonly<Record<string, unknown>> }) {
    super('SQLITE_LOCK_TIMEOUT', message, options);
  }
}

/**
 * SQLite ended the transaction itself (a full disk, an I/O error, `ON CONFLICT ROLLBACK`), and the earlier changes of the transaction are
 * lost. Further statements are refused until `ROLLBACK`, because SQLite would commit each of them alone. Code: `SQLITE_TRANSACTION_LOST`.
 */
export class SqliteTransactionLostError extends WebhooksError {
  constructor() {
    super(
      'SQLITE_TRANSACTION_LOST',
      'SQLite has rolled back this transaction after an error of an earlier statement, so no more statements run in this transaction. Roll back, and repeat the whole transaction.',
    );
  }
}
