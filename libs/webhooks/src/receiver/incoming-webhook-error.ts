import { WebhooksError } from '../errors.js';

/**
 * Why a request is not a genuine webhook. A closed list, for logs and metrics. Answer a plain 401 without the reason: each reason
 * helps an attacker to forge the next request.
 *
 * | code | what is wrong |
 * |---|---|
 * | `MISSING_HEADER` | `webhook-id`, `webhook-timestamp` or the signature is missing, or arrived twice |
 * | `INVALID_TIMESTAMP` | `webhook-timestamp` is not whole Unix seconds |
 * | `TIMESTAMP_TOO_OLD` | older than the tolerance: a replay, or a wrong clock |
 * | `TIMESTAMP_IN_FUTURE` | in the future by more than the tolerance: a wrong clock |
 * | `SIGNATURE_MISMATCH` | no secret made this signature over these bytes |
 * | `INVALID_PAYLOAD` | genuine, but not a JSON object with a string `type` |
 */
export type IncomingWebhookErrorCode =
  | 'MISSING_HEADER'
  | 'INVALID_TIMESTAMP'
  | 'TIMESTAMP_TOO_OLD'
  | 'TIMESTAMP_IN_FUTURE'
  | 'SIGNATURE_MISMATCH'
  | 'INVALID_PAYLOAD';

/** Thrown by {@link verifyIncomingWebhook}. Answer 401 without a reason, and log the `code`. */
export class IncomingWebhookError extends WebhooksError {
  declare readonly code: IncomingWebhookErrorCode;

  constructor(code: IncomingWebhookErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(code, message, options);
  }
}
