import type { KeyObject } from 'node:crypto';
import { errors, jwtVerify, SignJWT } from 'jose';
import type { WebhookClock } from '../clock.js';
import { newId } from '../ids.js';
import { ownerText } from '../owner.js';
import type { Database } from '../store/database/database.js';
import { isRevoked, revokeSessions, type RevokedSessions } from '../store/requests/revoked-sessions.js';
import { CAPABILITIES, OWNER_CAPABILITIES, type Capability, type Principal } from './access.js';
import { ApiError } from './api-error.js';
import { signedPage, type SessionPage } from './session-page.js';

/** The prefix of session tokens. With it, secret scanners find a leaked token, and nobody takes it for another kind of token. */
export const TOKEN_PREFIX = 'whs_';
const ALGORITHM = 'HS256';

/** A key that signs tokens. */
export interface SessionKey {
  readonly id: string;
  readonly key: KeyObject;
}

/** The owner or operator, the capabilities and the limits of a session. */
export interface NewSession {
  readonly kind: 'operator' | 'owner';
  readonly owner: string | null;
  readonly actor: string | null;
  readonly can: readonly Capability[];
  readonly expiresInMs: number;
  readonly page: SessionPage;
}

/** Times are in ms, although JWTs use seconds. So a session that is created right after a revocation is valid. */
interface Claims {
  readonly jti?: string;
  readonly kind?: unknown;
  readonly owner?: unknown;
  readonly actor?: unknown;
  readonly can?: unknown;
  readonly createdAt?: unknown;
  readonly expiresAt?: unknown;
  readonly page?: unknown;
}

/**
 * Creates, verifies and revokes sessions. A session is a signed token (JWT, RFC 7519) and has no row. Only a revocation has one, until the
 * session would have expired.
 */
export class Sessions {
  private readonly audience: string;

  /** @param instance a token of one instance is not valid for another */
  constructor(
    private readonly parts: {
      readonly clock: WebhookClock;
      /** The databases that know revocations of an owner's sessions; `null`: of sessions of operators. */
      readonly databasesOf: (owner: string | null) => readonly Database[] | Promise<readonly Database[]>;
    },
    private readonly options: { readonly keys: readonly SessionKey[]; readonly maxTtlMs: number },
    instance: string,
  ) {
    this.audience = `nestjs-entity-webhooks:${instance}`;
  }

  get maxTtlMs(): number {
    return this.options.maxTtlMs;
  }

  async create({ expiresInMs, ...session }: NewSession): Promise<{ id: string; token: string; expiresAt: Date }> {
    const id = newId('ses');
    const createdAt = this.parts.clock.now();
    const expiresAt = createdAt + expiresInMs;
    const [{ id: kid, key }] = this.options.keys as readonly [SessionKey];
    const page = Object.fromEntries(Object.entries(session.page).filter(([, value]) => value !== null));
    const token = await new SignJWT({ ...session, can: [...session.can], page, createdAt, expiresAt })
      .setProtectedHeader({ alg: ALGORITHM, kid, typ: 'whs+jwt' })
      .setJti(id)
      .setAudience(this.audience)
      .sign(key);
    return { id, token: TOKEN_PREFIX + token, expiresAt: new Date(expiresAt) };
  }

  /** @throws ApiError `UNAUTHENTICATED`, the same for every reason */
  async verify(token: string): Promise<Principal> {
    const claims = await this.claimsOf(token);
    const { jti: id, kind, actor, createdAt, expiresAt } = claims;
    const owner = ownerOf(claims);
    const can = capabilitiesOf(claims);
    if (id === undefined || owner === undefined || !can || !isTime(createdAt) || !isTime(expiresAt))
      throw unauthenticated();
    if (expiresAt <= this.parts.clock.now()) throw unauthenticated();
    if (await this.isRevoked({ id, owner, createdAt })) throw unauthenticated();
    return {
      kind: kind === 'operator' ? 'operator' : 'owner',
      owner,
      actor: typeof actor === 'string' ? actor : null,
      can,
      expiresAt: new Date(expiresAt),
      page: signedPage(claims.page),
    };
  }

  /** Any database that answers may know the revocation. @throws the error of a database if none answers */
  private async isRevoked(session: { id: string; owner: string | null; createdAt: number }): Promise<boolean> {
    const databases = await this.parts.databasesOf(session.owner);
    const answers = await Promise.allSettled(
      databases.map((database) => database.single(() => isRevoked(database, session))),
    );
    const known = answers.filter((answer) => answer.status === 'fulfilled');
    if (!known.length) throw (answers[0] as PromiseRejectedResult).reason;
    return known.some(({ value }) => value);
  }

  /** Stores a revocation in one of the databases. */
  async revoke(database: Database, revoked: RevokedSessions): Promise<void> {
    const now = this.parts.clock.now();
    await database.transaction(() =>
      revokeSessions(database, revoked, { now, expiresAt: now + this.options.maxTtlMs }),
    );
  }

  private async claimsOf(token: string): Promise<Claims> {
    try {
      const { payload } = await jwtVerify<Claims>(
        token.slice(TOKEN_PREFIX.length),
        ({ kid }) => {
          const known = this.options.keys.find(({ id }) => id === kid);
          if (known) return known.key;
          throw unauthenticated();
        },
        { algorithms: [ALGORITHM], audience: this.audience, typ: 'whs+jwt' },
      );
      return payload;
    } catch (error) {
      if (error instanceof errors.JOSEError || error instanceof ApiError) throw unauthenticated();
      throw error;
    }
  }
}

/** @param detail completes the answer */
export function unauthenticated(detail = 'Log in, or send a valid token of a session.'): ApiError {
  return new ApiError('UNAUTHENTICATED', 401, detail);
}

/** The owner of a session; `null` for an operator, `undefined` if the claims are of an older or newer version. */
function ownerOf({ kind, owner }: Claims): string | null | undefined {
  if (kind === 'operator') return null;
  return kind === 'owner' && typeof owner === 'string' ? ownerText(owner) : undefined;
}

function capabilitiesOf({ kind, can }: Claims): readonly Capability[] | null {
  const allowed: readonly unknown[] = kind === 'operator' ? CAPABILITIES : OWNER_CAPABILITIES;
  return Array.isArray(can) && can.every((one) => allowed.includes(one)) ? (can as Capability[]) : null;
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value);
}
