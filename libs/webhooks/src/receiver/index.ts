/**
 * The entry point for applications that receive webhooks. It needs neither a database nor TypeORM nor Nest. For Nest
 * applications, `nestjs-entity-webhooks/receiver/nest` adds a guard, a parameter decorator and an inbox.
 *
 * @packageDocumentation
 */
export { ConfigurationError, WebhooksError } from '../errors.js';
export {
  GithubScheme,
  GoogleCodeScheme,
  SignatureScheme,
  type SigningInput,
  StandardScheme,
  StripeScheme,
  type VerifyInput,
} from '../signing/index.js';
export { challengeOf, permissionFor } from './challenge.js';
export {
  bodyId,
  type IncomingWebhookProof,
  type IncomingWebhookRequest,
  IncomingWebhookScheme,
} from './incoming-webhook-scheme.js';
export {
  GithubIncomingWebhookScheme,
  GoogleCodeIncomingWebhookScheme,
  type IncomingWebhookSchemeName,
  StandardIncomingWebhookScheme,
  StripeIncomingWebhookScheme,
} from './incoming-webhook-schemes.js';
export { depthOf, withIncomingWebhook } from './incoming-webhook.js';
export type { TypedIncomingWebhook, WebhookPayloadTypes } from './typed-incoming-webhook.js';
export {
  type IncomingWebhook,
  verifyIncomingWebhook,
  type VerifyIncomingWebhookOptions,
  type IncomingWebhookHeaders,
} from './verify-incoming-webhook.js';
export { SenderVerifiedIncomingWebhookScheme } from './sender-verified-scheme.js';
export { SenderUnavailableError, verifyWithSender, type VerifyWithSenderOptions } from './verify-with-sender.js';
export { type IncomingWebhookErrorCode, IncomingWebhookError } from './incoming-webhook-error.js';
