import type { LoggerService } from '@nestjs/common';
import type { Clock } from '../clock.js';
import type { RetrySchedule } from '../deliveries/retry-schedule.js';
import type { ResolvedWebhooksOptions } from '../options/resolve-options.js';
import type { Outcome } from '../sending/outcome.js';
import type { Transport } from '../sending/transport.js';
import { claimDeliveries, nextDueAt, type ClaimedDelivery } from '../store/claim-deliveries.js';
import type { Database } from '../store/database.js';
import { fanOut, type BodyOf } from '../store/fan-out.js';
import { disableListener } from '../store/listener-rows.js';
import { recordAttempts, type AttemptRecord } from '../store/record-attempts.js';
import { WEBHOOK_FACTS, type DeliveryFact, type ListenerDisabledFact } from './delivery-facts.js';
import { GONE, nextState } from './next-state.js';
import { signDelivery, type Signers } from './sign-delivery.js';
import { Signal } from './signal.js';

/** What the dispatcher works with. @internal */
export interface DispatcherParts {
  readonly database: Database;
  readonly clock: Clock;
  readonly options: ResolvedWebhooksOptions['dispatcher'];
  readonly transport: Transport;
  readonly retrySchedule: RetrySchedule;
  readonly signers: Signers;
  readonly bodyOf: BodyOf;
  readonly logger: LoggerService;
  readonly emit: (name: string, fact: DeliveryFact | ListenerDisabledFact) => void;
}

/** What one round did. */
export interface RoundResult {
  /** Events taken from the outbox. */
  readonly events: number;
  /** Requests made. */
  readonly attempts: number;
}

/** One attempt that was made and waits to be recorded. */
interface Attempted {
  readonly delivery: ClaimedDelivery;
  readonly outcome: Outcome;
  readonly record: AttemptRecord;
  readonly recorded: () => void;
}

const DISABLED_BY_410 = 'the endpoint answered 410 Gone';
/** How long the loop rests after an error of the database, before it tries again. */
const REST_AFTER_ERROR_MS = 1_000;

/**
 * Takes events from the outbox, makes a delivery for each listener that wants one, and sends what is due: signed, leased
 * so that no other process sends it too, and recorded.
 *
 * At least once: an attempt whose record was lost with its process is made again, under the same `webhook-id`. An
 * endpoint that fails is a value; only the database makes methods reject.
 *
 * The loop claims as much as it has free slots, starts the requests and goes on: one slow receiver holds one slot, not the
 * round. Outcomes are recorded in batches of whatever has come together while the last batch was written.
 */
export class DispatcherService {
  private readonly signal = new Signal();
  private readonly attempted: Attempted[] = [];
  private loop: Promise<void> | null = null;
  private recording: Promise<void> | null = null;
  private isStopping = false;
  private sending = 0;
  /** Claimed and not yet recorded. */
  private readonly open = new Set<Promise<void>>();

  constructor(private readonly parts: DispatcherParts) {}

  /** Starts the loop; does nothing when it runs. The module calls it unless `dispatcher.autoStart` is `false`. */
  start(): void {
    if (this.loop) return;
    this.isStopping = false;
    this.loop = this.run();
  }

  /** Ends the loop and waits until everything that was being sent is recorded. */
  async stop(): Promise<void> {
    this.isStopping = true;
    this.signal.raise();
    await this.loop;
    this.loop = null;
    await this.idle();
  }

  /** Whether the loop runs. */
  get isRunning(): boolean {
    return this.loop !== null;
  }

  /** There may be work: the loop looks now instead of at its next poll. */
  wake(): void {
    this.signal.raise();
  }

  /** One round by hand: takes one batch of events, sends one batch of what is due, and waits for the outcomes. */
  async runOnce(): Promise<RoundResult> {
    const { events } = await this.fanOutBatch();
    const { concurrency, batch } = this.parts.options;
    const claimed = await this.claim(Math.min(concurrency, batch));
    await Promise.all(claimed.map((delivery) => this.send(delivery)));
    return { events, attempts: claimed.length };
  }

