import type { EntityManager } from 'typeorm';
import type { WebhookInbox } from './webhook-inbox.js';
import type { ProcessedOnce } from './processed-once.js';

/** @internal */
export interface ReceivedWebhookParts {
  readonly source: string;
  readonly id: string;
  readonly timestamp: number | null;
  readonly rawBody: Buffer;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly payload: unknown;
}

/** A webhook that is genuine, as `@IncomingWebhook()` gives it to a handler. */
export class ReceivedWebhook<T = unknown> {
  /** Whose it is: the name that `@VerifyWebhook()` was given. */
  readonly source: string;

  /**
   * By what it is known when it comes again. The signature covers it (but for a source with an `id` of its own): with
   * `standard` the `webhook-id`, with `stripe` the body's `id`, otherwise a hash of the body.
   */
  readonly id: string;

  /** When this attempt was signed, in Unix seconds; `null` where the scheme signs no time. */
  readonly timestamp: number | null;

  /** The body's `type`, such as `order.updated`; `null` where it has none. GitHub's stands in `X-GitHub-Event`, unsigned. */
  readonly type: string | null;

  /** The body's `data`. What it looks like is the sender's word: validate it like any input. */
  readonly data: T;

  /** The body's `previous`: on updates the old values of what changed. */
  readonly previous: Readonly<Record<string, unknown>> | undefined;

  /** The whole body as JSON; `undefined` when it is none. */
  readonly payload: unknown;

  /** The body, byte for byte. */
  readonly rawBody: Buffer;

  /** Headers of the request, names in lower case. Only those of the signature itself are vouched for. */
  readonly headers: Readonly<Record<string, string | undefined>>;

  readonly #inbox: WebhookInbox;

  /** @internal */
  constructor(parts: ReceivedWebhookParts, inbox: WebhookInbox) {
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
   * Runs `process` unless this webhook was processed before, and remembers its id in the same transaction: what `process`
   * writes through its manager is there once, however often, and in however many processes at once, the webhook arrives.
   *
   * In a caller's transaction it is a savepoint of that; with any other manager a transaction of its own. While another
   * delivery of the same webhook is being processed it waits for that: if the other one commits this is a duplicate, if it
   * rolls back this one runs. Answer 2xx either way. What `process` does elsewhere, a mail or a request, is not undone.
   *
   * @param manager one of the data source that has the inbox
   * @param process does the work with the manager it is given; what it throws undoes its writes and forgets the id
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
