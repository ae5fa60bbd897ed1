import type { TypedIncomingWebhook, WebhookPayloadTypes } from '../typed-incoming-webhook.js';
import type { IncomingWebhookMessage } from './incoming-webhook-message.js';

/**
 * As {@link IncomingWebhookMessage}, of one of these types: comparing `type` narrows the type of `data`.
 *
 * @typeParam P the sender's `WebhookPayloads`
 * @example
 * async receive(@IncomingWebhookParam() webhook: TypedIncomingWebhookMessage<WebhookPayloads>) {
 *   if (webhook.type === 'order.updated') await this.orders.update(webhook.data.id);
 * }
 */
export type TypedIncomingWebhookMessage<P extends WebhookPayloadTypes<P>> = TypedIncomingWebhook<
  P,
  IncomingWebhookMessage
>;
