import type { EntityManager } from 'typeorm';
import type { Clock } from '../clock.js';
import { BadRequestError } from '../errors.js';
import { storedCause } from '../events/event-context.js';
import type { JsonObject } from '../json.js';
import { ListenerNotFoundError } from '../listener-errors.js';
import { MAX_OWNER_LENGTH, ownerText } from '../owner.js';
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
import { standingListener } from '../store/queue/candidates.js';
import { endPause } from '../store/listeners/listener-state.js';
import { readListener, type ListenerRow, type OwnerScope } from '../store/listeners/listener-rows.js';
import type { Script } from '../store/database/script.js';
import { page, readPage, type Page, type PageOptions, type PagePosition } from '../store/database/page.js';
import { recoverDeliveries } from '../store/queue/recover-deliveries.js';
import { replayEvents } from '../store/queue/replay-events.js';
import { DeliveryNotFoundError, ResendError } from './errors.js';
import { textOf } from '../foreign-text.js';
import { numberOrNull } from '../store/database/number-or-null.js';

/**
 * - `due`: to be sent, now or at `nextAttemptAt`
 * - `leased`: some process is sending it
 * - `held`: its listener is disabled, or waits for its handshake
 * - `succeeded`: a 2xx came back
 * - `exhausted`: every attempt failed
 * - `discarded`: its listener was removed, its format could not render it, it waited for longer than
 *   `dispatcher.maxAgeMs`, or whoever enabled its listener said so
 */
export type DeliveryState = 'due' | 'leased' | 'held' | 'succeeded' | 'exhausted' | 'discarded';

/** Finished, and not well: what {@link DeliveryService.recover} can make due again. */
export type FailedState = 'exhausted' | 'discarded';

const FAILED_STATES: readonly FailedState[] = ['exhausted', 'discarded'];
const STATES: readonly DeliveryState[] = ['due', 'leased', 'held', 'succeeded', 'exhausted', 'discarded'];

/** One event on its way to one listener. */
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
  /** HTTP status of the last attempt; `null` when none came back. */
  readonly lastStatus: number | null;
  /** Error code of the last attempt; `null` when it succeeded. */
  readonly lastError: string | null;
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
  /** First 4 KB of the answer. */
  readonly response: string | null;
  /** Made by a process that had lost its lease: it happened, and changed nothing. */
  readonly superseded: boolean;
  readonly startedAt: Date;
}

/** A delivery with all that is known of it. */
export interface DeliveryDetails extends Delivery {
  /** What `withContext()` said of its event. For operators: `null` in a service that is bound to an owner. */
  readonly context: JsonObject | null;
  /** The oldest first. */
  readonly attempts: readonly Attempt[];
}

export interface DeliveryFilter {
  listenerId?: string;
  eventId?: string;
  type?: string;
  state?: DeliveryState;
  owner?: string;
  /** Created at this time or later. */
  from?: Date;
  /** Created before this time. */
  to?: Date;
}

export interface RecoverOptions {
  /** Only those of this listener. @defaultValue every listener that the service sees */
  listenerId?: string;
  /** Made at this time or later. */
  since: Date;
  /** Made before this time. @defaultValue now */
  until?: Date;
  /** What to send again. */
  state: FailedState | readonly FailedState[];
}

export interface ReplayOptions {
  listenerId: string;
  /** Events that happened at this time or later. */
  since: Date;
  /** Events that happened before this time. @defaultValue now */
  until?: Date;
}

/** The log of what was sent, and to whom. `forOwner(id)` sees one owner's deliveries only. */
export class DeliveryService {
  /** @internal */
  constructor(
    private readonly parts: {
      readonly database: Database;
      readonly transactions: CallerTransactions;
      readonly clock: Clock;
      readonly wake: () => void;
      readonly bodyOf: BodyOf;
      readonly quotas: Quotas;
    },
    private readonly boundTo: OwnerScope = undefined,
  ) {}

  /** This service for one owner (a string): the deliveries of others do not exist for it. @throws BadRequestError `INVALID_OWNER` */
  forOwner(owner: string): DeliveryService {
    const bound = typeof owner === 'string' ? ownerText(owner) : undefined;
    if (bound === undefined) {
      throw new BadRequestError(
        'INVALID_OWNER',
        `\`owner\` must be a non-empty string of at most ${MAX_OWNER_LENGTH} characters.`,
      );
    }
    if (this.boundTo !== undefined && bound !== this.boundTo) {
      throw new BadRequestError('INVALID_OWNER', 'This service is bound to another owner.');
    }
    return new DeliveryService(this.parts, bound);
  }

  /**
   * This service inside a transaction: its changes are committed or rolled back with it. The service joins an ambient transaction
   * (`docs/transactions.md`) without this call. {@link recover} and {@link replay} cannot join.
   *
   * @param manager the argument of `dataSource.transaction()`, or `queryRunner.manager`; one that is in no transaction changes nothing
   * @throws TransactionError `WRONG_DATA_SOURCE`
   */
  withManager(manager: EntityManager): DeliveryService {
    return new DeliveryService(
      { ...this.parts, transactions: this.parts.transactions.withManager(manager) },
      this.boundTo,
    );
  }

