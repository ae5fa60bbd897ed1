import type { WebhookClock } from '../clock.js';
import { failedPost, type PostResult } from './post-result.js';
import { type Outcome, toOutcome } from './outcome.js';
import { describeError, SendError } from './send-error.js';
import { type SignedRequest, WebhookTransport } from './transport.js';
import { USER_AGENT } from './user-agent.js';
import type { WebhooksHttp } from './webhooks-http-service.js';
import { DAY } from '../time.js';

/** Options of {@link HttpTransport}. */
export interface HttpTransportOptions {
  /** The clock with whose time a date in `Retry-After` is compared. @defaultValue the system's clock */
  clock?: WebhookClock;
  /** Maximum delay that a `Retry-After` can request, in milliseconds. @defaultValue 24 hours */
  retryAfterCapMs?: number;
}

/**
 * The default transport. It sends through the module's own `HttpService`.
 *
 * The transport follows no redirect, and checks addresses at the socket. One time limit covers name resolution,
 * connect, TLS, headers, body and interceptors. `send` never rejects, because errors of receivers and
 * interceptors become outcomes.
 */
export class HttpTransport extends WebhookTransport {
  readonly #http: WebhooksHttp;
  readonly #clock: Pick<WebhookClock, 'now'>;
  readonly #retryAfterCapMs: number;

  constructor(http: WebhooksHttp, options: HttpTransportOptions = {}) {
    super();
    this.#http = http;
    this.#clock = options.clock ?? Date;
    this.#retryAfterCapMs = options.retryAfterCapMs ?? DAY;
  }

  async send(request: SignedRequest): Promise<Outcome> {
    const startedAt = performance.now();
    let result: PostResult;
    try {
      result = await this.#http.post({ ...request, headers: { 'user-agent': USER_AGENT, ...request.headers } });
    } catch (error) {
      result = failedPost(new SendError('TRANSPORT_FAILED', describeError(error), { cause: error }));
    }
    const outcome = toOutcome(result, performance.now() - startedAt, this.#clock.now(), this.#retryAfterCapMs);
    return request.method === 'OPTIONS' ? { ...outcome, permission: permissionOf(result) } : outcome;
  }

  override close(): Promise<void> {
    return this.#http.close();
  }
}

/** Returns the permission in an answer. A header that occurs twice counts as missing. */
function permissionOf({ headers }: PostResult): NonNullable<Outcome['permission']> {
  const textOf = (value: unknown) => (typeof value === 'string' ? value : null);
  return { origin: textOf(headers['webhook-allowed-origin']), rate: textOf(headers['webhook-allowed-rate']) };
}
