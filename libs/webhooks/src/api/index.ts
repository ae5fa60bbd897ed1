/**
 * The REST API of webhooks, for operators and customers.
 *
 * @packageDocumentation
 */
export {
  MANAGE,
  OPEN_ACCESS,
  OPERATE,
  VIEW,
  type Access,
  type AccessResolver,
  type Capability,
  type OperatorAccess,
  type OwnerAccess,
} from './access.js';
export type { ApiCatalogOptions, ApiLimitOptions, ApiSessionOptions, WebhooksApiOptions } from './api-options.js';
export type { RequestFault } from './api-error.js';
export type { Problem } from './problem.js';
export { WebhooksApiModule } from './webhooks-api.module.js';
