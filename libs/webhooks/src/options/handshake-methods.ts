/**
 * How a receiver agrees to receive webhooks:
 * - `none`: no handshake
 * - `challenge`: the receiver answers a signed POST with the random challenge of its body
 * - `cloudevents`: the receiver grants an `OPTIONS` request. This is the abuse protection of CloudEvents (HTTP 1.1 Web Hooks for Event
 *   Delivery, section 4)
 *
 * @see https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md#4-abuse-protection
 */
export type Handshake = 'none' | 'challenge' | 'cloudevents';

/** Every value of {@link Handshake}. */
export const HANDSHAKES: readonly Handshake[] = ['none', 'challenge', 'cloudevents'];
