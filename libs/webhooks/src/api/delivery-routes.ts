import type { DeliveryFilter } from '../deliveries/delivery.js';
import type { EventFilter } from '../deliveries/event.service.js';
import type { WebhookPageOptions } from '../store/database/page.js';
import { DELIVERY_STATES, ref } from './components.js';
import { curlScript } from './curl-script.js';
import type { ApiCall, ApiRoute } from './route.js';
import type { Schema } from './schema.js';
import { OWNER_FILTER, PAGE, pageAnswer, PERIOD, withoutOwner, withTimes } from './queries.js';

const ID: Schema = { type: 'string', maxLength: 64 };
const TYPE: Schema = { type: 'string', maxLength: 128, description: 'Only of this event type.' };
const STATE: Schema = { type: 'string', enum: DELIVERY_STATES, description: 'Only deliveries in this state.' };

export const DELIVERY_ROUTES: readonly ApiRoute[] = [
  {
    operation: 'listDeliveries',
    method: 'GET',
    path: '/deliveries',
    summary: 'Lists deliveries',
    capability: 'deliveries:read',
    query: {
      listenerId: { ...ID, description: 'Only to this listener.' },
      eventId: { ...ID, description: 'Only of this event.' },
      type: TYPE,
      state: STATE,
      status: {
        type: 'string',
        pattern: '^[1-5](?:xx|[0-9][0-9])$',
        description: 'HTTP status of the last attempt, such as 503, or 5xx.',
        example: '5xx',
      },
      error: { type: 'string', maxLength: 64, description: 'Error code of the last attempt, such as TIMEOUT.' },
      ...OWNER_FILTER,
      ...PERIOD,
      ...PAGE,
    },
    status: 200,
    answer: ref('DeliveryPage'),
    reach: 'pages',
    errors: [400],
    async run(call) {
      const { error, status, ...rest } = withTimes(withoutOwner(call));
      const filter: DeliveryFilter & WebhookPageOptions = rest;
      if (error !== undefined) filter.errorCode = error as string;
      if (status !== undefined) filter.status = statusOf(status as string);
      return pageAnswer(await call.deliveries.list(filter));
    },
  },
  {
    operation: 'getDelivery',
    method: 'GET',
    path: '/deliveries/{id}',
    summary: 'Reads a delivery with its attempts',
    capability: 'deliveries:read',
    status: 200,
    answer: ref('DeliveryDetails'),
    errors: [404],
    run: async ({ deliveries, id }) => ({ body: await deliveries.get(id) }),
  },
  {
    operation: 'getDeliveryBody',
    method: 'GET',
    path: '/deliveries/{id}/body',
    summary: 'Reads the exact body that is sent',
    capability: 'payloads:read',
    query: {
      as: {
        type: 'string',
        enum: ['curl'],
        description: 'curl: a script for a shell that signs the body with $WEBHOOK_SECRET and sends it.',
      },
    },
    status: 200,
    answer: { type: 'string', description: 'The bytes that are signed, or the script.' },
    answerType: 'text/plain',
    errors: [404, 410],
    async run(call) {
      const { deliveries, id, query } = call;
      if (query['as'] === 'curl') return { text: await scriptOf(call), contentType: 'text/plain; charset=utf-8' };
      const { body, contentType } = await deliveries.body(id);
      // A separate header has the content type of the webhook, because a browser must never run a body that a customer can influence.
      return {
        text: body,
        contentType: 'text/plain; charset=utf-8',
        headers: { 'X-Webhooks-Content-Type': contentType },
      };
    },
  },
  {
    operation: 'resendDelivery',
    method: 'POST',
    path: '/deliveries/{id}/resend',
    summary: 'Sends a delivery again, now',
    capability: 'deliveries:resend',
    status: 202,
    answer: ref('Delivery'),
    isIdempotent: true,
    errors: [404, 409, 410],
    run: async ({ deliveries, id }) => ({ body: await deliveries.resend(id) }),
  },
  {
    operation: 'discardDelivery',
    method: 'POST',
    path: '/deliveries/{id}/discard',
    summary: 'Discards a pending delivery',
    capability: 'deliveries:resend',
    status: 200,
    answer: ref('Delivery'),
    errors: [404, 409],
    run: async ({ deliveries, id }) => ({ body: await deliveries.discardOne(id) }),
  },
  {
    operation: 'listEvents',
    method: 'GET',
    path: '/events',
    summary: 'Lists stored events, without their content',
    capability: 'payloads:read',
    query: {
      type: TYPE,
      entity: { type: 'string', minLength: 1, maxLength: 128, description: 'Only of the row entityId of this entity.' },
      entityId: { type: 'string', minLength: 1, maxLength: 255, description: 'The primary key of the row.' },
      sameRowAs: { ...ID, description: 'Only of the row of this event, which is an id of an event.' },
      ...OWNER_FILTER,
      ...PERIOD,
      ...PAGE,
    },
    status: 200,
    answer: ref('EventPage'),
    reach: 'pages',
    errors: [400],
    async run(call) {
      const filter: EventFilter & WebhookPageOptions = withTimes(withoutOwner(call));
      return pageAnswer(await call.events.list(filter));
    },
  },
  {
    operation: 'getEvent',
    method: 'GET',
    path: '/events/{id}',
    summary: 'Reads an event',
    capability: 'payloads:read',
    status: 200,
    answer: ref('Event'),
    errors: [404],
    async run({ events, deliveries, id }) {
      const event = await events.get(id);
      return { body: { ...event, deliveries: await deliveries.counts({ eventId: event.id }) } };
    },
  },
  {
    operation: 'listDeliveriesOfEvent',
    method: 'GET',
    path: '/events/{id}/deliveries',
    summary: 'Lists the deliveries of an event',
    capability: 'deliveries:read',
    query: { state: STATE, ...PAGE },
    status: 200,
    answer: ref('DeliveryPage'),
    errors: [400, 404],
    async run({ events, deliveries, id, query }) {
      const event = await events.get(id);
      return { body: await deliveries.list({ ...query, eventId: event.id }) };
    },
  },
  {
    operation: 'listSkippedListeners',
    method: 'GET',
    path: '/events/{id}/skipped-listeners',
    summary: 'Lists the listeners that have no delivery of an event, with the reason',
    // The conditions that do not hold reveal a part of the content.
    capability: 'payloads:read',
    query: { listenerId: { ...ID, description: 'Only this listener, also if it has another owner.' }, ...PAGE },
    status: 200,
    answer: ref('SkippedListenerPage'),
    errors: [400, 404],
    run: async ({ events, id, query }) => ({ body: await events.skippedListeners(id, query) }),
  },
  {
    operation: 'sendEvent',
    method: 'POST',
    path: '/events/{id}/deliveries',
    summary: 'Sends a past event to a listener that has not received it',
    capability: 'deliveries:resend',
    body: {
      type: 'object',
      properties: { listenerId: { ...ID, description: 'The listener.' } },
      required: ['listenerId'],
      additionalProperties: false,
    },
    isBodyRequired: true,
    status: 202,
    answer: ref('Delivery'),
    isIdempotent: true,
    errors: [404, 409, 410],
    run: async ({ deliveries, id, body }) => ({
      body: await deliveries.sendEvent(id, body['listenerId'] as string),
    }),
  },
  {
    operation: 'eraseEvent',
    method: 'DELETE',
    path: '/events/{id}/content',
    summary: 'Erases the content of an event: payload, bodies and answers',
    capability: 'erase',
    status: 204,
    errors: [404],
    async run({ events, id }) {
      await events.erase(id);
      return {};
    },
  },
];

/** The headers of the listener come first, because it cannot replace those of the body. */
async function scriptOf({ deliveries, listeners, id }: ApiCall): Promise<string> {
  const { eventId, listenerId } = await deliveries.get(id);
  const { body, headers } = await deliveries.body(id);
  const listener = await listeners.get(listenerId);
  const { url, schemes } = listener;
  return curlScript({ url, eventId, body, schemes, headers: { ...listener.headers, ...headers } });
}

function statusOf(text: string): NonNullable<DeliveryFilter['status']> {
  return text.endsWith('xx') ? (text as '5xx') : Number(text);
}
