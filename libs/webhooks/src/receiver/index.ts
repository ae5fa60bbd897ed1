/**
 * For applications that receive webhooks. This entry point needs neither a database nor TypeORM nor Nest. For Nest applications,
 * `nestjs-entity-webhooks/receiver/nest` adds a guard, a parameter decorator and an inbox.
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
export { bodyId, type IncomingProof, type IncomingRequest, IncomingScheme } from './incoming-scheme.js';
export {
  GithubIncoming,
  GoogleCodeIncoming,
  type IncomingSchemeName,
  StandardIncoming,
  StripeIncoming,
} from './incoming-schemes.js';
export { depthOf, withIncomingWebhook } from './incoming-webhook.js';
export {
  type VerifiedWebhook,
  verifyWebhook,
  type VerifyWebhookOptions,
  type WebhookHeaders,
} from './verify-webhook.js';
export { SenderVerified } from './sender-verified.js';
export { SenderUnavailableError, verifyWithSender, type VerifyWithSenderOptions } from './verify-with-sender.js';
export { type WebhookVerificationCode, WebhookVerificationError } from './webhook-verification-error.js';
