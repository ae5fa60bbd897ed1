import { setTimeout as sleep } from 'node:timers/promises';
import type { WebhookClock } from '../clock.js';
import {
  BEARER_TOKEN,
  openAuth,
  type ListenerAuth,
  type OAuth2ClientCredentials,
} from '../listeners/credentials/listener-auth.js';
import { openTls } from '../listeners/credentials/listener-tls.js';
import type { Sealing } from '../secrets/sealing.js';
import { MAX_RESPONSE_BYTES } from '../sending/guarded-client.js';
import type { TlsIdentity } from '../sending/connection-options.js';
import { MAX_DETAIL_LENGTH, showsTiming, type AttemptExchange, type Outcome } from '../sending/outcome.js';
import type { SignedRequest, WebhookTransport } from '../sending/transport.js';
import type { ListenerTarget } from '../store/queue/listener-target.js';
import type { AttemptDetails } from './attempt-details.js';
import { maskSecrets } from './mask-secrets.js';

/** Dependencies of {@link AuthorizedTransport}. */
export interface AuthorizedTransportParts {
  readonly transport: WebhookTransport;
  readonly sealing: Sealing;
  readonly clock: WebhookClock;
  readonly details: AttemptDetails;
}

/** The headers with the credentials, or the outcome of the attempt if no token was obtained. */
type Authorized = { readonly headers: Readonly<Record<string, string>> } | { readonly outcome: Outcome };

interface Token {
  readonly headers: Readonly<Record<string, string>>;
  readonly expiresAt: number;
}

/** Maximum number of cached tokens. */
const MAX_TOKENS = 10_000;
/** Maximum number of cached identities. An identity takes up to 40 KiB, and its key in the map up to 40 KiB more. */
const MAX_IDENTITIES = 1_000;
/**
 * A token is no longer used when its remaining lifetime is shorter than this time, because the request must arrive
 * before the token expires.
 */
const EXPIRES_EARLY_MS = 30_000;
/**
 * Lifetime of a token whose response has no `expires_in`. RFC 6749, section 5.1, recommends `expires_in` but does not
 * require it.
 */
const DEFAULT_LIFETIME_MS = 5 * 60_000;
const UNAUTHORIZED = 401;
const TOO_SLOW = 'the token request took the whole time limit';

/**
 * Sends requests with the credentials and the client certificate of the listener. A request to a token endpoint goes through the same
 * transport. So the same guards check both requests.
 *
 * One time limit covers the whole attempt: the token request, the request, and one more try after a 401 of a cached
 * token. If no token is obtained, the attempt fails with the outcome of the token request.
 */
export class AuthorizedTransport {
  /**
   * The key contains the listener and the stored credentials. So changed credentials get a new token. The map
   * is a `#` field, because its values are secrets.
   */
  readonly #tokens = new Map<string, Token>();
  /** Token requests in flight. Concurrent deliveries of one listener share one token request. */
  readonly #tokenRequests = new Map<string, Promise<Token | Outcome>>();

  /**
   * The key contains the listener and the stored text. Identities are cached, because it takes longer to open an
   * identity than to sign a request.
   */
  readonly #identities = new Map<string, TlsIdentity>();

  constructor(private readonly parts: AuthorizedTransportParts) {}

  /** @throws UnreadableSecretError, and every error that {@link WebhookTransport.send} throws */
  send(request: SignedRequest, target: ListenerTarget): Promise<Outcome> {
    const { auth, tls } = target;
    return auth === null && tls === null ? this.parts.transport.send(request) : this.sendAs(request, target);
  }

