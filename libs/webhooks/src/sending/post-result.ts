import type { IncomingHttpHeaders } from 'node:http';
import type { SendError } from './send-error.js';

/** The result of one POST: a status, or the error that says why there is no status. */
export interface PostResult {
  readonly status: number | null;
  readonly headers: IncomingHttpHeaders;
  /** The decoded body, at most {@link MAX_RESPONSE_BYTES}. */
  readonly body: string;
  readonly error: SendError | null;
}

/** A result for a request that got no answer. */
export function failedPost(error: SendError): PostResult {
  return { status: null, headers: {}, body: '', error };
}
