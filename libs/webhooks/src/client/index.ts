/**
 * A typed client of the REST API.
 *
 * @packageDocumentation
 */
export type { ClientPage, ClientTask, InJson, InShard, OfShards, OperationTypes } from './operation-types.js';
export type { StreamOptions } from './stream.js';
export type {
  StreamDelivery,
  StreamEvent,
  StreamFilter,
  StreamListener,
  StreamOverview,
  StreamTask,
} from './stream-events.js';
export {
  createWebhooksClient,
  WebhooksApiError,
  type CallOptions,
  type WebhooksClient,
  type WebhooksClientOptions,
  type WebhooksStreams,
} from './webhooks-client.js';
