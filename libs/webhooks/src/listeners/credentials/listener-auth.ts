import type { AddressGuard } from '../../sending/address-guard.js';
import { assertListenerHeaders } from '../../sending/listener-headers.js';
import { assertListenerUrl } from '../../sending/listener-url.js';
import type { ResolvedSecurityOptions } from '../../sending/security-options.js';
import { BadRequestError } from '../../errors.js';
import { InvalidListenerError } from '../../listener-errors.js';
import { openSealed, shownOf, writeSealed } from '../../secrets/sealed-document.js';
import type { Sealing } from '../../secrets/sealing.js';

/** Credentials that each request to a listener contains in addition to its signature. */
export type ListenerAuth =
  /** Headers whose values are secret, such as an API key. */
  | { readonly type: 'headers'; readonly headers: Readonly<Record<string, string>> }
  /** `Authorization: Basic` (RFC 7617), in UTF-8. */
  | { readonly type: 'basic'; readonly username: string; readonly password: string }
  /** `Authorization: Bearer` (RFC 6750). */
  | { readonly type: 'bearer'; readonly token: string }
  | OAuth2ClientCredentials;

/**
 * A bearer token that the dispatcher requests from `tokenUrl` with the client credentials grant (RFC 6749, 4.4). The
 * token is reused while it is valid.
 */
export interface OAuth2ClientCredentials {
  readonly type: 'oauth2';
  /** The token endpoint. The rules for URLs of listeners apply. */
  readonly tokenUrl: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly scope?: string;
  /** Some servers require an audience in addition to `scope`, or instead of it. */
  readonly audience?: string;
  /** How the client authenticates: by HTTP Basic, or in the body. @defaultValue 'basic' */
  readonly clientAuth?: 'basic' | 'body';
}

/** Replaces secret values when a listener is read. */
export const MASK = '***';

/** Maximum length of each text in `auth`, in characters. */
export const MAX_AUTH_TEXT_LENGTH = 4_096;

type UrlPolicy = Pick<ResolvedSecurityOptions, 'allowHttp' | 'allowedPorts'>;

/**
 * Checks the `auth` of a listener.
 *
 * @throws InvalidListenerError `INVALID_AUTH`; BadRequestError `INVALID_HEADER` and the codes of `assertListenerUrl`. The message contains no
 * secret value
 */
export function assertAuth(given: unknown, guard: AddressGuard, options: UrlPolicy): ListenerAuth {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) throw invalid('it must be an object.');
  const { type, ...fields } = given as Record<string, unknown>;
  switch (type) {
    case 'headers': {
      only(fields, ['headers']);
      const headers = assertListenerHeaders(fields.headers as Record<string, string>);
      if (!Object.keys(headers).length) throw invalid('`headers` must have at least one header.');
      for (const value of Object.values(headers)) notMasked(value);
      return { type, headers };
    }
    case 'basic': {
      only(fields, ['username', 'password']);
      const username = text(fields, 'username', /^[^:]*$/);
      return { type, username, password: secret(fields, 'password') };
    }
    case 'bearer': {
      only(fields, ['token']);
      const token = secret(fields, 'token');
      if (!BEARER_TOKEN.test(token))
        throw invalid(
          "`token` must have only letters, digits, '-', '.', '_', '~', '+' and '/', and '=' only at its end.",
        );
      return { type, token };
    }
    case 'oauth2':
      return oauth2(fields, guard, options);
    default:
      throw invalid("`type` must be 'headers', 'basic', 'bearer' or 'oauth2'.");
  }
}

/** The syntax `b64token` of RFC 6750, 2.1. The header allows no other form of a token. */
export const BEARER_TOKEN = /^[A-Za-z0-9\-._~+/]+=*$/;

function oauth2(fields: Record<string, unknown>, guard: AddressGuard, options: UrlPolicy): OAuth2ClientCredentials {
  only(fields, ['tokenUrl', 'clientId', 'clientSecret', 'scope', 'audience', 'clientAuth']);
  const { clientAuth = 'basic' } = fields;
  if (clientAuth !== 'basic' && clientAuth !== 'body') throw invalid("`clientAuth` must be 'basic' or 'body'.");
  return {
    type: 'oauth2',
    tokenUrl: assertListenerUrl(text(fields, 'tokenUrl'), guard, options).href,
    clientId: text(fields, 'clientId'),
    clientSecret: secret(fields, 'clientSecret'),
    ...(fields.scope === undefined ? {} : { scope: text(fields, 'scope') }),
    ...(fields.audience === undefined ? {} : { audience: text(fields, 'audience') }),
    clientAuth,
  };
}

/** The text that is stored in the row of a listener. */
export function writeAuth(auth: ListenerAuth, sealing: Sealing, place: { listenerId: string; url: string }): string {
  return writeSealed(auth, masked(auth), { sealing, use: 'auth', ...place });
}

/** Returns the stored `auth` with masked secret values. No sealing key is needed. */
export function shownAuth(stored: string | null): ListenerAuth | null {
  return stored === null ? null : (shownOf(stored) as ListenerAuth);
}

/** @throws UnreadableSecretError */
export function openAuth(stored: string, sealing: Sealing, place: { listenerId: string; url: string }): ListenerAuth {
  return openSealed(stored, { sealing, use: 'auth', ...place }) as ListenerAuth;
}

function masked(auth: ListenerAuth): ListenerAuth {
  switch (auth.type) {
    case 'headers':
      return { ...auth, headers: Object.fromEntries(Object.keys(auth.headers).map((name) => [name, MASK])) };
    case 'basic':
      return { ...auth, password: MASK };
    case 'bearer':
      return { ...auth, token: MASK };
    case 'oauth2':
      return { ...auth, clientSecret: MASK };
  }
}

function only(fields: Record<string, unknown>, known: readonly string[]): void {
  const unknown = Object.keys(fields).find((key) => !known.includes(key));
  if (unknown !== undefined) throw invalid(`this \`type\` has only the properties ${known.join(', ')}.`);
}

function text(fields: Record<string, unknown>, name: string, shape = /^/): string {
  const value = fields[name];
  // Section 2 of RFC 7617 forbids control characters. Databases cannot store halves of surrogate pairs.
  if (
    typeof value !== 'string' ||
    value === '' ||
    value.length > MAX_AUTH_TEXT_LENGTH ||
    /[\p{Cc}\p{Cs}]/u.test(value) ||
    !shape.test(value)
  ) {
    throw invalid(
      `\`${name}\` must be a string of 1 to ${MAX_AUTH_TEXT_LENGTH} characters without control characters${name === 'username' ? ' and without a colon' : ''}.`,
    );
  }
  return value;
}

function secret(fields: Record<string, unknown>, name: string): string {
  const value = text(fields, name);
  notMasked(value);
  return value;
}

/**
 * Refuses the mask as a value. Otherwise a client that reads a listener and then writes the same values would replace
 * the secret by the mask.
 */
function notMasked(value: string): void {
  if (value === MASK) {
    throw invalid(
      `'${MASK}' stands for a secret that is not shown. Leave \`auth\` out to keep the secret, or give all secret values.`,
    );
  }
}

function invalid(message: string): BadRequestError {
  return new InvalidListenerError('INVALID_AUTH', `Invalid \`auth\`: ${message}`);
}
