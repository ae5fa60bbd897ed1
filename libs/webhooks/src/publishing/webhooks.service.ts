import type { DataSource, EntityManager, QueryRunner } from 'typeorm';
import { canonicalData, Unserializable } from '../entities/canonical-value.js';
import type { ChangeRecorder } from '../capture/change-recorder.js';
import type { WebhookClock } from '../clock.js';
import type { Diagnostics } from '../diagnostics/diagnostics.js';
import { tupleHash } from '../hash.js';
import { newId } from '../ids.js';
import { knownNames } from '../known-names.js';
import { loopMessage } from '../entities/errors.js';
import { OWNER_TEXTS, ownerText } from '../owner.js';
import type { EventCatalog } from '../listeners/event-catalog.js';
import type { ResolvedWebhooksOptions } from '../options/resolve-options.js';
import type { CallerTransactions } from '../store/database/caller-transactions.js';
import type { Database } from '../store/database/database.js';
import { runScript } from '../store/database/script.js';
import { publishOnce, type ExistingEvent } from '../store/outbox/published-events.js';
import { mergedContext, storedCause, type WebhookContext } from '../events/event-context.js';
import { eventRow, storeEvents, type EventRow } from '../store/outbox/event-rows.js';
import { currentCause, runUncaptured, runWithContext } from '../cause.js';
import type { JsonObject } from '../json.js';
import { isReservedType } from '../events/reserved-names.js';
import { PublishError } from './publish-errors.js';
import { EVERY_OWNER, type Audience, type EveryOwner, type WebhookEvent } from '../events/webhook-event.js';
import { textOf } from '../foreign-text.js';
import { invalidValue } from '../show.js';
import { dataSourceOf } from '../typeorm-compat.js';

/** Options of `publish()`. */
export interface PublishOptions {
  /**
   * Owner of the event, or `EVERY_OWNER` for all owners.
   *
   * @defaultValue no owner: only listeners without an owner receive the event
   */
  owner?: string | number | bigint | EveryOwner | null;
  /**
   * The manager whose transaction the call joins. The event is stored if the transaction commits. It is not stored if
   * the transaction is rolled back.
   *
   * @defaultValue the ambient transaction of a library or of the option `currentManager` (`docs/transactions.md`); if there is no ambient
   * transaction, a separate transaction
   */
  manager?: EntityManager;
  /** A second call with the same key, owner and type makes no event, and returns the event of the first call. 1 to 255 characters. */
  idempotencyKey?: string;
  /**
   * Listeners with `ordering: 'entity'` receive events with the same order key one at a time, in the order of the calls.
   * Concurrent calls have no defined order; see `docs/ordering.md`.
   */
  orderKey?: string;
  /** The context of this event, as if this call ran inside `withContext()`. */
  context?: WebhookContext;
}

/** Dependencies of the service. @internal */
export interface WebhooksServiceParts {
  readonly dataSource: DataSource;
  readonly database: Database;
  readonly capture: ChangeRecorder;
  readonly catalog: EventCatalog;
  readonly clock: WebhookClock;
  readonly transactions: CallerTransactions;
  readonly options: ResolvedWebhooksOptions;
  readonly diagnostics: Diagnostics;
  readonly onCommitted: (rows: readonly EventRow[]) => Promise<void> | void;
}

/** Publishes events that are not changes of entities, sets the context of events, and lists event types. */
export class WebhooksService {
  /** @internal */
  constructor(private readonly parts: WebhooksServiceParts) {}

  /** Every event type that listeners may name, sorted. */
  eventTypes(): string[] {
    return this.parts.catalog.types();
  }

  /**
   * Runs `work`, and captures no changes of entities that `work` makes. Use this method for seeds, imports and migrations. Changes by
   * functions that `work` calls are not captured either. Concurrent writes of other code are captured as usual. Writes of in-process
   * event handlers are also captured.
   *
   * If a transaction began outside of `work`, only its writes inside `work` make no event. `publish()` makes an event even inside
   * `work`. To exclude a single call of `save()`, use `save(order, { data: { webhooks: false } })`.
   *
   * @returns what `work` returns
   * @example await webhooks.withoutCapture(() => orders.save(imported));
   */
  withoutCapture<T>(work: () => T): T {
    return runUncaptured(this.parts.dataSource, work);
  }

