import { StandardRetrySchedule, type RetrySchedule } from '../health/retry-schedule.js';
import { USER_AGENT } from '../sending/user-agent.js';
import { MINUTE } from '../time.js';
import { CAPABILITIES, OWNER_CAPABILITIES, type Capability } from './access.js';
import { invalidRequest } from './api-error.js';
import { ref } from './components.js';
import type { ApiCall, ApiRoute } from './route.js';
import { readSessionPage, SESSION_PAGE_SCHEMA } from './session-page.js';
import type { Sessions } from './sessions.js';

const GONE = 410;
const DEFAULT_TTL_MS = 60 * MINUTE;
const MIN_TTL_MS = 5 * MINUTE;

export const ABOUT_ROUTES: readonly ApiRoute[] = [
  {
    operation: 'getMe',
    method: 'GET',
    path: '/me',
    summary: 'Says who calls, and what they may do',
    capability: null,
    status: 200,
    answer: ref('Me'),
    reach: 'all',
    errors: [],
    run: ({ principal: { page, ...principal }, parts, listeners }) => ({
      body: {
        ...{ ...principal, instance: parts.instance, ...listeners.choices(), ...page },
        ...(principal.kind === 'operator' && parts.shards.length ? { shards: parts.shards } : {}),
      },
    }),
  },
  {
    operation: 'getSender',
    method: 'GET',
    path: '/sender',
    summary: 'Says from where and how webhooks are sent',
    capability: null,
    status: 200,
    answer: ref('Sender'),
    errors: [],
    run: ({ parts: { runtime, senderAddresses } }) => ({
      body: {
        addresses: senderAddresses,
        userAgent: USER_AGENT,
        headers: HEADERS,
        schedule: scheduleOf(runtime.retrySchedule),
        timeoutMs: runtime.options.dispatcher.timeoutMs,
        success: '2xx',
        gone: GONE,
      },
    }),
  },
];

/** The headers of every request that the scheme `standard` signs. Listeners may add more headers. */
const HEADERS = ['content-type', 'user-agent', 'webhook-id', 'webhook-timestamp', 'webhook-signature'];
/** The number of delays that are shown of a schedule that never ends. */
const DELAYS_SHOWN = 50;

function scheduleOf(schedule: RetrySchedule): number[] {
  const delays: number[] = [];
  for (let failures = 1; failures <= DELAYS_SHOWN; failures++) {
    const delay = nominalDelay(schedule, failures);
    if (delay === null) break;
    delays.push(delay);
  }
  return delays;
}

function nominalDelay(schedule: RetrySchedule, failures: number): number | null {
  try {
    const delay =
      schedule instanceof StandardRetrySchedule ? WITHOUT_CHANCE.delayMs(failures) : schedule.delayMs(failures);
    return delay === null || !Number.isFinite(delay) ? null : Math.max(0, Math.round(delay));
  } catch {
    return null; // a schedule of the application; the dispatcher reports its errors
  }
}

const WITHOUT_CHANCE = new StandardRetrySchedule(() => 0);

export const SESSION_ROUTES: readonly ApiRoute[] = [
  {
    operation: 'createSession',
    method: 'POST',
    path: '/sessions',
    summary: 'Creates a session: a token for a browser or another program',
    capability: 'sessions:create',
    body: {
      type: 'object',
      properties: {
        kind: { type: 'string', enum: ['owner', 'operator'], description: 'For whom.' },
        owner: { type: 'string', minLength: 1, maxLength: 255, description: 'The owner. Required for owners.' },
        actor: { type: 'string', maxLength: 255, description: 'Who it is, for limits.' },
        can: {
          type: 'array',
          items: { type: 'string', enum: CAPABILITIES.filter((one) => one !== 'sessions:create') },
          maxItems: CAPABILITIES.length,
          description: 'What the session may do.',
        },
        expiresInMs: {
          type: 'integer',
          minimum: MIN_TTL_MS,
          default: DEFAULT_TTL_MS,
          description: 'At most sessions.maxTtlMs.',
        },
        ...SESSION_PAGE_SCHEMA,
      },
      required: ['kind', 'can'],
      additionalProperties: false,
    },
    isBodyRequired: true,
    status: 201,
    answer: ref('Session'),
    errors: [400],
    run: createSession,
  },
  {
    operation: 'revokeSession',
    method: 'DELETE',
    path: '/sessions/{id}',
    summary: 'Revokes a session. An unknown id is no error',
    capability: 'sessions:create',
    status: 204,
    // A revocation that a shard does not have would end when the others do not answer.
    reach: { merge: () => undefined, needsAll: true },
    errors: [],
    async run({ parts, system, id }) {
      await sessionsOf(parts).revoke(parts.runtime.database, { id: id.slice(0, 64) });
      await system.note({ action: 'session.revoked', target: id.slice(0, 64) });
      return {};
    },
  },
  {
    operation: 'revokeSessionsOfOwner',
    method: 'DELETE',
    path: '/sessions',
    summary: 'Revokes every session of an owner',
    capability: 'sessions:create',
    query: { owner: { type: 'string', minLength: 1, maxLength: 255, description: 'The owner.' } },
    status: 204,
    errors: [400],
    async run({ parts, system, query }) {
      if (query['owner'] === undefined) throw invalidRequest([{ parameter: 'owner', detail: 'is required' }]);
      const owner = query['owner'] as string;
      await sessionsOf(parts).revoke(parts.runtime.database, { owner });
      await system.note({ action: 'sessions.revoked', target: owner });
      return {};
    },
  },
];

async function createSession({ parts, principal, system, body }: ApiCall): Promise<{ body: object }> {
  const sessions = sessionsOf(parts);
  const {
    kind,
    owner,
    actor,
    can,
    expiresInMs = DEFAULT_TTL_MS,
  } = body as {
    kind: 'owner' | 'operator';
    owner?: string;
    actor?: string;
    can: Capability[];
    expiresInMs?: number;
  };
  if ((kind === 'owner') !== (owner !== undefined)) {
    const detail = kind === 'owner' ? 'is required for an owner' : 'is only for owners';
    throw invalidRequest([{ pointer: '/owner', detail }]);
  }
  if (expiresInMs > sessions.maxTtlMs) {
    throw invalidRequest([{ pointer: '/expiresInMs', detail: `must be at most ${sessions.maxTtlMs}` }]);
  }
  // A caller can grant a session only capabilities that the caller has.
  const allowed: readonly Capability[] = kind === 'owner' ? OWNER_CAPABILITIES : principal.can;
  const refused = can.findIndex((one) => !allowed.includes(one) || !principal.can.includes(one));
  if (refused >= 0) throw invalidRequest([{ pointer: `/can/${refused}`, detail: 'is not a capability of the caller' }]);
  // The core checks the form of the owner.
  if (owner !== undefined) parts.runtime.listeners.forOwner(owner);
  const page = readSessionPage(body);
  const session = await sessions.create({ kind, owner: owner ?? null, actor: actor ?? null, can, expiresInMs, page });
  const details = { kind, owner: owner ?? null, can: [...can], expiresAt: session.expiresAt.toJSON() };
  await system.note({ action: 'session.created', target: session.id, details });
  return { body: session };
}

/** These routes exist only if the module has sessions. */
function sessionsOf({ sessions }: ApiCall['parts']): Sessions {
  if (sessions) return sessions;
  throw new Error('The option `sessions` is not set.');
}
