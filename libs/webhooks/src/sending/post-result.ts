import type { IncomingHttpHeaders } from 'node:http';
import type { AttemptPhases } from './phases.js';
import type { SendError } from './send-error.js';

/** The result of one POST: a status, or the error that says why there is no status. */
export interface PostResult {
  readonly status: number | null;
  readonly headers: IncomingHttpHeaders;
  /** The decoded body, at most {@link MAX_RESPONSE_BYTES}. */
  readonly body: string;
  readonly error: SendError | null;
  /** What was sent, and how long the steps took; missing if nothing was asked of undici. */
  readonly exchange?: {
    /** `null` if the request did not begin. */
    readonly requestHeaders: Readonly<Record<string, string | readonly string[]>> | null;
    readonly phases: AttemptPhases;
  };
}

/** A result for a request that got no answer. */
export function failedPost(error: SendError): PostResult {
  return { status: null, headers: {}, body: '', error };
}
