/**
 * Receives webhooks in a Nest application. This entry point has a guard, a parameter decorator, and an inbox that
 * processes each webhook once. `nestjs-entity-webhooks/receiver` is the part that does not need Nest.
 *
 * @packageDocumentation
 */
export { IncomingWebhookParam } from './incoming-webhook-param.decorator.js';
export { IncomingWebhookMessage } from './incoming-webhook-message.js';
export type { TypedIncomingWebhookMessage } from './typed-incoming-webhook-message.js';
export type { ProcessedOnce } from './processed-once.js';
export { VerifyIncomingWebhook } from './verify-incoming-webhook.decorator.js';
export { IncomingWebhookInbox } from './incoming-webhook-inbox.js';
export { IncomingWebhooksModule } from './incoming-webhooks.module.js';
export type {
  IncomingWebhookInboxOptions,
  IncomingWebhooksInstanceOptions,
  IncomingWebhooksModuleAsyncOptions,
  IncomingWebhooksModuleOptions,
  IncomingWebhooksOptions,
  IncomingWebhookSource,
} from './incoming-webhooks-options.js';
export { INCOMING_WEBHOOKS_CHANNEL, type IncomingWebhookReceived } from '../incoming-webhook-channel.js';
export { INCOMING_WEBHOOK_EVENTS, type IncomingWebhookRejectedEvent } from './incoming-webhook-verifier.js';