  /**
   * Rounds until no event is pending, nothing is due now and nothing is being sent by this process. Retries that are due
   * later are left to wait. For scripts and tests.
   *
   * @returns what all rounds did
   */
  async drain(): Promise<RoundResult> {
    let events = 0;
    let attempts = 0;
    for (;;) {
      const round = await this.runOnce();
      events += round.events;
      attempts += round.attempts;
      if (this.open.size) await this.idle();
      else if (!round.events && !round.attempts) return { events, attempts };
    }
  }

  /**
   * Fans out these events and makes the first attempt of their deliveries: the inline mode. Settles after `timeoutMs` at
   * the latest, and never rejects; what is left goes on as queued. @internal
   */
  async deliverNow(eventIds: readonly string[]): Promise<void> {
    const { timeoutMs } = this.parts.options;
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
    });
    try {
      await Promise.race([limit, this.firstAttempts(eventIds)]);
    } catch (error) {
      this.parts.logger.error(`An inline delivery goes on as queued: ${messageOf(error)}`);
    } finally {
      clearTimeout(timer);
      this.wake();
    }
  }

  private async firstAttempts(eventIds: readonly string[]): Promise<void> {
    const { database, clock, options } = this.parts;
    await this.fanOutBatch(eventIds);
    const claimed = await database.transaction(() =>
      claimDeliveries(database, {
        now: clock.now(),
        leaseMs: options.leaseMs,
        limit: options.concurrency,
        only: eventIds,
      }),
    );
    await Promise.all(claimed.map((delivery) => this.send(delivery)));
  }

  private async run(): Promise<void> {
    while (!this.isStopping) {
      try {
        if (await this.pump()) continue;
        await this.signal.wait(await this.untilNextWork());
      } catch (error) {
        this.parts.logger.error(`The dispatcher could not reach its tables and tries again: ${messageOf(error)}`);
        await this.signal.wait(REST_AFTER_ERROR_MS);
      }
    }
  }

  /** @returns whether there was anything to do, so that there may be more */
  private async pump(): Promise<boolean> {
    const { concurrency, batch } = this.parts.options;
    const { events } = await this.fanOutBatch();
    const free = concurrency - this.sending;
    // Slots come free one by one: waiting for some of them keeps the claims from becoming one statement a delivery.
    const enough = this.sending === 0 ? 1 : Math.max(1, Math.floor(concurrency / 4));
    if (free < enough) return events > 0;
    const claimed = await this.claim(Math.min(free, batch));
    for (const delivery of claimed) void this.send(delivery);
    return events > 0 || claimed.length > 0;
  }

  private async untilNextWork(): Promise<number> {
    const { database, clock, options } = this.parts;
    if (this.sending) return options.pollIntervalMs;
    const dueAt = await database.transaction(() => nextDueAt(database));
    if (dueAt === null) return options.pollIntervalMs;
    return Math.max(1, Math.min(options.pollIntervalMs, dueAt - clock.now()));
  }

  private async fanOutBatch(only?: readonly string[]): Promise<{ events: number }> {
    const { database, clock, options, bodyOf, logger } = this.parts;
    const result = await database.transaction(() =>
      fanOut(database, { now: clock.now(), limit: options.batch, bodyOf, ...(only ? { only } : {}) }),
    );
    for (const { id, error } of result.damaged) {
      logger.error(`Event ${id} cannot be read and was set aside as damaged: ${messageOf(error)}`);
    }
    for (const { listenerId, eventId, error } of result.unrendered) {
      logger.error(`The payload format of listener ${listenerId} threw on event ${eventId}: ${messageOf(error)}`);
    }
    return result;
  }

  private claim(limit: number): Promise<ClaimedDelivery[]> {
    const { database, clock, options } = this.parts;
    return database.transaction(() => claimDeliveries(database, { now: clock.now(), leaseMs: options.leaseMs, limit }));
  }

  /** Settles when the attempt is recorded. Never rejects. */
  private send(delivery: ClaimedDelivery): Promise<void> {
    const done = this.attempt(delivery);
    this.open.add(done);
    void done.then(() => this.open.delete(done));
    return done;
  }

  private async attempt(delivery: ClaimedDelivery): Promise<void> {
    const { clock, retrySchedule } = this.parts;
    const startedAt = clock.now();
    this.sending++;
    let outcome: Outcome;
    try {
      outcome = await this.parts.transport.send(signDelivery(delivery, startedAt, this.parts.signers));
    } catch (error) {
      outcome = notSent(error);
    } finally {
      this.sending--;
      this.signal.raise();
    }
    const record: AttemptRecord = {
      deliverySeq: delivery.seq,
      leaseToken: delivery.leaseToken,
      number: delivery.attempts + 1,
      outcome: outcome.kind,
      status: outcome.status,
      errorCode: outcome.errorCode,
      errorDetail: outcome.errorDetail,
      durationMs: outcome.durationMs,
      response: outcome.response,
      startedAt,
      next: nextState(outcome, delivery.retries, retrySchedule, clock.now()),
    };
    await new Promise<void>((recorded) => {
      this.attempted.push({ delivery, outcome, record, recorded });
      this.recording ??= this.recordAll();
    });
  }

  /** One batch after the other: what comes while one is written makes up the next. */
  private async recordAll(): Promise<void> {
    while (this.attempted.length) {
      const batch = this.attempted.splice(0, this.parts.options.batch);
      try {
        await this.record(batch);
      } catch (error) {
        // Their leases run out, and they are sent again: at least once.
        this.parts.logger.error(`${batch.length} attempts could not be recorded: ${messageOf(error)}`);
      }
      for (const { recorded } of batch) recorded();
    }
    this.recording = null;
  }

  private async record(batch: readonly Attempted[]): Promise<void> {
    const { database, clock } = this.parts;
    const gone = [...new Set(batch.filter((a) => a.outcome.status === GONE).map((a) => a.delivery.listener.id))];
    const { moved, disabled } = await database.transaction(function* () {
      const moved = yield* recordAttempts(
        database,
        batch.map((attempted) => attempted.record).toSorted((a, b) => Number(a.deliverySeq) - Number(b.deliverySeq)),
      );
      const disabled: string[] = [];
      for (const listenerId of gone) {
        if (yield* disableListener(database, listenerId, DISABLED_BY_410, clock.now())) disabled.push(listenerId);
      }
      return { moved, disabled };
    });
    for (const attempted of batch) if (moved.has(attempted.delivery.seq)) this.tell(attempted);
    for (const listenerId of disabled) {
      this.parts.emit(WEBHOOK_FACTS.listenerDisabled, { listenerId, reason: DISABLED_BY_410 });
    }
  }

  private tell({ delivery, outcome, record }: Attempted): void {
    const names = {
      succeeded: WEBHOOK_FACTS.succeeded,
      due: WEBHOOK_FACTS.failed,
      exhausted: WEBHOOK_FACTS.exhausted,
    } as const;
    const fact: DeliveryFact = {
      deliveryId: delivery.id,
      eventId: delivery.event.id,
      listenerId: delivery.listener.id,
      type: delivery.type,
      owner: delivery.owner,
      attempt: record.number,
      outcome: outcome.kind,
      status: outcome.status,
      errorCode: outcome.errorCode,
      durationMs: outcome.durationMs,
      nextAttemptAt: record.next.state === 'due' ? new Date(record.next.at) : null,
    };
    if (record.next.state === 'exhausted') this.parts.emit(WEBHOOK_FACTS.failed, fact);
    this.parts.emit(names[record.next.state], fact);
  }

  private async idle(): Promise<void> {
    while (this.open.size) await Promise.all(this.open);
    await this.recording;
  }
}

/** A scheme or a replaced transport threw: nothing went out, and it is tried again like any failure. */
function notSent(error: unknown): Outcome {
  return {
    kind: 'unreachable',
    status: null,
    errorCode: 'TRANSPORT_FAILED',
    errorDetail: messageOf(error),
    durationMs: 0,
    response: null,
    retryAfterMs: null,
  };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
