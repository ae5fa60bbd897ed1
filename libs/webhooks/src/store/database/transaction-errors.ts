import { WebhooksError } from '../../errors.js';

/**
 * A call cannot join the transaction around the call. Codes: `MANAGER_MISSING`, `NOT_TRANSACTIONAL`, `TRANSACTION_OVER`,
 * `WRONG_DATA_SOURCE`.
 */
export class TransactionError extends WebhooksError {}
