import { oneLine } from '../foreign-text.js';
import type { PostResult } from './guarded-client.js';
import { retryAfterMs } from './retry-after.js';

/**
 * Why an attempt was not accepted. A closed list: programs may branch on it, and it may be stored.
 *
 * | code | kind | what happened |
 * |---|---|---|
 * | `HTTP_STATUS` | rejected | answered with a status that is neither 2xx nor 3xx |
 * | `REDIRECT` | rejected | answered 3xx; redirects are never followed |
 * | `TIMEOUT` | unreachable | no status line and headers within the time limit, or no connection within its own |
 * | `DNS_FAILED` | unreachable | the name did not resolve |
 * | `CONNECTION_REFUSED` | unreachable | nothing listens on that port |
 * | `CONNECTION_FAILED` | unreachable | no route, a reset, a connection closed before the answer |
 * | `TLS_FAILED` | unreachable | no TLS: certificate (the server's, or a client's that it refuses or misses), name, protocol |
 * | `PROXY_FAILED` | unreachable | the proxy of `security.proxy` could not be reached, or opened no tunnel |
 * | `INVALID_RESPONSE` | unreachable | the answer was no HTTP, its headers were too large, or 1xx came without end |
 * | `INVALID_REQUEST` | unreachable | the request could not be written, for example for a header that an interceptor set |
 * | `INTERCEPTOR_FAILED` | unreachable | an interceptor threw, or took the whole time limit |
 * | `OUT_OF_SOCKETS` | unreachable | this process has no file, buffer or memory left for a connection; the dispatcher counts no attempt |
 * | `TRANSPORT_CLOSED` | unreachable | the application was closing |
 * | `TRANSPORT_FAILED` | unreachable | a fault of the transport itself: please report it |
 * | `AUTH_FAILED` | unreachable, blocked | no token was to be had for a listener with `oauth2`; the detail says why |
 * | `ADDRESS_BLOCKED` | blocked | the address is not public and not in `security.allowedAddresses` |
 * | `URL_REFUSED` | blocked | not `https:` (nor `http:` with `security.allowHttp`), a port outside `security.allowedPorts`, with credentials, or no URL at all |
 * | `BODY_MISMATCH` | blocked | an interceptor changed the body that had been signed |
 */
export type SendErrorCode =
  | 'HTTP_STATUS'
  | 'REDIRECT'
  | 'TIMEOUT'
  | 'DNS_FAILED'
  | 'CONNECTION_REFUSED'
  | 'CONNECTION_FAILED'
  | 'TLS_FAILED'
  | 'PROXY_FAILED'
  | 'INVALID_RESPONSE'
  | 'INVALID_REQUEST'
  | 'INTERCEPTOR_FAILED'
  | 'OUT_OF_SOCKETS'
  | 'TRANSPORT_CLOSED'
  | 'TRANSPORT_FAILED'
  | 'AUTH_FAILED'
  | 'ADDRESS_BLOCKED'
  | 'URL_REFUSED'
  | 'BODY_MISMATCH';

/**
 * - `accepted`: a 2xx status.
 * - `rejected`: another status.
 * - `unreachable`: no status.
 * - `blocked`: not sent, because a guard of this library refused it.
 */
export type OutcomeKind = 'accepted' | 'rejected' | 'unreachable' | 'blocked';

/** The result of one attempt. */
export interface Outcome {
  kind: OutcomeKind;
  /** The HTTP status; `null` when none arrived. */
  status: number | null;
  /** `null` only when accepted. */
  errorCode: SendErrorCode | null;
  /** For operators only: it may name internal addresses, and may contain messages of interceptors. */
  errorDetail: string | null;
  /** Time from the call of `send` to its outcome, in whole milliseconds. */
  durationMs: number;
  /**
   * The first 4096 bytes of the response body as UTF-8. Invalid sequences are replaced. NUL is removed, because
   * PostgreSQL's text type does not allow it. A character that the limit cuts in half is omitted. `null` when there was
   * no response.
   */
  response: string | null;
  /**
   * How long the receiver asked to wait, capped, in milliseconds. `null` when it did not ask, or sent a value that is
   * not valid in HTTP.
   */
  retryAfterMs: number | null;
  /**
   * `WebHook-Allowed-Origin` and `WebHook-Allowed-Rate` of an answer to `OPTIONS`. Without them, a `cloudevents`
   * handshake fails.
   */
  permission?: { readonly origin: string | null; readonly rate: string | null };
}

const BLOCKED: ReadonlySet<SendErrorCode> = new Set<SendErrorCode>(['ADDRESS_BLOCKED', 'URL_REFUSED', 'BODY_MISMATCH']);

/**
 * Whether a customer may see how long an attempt took. The time of a blocked attempt reveals facts about the internal
 * network, whether this library or perhaps the proxy blocked it.
 */
export function showsTiming({ kind, errorCode }: { kind: OutcomeKind; errorCode: string | null }): boolean {
  return kind !== 'blocked' && errorCode !== 'PROXY_FAILED';
}

/** Maximum length of {@link Outcome.errorDetail}, in characters. */
export const MAX_DETAIL_LENGTH = 500;

/**
 * Makes an outcome from a result. Pure: `nowMs` is the time that a date in `Retry-After` is compared with, `capMs` the
 * maximum wait.
 */
export function toOutcome(result: PostResult, durationMs: number, nowMs: number, capMs: number): Outcome {
  const { status, error } = result;
  const rounded = Math.round(durationMs);
  if (status === null) {
    const code = error?.code ?? 'TRANSPORT_FAILED';
    return {
      kind: BLOCKED.has(code) ? 'blocked' : 'unreachable',
      status,
      errorCode: code,
      errorDetail: error === null ? null : oneLine(error.message).slice(0, MAX_DETAIL_LENGTH),
      durationMs: rounded,
      response: null,
      retryAfterMs: null,
    };
  }
  const accepted = status >= 200 && status < 300;
  const header = result.headers['retry-after'];
  return {
    kind: accepted ? 'accepted' : 'rejected',
    status,
    errorCode: accepted ? null : status >= 300 && status < 400 ? 'REDIRECT' : 'HTTP_STATUS',
    errorDetail: null,
    durationMs: rounded,
    response: result.body,
    retryAfterMs: header === undefined ? null : retryAfterMs(String(header), nowMs, capMs),
  };
}
