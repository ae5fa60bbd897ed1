import {
  concernsListener,
  OPERATIONAL_EVENTS,
  OPERATIONAL_EXAMPLES,
  type OperationalEventType,
} from '../events/operational-event.js';
import type { JsonObject } from '../json.js';
import type { PublishedType } from '../options/webhooks-options.js';
import { inWords } from './catalog-type.js';

/** The schema of an object with these properties. It may have more properties. */
function object(properties: JsonObject): JsonObject {
  return { type: 'object', properties, required: Object.keys(properties) };
}

const TEXT = { type: 'string' };
const COUNT = { type: 'integer' };
const TIME = { type: 'string', format: 'date-time' };
const LISTENER = object({ id: TEXT, url: { ...TEXT, description: 'Without its query.' } });
const EVENT = object({ id: TEXT, type: TEXT });
const FAILURE = {
  listener: LISTENER,
  lastStatus: { type: ['integer', 'null'], description: 'The HTTP status of the last answer.' },
  lastErrorCode: { type: ['string', 'null'] },
};
const OUTAGE = { ...FAILURE, failingSince: TIME, failuresInARow: COUNT };
const LAG = {
  outboxLagMs: { ...COUNT, description: 'Age of the oldest event that is not routed yet.' },
  queueLagMs: { ...COUNT, description: 'How late the queue is.' },
  pending: { ...COUNT, description: 'Events that are not routed yet.' },
};

/** By type: when it is sent, and the properties of its `data`. */
const TYPES: Readonly<Record<OperationalEventType, { readonly description: string; readonly data: JsonObject }>> = {
  'webhooks.listener.failing': { description: 'The attempts of a listener fail, one after the other.', data: OUTAGE },
  'webhooks.listener.disabling_soon': {
    description: 'A listener that fails will be disabled within a day.',
    data: { ...OUTAGE, disablesAt: TIME },
  },
  'webhooks.listener.disabled': {
    description: 'A listener was disabled by its attempts, by a handshake or by the application.',
    data: { ...FAILURE, reason: TEXT },
  },
  'webhooks.listener.recovered': {
    description: 'An attempt of a listener that failed has succeeded.',
    data: { listener: LISTENER, failingSince: TIME },
  },
  'webhooks.delivery.exhausted': {
    description: 'The last attempt of a delivery failed.',
    data: { ...FAILURE, delivery: TEXT, event: EVENT, attempts: COUNT },
  },
  'webhooks.outbox.damaged': {
    description: 'A stored event cannot be read, and is not sent.',
    data: { event: EVENT, reason: TEXT },
  },
  'webhooks.lag.high': { description: 'Events or deliveries wait for too long.', data: LAG },
  'webhooks.lag.normal': { description: 'Nothing waits for too long any more.', data: LAG },
};

/** The types of the option `operationalEvents`. Types that concern no listener are sent only to the application's own listeners. */
export const OPERATIONAL_TYPES: readonly PublishedType[] = Object.values(OPERATIONAL_EVENTS).map((type) => ({
  type,
  group: 'Webhooks',
  title: inWords(type.slice('webhooks.'.length)),
  description: TYPES[type].description,
  visibility: concernsListener(type) ? 'public' : 'internal',
  schema: object(TYPES[type].data),
  examples: [OPERATIONAL_EXAMPLES[type]],
}));
