/**
 * A dashboard for operators and a portal for customers.
 *
 * @packageDocumentation
 */
export type { DashboardLocale, PortalOptions, WebhooksDashboardOptions } from './dashboard-options.js';
export { WebhooksDashboardModule } from './webhooks-dashboard.module.js';
