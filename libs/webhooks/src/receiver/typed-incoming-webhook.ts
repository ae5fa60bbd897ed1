import type { IncomingWebhook } from './verify-incoming-webhook.js';

/** Payload types by event type, as `WebhookCatalog.typeScript()` of the sender prints them: `WebhookPayloads`. */
export type WebhookPayloadTypes<P> = {
  readonly [T in keyof P]: { readonly data: unknown; readonly previous?: unknown };
};

/**
 * A verified webhook of one of these types. Comparing `type` narrows the type of `data`. Nothing checks at run time that the sender keeps to
 * its types.
 *
 * @typeParam P the sender's `WebhookPayloads`
 * @typeParam Webhook what a verified webhook has beside its payload
 * @example
 * const webhook = verifyIncomingWebhook(request) as TypedIncomingWebhook<WebhookPayloads>;
 * if (webhook.type === 'order.updated') console.log(webhook.data.status);
 */
export type TypedIncomingWebhook<P extends WebhookPayloadTypes<P>, Webhook = IncomingWebhook> = {
  [T in keyof P & string]: Omit<Webhook, 'type' | 'data' | 'previous' | 'payload'> & {
    readonly type: T;
    readonly data: P[T]['data'];
    readonly previous?: P[T]['previous'];
    readonly payload: P[T];
  };
}[keyof P & string];
