import type { EntityManager } from 'typeorm';
import type { WebhookClock } from '../clock.js';
import { BadRequestError } from '../errors.js';
import { storedCause } from '../events/event-context.js';
import { textOf } from '../foreign-text.js';
import type { JsonObject } from '../json.js';
import { ListenerNotFoundError } from '../listener-errors.js';
import { INVALID_OWNER_MESSAGE, OTHER_OWNER_MESSAGE, ownerText } from '../owner.js';
import type { Quotas } from '../quotas.js';
import type { CallerTransactions } from '../store/database/caller-transactions.js';
import type { Database } from '../store/database/database.js';
import { page, readPage, type WebhookPage, type WebhookPageOptions } from '../store/database/page.js';
import type { Script } from '../store/database/script.js';
import { readListener, type ListenerRow, type OwnerScope } from '../store/listeners/listener-rows.js';
import { endPause } from '../store/listeners/listener-state.js';
import { readListedEvent } from '../store/outbox/listed-events.js';
import type { ClaimedDelivery } from '../store/queue/claimed-delivery.js';
import {
  countDeliveries,
  deliveryScanEnd,
  listDeliveries,
  readAttempts,
  readBodyOf,
  readContextOf,
  readDelivery,
  readErasedAt,
  readEventOf,
  rearmDelivery,
  type DeliveryFilterRow,
  type DeliveryRow,
} from '../store/queue/delivery-rows.js';
import { discardSeqs } from '../store/queue/discard-deliveries.js';
import { isRenderFailure, renderFailureOf, type BodyOf, type RenderedBody } from '../store/queue/rendered-body.js';
import { sendPastEvent } from '../store/queue/send-past-event.js';
import { writeAudit, type AuditAction } from '../store/system/audit.js';
import type { BulkWork, Work, WorkPosition } from './bulk-work.js';
import { filterRow, isSelected, statesOf } from './delivery-input.js';
import {
  DELIVERY_STATES,
  FAILED_STATES,
  PENDING_STATES,
  type BulkOptions,
  type Delivery,
  type DeliveryDetails,
  type DeliveryFilter,
  type DeliveryState,
  type DiscardOptions,
  type RecoverOptions,
  type ReplayOptions,
} from './delivery.js';
import { ContentErasedError, DeliveryNotFoundError, EventNotFoundError, ResendError } from './errors.js';
import type { InFlightDeliveries } from './in-flight.js';
import { milliseconds } from './milliseconds.js';
import { numberOrNull } from '../store/database/number-or-null.js';
import { assertNotErased, assertReceives, inFlightError, refusal } from './resend-errors.js';
import { inFlightDelivery, toAttempt, toDelivery } from './shown-deliveries.js';

/**
 * Reads the log of deliveries, and sends deliveries again. `forOwner(id)` returns a service that sees only the deliveries
 * of one owner.
 */
export class DeliveryService {
  /** @internal */
  constructor(
    private readonly parts: {
      readonly database: Database;
      readonly transactions: CallerTransactions;
      readonly clock: WebhookClock;
      /** The name for changes in the audit log. @defaultValue null: the application gave no name */
      readonly actor?: string | null;
      readonly wake: () => void;
      readonly work: BulkWork;
      /** Called when deliveries were discarded. */
      readonly discarded: (counts: ReadonlyMap<string, number>) => void;
      readonly bodyOf: BodyOf;
      readonly contentTypeOf: (format: string | null, listenerFormat: string | null) => string;
      /** The headers about the version of a body and the end of its type. `version` is `null`: that of the payload. */
      readonly versionHeadersOf: (
        type: string,
        version: number | null,
        payload: string,
      ) => Readonly<Record<string, string>>;
      readonly quotas: Quotas;
      readonly inFlight: InFlightDeliveries;
    },
    private readonly boundTo?: OwnerScope,
  ) {}

  /**
   * Returns this service bound to one owner (a string). The returned service does not find deliveries of other owners. @throws
   * BadRequestError `INVALID_OWNER`
   */
  forOwner(owner: string): DeliveryService {
    const bound = typeof owner === 'string' ? ownerText(owner) : undefined;
    if (bound === undefined) {
      throw new BadRequestError('INVALID_OWNER', INVALID_OWNER_MESSAGE);
    }
    if (this.boundTo !== undefined && bound !== this.boundTo) {
      throw new BadRequestError('INVALID_OWNER', OTHER_OWNER_MESSAGE);
    }
    return new DeliveryService(this.parts, bound);
  }