  /** Newest first. @throws BadRequestError `INVALID_LIMIT`, `INVALID_CURSOR`, `INVALID_STATE`, `INVALID_TIME` */
  async list(options: DeliveryFilter & PageOptions = {}): Promise<Page<Delivery>> {
    const { limit, after } = readPage(options);
    const { database } = this.parts;
    const transaction = this.parts.transactions.here();
    const filter = this.filterRow(options);
    const rows = await transaction.run(() => listDeliveries(database, filter, after, limit + 1));
    return page(rows, limit, (row) => ({ at: Number(row.createdAt), seq: String(row.seq) }), toDelivery);
  }

  /** One delivery with its attempts, the oldest first. @throws DeliveryNotFoundError */
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
   * Sends a delivery again, at once and with a whole new schedule: the same event id, the same bytes. One that waits for
   * a retry is sent now, also if its listener is paused: that pause ends. One that its listener's format could not render is rendered
   * again.
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
        throw new ResendError('LISTENER_PENDING', 'The listener of this delivery waits for its handshake.');
      }
      if (listener.state !== 'active') {
        throw new ResendError('LISTENER_DISABLED', 'The listener of this delivery is disabled: enable it first.');
      }
      const text = before.lastError === FORMAT_FAILED ? yield* rendered(before, listener) : undefined;
      if (!(yield* rearmDelivery(database, before, clock.now(), text))) {
        throw new ResendError(
          'DELIVERY_IN_FLIGHT',
          'The delivery is being sent right now: look at it again in a moment.',
        );
      }
      yield* endPause(database, before.listenerId, before.id, clock.now());
      return yield* readDelivery(database, before.id, scope);
    });
    transaction.afterCommit(this.parts.wake);
    return toDelivery(found(row, id));
  }

  /**
   * Sends again what failed: like {@link resend} for each delivery, outside of any order. In batches, each a short
   * transaction of its own: should one fail, the ones before it stand, and calling again goes on.
   *
   * Deliveries of a disabled listener become held, those of a removed one stay as they are, and so do those that their
   * format still cannot render, and in a service that is bound to an owner those with `limits.attemptsPerDelivery` attempts.
   *
   * @returns how many are due again
   * @throws BadRequestError `INVALID_STATE`, `INVALID_TIME`
   * @throws TransactionError `NOT_TRANSACTIONAL` inside a transaction of the caller
   * @example await deliveries.recover({ since: outage.start, until: outage.end, state: 'exhausted' });
   */
  async recover({ listenerId, since, until, state }: RecoverOptions): Promise<number> {
    const { database, clock, bodyOf, transactions, quotas } = this.parts;
    transactions.here().refuse('recover()');
    const states = [...new Set(Array.isArray(state) ? (state as FailedState[]) : [state as FailedState])];
    if (!states.length || !states.every((one) => FAILED_STATES.includes(one))) {
      throw new BadRequestError('INVALID_STATE', `state must be ${FAILED_STATES.join(' or ')}, or a list of them`);
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
   * Sends past events to a listener, also one that was made after them: every event that it wants by its types, filter and
   * owner, and of which it has no delivery yet. Several events of one row keep their order, if it has one. Events that are pending or in flight for it are skipped. As far back as `retention.succeededMs`. In batches, like
   * {@link recover}. A disabled listener's are held.
   *
   * @returns how many deliveries were made
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
        // With each batch: it may be removed on the way.
        const visible = yield* readListener(database, textOf(listenerId), scope);
        const listener = visible && (yield* standingListener(database, visible.id));
        if (!listener) throw new ListenerNotFoundError(textOf(listenerId));
        return yield* replayEvents(database, listener, { after, until: end, now: clock.now(), bodyOf });
      });
      return { count: made, next };
    });
  }

  /** How many there are in each state. @throws BadRequestError `INVALID_STATE`, `INVALID_TIME` */
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
      throw new ResendError('FORMAT_FAILED', `The payload format '${format}' cannot render it.`, { cause });
    }
  }

  private filterRow({ from, to, state, ...filter }: DeliveryFilter): DeliveryFilterRow {
    if (state !== undefined && !STATES.includes(state)) {
      throw new BadRequestError('INVALID_STATE', `state must be one of ${STATES.join(', ')}`);
    }
    const row: DeliveryFilterRow = { scope: this.boundTo };
    for (const key of ['owner', 'listenerId', 'eventId', 'type'] as const) {
      if (filter[key] !== undefined) row[key] = textOf(filter[key]);
    }
    if (state !== undefined) row.state = state;
    if (from !== undefined) row.from = milliseconds(from, 'from');
    if (to !== undefined) row.to = milliseconds(to, 'to');
    return row;
  }

  /** A customer reads what their receiver did, and of what was blocked that it was: no answer, no address, no timing. */
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
  if (Number.isNaN(ms)) throw new BadRequestError('INVALID_TIME', `${key} must be a valid date`);
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
    lastError: row.lastError,
    createdAt: new Date(Number(row.createdAt)),
    finishedAt: row.finishedAt === null ? null : new Date(Number(row.finishedAt)),
  };
}
