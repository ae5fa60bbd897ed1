import type { AddressGuard } from '../../sending/address-guard.js';
import { assertListenerHeaders } from '../../sending/listener-headers.js';
import { assertListenerUrl } from '../../sending/listener-url.js';
import type { ResolvedSecurityOptions } from '../../sending/security-options.js';
import { BadRequestError } from '../../errors.js';
import { InvalidListenerError } from '../../listener-errors.js';
import { openSealed, shownOf, writeSealed } from '../../secrets/sealed-document.js';
import type { Sealing } from '../../secrets/sealing.js';

/** How a request proves to the receiver's server that it may come in, beside its signature. */
export type ListenerAuth =
  /** Headers whose values are secret, such as an API key. */
  | { readonly type: 'headers'; readonly headers: Readonly<Record<string, string>> }
  /** `Authorization: Basic` (RFC 7617), in UTF-8. */
  | { readonly type: 'basic'; readonly username: string; readonly password: string }
  /** `Authorization: Bearer` (RFC 6750). */
  | { readonly type: 'bearer'; readonly token: string }
  | OAuth2ClientCredentials;

/** A token from `tokenUrl`, by the client credentials grant (RFC 6749, 4.4), kept for as long as it is valid. */
export interface OAuth2ClientCredentials {
  readonly type: 'oauth2';
  /** The token endpoint: the rules for the URLs of listeners hold for it, too. */
  readonly tokenUrl: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly scope?: string;
  /** Some servers want it beside or in place of `scope`. */
  readonly audience?: string;
  /** How the client names itself: by HTTP Basic, or in the form. @defaultValue 'basic' */
  readonly clientAuth?: 'basic' | 'body';
}

/** What stands in place of a secret when a listener is read. */
export const MASK = '***';

/** Longest text of the credentials, in characters. */
export const MAX_AUTH_TEXT_LENGTH = 4_096;

type UrlPolicy = Pick<ResolvedSecurityOptions, 'allowHttp' | 'allowedPorts'>;

/**
 * Checks what a listener is to be sent with.
 *
 * @throws InvalidListenerError `INVALID_AUTH`, `INVALID_HEADER` and what a URL may be; the message repeats nothing secret
 */
export function assertAuth(given: unknown, guard: AddressGuard, options: UrlPolicy): ListenerAuth {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) throw invalid('auth is an object.');
  const { type, ...fields } = given as Record<string, unknown>;
  switch (type) {
    case 'headers': {
      only(fields, ['headers']);
      const headers = assertListenerHeaders(fields.headers as Record<string, string>);
      if (!Object.keys(headers).length) throw invalid('`headers` names at least one header.');
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
      if (!BEARER_TOKEN.test(token)) throw invalid('`token` has a character that a bearer token cannot have.');
      return { type, token };
    }
    case 'oauth2':
      return oauth2(fields, guard, options);
    default:
      throw invalid('`type` is one of headers, basic, bearer and oauth2.');
  }
}

/** `b64token` of RFC 6750, 2.1: nothing else fits into the header. */
export const BEARER_TOKEN = /^[A-Za-z0-9\-._~+/]+=*$/;

function oauth2(fields: Record<string, unknown>, guard: AddressGuard, options: UrlPolicy): OAuth2ClientCredentials {
  only(fields, ['tokenUrl', 'clientId', 'clientSecret', 'scope', 'audience', 'clientAuth']);
  const { clientAuth = 'basic' } = fields;
  if (clientAuth !== 'basic' && clientAuth !== 'body') throw invalid("`clientAuth` is 'basic' or 'body'.");
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

/** As it stands in the row of a listener. */
export function writeAuth(auth: ListenerAuth, sealing: Sealing, place: { listenerId: string; url: string }): string {
  return writeSealed(auth, masked(auth), { sealing, use: 'auth', ...place });
}

/** What may be shown of it: names and URLs; it needs no key. */
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
  if (unknown !== undefined) throw invalid(`this type has ${known.join(', ')} and nothing else.`);
}

function text(fields: Record<string, unknown>, name: string, shape = /^/): string {
  const value = fields[name];
  // No control characters (RFC 7617, 2), and none that a database cannot store.
  if (
    typeof value !== 'string' ||
    value === '' ||
    value.length > MAX_AUTH_TEXT_LENGTH ||
    /[\p{Cc}\p{Cs}]/u.test(value) ||
    !shape.test(value)
  ) {
    throw invalid(`\`${name}\` is text of 1 to ${MAX_AUTH_TEXT_LENGTH} characters without control characters.`);
  }
  return value;
}

function secret(fields: Record<string, unknown>, name: string): string {
  const value = text(fields, name);
  notMasked(value);
  return value;
}

/** A listener that was read and is sent back as it was shown would otherwise lose its secret. */
function notMasked(value: string): void {
  if (value === MASK) {
    throw invalid(`'${MASK}' stands for a secret that is not shown: leave out \`auth\` to keep it, or give it whole.`);
  }
}

function invalid(message: string): BadRequestError {
  return new InvalidListenerError('INVALID_AUTH', `The auth of the listener is not valid: ${message}`);
}
