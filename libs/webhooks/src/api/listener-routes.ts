import { BadRequestError } from '../errors.js';
import type { CreateListenerInput, Listener, ListenerFilter, UpdateListenerInput } from '../listeners/listener.js';
import type { ListenerService } from '../listeners/listener.service.js';
import type { WebhookPageOptions } from '../store/database/page.js';
import { DAY } from '../time.js';
import { ApiError } from './api-error.js';
import { CREATE_LISTENER, ref, UPDATE_LISTENER } from './components.js';
import { mergePatch } from './merge-patch.js';
import type { ApiAnswer, ApiCall, ApiRoute } from './route.js';
import { OWNER_FILTER, PAGE, pageAnswer, withoutOwner } from './queries.js';
import type { UrlVerdict } from './url-verdict.js';

const LISTENER_ROUTE = { path: '/listeners/{id}', capability: 'listeners:write', status: 200 } as const;
const OVERLAP = {
  type: 'integer',
  minimum: 0,
  maximum: 30 * DAY,
  description: 'How long the old one also signs, in ms; 0 after a leak.',
} as const;

/** The listener with its `ETag`. */
function shown(listener: Listener, more: ApiAnswer = {}): ApiAnswer {
  return { body: listener, ...more, headers: { ETag: `"${listener.revision}"`, ...more.headers } };
}

function revisionOf({ ifRevision }: ApiCall): { ifRevision?: number } {
  return ifRevision === undefined ? {} : { ifRevision };
}

