import { oneLine } from '../foreign-text.js';
import type { AttemptPhases } from './phases.js';
import type { PostResult } from './post-result.js';
import { retryAfterMs } from './retry-after.js';
import type { SendErrorCode } from './send-error.js';

/**
 * - `accepted`: the receiver answered with a 2xx status.
 * - `rejected`: the receiver answered with another status.
 * - `unreachable`: no status arrived.
 * - `blocked`: the request was not sent, because a guard of this library refused it.
 */
export type OutcomeKind = 'accepted' | 'rejected' | 'unreachable' | 'blocked';

/** The headers of one request and of its answer, and how long its steps took. */
export interface AttemptExchange {
  /** The headers as they were sent; `null` if the request did not begin. */
  readonly requestHeaders: Readonly<Record<string, string | readonly string[]>> | null;
  /** The headers of the answer; `null` if no status arrived. */
  readonly responseHeaders: Readonly<Record<string, string | readonly string[] | undefined>> | null;
  readonly phases: AttemptPhases | null;
}

/** The result of one attempt. */
export interface Outcome {
  kind: OutcomeKind;
  /** The HTTP status; `null` when no status arrived. */
  status: number | null;
  /** The error code; `null` only when the kind is `accepted`. */
  errorCode: SendErrorCode | null;
  /** Details of the error, for operators only. The text may name internal addresses, and may contain messages of interceptors. */
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
   * How long the receiver asked to wait, in milliseconds, limited to the maximum. `null` when the receiver did not
   * ask for a delay, or sent a value that is invalid in HTTP.
   */
  retryAfterMs: number | null;
  /**
   * What was sent and received, for the log of attempts. Secrets in these headers are masked before they are stored. A custom transport may
   * leave it out.
   */
  exchange?: AttemptExchange;
  /**
   * `WebHook-Allowed-Origin` and `WebHook-Allowed-Rate` of an answer to `OPTIONS`. Without them, a `cloudevents`
   * handshake fails.
   */
  permission?: { readonly origin: string | null; readonly rate: string | null };
}

const BLOCKED: ReadonlySet<SendErrorCode> = new Set<SendErrorCode>(['ADDRESS_BLOCKED', 'URL_REFUSED', 'BODY_MISMATCH']);

/**
 * Whether a customer may see how long an attempt took. The duration of a blocked attempt reveals details of the internal network. An
 * attempt counts as blocked if this library blocked it, and also if the proxy may have blocked it.
 */
export function showsTiming({ kind, errorCode }: { kind: OutcomeKind; errorCode: string | null }): boolean {
  return kind !== 'blocked' && errorCode !== 'PROXY_FAILED';
}

/** Maximum length of {@link Outcome.errorDetail}, in characters. */
export const MAX_DETAIL_LENGTH = 500;

/**
 * Makes an outcome from a result. This is a pure function. `nowMs` is the time with which a date in `Retry-After` is
 * compared. `capMs` is the maximum delay.
 */
export function toOutcome(result: PostResult, durationMs: number, nowMs: number, capMs: number): Outcome {
  const outcome = bareOutcome(result, durationMs, nowMs, capMs);
  const { exchange, status, headers } = result;
  if (exchange) outcome.exchange = { ...exchange, responseHeaders: status === null ? null : headers };
  return outcome;
}

function bareOutcome(result: PostResult, durationMs: number, nowMs: number, capMs: number): Outcome {
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
