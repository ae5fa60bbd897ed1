/**
 * Health checks for `@nestjs/terminus`.
 *
 * @packageDocumentation
 */
export { WebhooksError, ConfigurationError } from '../errors.js';
export {
  WebhooksHealthIndicator,
  type KeepingUpOptions,
  type WebhooksHealthOptions,
} from './webhooks-health-indicator.js';
