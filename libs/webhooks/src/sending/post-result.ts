import type { IncomingHttpHeaders } from 'node:http';
import type { SendError } from './send-error.js';

/** What one POST brought back: a status, or else the error that says why there is none. */
export interface PostResult {
  readonly status: number | null;
  readonly headers: IncomingHttpHeaders;
  /** At most {@link MAX_RESPONSE_BYTES}, decoded. */
  readonly body: string;
  readonly error: SendError | null;
}

/** A result for a request that got no answer. */
export function failedPost(error: SendError): PostResult {
  return { status: null, headers: {}, body: '', error };
}