  /**
   * Returns this service inside a transaction. Changes by the returned service are committed or rolled back with that transaction. An
   * ambient transaction (`docs/transactions.md`) does not need this call. {@link recover}, {@link replay} and {@link discard} cannot join
   * a transaction.
   *
   * @param manager the argument of `dataSource.transaction()`, or `queryRunner.manager`. A manager outside a transaction has no effect
   * @throws TransactionError `WRONG_DATA_SOURCE`
   */
  withManager(manager: EntityManager): DeliveryService {
    return new DeliveryService(
      { ...this.parts, transactions: this.parts.transactions.withManager(manager) },
      this.boundTo,
    );
  }

  /**
   * Returns this service with the name of a person or program, which the audit log stores with each change. `null` stands for the
   * application itself.
   */
  withActor(actor: string | null): DeliveryService {
    return new DeliveryService({ ...this.parts, actor }, this.boundTo);
  }

  /**
   * Newest first. A delivery is listed when its first attempt has ended, or when it has to wait. With `eventId`, the first page also has the
   * deliveries that this process is sending at this moment.
   *
   * @throws BadRequestError `INVALID_LIMIT`, `INVALID_CURSOR`, `INVALID_STATE`, `INVALID_TIME`
   */
  async list(options: DeliveryFilter & WebhookPageOptions = {}): Promise<WebhookPage<Delivery>> {
    const { limit, after } = readPage(options);
    const { database } = this.parts;
    const transaction = this.parts.transactions.here();
    const filter = filterRow(options, this.boundTo);
    const { rows, until } = await transaction.run(function* () {
      const until = yield* deliveryScanEnd(database, filter, after);
      return { until, rows: yield* listDeliveries(database, filter, after, limit + 1, until) };
    });
    const listed = page(
      rows,
      limit,
      (row) => ({ at: Number(row.createdAt), seq: String(row.seq) }),
      (row) => this.toDelivery(row),
      until,
    );
    if (filter.eventId === undefined || after) return listed;
    return { ...listed, items: [...this.unstored(filter, listed.items), ...listed.items] };
  }

  private toDelivery(row: DeliveryRow): Delivery {
    return toDelivery(row, this.boundTo === undefined);
  }

  /** Deliveries of an event that this process is sending, and that have no row yet. */
  private unstored({ eventId = '', ...filter }: DeliveryFilterRow, stored: readonly Delivery[]): Delivery[] {
    const isStored = new Set(stored.map(({ id }) => id));
    return this.parts.inFlight
      .ofEvent(eventId)
      .filter((one) => !isStored.has(one.id) && isSelected(one, filter))
      .map((one) => inFlightDelivery(one));
  }

  /**
   * One delivery with its attempts, oldest first. A delivery whose first attempt has not ended is found only in the process that sends it.
   * @throws DeliveryNotFoundError
   */
  async get(id: string): Promise<DeliveryDetails> {
    const { database, inFlight } = this.parts;
    const transaction = this.parts.transactions.here();
    const scope = this.boundTo;
    const unstored = inFlight.get(textOf(id));
    const { row, attempts, context } = await transaction.run(function* () {
      const stored = yield* readDelivery(database, textOf(id), scope);
      if (!stored && unstored && isSelected(unstored, { scope })) {
        const { context: text } = unstored.event;
        return { row: null, attempts: [], context: scope === undefined ? text : null };
      }
      const row = found(stored, id);
      const attempts = yield* readAttempts(database, row.id);
      return { row, attempts, context: scope === undefined ? yield* readContextOf(database, row) : null };
    });
    return {
      ...(row ? this.toDelivery(row) : inFlightDelivery(unstored as ClaimedDelivery)),
      context: storedCause(context).context,
      attempts: attempts.map((attempt) => toAttempt(attempt, scope === undefined)),
    };
  }

