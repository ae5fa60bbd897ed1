/**
 * The header with the number of events that caused this one, one after the other; absent when there are none. No scheme signs it:
 * read it only from a verified webhook.
 */
export const DEPTH_HEADER = 'webhook-depth';

/** Prefix of the types of lifecycle events, which the module emits. `publish()` refuses them. */
const LIFECYCLE_PREFIX = 'webhooks.';

/** Whether an event type is reserved for lifecycle events, such as `webhooks.delivery.failed`. */
export function isReservedType(type: string): boolean {
  return type.startsWith(LIFECYCLE_PREFIX);
}

/** The type of the handshake request, which asks for a receiver's consent before the first delivery. */
export const CHALLENGE_TYPE = 'webhook.challenge';
