import { CaptureError } from '../../entities/errors.js';
import type { Transaction } from './transaction-log.js';
import type { Work } from './work.js';

/** The maximum number of changes that a message names. */
const NAMED = 10;
const AWAIT_WRITES = 'Await every write before its transaction ends.';

/** `TRANSACTION_ENDED`: the transaction of a write was over before the write was done. */
export function transactionEnded({ label }: Work, { end = 'committed' }: Transaction): CaptureError {
  const write = label();
  return new CaptureError(
    'TRANSACTION_ENDED',
    `The transaction of ${write} was ${end} before ${write} was done. The write sent no more statements. ${AWAIT_WRITES}`,
    { details: { write, transaction: end } },
  );
}

/** `TRANSACTION_ENDED`: a write was called while its transaction was ending. The end may be waiting for this write. */
export function calledTooLate({ label }: Work, timeoutMs: number): CaptureError {
  const write = label();
  return new CaptureError(
    'TRANSACTION_ENDED',
    `${write} was called while its transaction was ending. The end did not come within ${timeoutMs} ms (option \`unfinishedWritesTimeoutMs\`), so the write sent no statement. ${AWAIT_WRITES}`,
    { details: { write, transaction: 'ending' } },
  );
}

/**
 * `WRITES_UNFINISHED`, thrown by a COMMIT, SAVEPOINT or RELEASE.
 *
 * @param isRolledBack whether the transaction was rolled back, or its part after a savepoint
 */
export function writesUnfinished(stuck: readonly Work[], timeoutMs: number, isRolledBack: boolean): CaptureError {
  const writes = stuck.map(({ label }) => label());
  const outcome = isRolledBack
    ? 'The transaction was rolled back instead of committed (a nested transaction: to its savepoint). The end of the transaction'
    : 'SAVEPOINT or RELEASE was refused, and nothing was rolled back. The statement';
  return new CaptureError(
    'WRITES_UNFINISHED',
    `${outcome} waited for ${writes.join(', ')}, and none of these writes ran a statement for ${timeoutMs} ms (option \`unfinishedWritesTimeoutMs\`). ${AWAIT_WRITES} A hook must not wait for other work if that work waits for this statement.`,
    { details: { writes, timeoutMs } },
  );
}

/** `TRANSACTION_ABORTED`: PostgreSQL has turned a COMMIT into a ROLLBACK. The COMMIT throws this error. */
export function transactionAborted(): CaptureError {
  return new CaptureError(
    'TRANSACTION_ABORTED',
    'The transaction was rolled back, not committed: PostgreSQL had aborted the transaction because an earlier statement had failed. Let the error of that statement end the transaction, or run the statement in a nested transaction().',
  );
}

/** `TRANSACTION_OPEN`: SQLite refuses a BEGIN inside a transaction. Without this error, TypeORM would then roll back that transaction. */
export function transactionOpen(): CaptureError {
  return new CaptureError(
    'TRANSACTION_OPEN',
    'This query runner is in a transaction that a BEGIN statement of the application has opened, so save(), transaction() and startTransaction() cannot begin a transaction. The transaction is still open. Use startTransaction() instead of BEGIN.',
  );
}

/** `EVENTS_LOST`: changes were committed without events. */
export function eventsLost(what: readonly string[]): CaptureError {
  const changes = what.length > NAMED ? [...what.slice(0, NAMED), `and ${what.length - NAMED} more`] : what;
  return new CaptureError(
    'EVENTS_LOST',
    `Changes were committed without events, because their transaction ended before the events were written: ${changes.join(', ')}. Await every write before its transaction ends, and end the transaction by a separate COMMIT or ROLLBACK statement.`,
    { details: { changes } },
  );
}
