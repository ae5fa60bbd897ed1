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

/** A verified webhook. `@IncomingWebhookParam()` passes it to a handler. */
export class IncomingWebhookMessage<T = unknown> {
  /** The sender: the name of the source in `@VerifyIncomingWebhook()`. */
  readonly source: string;

  /**
   * The deduplication key. It is the same when the sender repeats the webhook. With `standard`, it is the header `webhook-id`. With
   * `stripe`, it is the `id` of the body. Otherwise it is a hash of the body. The signature covers the key, unless the source has
   * the option `id`.
   */
  readonly id: string;

  /** When this attempt was signed, in Unix seconds; `null` if the scheme signs no time. */
  readonly timestamp: number | null;

  /**
   * The `type` of the body, such as `order.updated`; `null` if the body has no `type`. GitHub sends the type in the unsigned header
   * `X-GitHub-Event`.
   */
  readonly type: string | null;

  /** The `data` of the body. The module does not check that `data` has the type `T`. Validate `data` like any other input. */
  readonly data: T;

  /** The `previous` of the body. For updates, it contains the old values of the changed fields. */
  readonly previous: Readonly<Record<string, unknown>> | undefined;

  /** The complete body as JSON; `undefined` if the body is not JSON. */
  readonly payload: unknown;

  /** The body, byte for byte. */
  readonly rawBody: Buffer;

  /** Headers of the request, with names in lower case. The signature covers only the headers that the scheme signs. */
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
   * Runs `process` if this webhook was not processed before, and stores the id of the webhook in the same transaction. Writes of
   * `process` through its manager take effect exactly once, even if the webhook arrives several times, or in several processes at
   * the same time.
   *
   * If `manager` is in a transaction, the call makes a savepoint. Otherwise it begins a new transaction. While another delivery of the same
   * webhook is being processed, this call waits. If the transaction of the other delivery commits, this call reports a duplicate. If that
   * transaction is rolled back, this call runs `process`. Answer 2xx in both cases. Other effects of `process`, such as a mail or a
   * request, are not rolled back.
   *
   * @param manager a manager of the data source that has the inbox
   * @param process does the work with the manager that it receives. If `process` throws an error, its writes are rolled back
   * and the id is not stored
   * @throws ConfigurationError `INBOX_MISSING` if the module has no option `inbox`, or if the manager belongs to another
   * data source
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