  /**
   * Runs `work` with a context that says who or what makes its events. The context is stored with each event. In-process handlers, the
   * delivery log and payload formats see the context. Receivers do not see it. A nested context adds keys to the outer context. The
   * keys `traceparent` and `tracestate` (W3C Trace Context) are sent as headers of each delivery.
   *
   * The context applies to `work` and to the functions that `work` calls, in every instance of the module. The context also
   * applies to the writes of in-process handlers of these events.
   *
   * @param context any JSON object, at most 4 KiB together with the outer contexts
   * @returns what `work` returns
   * @throws ContextError `INVALID_CONTEXT`, before `work` runs
   * @example await webhooks.withContext({ actor: user.id, requestId, traceparent }, () => orders.save(order));
   */
  withContext<T>(context: WebhookContext, work: () => T): T {
    return runWithContext(mergedContext(currentCause().context, context), work);
  }

  /**
   * Stores an event. Listeners receive this event in the same way as events of entities.
   *
   * @param type a type that the module option `publishedTypes` declares
   * @param data an object; Dates become ISO 8601 text, bigints become text, Buffers become base64
   * @returns the event, or the first event with the same idempotency key
   * @throws PublishError `UNKNOWN_EVENT_TYPE`, `RESERVED_EVENT_TYPE`, `INVALID_DATA`, `INVALID_OWNER`, `INVALID_IDEMPOTENCY_KEY`,
   * `INVALID_ORDER_KEY`, `WRONG_DATA_SOURCE`, `WEBHOOK_LOOP`
   * @throws TransactionError `MANAGER_MISSING` on SQLite, if the call is inside a transaction and the manager of that
   * transaction is not passed
   * @throws ContextError `INVALID_CONTEXT`
   * @example await webhooks.publish('invoice.overdue', { invoiceId }, { owner: customerId, manager });
   */
  async publish(type: string, data: object, options: PublishOptions = {}): Promise<WebhookEvent> {
    this.checkType(type);
    const row = this.rowOf(type, data, options);
    const runner = this.runnerOf(options.manager);
    const { dedupeKey } = row.source;
    if (dedupeKey) return this.publishOnce(row, dedupeKey, runner);
    if (runner) {
      await this.parts.capture.add(runner, row);
      return row.source.event;
    }
    const { database } = this.parts;
    await database.transaction(() => storeEvents(database, [row]));
    await this.parts.onCommitted([row]);
    return row.source.event;
  }

  private async publishOnce(row: EventRow, dedupeKey: Buffer, runner: QueryRunner | null): Promise<WebhookEvent> {
    const { database, capture } = this.parts;
    // Outside a transaction, key, event and outbox row would be committed one after the other.
    if (!runner || !capture.isOpen(runner)) {
      const standing = await database.transaction(() => publishOnce(database, row, dedupeKey));
      const event = standingEvent(standing, row);
      if (event === row.source.event) await this.parts.onCommitted([row]);
      return event;
    }
    const label = () => `publish('${row.source.event.type}')`;
    return capture.writesOf(runner).runWrite(label, async () => {
      // Store the events of earlier changes first. So they come before the published event in the outbox.
      await capture.flush(runner);
      const standing = await runScript(publishOnce(database, row, dedupeKey), (one) => database.sendBy(runner, one));
      const event = standingEvent(standing, row);
      if (event === row.source.event) await capture.written(runner, row);
      return event;
    });
  }

  private checkType(type: string): void {
    const { publishedTypes } = this.parts.options;
    if (publishedTypes.has(type)) return;
    if (typeof type === 'string' && isReservedType(type)) {
      throw new PublishError(
        'RESERVED_EVENT_TYPE',
        `publish('${textOf(type)}'): types that begin with 'webhooks.' are reserved for lifecycle events. Choose another first word.`,
      );
    }
    throw new PublishError(
      'UNKNOWN_EVENT_TYPE',
      `publish('${textOf(type)}'): the event type is not declared.${knownNames(textOf(type), [...publishedTypes.keys()])} Add the type to WebhooksModule.forRoot({ publishedTypes: [...] }).`,
    );
  }

