import type { EntityManager } from 'typeorm';
import type { WebhookClock } from '../clock.js';
import { BadRequestError } from '../errors.js';
import { storedCause } from '../events/event-context.js';
import type { JsonObject } from '../json.js';
import { LISTENER_DISABLED_MESSAGE, LISTENER_PENDING_MESSAGE, ListenerNotFoundError } from '../listener-errors.js';
import { INVALID_OWNER_MESSAGE, OTHER_OWNER_MESSAGE, ownerText } from '../owner.js';
import type { Quotas } from '../quotas.js';
import { showsTiming, type OutcomeKind } from '../sending/outcome.js';
import type { CallerTransactions } from '../store/database/caller-transactions.js';
import type { Database } from '../store/database/database.js';
import {
  countDeliveries,
  listDeliveries,
  readContextOf,
  readEventOf,
  readAttempts,
  readDelivery,
  rearmDelivery,
  type AttemptRow,
  type DeliveryFilterRow,
  type DeliveryRow,
} from '../store/queue/delivery-rows.js';
import { FORMAT_FAILED, type BodyOf } from '../store/queue/new-deliveries.js';
import { readCandidateById } from '../store/queue/candidates.js';
import { endPause } from '../store/listeners/listener-state.js';
import { readListener, type ListenerRow, type OwnerScope } from '../store/listeners/listener-rows.js';
import type { Script } from '../store/database/script.js';
import {
  page,
  readPage,
  type WebhookPage,
  type WebhookPageOptions,
  type PagePosition,
} from '../store/database/page.js';
import { recoverDeliveries } from '../store/queue/recover-deliveries.js';
import { replayEvents } from '../store/queue/replay-events.js';
import { DeliveryNotFoundError, ResendError } from './errors.js';
import { textOf } from '../foreign-text.js';
import { numberOrNull } from '../store/database/number-or-null.js';
import { invalidValue } from '../show.js';

/**
 * - `due`: will be sent, now or at `nextAttemptAt`
 * - `leased`: a process is sending the delivery
 * - `held`: the listener is disabled, or has not passed its handshake
 * - `succeeded`: the receiver answered 2xx
 * - `exhausted`: every attempt failed
 * - `discarded`: the listener was removed, the payload format could not render the event, the delivery was pending for longer
 *   than `dispatcher.maxAgeMs`, or the listener was enabled with the request to discard held deliveries
 */
export type DeliveryState = 'due' | 'leased' | 'held' | 'succeeded' | 'exhausted' | 'discarded';

/** A finished delivery that did not succeed. {@link DeliveryService.recover} can make it due again. */
export type FailedState = 'exhausted' | 'discarded';

const FAILED_STATES: readonly FailedState[] = ['exhausted', 'discarded'];
const STATES: readonly DeliveryState[] = ['due', 'leased', 'held', 'succeeded', 'exhausted', 'discarded'];

/** One event for one listener. */
export interface Delivery {
  /** `dlv_` and a UUIDv7. */
  readonly id: string;
  readonly eventId: string;
  readonly listenerId: string;
  readonly type: string;
  /** The listener's owner. */
  readonly owner: string | null;
  readonly state: DeliveryState;
  /** Requests made so far. */
  readonly attemptCount: number;
  readonly nextAttemptAt: Date | null;
  /** HTTP status of the last attempt; `null` without an answer. */
  readonly lastStatus: number | null;
  /** Error code of the last attempt; `null` when it succeeded. */
  readonly lastErrorCode: string | null;
  readonly createdAt: Date;
  readonly finishedAt: Date | null;
}

/** One HTTP request of a delivery. */
export interface Attempt {
  readonly number: number;
  readonly outcome: OutcomeKind;
  readonly status: number | null;
  /** See `SendErrorCode`. */
  readonly errorCode: string | null;
  /** For operators: `null` in a service that is bound to an owner. */
  readonly errorDetail: string | null;
  /** `null` in a service that is bound to an owner, when a guard or the proxy refused the attempt. */
  readonly durationMs: number | null;
  /** First 4 KB of the answer's body. */
  readonly response: string | null;
  /** The process had lost its lease of the delivery: the request was made, but its outcome did not change the delivery. */
  readonly superseded: boolean;
  readonly startedAt: Date;
}

