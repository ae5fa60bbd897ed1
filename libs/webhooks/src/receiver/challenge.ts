import { ConfigurationError } from '../errors.js';
import { lowerCaseHeaders, type IncomingWebhookHeaders } from './verify-incoming-webhook.js';
import { CHALLENGE_TYPE } from '../events/reserved-names.js';

/**
 * Returns the challenge of a handshake request (`handshake: 'challenge'`). With this request a sender asks for permission to send webhooks.
 * Returns `null` for any other webhook. To agree, answer 200 with the challenge as the body, or with `{ "challenge": … }`.
 *
 * Verify the webhook first. A receiver that answers an unverified challenge gives permission to an unknown sender.
 *
 * @param webhook the result of `verifyIncomingWebhook()`, or the value of `@IncomingWebhookParam()`
 * @example
 * const challenge = challengeOf(verifyIncomingWebhook({ headers, body, secrets }));
 * if (challenge !== null) return res.json({ challenge });
 */
export function challengeOf(webhook: { readonly type: string | null; readonly data: unknown }): string | null {
  if (webhook.type !== CHALLENGE_TYPE) return null;
  const { challenge } = (webhook.data ?? {}) as { challenge?: unknown };
  // Return only safe characters: the answer must never contain text that a browser could read as markup.
  return typeof challenge === 'string' && /^[\w-]{16,256}$/.test(challenge) ? challenge : null;
}

/**
 * Returns the headers that grant an `OPTIONS` request of CloudEvents' abuse protection, for your own route. Returns `null` when the
 * origin is not allowed. In that case, answer without these headers.
 *
 * This permission says nothing about the identity of the sender. So verify the webhooks of this sender like all
 * other webhooks.
 *
 * @param options `origins`: DNS names of allowed senders, or `'*'`; `ratePerMinute`: maximum number of requests per minute of the
 * sender
 * @defaultValue `ratePerMinute`: no limit
 * @throws {@link ConfigurationError} `INVALID_OPTION` when `ratePerMinute` is not a whole number of at least 1
 * @see https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md#42-validation-response
 */
export function permissionFor(
  headers: IncomingWebhookHeaders,
  { origins, ratePerMinute }: { origins: readonly string[] | '*'; ratePerMinute?: number },
): Record<string, string> | null {
  if (ratePerMinute !== undefined && !(Number.isSafeInteger(ratePerMinute) && ratePerMinute >= 1)) {
    throw new ConfigurationError(
      'INVALID_OPTION',
      `Invalid value ${ratePerMinute} for \`ratePerMinute\`. Allowed: a whole number of at least 1.`,
    );
  }
  const origin = lowerCaseHeaders(headers)['webhook-request-origin'];
  if (origin === undefined || !/^[\w.-]{1,253}$/.test(origin)) return null;
  const isAllowed = origins === '*' || origins.some((name) => name.toLowerCase() === origin.toLowerCase());
  if (!isAllowed) return null;
  return {
    allow: 'POST',
    'webhook-allowed-origin': origin,
    'webhook-allowed-rate': ratePerMinute === undefined ? '*' : String(ratePerMinute),
  };
}
