/**
 * The verify view: receivers post a webhook back and are told whether it is genuine.
 *
 * @packageDocumentation
 */
export { ConfigurationError, WebhooksError } from '../errors.js';
export { WebhooksVerifyModule, type WebhooksVerifyOptions } from './webhooks-verify.module.js';
