/**
 * Metrics and spans for OpenTelemetry. This entry point needs the package `@opentelemetry/api`.
 *
 * @packageDocumentation
 */
export { ConfigurationError, WebhooksError } from '../errors.js';
export { IncomingWebhooksTelemetryModule } from './incoming-webhooks-telemetry.module.js';
export {
  WebhooksTelemetryModule,
  type TelemetryAttributes,
  type WebhooksTelemetryOptions,
} from './webhooks-telemetry.module.js';
