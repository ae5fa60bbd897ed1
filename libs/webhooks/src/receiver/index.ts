/**
 * The other end: what an application needs that receives webhooks. It imports no table, no TypeORM and no Nest module.
 *
 * @packageDocumentation
 */
export { ConfigurationError, WebhooksError } from '../errors.js';
export {
  GithubScheme,
  GoogleCodeScheme,
  type SignatureScheme,
  type SigningInput,
  StandardScheme,
  StripeScheme,
  type VerifyInput,
} from '../signing/index.js';
export { depthOf, withIncomingWebhook } from './incoming-webhook.js';
export {
  type VerifiedWebhook,
  verifyWebhook,
  type VerifyWebhookOptions,
  type WebhookHeaders,
} from './verify-webhook.js';
export { type WebhookVerificationCode, WebhookVerificationError } from './webhook-verification-error.js';
