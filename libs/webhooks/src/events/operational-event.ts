import type { JsonObject } from '../json.js';

/**
 * Types of the events about webhooks themselves. With `operationalEvents: true`, these events are stored and delivered
 * like other events. Listeners receive them if a pattern of the listener is the type of the event or `webhooks.*`. The
 * pattern `*` does not match these events.
 */
export const OPERATIONAL_EVENTS = {
  listenerFailing: 'webhooks.listener.failing',
  listenerDisablingSoon: 'webhooks.listener.disabling_soon',
  listenerDisabled: 'webhooks.listener.disabled',
  listenerRecovered: 'webhooks.listener.recovered',
  deliveryExhausted: 'webhooks.delivery.exhausted',
  outboxDamaged: 'webhooks.outbox.damaged',
  lagHigh: 'webhooks.lag.high',
  lagNormal: 'webhooks.lag.normal',
} as const;

/** The type of an operational event. */
export type OperationalEventType = (typeof OPERATIONAL_EVENTS)[keyof typeof OPERATIONAL_EVENTS];

const LISTENER = { id: 'lst_019b0e6c-5a41-7c3e-9d27-5c1d6f0b8a11', url: 'https://example.com/hooks' };
const OUTAGE: JsonObject = {
  listener: LISTENER,
  failingSince: '2026-01-01T00:00:00.000Z',
  failuresInARow: 10,
  lastStatus: 500,
  lastErrorCode: 'HTTP_STATUS',
};
const LAG: JsonObject = { outboxLagMs: 90_000, queueLagMs: 0, pending: 1_200 };

/** An example of the data of each type, for `sendTest()`. */
export const OPERATIONAL_EXAMPLES: Readonly<Record<OperationalEventType, JsonObject>> = {
  'webhooks.listener.failing': OUTAGE,
  'webhooks.listener.disabling_soon': { ...OUTAGE, disablesAt: '2026-01-06T00:00:00.000Z' },
  'webhooks.listener.disabled': {
    listener: LISTENER,
    reason: 'the endpoint answered 410 Gone',
    lastStatus: 410,
    lastErrorCode: 'HTTP_STATUS',
  },
  'webhooks.listener.recovered': { listener: LISTENER, failingSince: '2026-01-01T00:00:00.000Z' },
  'webhooks.delivery.exhausted': {
    listener: LISTENER,
    delivery: 'dlv_019b0e6c-5a41-7c3e-9d27-5c1d6f0b8a12',
    event: { id: 'evt_019b0e6c-5a41-7c3e-9d27-5c1d6f0b8a13', type: 'order.updated' },
    attempts: 10,
    lastStatus: 500,
    lastErrorCode: 'HTTP_STATUS',
  },
  'webhooks.outbox.damaged': {
    event: { id: 'evt_019b0e6c-5a41-7c3e-9d27-5c1d6f0b8a13', type: 'order.updated' },
    reason: 'the stored payload is no JSON',
  },
  'webhooks.lag.high': LAG,
  'webhooks.lag.normal': { ...LAG, outboxLagMs: 0, pending: 0 },
};

/**
 * Whether a type is about one listener. Listeners with an owner may receive events of such a type, but only about
 * listeners of the same owner.
 */
export function concernsListener(type: OperationalEventType): boolean {
  return type.startsWith('webhooks.listener.') || type === OPERATIONAL_EVENTS.deliveryExhausted;
}
