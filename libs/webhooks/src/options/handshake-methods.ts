/**
 * How a receiver agrees to be sent anything:
 * - `none`: it is not asked
 * - `challenge`: it answers a signed POST with the random challenge that stands in it
 * - `cloudevents`: it grants an `OPTIONS` request, the abuse protection of CloudEvents (HTTP 1.1 Web Hooks for Event Delivery, section 4)
 *
 * @see https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md#4-abuse-protection
 */
export type Handshake = 'none' | 'challenge' | 'cloudevents';

export const HANDSHAKES: readonly Handshake[] = ['none', 'challenge', 'cloudevents'];
