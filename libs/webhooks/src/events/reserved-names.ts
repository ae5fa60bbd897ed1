/** Says how many events in a row led to this one, when it is more than none. Not signed, so believed of a genuine webhook only. */
export const DEPTH_HEADER = 'webhook-depth';

/** Types that begin like this are for lifecycle events, which the module itself emits. `publish()` refuses them. */
const LIFECYCLE_PREFIX = 'webhooks.';

/** Whether an event type is reserved for lifecycle events, such as `webhooks.delivery.failed`. */
export function isReservedType(type: string): boolean {
  return type.startsWith(LIFECYCLE_PREFIX);
}

/** The type of the request that asks a receiver for its consent, before the first delivery. */
export const CHALLENGE_TYPE = 'webhook.challenge';
