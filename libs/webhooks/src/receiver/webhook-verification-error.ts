import { WebhooksError } from '../errors.js';

/**
 * Why a request is not a webhook to act on. A closed list, for logs and metrics: whoever sent the request is told no more
 * than a plain 401, as each reason helps somebody who forges.
 *
 * | code | what is wrong |
 * |---|---|
 * | `MISSING_HEADER` | `webhook-id`, `webhook-timestamp` or the signature is missing, or is there twice |
 * | `INVALID_TIMESTAMP` | `webhook-timestamp` is not whole Unix seconds |
 * | `TIMESTAMP_TOO_OLD` | older than the tolerance: a replay, or a clock that is wrong |
 * | `TIMESTAMP_IN_FUTURE` | later than now and the tolerance |
 * | `SIGNATURE_MISMATCH` | none of the secrets made this signature over these bytes |
 * | `INVALID_PAYLOAD` | genuine, but no JSON object with a text `type` |
 */
export type WebhookVerificationCode =
  | 'MISSING_HEADER'
  | 'INVALID_TIMESTAMP'
  | 'TIMESTAMP_TOO_OLD'
  | 'TIMESTAMP_IN_FUTURE'
  | 'SIGNATURE_MISMATCH'
  | 'INVALID_PAYLOAD';

/** Thrown by {@link verifyWebhook}. Answer 401 and nothing else; keep `code` for your own log. */
export class WebhookVerificationError extends WebhooksError {
  declare readonly code: WebhookVerificationCode;

  constructor(code: WebhookVerificationCode, message: string, options: { cause?: unknown } = {}) {
    super(code, message, options);
  }
}
