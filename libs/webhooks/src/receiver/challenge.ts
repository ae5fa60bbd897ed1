import { ConfigurationError } from '../errors.js';
import { lowerCaseHeaders, type WebhookHeaders } from './verify-webhook.js';
import { CHALLENGE_TYPE } from '../events/reserved-names.js';

/**
 * The challenge of a sender that wants to know whether webhooks are welcome here (`handshake: 'challenge'`); `null` for any other
 * webhook. Answer 200 with it as the body, or with `{ "challenge": … }`.
 *
 * Only for what is verified: who answers anybody's challenge agrees on behalf of a stranger.
 *
 * @param webhook what `verifyWebhook()` or `@IncomingWebhook()` gave
 * @example
 * const challenge = challengeOf(verifyWebhook({ headers, body, secrets }));
 * if (challenge !== null) return res.json({ challenge });
 */
export function challengeOf(webhook: { readonly type: string | null; readonly data: unknown }): string | null {
  if (webhook.type !== CHALLENGE_TYPE) return null;
  const { challenge } = (webhook.data ?? {}) as { challenge?: unknown };
  // Nothing that a page could take for markup goes back.
  return typeof challenge === 'string' && /^[\w-]{16,256}$/.test(challenge) ? challenge : null;
}

/**
 * The headers that grant the `OPTIONS` request of CloudEvents' abuse protection, for a route of yours; `null` for one that is not
 * granted, which gets an answer without them.
 *
 * It grants requests, not trust: what comes afterwards is verified like any webhook.
 *
 * @param options `origins`: DNS names of senders that may send here, or `'*'`; `ratePerMinute`: how many requests a minute they may make
 * @defaultValue `ratePerMinute`: no limit
 * @throws {@link ConfigurationError} `INVALID_OPTION` for a `ratePerMinute` that is no whole number from 1 up
 * @see https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md#42-validation-response
 */
export function permissionFor(
  headers: WebhookHeaders,
  { origins, ratePerMinute }: { origins: readonly string[] | '*'; ratePerMinute?: number },
): Record<string, string> | null {
  if (ratePerMinute !== undefined && !(Number.isSafeInteger(ratePerMinute) && ratePerMinute >= 1)) {
    throw new ConfigurationError('INVALID_OPTION', `ratePerMinute is ${ratePerMinute}: give a whole number from 1 up.`);
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
