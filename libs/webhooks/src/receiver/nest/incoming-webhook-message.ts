import type { EntityManager } from 'typeorm';
import type { IncomingWebhookInbox } from './incoming-webhook-inbox.js';
import type { ProcessedOnce } from './processed-once.js';

/** @internal */
export interface IncomingWebhookMessageParts {
  readonly source: string;
  readonly id: string;
  readonly timestamp: number | null;
  readonly rawBody: Buffer;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly payload: unknown;
}

/** A verified webhook, as `@IncomingWebhookParam()` passes it to a handler. */
export class IncomingWebhookMessage<T = unknown> {
  /** The sender: the name of the source in `@VerifyIncomingWebhook()`. */
  readonly source: string;

  /**
   * The deduplication key: the same when the sender repeats the webhook. With `standard` the header `webhook-id`, with `stripe` the
   * body's `id`, otherwise a hash of the body. The signature covers it, unless the source has the option `id`.
   */
  readonly id: string;

  /** When this attempt was signed, in Unix seconds; `null` if the scheme signs no time. */
  readonly timestamp: number | null;

  /** The body's `type`, such as `order.updated`; `null` without one. GitHub sends its type in the unsigned header `X-GitHub-Event`. */
  readonly type: string | null;

  /** The body's `data`. Nothing checks that it has the type `T`: validate it like any input. */
  readonly data: T;

  /** The body's `previous`: on updates, the old values of the changed fields. */
  readonly previous: Readonly<Record<string, unknown>> | undefined;

  /** The complete body as JSON; `undefined` if the body is not JSON. */
  readonly payload: unknown;

  /** The body, byte for byte. */
  readonly rawBody: Buffer;

  /** Headers of the request, names in lower case. The signature covers only the headers that the scheme signs. */
  readonly headers: Readonly<Record<string, string | undefined>>;

  readonly #inbox: IncomingWebhookInbox;

  /** @internal */
  constructor(parts: IncomingWebhookMessageParts, inbox: IncomingWebhookInbox) {
    const { payload } = parts;
    const fields = isRecord(payload) ? payload : {};
    this.source = parts.source;
    this.id = parts.id;
    this.timestamp = parts.timestamp;
    this.type = typeof fields['type'] === 'string' ? fields['type'] : null;
    this.data = fields['data'] as T;
    this.previous = isRecord(fields['previous']) ? fields['previous'] : undefined;
    this.payload = payload;
    this.rawBody = parts.rawBody;
    this.headers = parts.headers;
    this.#inbox = inbox;
  }

  /**
   * Runs `process` unless this webhook was processed before, and stores its id in the same transaction. The writes that `process` makes
   * through its manager take effect exactly once, even if the webhook arrives several times, or in several processes at the same time.
   *
   * Inside a transaction of `manager` this is a savepoint; otherwise it is a new transaction. While another delivery of the same webhook
   * is being processed, this call waits: if the other delivery commits, this one is a duplicate; if it rolls back, this one runs. Answer
   * 2xx in both cases. Other effects of `process`, such as a mail or a request, are not rolled back.
   *
   * @param manager a manager of the data source that has the inbox
   * @param process does the work with the manager it gets. If it throws, its writes are rolled back and the id is not stored
   * @throws ConfigurationError `INBOX_MISSING` without the module's option `inbox`, or for a manager of another data source
   *
   * @example
   * const { isDuplicate } = await webhook.processInTransaction(this.dataSource.manager, async (manager) => {
   *   await manager.increment(Account, { id: webhook.data.accountId }, 'balance', webhook.data.amount);
   * });
   */
  processInTransaction<R>(
    manager: EntityManager,
    process: (manager: EntityManager) => R | Promise<R>,
  ): Promise<ProcessedOnce<R>> {
    return this.#inbox.once({ source: this.source, id: this.id }, manager, process);
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
