import type { EntitySchema } from 'typeorm';
import type { RegisteredEntity } from './entity-registry.js';
import { webhookOptionsOf, type EntityClass, type WebhookOptions } from './webhook.decorator.js';

/** An entity for `forFeature`: a class decorated with `@Webhook()`, or an entity together with its options. */
export type WebhookFeature =
  // oxlint-disable-next-line typescript/no-explicit-any -- one list holds different entities; `forFeature` checks the options of each
  EntityClass | EntitySchema | ({ entity: EntityClass | EntitySchema } & WebhookOptions<any>);

/** Converts an entry of `forFeature` to an entry of the registry. */
export function registeredEntity(feature: WebhookFeature): RegisteredEntity {
  if (typeof feature === 'function') return { entity: feature };
  if (!('entity' in feature)) return { entity: feature, options: {} };
  const { entity, ...options } = feature;
  // Options beside the class replace all options of the decorator, because a mix of both would be hard to read. If no
  // option is given beside the class, the options of the decorator apply. Without a decorator, the defaults apply.
  const isBare = Object.keys(options).length === 0;
  return { entity, options: isBare ? (webhookOptionsOf(entity) ?? {}) : (options as WebhookOptions) };
}
