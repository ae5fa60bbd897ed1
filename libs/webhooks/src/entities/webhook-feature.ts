import type { EntitySchema } from 'typeorm';
import type { RegisteredEntity } from './entity-registry.js';
import { webhookOptionsOf, type EntityClass, type WebhookOptions } from './webhook.decorator.js';

/** An entity of `forFeature`: decorated with `@Webhook()`, or with its options beside it. */
export type WebhookFeature =
  // oxlint-disable-next-line typescript/no-explicit-any -- one list holds many entities; `forFeature` checks each against its own
  EntityClass | EntitySchema | ({ entity: EntityClass | EntitySchema } & WebhookOptions<any>);

/** A feature as the registry takes it. */
export function registeredEntity(feature: WebhookFeature): RegisteredEntity {
  if (typeof feature === 'function') return { entity: feature };
  if (!('entity' in feature)) return { entity: feature, options: {} };
  const { entity, ...options } = feature;
  // Options beside the class take the place of the decorator's, whole: two halves would be hard to read. None at all means
  // what the decorator says, and without one every default.
  const isBare = Object.keys(options).length === 0;
  return { entity, options: isBare ? (webhookOptionsOf(entity) ?? {}) : (options as WebhookOptions) };
}
