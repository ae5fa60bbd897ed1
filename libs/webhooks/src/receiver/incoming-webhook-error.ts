import { WebhooksError } from '../errors.js';

/**
 * Why a request is not a genuine webhook. The list of codes is closed. Use the codes for logs and metrics. Answer with a plain
 * 401 and without the reason, because each reason helps an attacker to forge the next request.
 *
 * | code | what is wrong |
 * |---|---|
 * | `MISSING_HEADER` | `webhook-id`, `webhook-timestamp` or the signature is missing, or occurs twice |
 * | `INVALID_TIMESTAMP` | `webhook-timestamp` is not whole Unix seconds |
 * | `TIMESTAMP_TOO_OLD` | the timestamp is older than the tolerance, because of a replay or a wrong clock |
 * | `TIMESTAMP_IN_FUTURE` | the timestamp is in the future by more than the tolerance, because of a wrong clock |
 * | `SIGNATURE_MISMATCH` | no secret made this signature over these bytes |
 * | `INVALID_PAYLOAD` | the request is genuine, but its body is not a JSON object with a string `type` |
 */
export type IncomingWebhookErrorCode =
  | 'MISSING_HEADER'
  | 'INVALID_TIMESTAMP'
  | 'TIMESTAMP_TOO_OLD'
  | 'TIMESTAMP_IN_FUTURE'
  | 'SIGNATURE_MISMATCH'
  | 'INVALID_PAYLOAD';

/** The error that {@link verifyIncomingWebhook} throws. Answer 401 without a reason, and log the `code`. */
export class IncomingWebhookError extends WebhooksError {
  declare readonly code: IncomingWebhookErrorCode;

  constructor(code: IncomingWebhookErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(code, message, options);
  }
}
