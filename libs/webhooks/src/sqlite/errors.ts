import { WebhooksError } from '../errors.js';

/**
 * A write waited longer than `lockTimeoutMs` for the writer before it, in this process or in another. Nothing of it was
 * done, so it may be tried again.
 *
 * From a statement, TypeORM hands it over as the `driverError` of its `QueryFailedError`, which carries the same `code`:
 * `SQLITE_LOCK_TIMEOUT`.
 */
export class SqliteLockTimeoutError extends WebhooksError {
  constructor(message: string, options: { cause?: unknown; details: Readonly<Record<string, unknown>> }) {
    super('SQLITE_LOCK_TIMEOUT', message, options);
  }
}

/**
 * SQLite ended the transaction by itself (a full disk, an I/O error, `ON CONFLICT ROLLBACK`): what came before is gone.
 * Further statements are refused until `ROLLBACK`, as they would be committed one by one. Code:
 * `SQLITE_TRANSACTION_LOST`.
 */
export class SqliteTransactionLostError extends WebhooksError {
  constructor() {
    super(
      'SQLITE_TRANSACTION_LOST',
      'SQLite has rolled this transaction back after an error of an earlier statement: roll back, and do all of it again.',
    );
  }
}