/** A delivery with its attempts and its context. */
export interface DeliveryDetails extends Delivery {
  /** The event's context, set with `withContext()`. For operators: `null` in a service that is bound to an owner. */
  readonly context: JsonObject | null;
  /** Oldest first. */
  readonly attempts: readonly Attempt[];
}

export interface DeliveryFilter {
  listenerId?: string;
  eventId?: string;
  type?: string;
  state?: DeliveryState;
  owner?: string;
  /** Created at this time or later. */
  since?: Date;
  /** Created before this time. */
  until?: Date;
}

export interface RecoverOptions {
  /** Only deliveries to this listener. @defaultValue every listener that the service sees */
  listenerId?: string;
  /** Deliveries created at this time or later. */
  since: Date;
  /** Deliveries created before this time. @defaultValue now */
  until?: Date;
  /** The states of the deliveries to send again. */
  state: FailedState | readonly FailedState[];
}

export interface ReplayOptions {
  listenerId: string;
  /** Events that happened at this time or later. */
  since: Date;
  /** Events that happened before this time. @defaultValue now */
  until?: Date;
}

/** The log of deliveries, and their resend. `forOwner(id)` returns a service that sees the deliveries of one owner only. */
export class DeliveryService {
  /** @internal */
  constructor(
    private readonly parts: {
      readonly database: Database;
      readonly transactions: CallerTransactions;
      readonly clock: WebhookClock;
      readonly wake: () => void;
      readonly bodyOf: BodyOf;
      readonly quotas: Quotas;
    },
    private readonly boundTo?: OwnerScope,
  ) {}

  /** This service bound to one owner (a string): deliveries of other owners are not found. @throws BadRequestError `INVALID_OWNER` */
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
   * This service inside a transaction: its changes commit or roll back with that transaction. The service joins an ambient
   * transaction (`docs/transactions.md`) without this call. {@link recover} and {@link replay} cannot join a transaction.
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

  /** Newest first. @throws BadRequestError `INVALID_LIMIT`, `INVALID_CURSOR`, `INVALID_STATE`, `INVALID_TIME` */
  async list(options: DeliveryFilter & WebhookPageOptions = {}): Promise<WebhookPage<Delivery>> {
    const { limit, after } = readPage(options);
    const { database } = this.parts;
    const transaction = this.parts.transactions.here();
    const filter = this.filterRow(options);
    const rows = await transaction.run(() => listDeliveries(database, filter, after, limit + 1));
    return page(rows, limit, (row) => ({ at: Number(row.createdAt), seq: String(row.seq) }), toDelivery);
  }

  /** One delivery with its attempts, oldest first. @throws DeliveryNotFoundError */
  async get(id: string): Promise<DeliveryDetails> {
    const { database } = this.parts;
    const transaction = this.parts.transactions.here();
    const scope = this.boundTo;
    const { row, attempts, context } = await transaction.run(function* () {
      const row = found(yield* readDelivery(database, textOf(id), scope), id);
      const attempts = yield* readAttempts(database, row.seq);
      return { row, attempts, context: scope === undefined ? yield* readContextOf(database, row) : null };
    });
    return {
      ...toDelivery(row),
      context: storedCause(context).context,
      attempts: attempts.map((attempt) => this.toAttempt(attempt)),
    };
  }

  /**
   * Sends a delivery again, immediately and with a new retry schedule: the same event id, the same bytes. A delivery that is
   * due for a later retry is sent now. If the listener is paused, its pause ends. If the payload format could not render the
   * event before, it renders the event again.
   *
   * @throws DeliveryNotFoundError, ResendError `LISTENER_REMOVED`, `LISTENER_DISABLED`, `LISTENER_PENDING`,
   * `DELIVERY_IN_FLIGHT`, `FORMAT_FAILED`; QuotaError `TOO_MANY_RESENDS`, `TOO_MANY_ATTEMPTS` from a service that is bound to an owner
   */
  async resend(id: string): Promise<Delivery> {
    const { database, clock, quotas } = this.parts;
    const transaction = this.parts.transactions.here();
    const scope = this.boundTo;
    quotas.countResend(scope);
    const rendered = this.rendered.bind(this);
    const row = await transaction.run(function* () {
      const before = found(yield* readDelivery(database, textOf(id), scope), id);
      quotas.assertMayResend(scope, Number(before.attempts));
      const listener = yield* readListener(database, before.listenerId, undefined);
      if (!listener) throw new ResendError('LISTENER_REMOVED', 'The listener of this delivery was removed.');
      if (listener.state === 'pending') {
        throw new ResendError('LISTENER_PENDING', LISTENER_PENDING_MESSAGE);
      }
      if (listener.state !== 'active') {
        throw new ResendError('LISTENER_DISABLED', LISTENER_DISABLED_MESSAGE);
      }
      const text = before.lastErrorCode === FORMAT_FAILED ? yield* rendered(before, listener) : undefined;
      if (!(yield* rearmDelivery(database, before, clock.now(), text))) {
        throw new ResendError('DELIVERY_IN_FLIGHT', 'The delivery is being sent right now. Try again in a moment.');
      }
      yield* endPause(database, before.listenerId, before.id, clock.now());
      return yield* readDelivery(database, before.id, scope);
    });
    transaction.afterCommit(this.parts.wake);
    return toDelivery(found(row, id));
  }

