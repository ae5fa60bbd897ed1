import { oneLine } from '../foreign-text.js';
import type { PostResult } from './post-result.js';
import { retryAfterMs } from './retry-after.js';
import type { SendErrorCode } from './send-error.js';

/** 2xx; another status; no status at all; not sent, because a guard of ours refused. */
export type OutcomeKind = 'accepted' | 'rejected' | 'unreachable' | 'blocked';

/** What one attempt amounted to. */
export interface Outcome {
  kind: OutcomeKind;
  /** The HTTP status; `null` when none arrived. */
  status: number | null;
  /** `null` only when accepted. */
  errorCode: SendErrorCode | null;
  /** For operators only: it may name addresses of the inner network and what interceptors said. */
  errorDetail: string | null;
  /** From the call of `send` to its outcome, in whole milliseconds. */
  durationMs: number;
  /**
   * The first 4096 bytes of the response body as UTF-8, invalid sequences replaced, NUL removed (PostgreSQL's text takes
   * none), a character that the limit cut left off. `null` when there was no response.
   */
  response: string | null;
  /** How long the receiver asked to wait, already capped; `null` when it did not, or said so in no way that HTTP knows. */
  retryAfterMs: number | null;
  /**
   * Of an answer to `OPTIONS`: its `WebHook-Allowed-Origin` and `WebHook-Allowed-Rate`. A transport that gives none passes no
   * `cloudevents` handshake.
   */
  permission?: { readonly origin: string | null; readonly rate: string | null };
}

const BLOCKED: ReadonlySet<SendErrorCode> = new Set<SendErrorCode>(['ADDRESS_BLOCKED', 'URL_REFUSED', 'BODY_MISMATCH']);

/**
 * Whether a customer may know how long an attempt took. Of one that was blocked, here or perhaps by the proxy, the time tells
 * of the inner network.
 */
export function showsTiming({ kind, errorCode }: { kind: OutcomeKind; errorCode: string | null }): boolean {
  return kind !== 'blocked' && errorCode !== 'PROXY_FAILED';
}

/** Of {@link Outcome.errorDetail}. */
export const MAX_DETAIL_LENGTH = 500;

/** Judges what came back. Pure: `nowMs` is the time a `Retry-After` date is compared with, `capMs` the longest wait. */
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