  private identityOf(stored: string, { id: listenerId, url }: ListenerTarget): TlsIdentity {
    const name = `${listenerId}:${url}:${stored}`;
    let identity = this.#identities.get(name);
    if (!identity) {
      identity = openTls(stored, this.parts.sealing, { listenerId, url });
      if (this.#identities.size >= MAX_IDENTITIES) this.#identities.clear();
      this.#identities.set(name, identity);
    }
    return identity;
  }

  private async sendAs(bare: SignedRequest, target: ListenerTarget): Promise<Outcome> {
    const { id, url, auth: stored, tls } = target;
    const request = tls === null ? bare : { ...bare, tls: this.identityOf(tls, target) };
    if (stored === null) return this.parts.transport.send(request);
    const auth = openAuth(stored, this.parts.sealing, { listenerId: id, url });
    if (auth.type !== 'oauth2') {
      return this.sendOnce(request, headersOf(auth), auth.type === 'basic' ? [auth.password] : []);
    }
    const startedAt = performance.now();
    const left = () => ({ ...request, timeoutMs: Math.floor(request.timeoutMs - (performance.now() - startedAt)) });
    const name = `${id}:${stored}`;
    const used = this.cachedToken(name);
    let outcome = await this.sendWithToken(name, auth, used ? keepSlotAfter401(left()) : left());
    if (outcome.status === UNAUTHORIZED && used && left().timeoutMs > 0) {
      // Another attempt may already have replaced the token.
      if (this.#tokens.get(name) === used) this.#tokens.delete(name);
      outcome = await this.sendWithToken(name, auth, left());
    }
    return { ...outcome, durationMs: Math.round(performance.now() - startedAt) };
  }

  private async sendWithToken(name: string, auth: OAuth2ClientCredentials, request: SignedRequest): Promise<Outcome> {
    const startedAt = performance.now();
    const authorized = await this.authorized(name, auth, request);
    if ('outcome' in authorized) return authorized.outcome;
    const timeoutMs = Math.floor(request.timeoutMs - (performance.now() - startedAt));
    if (timeoutMs <= 0) return failed(TOO_SLOW, 'unreachable');
    return this.sendOnce({ ...request, timeoutMs }, authorized.headers);
  }

  private async sendOnce(
    request: SignedRequest,
    headers: Readonly<Record<string, string>>,
    alsoSecret: readonly string[] = [],
  ): Promise<Outcome> {
    const outcome = await this.parts.transport.send({ ...request, headers: { ...request.headers, ...headers } });
    // Most attempts are not logged with their headers, and masking takes time.
    const logged = this.parts.details.has(outcome.kind) ? outcome : { ...outcome, exchange: undefined };
    return withoutSecrets(logged, [...Object.values(headers), ...alsoSecret]);
  }

  private async authorized(name: string, auth: OAuth2ClientCredentials, request: SignedRequest): Promise<Authorized> {
    const cached = this.cachedToken(name);
    if (cached) return cached;
    let asking = this.#tokenRequests.get(name);
    if (!asking) {
      asking = this.ask(name, auth, request).finally(() => this.#tokenRequests.delete(name));
      this.#tokenRequests.set(name, asking);
    }
    // Another attempt may have started the token request, and may have more time left than the current attempt.
    const limit = new AbortController();
    const late = sleep(request.timeoutMs, failed(TOO_SLOW, 'unreachable'), { signal: limit.signal });
    late.catch(() => undefined);
    try {
      const answer = await Promise.race([asking, late]);
      return 'headers' in answer ? answer : { outcome: answer };
    } finally {
      limit.abort();
    }
  }

  private cachedToken(name: string): Token | undefined {
    const token = this.#tokens.get(name);
    return token && token.expiresAt > this.parts.clock.now() ? token : undefined;
  }

  private async ask(
    name: string,
    auth: OAuth2ClientCredentials,
    { url, timeoutMs, tls }: SignedRequest,
  ): Promise<Token | Outcome> {
    const { transport, clock } = this.parts;
    const askedAt = clock.now();
    // The identity is meant for the origin of the listener. A token endpoint of another origin probably has a certificate of a
    // public authority. With the private authority of the identity, that certificate would be refused.
    const isSameServer = new URL(url).origin === new URL(auth.tokenUrl).origin;
    const outcome = await transport.send({
      ...tokenRequest(auth),
      timeoutMs,
      ...(tls !== undefined && isSameServer ? { tls } : {}),
    });
    // These errors are a fault of this process and not of the token endpoint. OUT_OF_SOCKETS counts as no attempt.
    // TRANSPORT_CLOSED means that the process stops.
    if (outcome.errorCode === 'OUT_OF_SOCKETS' || outcome.errorCode === 'TRANSPORT_CLOSED') return outcome;
    if (outcome.kind !== 'accepted') {
      // Do not keep the response body: it may contain a token even if the status is an error.
      const why = outcome.status === null ? String(outcome.errorCode) : `status ${outcome.status}`;
      return failed(`the token endpoint: ${why}`, showsTiming(outcome) ? 'unreachable' : 'blocked');
    }
    const token = readToken(outcome.response);
    if (token === null) return failed('the token endpoint returned no bearer token', 'unreachable');
    const headers = { authorization: `Bearer ${token.text}` };
    const made = { headers, expiresAt: askedAt + token.lifetimeMs - EXPIRES_EARLY_MS };
    if (this.#tokens.size >= MAX_TOKENS) this.#tokens.clear();
    this.#tokens.set(name, made);
    return made;
  }
}

/** Keeps the slot of an attempt after the status 401. After a 401 for a cached token, the attempt continues with a new token. */
function keepSlotAfter401(request: SignedRequest): SignedRequest {
  const { onStatus } = request;
  if (!onStatus) return request;
  return { ...request, onStatus: (status) => (status === UNAUTHORIZED ? () => undefined : onStatus(status)) };
}

function headersOf(auth: Exclude<ListenerAuth, OAuth2ClientCredentials>): Readonly<Record<string, string>> {
  switch (auth.type) {
    case 'headers':
      return auth.headers;
    case 'basic':
      return { authorization: `Basic ${base64(`${auth.username}:${auth.password}`)}` };
    case 'bearer':
      return { authorization: `Bearer ${auth.token}` };
  }
}

function tokenRequest(auth: OAuth2ClientCredentials): Omit<SignedRequest, 'timeoutMs'> {
  const form = new URLSearchParams({ grant_type: 'client_credentials' });
  if (auth.scope !== undefined) form.set('scope', auth.scope);
  if (auth.audience !== undefined) form.set('audience', auth.audience);
  const headers: Record<string, string> = {
    accept: 'application/json',
    'content-type': 'application/x-www-form-urlencoded',
  };
  if (auth.clientAuth === 'body') {
    form.set('client_id', auth.clientId);
    form.set('client_secret', auth.clientSecret);
  } else {
    // RFC 6749, section 2.3.1, requires that both parts are form-encoded before they are joined.
    headers.authorization = `Basic ${base64(`${formEncoded(auth.clientId)}:${formEncoded(auth.clientSecret)}`)}`;
  }
  return { url: auth.tokenUrl, headers, body: Buffer.from(form.toString()) };
}

function formEncoded(text: string): string {
  return new URLSearchParams({ '': text }).toString().slice(1);
}

function base64(text: string): string {
  return Buffer.from(text, 'utf8').toString('base64');
}

function readToken(response: string | null): { text: string; lifetimeMs: number } | null {
  let answer: unknown;
  try {
    answer = JSON.parse(response ?? '');
  } catch {
    return null;
  }
  const { access_token: text, token_type: type, expires_in: seconds } = (answer ?? {}) as Record<string, unknown>;
  if (typeof text !== 'string' || !BEARER_TOKEN.test(text)) return null;
  if (typeof type !== 'string' || type.toLowerCase() !== 'bearer') return null;
  const isLifetime =
    seconds !== undefined && seconds !== null && Number.isFinite(Number(seconds)) && Number(seconds) >= 0;
  return { text, lifetimeMs: isLifetime ? Number(seconds) * 1_000 : DEFAULT_LIFETIME_MS };
}

/** Masks the credentials in an outcome. The response is logged, and a receiver may repeat the request in its response. */
function withoutSecrets(outcome: Outcome, values: readonly string[]): Outcome {
  const secrets = values.flatMap((value) => [value, value.replace(/^(?:Basic|Bearer) /, '')]);
  const clean = (text: string | null, limit: number) =>
    // The check uses half of the limit, because texts are cut by bytes, and some texts are cut before they are decoded.
    text === null ? null : maskSecrets(text, secrets, Buffer.byteLength(text) >= limit / 2);
  const response = clean(outcome.response, MAX_RESPONSE_BYTES);
  const { exchange, ...rest } = outcome;
  const cleaned = { ...rest, response, errorDetail: clean(outcome.errorDetail, MAX_DETAIL_LENGTH) };
  if (!exchange) return cleaned;
  // The credentials in the headers of the request are masked by the names of the headers: see `attempt-details.ts`.
  const { responseHeaders } = exchange;
  const masked = responseHeaders && maskedValues(responseHeaders, secrets);
  return { ...cleaned, exchange: { ...exchange, responseHeaders: masked } };
}

function maskedValues(
  headers: NonNullable<AttemptExchange['responseHeaders']>,
  secrets: readonly string[],
): Record<string, string> {
  const values = Object.entries(headers).map(([name, value]): [string, string] => [
    name,
    maskSecrets(typeof value === 'string' ? value : (value ?? []).join(', '), secrets, false),
  ]);
  return Object.fromEntries(values);
}

function failed(errorDetail: string, kind: 'unreachable' | 'blocked'): Outcome {
  return {
    kind,
    status: null,
    errorCode: 'AUTH_FAILED',
    errorDetail,
    durationMs: 0,
    response: null,
    retryAfterMs: null,
  };
}