export const LISTENER_ROUTES: readonly ApiRoute[] = [
  {
    operation: 'listListeners',
    method: 'GET',
    path: '/listeners',
    summary: 'Lists listeners',
    capability: 'listeners:read',
    query: {
      state: { type: 'string', enum: ['active', 'pending', 'disabled'], description: 'Only listeners in this state.' },
      type: { type: 'string', maxLength: 128, description: 'Only listeners that receive this event type.' },
      q: { type: 'string', minLength: 1, maxLength: 255, description: 'Part of the URL, the name or the description.' },
      health: { type: 'string', enum: ['failing'], description: 'Only listeners whose last attempt failed.' },
      ...OWNER_FILTER,
      ...PAGE,
    },
    status: 200,
    answer: ref('ListenerPage'),
    reach: 'pages',
    errors: [400],
    async run(call) {
      const { q, health, ...rest } = withoutOwner(call);
      const filter: ListenerFilter & WebhookPageOptions = rest;
      if (q !== undefined) filter.search = q as string;
      if (health !== undefined) filter.failing = true;
      const page = await call.listeners.list(filter);
      const healthOf = await call.listeners.health(page.items);
      return pageAnswer(page, (one) => ({ ...one, health: healthOf.get(one.id) }));
    },
  },
  {
    operation: 'createListener',
    method: 'POST',
    path: '/listeners',
    summary: 'Creates a listener. Only this answer has its secret',
    capability: 'listeners:write',
    body: CREATE_LISTENER,
    isBodyRequired: true,
    isCheckedByService: true,
    status: 201,
    answer: ref('ListenerWithSecret'),
    isIdempotent: true,
    reach: 'one',
    errors: [400, 409],
    async run({ listeners, body }) {
      const listener = await listeners.create(body as unknown as CreateListenerInput);
      const location = { Location: `listeners/${listener.id}` };
      return shown(listener, { secretOf: listener.id, headers: location });
    },
  },
  {
    operation: 'getListener',
    method: 'GET',
    path: '/listeners/{id}',
    summary: 'Reads a listener',
    capability: 'listeners:read',
    status: 200,
    answer: ref('ListenerDetails'),
    errors: [404],
    async run({ listeners, id }) {
      const listener = await listeners.get(id);
      const health = await listeners.health([listener]);
      return shown(listener, { body: { ...listener, health: health.get(listener.id) } });
    },
  },
  {
    operation: 'checkUrl',
    method: 'POST',
    path: '/listeners/check-url',
    summary:
      'Says whether a listener may have a URL: its form, its port, and the addresses of its host. Creates nothing',
    capability: 'listeners:write',
    limit: 'urlChecks',
    body: {
      type: 'object',
      properties: { url: { type: 'string', maxLength: 4096, description: 'The URL.' } },
      required: ['url'],
      additionalProperties: false,
    },
    isBodyRequired: true,
    status: 200,
    answer: ref('UrlVerdict'),
    errors: [400],
    run: async ({ listeners, body }) => ({ body: await verdictOf(listeners, body['url'] as string) }),
  },
  {
    ...LISTENER_ROUTE,
    operation: 'updateListener',
    method: 'PATCH',
    summary: 'Changes a listener: a JSON merge patch (RFC 7396). where, auth and tls are replaced as a whole',
    body: UPDATE_LISTENER,
    isBodyRequired: true,
    isCheckedByService: true,
    hasRevision: true,
    answer: ref('Listener'),
    errors: [400, 404, 409, 412],
    run: async (call) => shown(await patchListener(call)),
  },
  {
    ...LISTENER_ROUTE,
    operation: 'deleteListener',
    method: 'DELETE',
    summary: 'Deletes a listener and discards its pending deliveries. The log stays',
    hasRevision: true,
    status: 204,
    errors: [404, 412],
    async run(call) {
      await call.listeners.remove(call.id, revisionOf(call));
      return {};
    },
  },
  {
    ...LISTENER_ROUTE,
    path: '/listeners/{id}/enable',
    operation: 'enableListener',
    method: 'POST',
    summary: 'Enables a listener and resets its failures',
    body: {
      type: 'object',
      properties: {
        held: {
          type: 'string',
          enum: ['release', 'discard'],
          description: 'Whether held deliveries are sent or discarded.',
          default: 'release',
        },
      },
      additionalProperties: false,
    },
    hasRevision: true,
    answer: ref('Listener'),
    errors: [400, 404, 412],
    run: async (call) => shown(await call.listeners.enable(call.id, { ...call.body, ...revisionOf(call) })),
  },
  {
    ...LISTENER_ROUTE,
    path: '/listeners/{id}/disable',
    operation: 'disableListener',
    method: 'POST',
    summary: 'Disables a listener. Its deliveries and new events are held',
    body: {
      type: 'object',
      properties: { reason: { type: 'string', maxLength: 500, description: 'Shown as disabledReason.' } },
      additionalProperties: false,
    },
    answer: ref('Listener'),
    errors: [400, 404],
    run: async ({ listeners, id, body }) =>
      shown(await listeners.disable(id, (body['reason'] as string | undefined) ?? 'disabled through the API')),
  },
  {
    ...LISTENER_ROUTE,
    path: '/listeners/{id}/secret/rotate',
    operation: 'rotateSecret',
    method: 'POST',
    summary: 'Replaces the secret. Only this answer has the new one',
    capability: 'secrets:rotate',
    body: {
      type: 'object',
      properties: { overlapMs: OVERLAP, secret: { type: 'string', maxLength: 512, writeOnly: true } },
      additionalProperties: false,
    },
    answer: ref('ListenerWithSecret'),
    isIdempotent: true,
    errors: [400, 404, 409],
    async run({ listeners, id, body }) {
      const listener = await listeners.rotateSecret(id, body);
      return shown(listener, { secretOf: listener.id });
    },
  },
  {
    ...LISTENER_ROUTE,
    path: '/listeners/{id}/signing-key/rotate',
    operation: 'rotateSigningKey',
    method: 'POST',
    summary: 'Replaces the Ed25519 key',
    capability: 'secrets:rotate',
    body: { type: 'object', properties: { overlapMs: OVERLAP }, additionalProperties: false },
    answer: ref('Listener'),
    isIdempotent: true,
    errors: [400, 404, 409],
    run: async ({ listeners, id, body }) => shown(await listeners.rotateSigningKey(id, body)),
  },
  {
    ...LISTENER_ROUTE,
    path: '/listeners/{id}/handshake',
    operation: 'startHandshake',
    method: 'POST',
    summary: 'Tries the handshake of a pending listener again',
    status: 202,
    answer: ref('Listener'),
    errors: [404, 409, 412],
    run: async (call) => shown(await startHandshake(call)),
  },
  {
    ...LISTENER_ROUTE,
    path: '/listeners/{id}/test',
    operation: 'testListener',
    method: 'POST',
    summary: 'Sends a test event',
    capability: 'tests:send',
    body: {
      type: 'object',
      properties: {
        type: { type: 'string', maxLength: 128, description: 'The type of the example.' },
        version: { type: 'integer', minimum: 1, description: 'The version. By default: that of the listener.' },
      },
      additionalProperties: false,
    },
    status: 202,
    answer: ref('Test'),
    isIdempotent: true,
    errors: [400, 404, 409],
    run: async ({ listeners, id, body }) => ({ body: await listeners.sendTest(id, body) }),
  },
];

async function verdictOf(listeners: ListenerService, given: string): Promise<UrlVerdict> {
  try {
    return { url: await listeners.checkUrl(given), allowed: true, code: null, detail: null };
  } catch (error) {
    if (!(error instanceof BadRequestError)) throw error;
    return { url: null, allowed: false, code: error.code, detail: error.message };
  }
}

/** How often a change is retried after a concurrent change, if the caller gave no revision. */
const TRIES = 3;

async function patchListener(call: ApiCall): Promise<Listener> {
  const { listeners, id, ifRevision } = call;
  const body = call.body as UpdateListenerInput;
  for (let tries = 1; ; tries++) {
    const before = await listeners.get(id);
    try {
      return await listeners.update(id, mergePatch(before, body), { ifRevision: ifRevision ?? before.revision });
    } catch (error) {
      const isChanged = (error as { code?: unknown }).code === 'LISTENER_CHANGED';
      if (!isChanged || ifRevision !== undefined || tries === TRIES) throw error;
    }
  }
}

async function startHandshake({ listeners, id }: ApiCall): Promise<Listener> {
  const { state, revision } = await listeners.get(id);
  if (state === 'pending') return listeners.enable(id, { ifRevision: revision });
  throw new ApiError(
    'HANDSHAKE_NOT_PENDING',
    409,
    `The listener is ${state}. Only a pending listener has a handshake to try.`,
  );
}