  /**
   * Sends failed deliveries again, as {@link resend} does for one, without `ordering`. Works in batches, each in a separate short
   * transaction: if a batch fails, the earlier batches stay committed, and another call continues.
   *
   * Deliveries to a disabled listener become held. Unchanged are deliveries to a removed listener, and deliveries that their payload
   * format still cannot render. A service that is bound to an owner also skips deliveries with `limits.attemptsPerDelivery` attempts.
   *
   * @returns how many deliveries were made due again
   * @throws BadRequestError `INVALID_STATE`, `INVALID_TIME`
   * @throws TransactionError `NOT_TRANSACTIONAL` inside a transaction of the caller
   * @example await deliveries.recover({ since: outage.start, until: outage.end, state: 'exhausted' });
   */
  async recover({ listenerId, since, until, state }: RecoverOptions): Promise<number> {
    const { database, clock, bodyOf, transactions, quotas } = this.parts;
    transactions.here().refuse('recover()');
    const states = [...new Set(Array.isArray(state) ? (state as FailedState[]) : [state as FailedState])];
    if (!states.length || !states.every((one) => FAILED_STATES.includes(one))) {
      throw new BadRequestError(
        'INVALID_STATE',
        invalidValue('state', state, "'exhausted', 'discarded', or a list of both"),
      );
    }
    quotas.countResend(this.boundTo);
    const attemptsBelow = this.boundTo === undefined ? undefined : quotas.limits.attemptsPerDelivery;
    const options = {
      scope: this.boundTo,
      states,
      bodyOf,
      attemptsBelow,
      listenerId: listenerId === undefined ? undefined : textOf(listenerId),
      until: until === undefined ? clock.now() + 1 : milliseconds(until, 'until'),
    };
    return this.inBatches(milliseconds(since, 'since'), async (after) => {
      const { recovered, next } = await database.transaction(() =>
        recoverDeliveries(database, { ...options, after, now: clock.now() }),
      );
      return { count: recovered, next };
    });
  }

  /**
   * Sends past events to a listener, even events that are older than the listener: all events that match its types, filter and owner,
   * and for which it has no delivery yet. For a listener with `ordering: 'entity'`, several events of one row keep their order.
   * Events that are pending or in flight for the listener are skipped. Events are available for `retention.succeededMs`. Works in
   * batches, like {@link recover}. Deliveries to a disabled listener become held.
   *
   * @returns how many deliveries were created
   * @throws ListenerNotFoundError, BadRequestError `INVALID_TIME`
   * @throws TransactionError `NOT_TRANSACTIONAL` inside a transaction of the caller
   * @example await deliveries.replay({ listenerId: created.id, since: startOfMonth });
   */
  async replay({ listenerId, since, until }: ReplayOptions): Promise<number> {
    const { database, clock, bodyOf, transactions, quotas } = this.parts;
    transactions.here().refuse('replay()');
    const scope = this.boundTo;
    const end = until === undefined ? clock.now() + 1 : milliseconds(until, 'until');
    const start = milliseconds(since, 'since');
    quotas.countResend(scope);
    return this.inBatches(start, async (after) => {
      const { made, next } = await database.transaction(function* () {
        // Read again for each batch: the listener may be removed meanwhile.
        const visible = yield* readListener(database, textOf(listenerId), scope);
        const listener = visible && (yield* readCandidateById(database, visible.id));
        if (!listener) throw new ListenerNotFoundError(textOf(listenerId));
        return yield* replayEvents(database, listener, { after, until: end, now: clock.now(), bodyOf });
      });
      return { count: made, next };
    });
  }

