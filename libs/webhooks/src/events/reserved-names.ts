/**
 * The header with the length of the chain of events that led to this event. The header is absent when the length is 0. No scheme signs
 * this header: read it only from a verified webhook.
 */
export const DEPTH_HEADER = 'webhook-depth';

/** Prefix of the types of lifecycle events. Only the module emits these events. `publish()` refuses types with this prefix. */
const LIFECYCLE_PREFIX = 'webhooks.';

/** Whether an event type is reserved for lifecycle events, such as `webhooks.delivery.failed`. */
export function isReservedType(type: string): boolean {
  return type.startsWith(LIFECYCLE_PREFIX);
}

/** The type of the handshake request. With this request, the module asks a receiver for permission before the first delivery. */
export const CHALLENGE_TYPE = 'webhook.challenge';

/**
 * The header with the version of the payload, for types with several versions. No scheme signs this header. The signed body contains
 * `version`, too, unless it is version 1.
 */
export const VERSION_HEADER = 'webhook-version';
