/**
 * The verify view: a receiver posts a webhook back and learns whether it is genuine.
 *
 * @packageDocumentation
 */
export { ConfigurationError, WebhooksError } from '../errors.js';
export { WebhooksVerifyModule, type WebhooksVerifyOptions } from './webhooks-verify.module.js';
