import { WebhooksError } from '../errors.js';

/**
 * The arguments of `publish()` cannot become an event. Codes: `UNKNOWN_EVENT_TYPE`, `RESERVED_EVENT_TYPE`, `INVALID_DATA`,
 * `WRONG_DATA_SOURCE`, `INVALID_OWNER`, `INVALID_IDEMPOTENCY_KEY`, `INVALID_ORDER_KEY`, `WEBHOOK_LOOP`.
 */
export class PublishError extends WebhooksError {}
