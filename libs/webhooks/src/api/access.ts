import { randomUUID } from 'node:crypto';
import { ConfigurationError } from '../errors.js';
import { ownerText } from '../owner.js';
import { kindOf } from '../show.js';
import { NO_PAGE, type SessionPage } from './session-page.js';

/** Capabilities that an owner can have. */
export const OWNER_CAPABILITIES = [
  'listeners:read',
  'listeners:write',
  'secrets:rotate',
  'deliveries:read',
  'payloads:read',
  'deliveries:resend',
  'tests:send',
  'stats:read',
  'catalog:read',
] as const;

/** Capabilities that an operator can have. */
export const CAPABILITIES = [...OWNER_CAPABILITIES, 'system:read', 'system:write', 'sessions:create', 'erase'] as const;

/**
 * What a principal may do:
 * - `listeners:read`, `listeners:write`: see listeners; create, change, enable, disable and delete them
 * - `secrets:rotate`: replace secrets and signing keys. The answer has the new secret
 * - `deliveries:read`: see the log of deliveries, with the answers of receivers
 * - `payloads:read`: see events and the bodies that were sent
 * - `deliveries:resend`, `tests:send`: cause requests to receivers
 * - `stats:read`: see the overview and the statistics
 * - `catalog:read`: see the event types and the document of the API
 * - `system:read`, `system:write`: see the switch of sending, the audit log, the chores and damaged rows; pause sending, run chores,
 *   retry damaged rows, and reseal secrets. Only for operators
 * - `sessions:create`: create and revoke sessions. Only for operators
 * - `erase`: erase the content of events. Only for operators
 */
export type Capability = (typeof CAPABILITIES)[number];

/** Sees listeners, deliveries, statistics and event types, but no payload. */
export const VIEW: readonly Capability[] = Object.freeze([
  'listeners:read',
  'deliveries:read',
  'stats:read',
  'catalog:read',
]);

/** Everything of {@link VIEW}, and also sees payloads, resends deliveries and sends test events. */
export const OPERATE: readonly Capability[] = Object.freeze([
  ...VIEW,
  ...(['payloads:read', 'deliveries:resend', 'tests:send'] as const),
]);

/** Everything of {@link OPERATE}, and also changes listeners and their secrets: every capability that an owner can have. */
export const MANAGE: readonly Capability[] = Object.freeze([
  ...OPERATE,
  ...(['listeners:write', 'secrets:rotate'] as const),
]);

/** `access: OPEN_ACCESS` makes every caller an operator. Use it only in development, or if another login protects the API. */
export const OPEN_ACCESS: unique symbol = Symbol('OPEN_ACCESS');

/** A caller that sees everything of the instance. */
export interface OperatorAccess {
  readonly kind: 'operator';
  /** Identifies the caller for the limits of requests. `/me` shows it. */
  readonly actor?: string;
  /** @defaultValue every capability */
  readonly can?: readonly Capability[];
}

/** A caller that sees what belongs to one owner. The API calls only services that are bound to this owner: `forOwner(owner)`. */
export interface OwnerAccess {
  readonly kind: 'owner';
  /** A string, compared exactly: the owner of listeners and events. */
  readonly owner: string;
  readonly actor?: string;
  /** {@link VIEW}, {@link OPERATE}, {@link MANAGE}, or a list of your own. */
  readonly can: readonly Capability[];
}

/** The result of `access(request)`. `null` means that nobody is logged in: the answer is 401. */
export type Access = OperatorAccess | OwnerAccess | null;

/** Identifies the caller of a request. It gets the request of Express or Fastify, and runs after your guards. */
export type AccessResolver = (request: never) => Access | Promise<Access>;

/** A caller whose access was checked. */
export interface Principal {
  readonly kind: 'operator' | 'owner';
  readonly owner: string | null;
  readonly actor: string | null;
  readonly can: readonly Capability[];
  /** When the session of the caller expires; `null` without a session. */
  readonly expiresAt: Date | null;
  /** The look of the page, as the session sets it. */
  readonly page: SessionPage;
}

const NO_SESSION = { expiresAt: null, page: NO_PAGE } as const;
const OPERATOR: Principal = { kind: 'operator', owner: null, actor: null, can: CAPABILITIES, ...NO_SESSION };

/** The caller without a login, with `catalog: { public: true }`: an owner with a random name, to whom nothing belongs. */
export const ANYBODY: Principal = {
  ...{ kind: 'owner', owner: randomUUID(), actor: null, can: ['catalog:read'] },
  ...NO_SESSION,
};

/**
 * Checks the result of `access()`, so that a mistake in that function gives nobody access.
 *
 * @throws ConfigurationError `INVALID_ACCESS`
 */
export function principalOf(access: Access): Principal | null {
  if (access === null) return null;
  // `access` may be written in JavaScript, and `undefined` must not log anybody in.
  const { kind, owner, actor = null, can } = (access ?? {}) as unknown as Readonly<Record<string, unknown>>;
  if (actor !== null && typeof actor !== 'string') throw invalidAccess('`actor` must be a string');
  if (kind === 'operator') return { ...OPERATOR, actor, can: capabilities(can ?? CAPABILITIES, CAPABILITIES) };
  if (kind !== 'owner') {
    throw invalidAccess(
      `It returned ${kindOf(access)}. Allowed: { kind: 'operator' }, { kind: 'owner', owner, can }, null`,
    );
  }
  // Numbers are not accepted: a miscalculated number, such as NaN, would act as a separate tenant.
  if (typeof owner !== 'string' || ownerText(owner) === undefined) {
    throw invalidAccess(`\`owner\` is ${kindOf(owner)}. Allowed: a non-empty string of at most 255 characters`);
  }
  return { kind: 'owner', owner, actor, can: capabilities(can, OWNER_CAPABILITIES), ...NO_SESSION };
}

function capabilities(given: unknown, allowed: readonly Capability[]): readonly Capability[] {
  if (Array.isArray(given) && given.every((one) => allowed.includes(one as Capability))) return given as Capability[];
  throw invalidAccess(`\`can\` must be a list of ${allowed.join(', ')}`);
}

function invalidAccess(problem: string): ConfigurationError {
  return new ConfigurationError('INVALID_ACCESS', `The option \`access\` of WebhooksApiModule is wrong. ${problem}.`);
}
