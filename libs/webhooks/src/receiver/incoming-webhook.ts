import { runDeeper } from '../cause.js';
import { DEPTH_HEADER } from '../events/reserved-names.js';

/**
 * The depth that a request claims; 0 when it claims none, or nothing that is a number. Believe it only of a webhook that was
 * verified.
 *
 * @param headers with names in lower case
 */
export function depthOf(headers: Readonly<Record<string, string | undefined>>): number {
  const text = headers[DEPTH_HEADER];
  return text !== undefined && /^[1-9]\d{0,5}$/.test(text) ? Number(text) : 0;
}

/**
 * Does the work that a webhook asks for. What it writes counts as caused by the webhook: when it makes events that come back
 * here and write again, that is noticed, and stopped with `WEBHOOK_LOOP` past the module's option `maxDepth`.
 *
 * Takes what {@link verifyWebhook} gave, and not headers: a stranger who invents them must not be able to stop your writes.
 *
 * @returns what `work` returns
 * @example
 * const webhook = verifyWebhook({ headers: request.headers, body: request.rawBody, secrets });
 * await withIncomingWebhook(webhook, () => orders.save({ id: webhook.data.orderId, status: 'paid' }));
 */
export function withIncomingWebhook<T>(webhook: { readonly depth: number }, work: () => T): T {
  return runDeeper(webhook.depth, work);
}
