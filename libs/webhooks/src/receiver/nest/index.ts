/**
 * Receives webhooks in a Nest application: a guard, a parameter decorator, and an inbox that processes each webhook once.
 * `nestjs-entity-webhooks/receiver` is the part that needs no Nest.
 *
 * @packageDocumentation
 */
export { IncomingWebhook } from './incoming-webhook.decorator.js';
export { ReceivedWebhook } from './received-webhook.js';
export type { ProcessedOnce } from './processed-once.js';
export { VerifyWebhook } from './verify-webhook.decorator.js';
export { WebhookInbox } from './webhook-inbox.js';
export { WebhookReceiverModule } from './webhook-receiver.module.js';
export type {
  WebhookInboxOptions,
  WebhookReceiverInstanceOptions,
  WebhookReceiverModuleAsyncOptions,
  WebhookReceiverModuleOptions,
  WebhookReceiverOptions,
  WebhookSource,
} from './webhook-receiver-options.js';
export { WEBHOOK_RECEIVER_FACTS, type WebhookRejectedFact } from './webhook-verifier.js';
