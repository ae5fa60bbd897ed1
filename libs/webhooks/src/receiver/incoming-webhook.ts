import { runDeeper } from '../cause.js';
import { DEPTH_HEADER } from '../events/reserved-names.js';

/**
 * The length of the chain of events that led to a webhook, from the header `webhook-depth`; 0 if the header is missing or not a number. Use
 * the number only if the webhook is verified.
 *
 * @param headers names must be in lower case
 */
export function depthOf(headers: Readonly<Record<string, string | undefined>>): number {
  const text = headers[DEPTH_HEADER];
  return text !== undefined && /^[1-9]\d{0,5}$/.test(text) ? Number(text) : 0;
}

/**
 * Runs the work for a webhook, and marks its writes as caused by the webhook. Without the mark, a loop is not detected: the events of
 * these writes may come back as webhooks, and the handlers of these webhooks write again. If the chain of events becomes longer than the
 * module option `maxCausationDepth`, the write fails with `WEBHOOK_LOOP`.
 *
 * The argument is the result of {@link verifyIncomingWebhook} and not headers. With forged headers, an attacker could make your writes
 * fail.
 *
 * @returns what `work` returns
 * @example
 * const webhook = verifyIncomingWebhook({ headers: request.headers, body: request.rawBody, secrets });
 * await withIncomingWebhook(webhook, () => orders.save({ id: webhook.data.orderId, status: 'paid' }));
 */
export function withIncomingWebhook<T>(webhook: { readonly depth: number }, work: () => T): T {
  return runDeeper(webhook.depth, work);
}