  /**
   * The exact text that a delivery sends, and its content type. `headers` has the headers that describe the text: `content-type`, and
   * `webhook-version`, `deprecation` and `sunset` if the event type has them.
   *
   * @throws DeliveryNotFoundError, ContentErasedError
   */
  async body(id: string): Promise<{ body: string; contentType: string; headers: Readonly<Record<string, string>> }> {
    const { database, contentTypeOf, versionHeadersOf } = this.parts;
    const scope = this.boundTo;
    const row = await this.parts.transactions.here().run(function* () {
      return yield* readBodyOf(database, found(yield* readDelivery(database, textOf(id), scope), id));
    });
    if (!row) throw new DeliveryNotFoundError(textOf(id));
    const { body, format, listenerFormat, thinPayload, payload, type } = row;
    const text = body ?? thinPayload ?? payload;
    if (text === null || payload === null || row.erasedAt !== null) {
      throw new ContentErasedError(new Date(Number(row.erasedAt)));
    }
    const contentType = contentTypeOf(format, listenerFormat);
    const ofVersion = versionHeadersOf(type, numberOrNull(row.version), payload);
    return { body: text, contentType, headers: { 'content-type': contentType, ...ofVersion } };
  }

  /**
   * Sends a delivery again, immediately and with a new retry schedule: the same event id, the same bytes. A delivery that is
   * due for a later retry is sent now. If the listener is paused, its pause ends. If the payload format failed to render the event before,
   * it is called again.
   *
   * @throws DeliveryNotFoundError, ResendError `LISTENER_REMOVED`, `LISTENER_DISABLED`, `LISTENER_PENDING`,
   * `DELIVERY_IN_FLIGHT`, `FORMAT_FAILED`; ContentErasedError; QuotaError `TOO_MANY_RESENDS`, `TOO_MANY_ATTEMPTS` from a service that is bound to an owner
   */
  async resend(id: string): Promise<Delivery> {
    const { actor = null, database, clock, quotas, inFlight } = this.parts;
    const transaction = this.parts.transactions.here();
    const scope = this.boundTo;
    quotas.countResend(scope);
    const rendered = this.rendered.bind(this);
    const unstored = inFlight.get(textOf(id));
    const row = await transaction.run(function* () {
      const stored = yield* readDelivery(database, textOf(id), scope);
      if (!stored && unstored && isSelected(unstored, { scope })) throw inFlightError();
      const before = found(stored, id);
      quotas.assertMayResend(scope, Number(before.attempts));
      const listener = yield* readListener(database, before.listenerId, undefined);
      if (!listener) throw new ResendError('LISTENER_REMOVED', 'The listener of this delivery was removed.');
      assertReceives(listener);
      assertNotErased(yield* readErasedAt(database, before));
      const text = isRenderFailure(before.lastErrorCode) ? yield* rendered(before, listener) : undefined;
      const triggered = { trigger: 'resend', by: actor } as const;
      if (!(yield* rearmDelivery(database, before, clock.now(), triggered, text))) throw inFlightError();
      yield* endPause(database, before.listenerId, before.id, clock.now());
      yield* writeAudit(database, { actor, action: 'delivery.resent', target: before.id }, clock.now());
      return yield* readDelivery(database, before.id, scope);
    });
    transaction.afterCommit(this.parts.wake);
    return this.toDelivery(found(row, id));
  }

  /**
   * Sends many failed deliveries again, in the same way as {@link resend}. These deliveries do not keep the order of `ordering`. The
   * method works in batches, each in a separate short transaction. If a batch fails, the earlier batches stay committed, and another call
   * continues with the remaining deliveries.
   *
   * Deliveries to a disabled listener become held. Deliveries to a removed listener do not change. A delivery also does not change if
   * its payload format still cannot render the event, or if the content of its event was erased. A service that is bound to an owner also skips deliveries with
   * `limits.attemptsPerDelivery` attempts.
   *
   * @returns the number of deliveries that are now due again
   * @throws BadRequestError `INVALID_STATE`, `INVALID_TIME`
   * @throws TransactionError `NOT_TRANSACTIONAL` inside a transaction of the caller
   * @example await deliveries.recover({ since: outage.start, until: outage.end, state: 'exhausted' });
   */
  async recover({ listenerId, since, until, state, onBatch }: RecoverOptions): Promise<number> {
    this.parts.transactions.here().refuse('recover()');
    const states = statesOf(state, FAILED_STATES);
    this.parts.quotas.countResend(this.boundTo);
    const filter = { ...this.period({ since, until }), listenerId: textOrUndefined(listenerId), states };
    const recovered = await this.inBatches({ ...this.asked, kind: 'recover', filter }, onBatch);
    await this.note('deliveries.recovered', listenerId, { count: recovered, states: [...states] });
    return recovered;
  }