  private rowOf(type: string, data: object, options: PublishOptions): EventRow {
    const { clock, diagnostics, options: resolved } = this.parts;
    const now = clock.now();
    const given = audienceOf(options.owner);
    // Of an internal type, only listeners without an owner receive events.
    const isInternal = resolved.publishedTypes.get(type)?.visibility === 'internal';
    const { audience, owner } = isInternal ? audienceOf(null) : given;
    const cause = currentCause();
    if (cause.depth > resolved.maxCausationDepth) {
      throw new PublishError(
        'WEBHOOK_LOOP',
        loopMessage(`publish('${type}')`, cause.depth, resolved.maxCausationDepth),
        {
          details: { type, depth: cause.depth },
        },
      );
    }
    const context = options.context === undefined ? cause.context : mergedContext(cause.context, options.context);
    const trace = diagnostics.traceFor(type, context);
    const event: WebhookEvent = {
      id: newId('evt', now),
      type,
      timestamp: new Date(now).toISOString(),
      data: jsonData(type, data),
      owner,
      context: trace ? { ...context, ...trace } : context,
    };
    const { idempotencyKey, orderKey } = options;
    if (idempotencyKey !== undefined && !isKey(idempotencyKey)) {
      throw new PublishError(
        'INVALID_IDEMPOTENCY_KEY',
        invalidValue('idempotencyKey', idempotencyKey, 'a string of 1 to 255 characters'),
      );
    }
    if (orderKey !== undefined && typeof orderKey !== 'string') {
      throw new PublishError('INVALID_ORDER_KEY', invalidValue('orderKey', orderKey, 'a string'));
    }
    const dedupeKey =
      idempotencyKey === undefined
        ? null
        : tupleHash('dedupe', given.audience, given.owner ?? '', type, idempotencyKey);
    const source = {
      event,
      superTypes: [],
      audience,
      orderKey: orderKey === undefined ? null : tupleHash('published', orderKey),
      isOrdered: false,
      dedupeKey,
      depth: cause.depth,
      version: resolved.publishedTypes.get(type)?.version ?? 1,
      createdAt: now,
    };
    return eventRow(source, ['id'], resolved.payload);
  }

  private runnerOf(manager: EntityManager | undefined): QueryRunner | null {
    if (!manager) return this.parts.transactions.here().runner;
    if (dataSourceOf(manager) !== this.parts.dataSource) {
      throw new PublishError(
        'WRONG_DATA_SOURCE',
        'publish(): `manager` belongs to another data source than this instance of the module, so the event cannot join its transaction. Pass a manager of this data source, or call the instance for the other data source.',
      );
    }
    // A manager without a query runner is in no transaction.
    return manager.queryRunner ?? null;
  }
}

function isKey(key: unknown): boolean {
  return typeof key === 'string' && key !== '' && key.length <= 255;
}

function audienceOf(owner: PublishOptions['owner']): { audience: Audience; owner: string | null } {
  if (owner === EVERY_OWNER) return { audience: 'every', owner: null };
  if (owner === null || owner === undefined || owner === '') return { audience: 'application', owner: null };
  const text = ownerText(owner);
  if (text === undefined) {
    throw new PublishError(
      'INVALID_OWNER',
      invalidValue('owner', owner, `EVERY_OWNER, a number, a bigint, or ${OWNER_TEXTS}`),
    );
  }
  return { audience: 'owner', owner: text };
}

function jsonData(type: string, data: object): JsonObject {
  let json: unknown;
  try {
    json = canonicalData(data);
  } catch (cause) {
    if (!(cause instanceof Unserializable)) throw cause;
    throw new PublishError(
      'INVALID_DATA',
      `publish('${type}'): \`data\` cannot be written as JSON: ${cause.message}.`,
      {
        cause,
      },
    );
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new PublishError('INVALID_DATA', `publish('${type}'): \`data\` must be an object.`);
  }
  return json as JsonObject;
}

function standingEvent(standing: ExistingEvent | undefined, row: EventRow): WebhookEvent {
  if (!standing) return row.source.event;
  // The content was erased. Only the data of this call is known.
  if (standing.payload === null) return { ...row.source.event, id: standing.id };
  const { type, timestamp, data } = JSON.parse(standing.payload) as Pick<WebhookEvent, 'type' | 'timestamp' | 'data'>;
  return {
    id: standing.id,
    type,
    timestamp,
    data,
    owner: standing.owner,
    context: storedCause(standing.context).context,
  };
}
