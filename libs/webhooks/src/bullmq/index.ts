/**
 * Lets BullMQ say which listeners have due deliveries.
 *
 * @packageDocumentation
 */
export { WebhooksError, ConfigurationError } from '../errors.js';
export { bullmqEngine, type BullmqDispatcherEngine } from './bullmq-engine.js';
export type { BullmqEngineOptions } from './bullmq-engine-options.js';