  /**
   * Discards pending deliveries. The events of these deliveries are not sent. {@link recover} can send the deliveries later, during
   * their retention period. Deliveries that are being sent now are not discarded. The method works in batches, like {@link recover}.
   *
   * @returns the number of discarded deliveries
   * @throws BadRequestError `INVALID_STATE`, `INVALID_TIME`
   * @throws TransactionError `NOT_TRANSACTIONAL` inside a transaction of the caller
   * @example await deliveries.discard({ listenerId, state: 'held' });
   */
  async discard({ listenerId, since, until, state, onBatch }: DiscardOptions): Promise<number> {
    this.parts.transactions.here().refuse('discard()');
    const states = statesOf(state, PENDING_STATES);
    this.parts.quotas.countResend(this.boundTo);
    const filter = {
      ...this.period({ since: since ?? new Date(0), until }),
      listenerId: textOrUndefined(listenerId),
      states,
    };
    const discarded = await this.inBatches({ ...this.asked, kind: 'discard', filter }, onBatch);
    await this.note('deliveries.discarded', listenerId, { count: discarded, states: [...states] });
    return discarded;
  }

  /**
   * Discards one pending delivery: its event is not sent to this listener. {@link resend} can send it later, during its retention period.
   *
   * @throws DeliveryNotFoundError, ResendError `DELIVERY_IN_FLIGHT`, `DELIVERY_FINISHED`
   */
  async discardOne(id: string): Promise<Delivery> {
    const { actor = null, database, clock, discarded } = this.parts;
    const transaction = this.parts.transactions.here();
    const scope = this.boundTo;
    const row = await transaction.run(function* () {
      const before = found(yield* readDelivery(database, textOf(id), scope), id);
      const counts = yield* discardSeqs(database, [before.seq], clock.now());
      const after = found(yield* readDelivery(database, textOf(id), scope), id);
      if (counts.size) {
        yield* writeAudit(database, { actor, action: 'delivery.discarded', target: after.id }, clock.now());
        return after;
      }
      if (after.finishedAt !== null) throw new ResendError('DELIVERY_FINISHED', `The delivery is ${after.state}.`);
      throw inFlightError();
    });
    transaction.afterCommit(() => discarded(new Map([[row.listenerId, 1]])));
    return this.toDelivery(row);
  }

  /**
   * Sends one past event to one listener that has no delivery of it. The event must match the types, the filter and the owner of the
   * listener. The delivery does not keep the order of `ordering`.
   *
   * @throws EventNotFoundError, ListenerNotFoundError, ContentErasedError; ResendError `LISTENER_DISABLED`, `LISTENER_PENDING`,
   * `EVENT_NOT_WANTED`, `EVENT_NOT_ROUTED`, `EVENT_DAMAGED`, `DELIVERY_EXISTS`, `FORMAT_FAILED`; QuotaError `TOO_MANY_RESENDS` from a
   * service that is bound to an owner
   */
  async sendEvent(eventId: string, listenerId: string): Promise<Delivery> {
    const { actor = null, database, clock, quotas, bodyOf } = this.parts;
    const transaction = this.parts.transactions.here();
    const scope = this.boundTo;
    quotas.countResend(scope);
    const row = await transaction.run(function* () {
      const event = yield* readListedEvent(database, textOf(eventId), scope);
      if (!event) throw new EventNotFoundError(textOf(eventId));
      const listener = yield* readListener(database, textOf(listenerId), scope);
      if (!listener) throw new ListenerNotFoundError(textOf(listenerId));
      assertReceives(listener);
      const sent = yield* sendPastEvent(database, event.seq, listener.id, { now: clock.now(), bodyOf, actor });
      if ('refused' in sent) throw refusal(sent);
      const details = { listenerId: listener.id, deliveryId: sent.deliveryId };
      yield* writeAudit(database, { actor, action: 'event.sent', target: event.id, details }, clock.now());
      return yield* readDelivery(database, sent.deliveryId, scope);
    });
    transaction.afterCommit(this.parts.wake);
    return this.toDelivery(found(row, eventId));
  }

