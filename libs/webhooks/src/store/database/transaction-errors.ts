import { WebhooksError } from '../../errors.js';

/**
 * A call cannot be part of the transaction that surrounds it. Codes: `MANAGER_MISSING`, `NOT_TRANSACTIONAL`, `TRANSACTION_OVER`,
 * `WRONG_DATA_SOURCE`.
 */
export class TransactionError extends WebhooksError {}