  /** The number of deliveries in each state. @throws BadRequestError `INVALID_STATE`, `INVALID_TIME` */
  async counts(filter: DeliveryFilter = {}): Promise<Record<DeliveryState, number>> {
    const { database } = this.parts;
    const transaction = this.parts.transactions.here();
    const row = this.filterRow(filter);
    const counts = Object.fromEntries(STATES.map((state) => [state, 0])) as Record<DeliveryState, number>;
    for (const { state, count } of await transaction.run(() => countDeliveries(database, row))) {
      counts[state as DeliveryState] = Number(count);
    }
    return counts;
  }

  private async inBatches(
    since: number,
    batch: (after: PagePosition) => Promise<{ count: number; next: PagePosition | null }>,
  ): Promise<number> {
    let total = 0;
    let after: PagePosition | null = { at: since, seq: '0' };
    while (after) {
      const { count, next } = await batch(after);
      if (count) this.parts.wake();
      total += count;
      after = next;
    }
    return total;
  }

  private *rendered(delivery: DeliveryRow, { format }: ListenerRow): Script<{ body: string | null; format: string }> {
    const event = yield* readEventOf(this.parts.database, delivery);
    try {
      return { body: event ? this.parts.bodyOf(format, event) : null, format };
    } catch (cause) {
      throw new ResendError('FORMAT_FAILED', `The payload format '${format}' cannot render the event.`, { cause });
    }
  }

  private filterRow({ since, until, state, ...filter }: DeliveryFilter): DeliveryFilterRow {
    if (state !== undefined && !STATES.includes(state)) {
      const allowed = STATES.map((known) => `'${known}'`).join(', ');
      throw new BadRequestError('INVALID_STATE', invalidValue('state', state, allowed));
    }
    const row: DeliveryFilterRow = { scope: this.boundTo };
    for (const key of ['owner', 'listenerId', 'eventId', 'type'] as const) {
      if (filter[key] !== undefined) row[key] = textOf(filter[key]);
    }
    if (state !== undefined) row.state = state;
    if (since !== undefined) row.since = milliseconds(since, 'since');
    if (until !== undefined) row.until = milliseconds(until, 'until');
    return row;
  }

  /**
   * A customer sees the answers of their receiver. For a blocked attempt they see only that it was blocked: no answer, no address, no
   * timing.
   */
  private toAttempt(row: AttemptRow): Attempt {
    const kind = row.outcome as OutcomeKind;
    const isOperator = this.boundTo === undefined;
    const isBlocked = kind === 'blocked';
    return {
      number: Number(row.number),
      outcome: kind,
      status: isBlocked && !isOperator ? null : numberOrNull(row.status),
      errorCode: row.errorCode,
      errorDetail: isOperator ? row.errorDetail : null,
      durationMs: isOperator || showsTiming({ kind, errorCode: row.errorCode }) ? Number(row.durationMs) : null,
      response: isBlocked && !isOperator ? null : row.response,
      superseded: Number(row.superseded) === 1,
      startedAt: new Date(Number(row.startedAt)),
    };
  }
}

function milliseconds(date: Date, key: string): number {
  const ms = date instanceof Date ? date.getTime() : Number.NaN;
  // JSON would show an invalid Date as null.
  const shown = date instanceof Date ? String(date) : date;
  if (Number.isNaN(ms)) throw new BadRequestError('INVALID_TIME', invalidValue(key, shown, 'a valid Date'));
  return ms;
}

function found(row: DeliveryRow | undefined, id: string): DeliveryRow {
  if (!row) throw new DeliveryNotFoundError(textOf(id));
  return row;
}

function toDelivery(row: DeliveryRow): Delivery {
  const state = row.state as DeliveryState;
  return {
    id: row.id,
    eventId: row.eventId,
    listenerId: row.listenerId,
    type: row.type,
    owner: row.owner,
    state,
    attemptCount: Number(row.attempts),
    nextAttemptAt: state === 'due' ? new Date(Number(row.nextAt)) : null,
    lastStatus: numberOrNull(row.lastStatus),
    lastErrorCode: row.lastErrorCode,
    createdAt: new Date(Number(row.createdAt)),
    finishedAt: row.finishedAt === null ? null : new Date(Number(row.finishedAt)),
  };
}