  /**
   * Sends past events to a listener, even events that are older than the listener. The method selects all events that match the types,
   * the filter and the owner of the listener. Events that already have a delivery to this listener are skipped. Events that are
   * pending or in flight for the listener are also skipped. For a listener with `ordering: 'entity'`, several events of one row keep
   * their order. Past events are available for `retention.succeededMs`. The method works in batches, like {@link recover}. Deliveries
   * to a disabled listener become held.
   *
   * @returns the number of deliveries that were created, or, with `dryRun`, would be created
   * @throws ListenerNotFoundError, BadRequestError `INVALID_TIME`
   * @throws TransactionError `NOT_TRANSACTIONAL` inside a transaction of the caller
   * @example await deliveries.replay({ listenerId: created.id, since: startOfMonth });
   */
  async replay({ listenerId, since, until, dryRun: isDryRun = false, onBatch }: ReplayOptions): Promise<number> {
    this.parts.transactions.here().refuse('replay()');
    const filter = { ...this.period({ since, until }), listenerId: textOf(listenerId), states: [] };
    this.parts.quotas.countResend(this.boundTo);
    const work: Work = { ...this.asked, kind: 'replay', filter };
    if (isDryRun) return this.countInBatches(work, onBatch);
    const replayed = await this.inBatches(work, onBatch);
    await this.note('deliveries.replayed', listenerId, { count: replayed });
    return replayed;
  }

  /** The number of deliveries in each state. @throws BadRequestError `INVALID_STATE`, `INVALID_TIME` */
  async counts(filter: DeliveryFilter = {}): Promise<Record<DeliveryState, number>> {
    const { database } = this.parts;
    const transaction = this.parts.transactions.here();
    const row = filterRow(filter, this.boundTo);
    const counts = Object.fromEntries(DELIVERY_STATES.map((state) => [state, 0])) as Record<DeliveryState, number>;
    for (const { state, count } of await transaction.run(() => countDeliveries(database, row))) {
      counts[state as DeliveryState] = Number(count);
    }
    return counts;
  }

  /** For whom bulk work is done, and who asked for it. */
  private get asked(): Pick<Work, 'scope' | 'actor'> {
    return { scope: this.boundTo, actor: this.parts.actor ?? null };
  }

  /** Notes bulk work in the audit log. If the process dies in the middle of the work, nothing is noted. */
  private async note(action: AuditAction, listenerId: string | undefined, details: JsonObject): Promise<void> {
    const { actor = null, database, clock } = this.parts;
    const target = listenerId === undefined ? null : textOf(listenerId);
    await database.transaction(() => writeAudit(database, { actor, action, target, details }, clock.now()));
  }

  private period({ since, until }: { since: Date; until?: Date | undefined }) {
    return {
      since: milliseconds(since, 'since'),
      until: until === undefined ? this.parts.clock.now() + 1 : milliseconds(until, 'until'),
    };
  }

  private async inBatches(work: Work, onBatch: BulkOptions['onBatch']): Promise<number> {
    const { database, wake, discarded, work: bulk } = this.parts;
    return eachBatch(onBatch, async (after) => {
      const batch = await database.transaction(() => bulk.batch(work, after));
      if (batch.count) wake();
      if (batch.discarded?.size) discarded(batch.discarded);
      return batch;
    });
  }

  private async countInBatches(work: Work, onBatch: BulkOptions['onBatch']): Promise<number> {
    const { database, work: bulk } = this.parts;
    return eachBatch(onBatch, (after) => database.transaction(() => bulk.count(work, after, Infinity)));
  }

  private *rendered(delivery: DeliveryRow, listener: ListenerRow): Script<RenderedBody | undefined> {
    const event = yield* readEventOf(this.parts.database, delivery);
    assertNotErased(event);
    try {
      return event && this.parts.bodyOf(listener, event);
    } catch (cause) {
      throw refusal({ refused: renderFailureOf(cause), cause });
    }
  }
}

async function eachBatch(
  onBatch: BulkOptions['onBatch'],
  batch: (after: WorkPosition | null) => Promise<{ count: number; next: WorkPosition | null }>,
): Promise<number> {
  let total = 0;
  for (let after: WorkPosition | null = null; ;) {
    const { count, next } = await batch(after);
    total += count;
    onBatch?.(total);
    if (next === null) return total;
    after = next;
  }
}

function textOrUndefined(value: unknown): string | undefined {
  return value === undefined ? undefined : textOf(value);
}

function found(row: DeliveryRow | undefined, id: string): DeliveryRow {
  if (!row) throw new DeliveryNotFoundError(textOf(id));
  return row;
}
