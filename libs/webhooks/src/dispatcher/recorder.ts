import { setTimeout as pause } from 'node:timers/promises';
import type { LoggerService } from '@nestjs/common';
import type { InFlightDeliveries } from '../deliveries/in-flight.js';
import type { WebhookClock } from '../clock.js';
import type { Diagnostics } from '../diagnostics/diagnostics.js';
import type { ResolvedWebhooksOptions } from '../options/resolve-options.js';
import type { Database } from '../store/database/database.js';
import { isFaultOfData } from '../store/database/database-errors.js';
import { isOneStatement, recordAttempts } from '../store/queue/record-attempts.js';
import { numberOf, type AttemptRecord, type RecordResult } from '../store/queue/attempt-record.js';
import { settleLeases } from '../store/outbox/leases.js';
import type { JudgingPolicy, SendingPause } from '../health/circuit.js';
import { LIFECYCLE_EVENTS, type LifecycleEvent } from './lifecycle-events.js';
import type { NoticedListener, Notices } from './notices.js';
import type { OperationalEvents } from './operational-events.js';
import type { OneAtATime } from './one-at-a-time.js';
import { Signal } from './signal.js';
import { type Troubles } from './troubles.js';
import { recordedAttempt, type Attempted } from './recorded-attempt.js';
import type { AttemptStats } from './attempt-stats.js';
import type { AttemptLog } from './attempt-log.js';
import { storedCause } from '../events/event-context.js';
import type { Cause } from '../cause.js';
import { messageOf } from '../foreign-text.js';

/** Dependencies and callbacks of the recorder. */
export interface RecorderParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly options: ResolvedWebhooksOptions['dispatcher'];
  /** Records and releases run one after the other, so that the last one of an event knows that it is the last. */
  readonly leases: OneAtATime;
  readonly inFlight: InFlightDeliveries;
  readonly logger: LoggerService;
  readonly emit: (name: string, lifecycleEvent: LifecycleEvent, cause?: Cause) => void;
  readonly notices: Notices;
  readonly diagnostics: Diagnostics;
  readonly attemptLog: AttemptLog;
  readonly stats: AttemptStats;
  readonly operational: OperationalEvents;
  /** Called when events may be pending. */
  readonly expectEvents: () => void;
  readonly troubles: Troubles;
  /** The last pause of all sending. Its time does not count against a listener that fails. */
  readonly lastPause: () => SendingPause | undefined;
  /** Whether to retry a write that the database refused. */
  readonly keepsRunning: () => boolean;
  /** Called when the database refuses writes. Then no request may be sent, because its outcome could not be recorded. */
  readonly refused: () => void;
  /** Called when the database accepts writes again. */
  readonly written: () => void;
  /** Called when a delivery of this listener may be due at this time. */
  readonly expect: (at: number, listenerId: string) => void;
  /** Called when the listener is paused or disabled. Then nothing more is sent to the listener for now. */
  readonly stopped: (listenerId: string) => void;
  /** Called when everything is recorded. */
  readonly idle: () => void;
}

/**
 * How long an outcome waits for other outcomes. Outcomes are recorded together. Without this wait, there would be one commit for
 * only a few outcomes. Then the database would spend more time on commits than on rows.
 */
const RECORD_TOGETHER_MS = 20;
/** Pause after the database refused a write. */
const REST_MS = 1_000;

/**
 * Records the outcomes of attempts in batches. A batch contains the outcomes that arrived while the last batch was written, or within
 * {@link RECORD_TOGETHER_MS}. If this process dies, unrecorded attempts are repeated. To limit their number, at most one batch is
 * unrecorded, in addition to the attempts that have a slot.
 */
export class Recorder {
  /** Unrecorded attempts, in the order in which they ended. Attempts that are being recorded are at the front. */
  private readonly attempted: Attempted[] = [];
  /** Functions that free slots. Some attempts keep their slots until other attempts are recorded. */
  private readonly waitingForSlot: (() => void)[] = [];
  /** Raised when a caller waits for a record, or when there are enough records for a batch. */
  private readonly now = new Signal();
  /**
   * Listeners whose last recorded attempt in this process failed. The next success of such a listener changes the state
   * of the listener.
   */
  private readonly failing = new Set<string>();
  /** Attempts whose record failed with an unknown result: the transaction may have been committed. */
  private readonly uncertain = new Set<Attempted>();
  private loop: Promise<void> | null = null;

  constructor(private readonly parts: RecorderParts) {}

  /** Whether there are more unrecorded attempts than one batch can contain. */
  get isBehind(): boolean {
    return this.attempted.length > this.parts.options.eventsPerBatch;
  }

  /** A promise that settles when everything is recorded; `null` when everything is already recorded. */
  get recording(): Promise<void> | null {
    return this.loop;
  }

  /** Whether the database has refused the current records. */
  get isRefused(): boolean {
    return this.uncertain.size > 0;
  }

  /**
   * Adds an attempt.
   *
   * @param isLast whether no other request is in flight. Then there is no reason to wait
   * @returns a promise if the attempt keeps its slot for now. The promise settles when the slot is free
   */
  add(attempted: Attempted, { isLast }: { isLast: boolean }): Promise<void> | undefined {
    const { eventsPerBatch } = this.parts.options;
    const { laned, outcome } = attempted;
    this.attempted.push(attempted);
    const isEnough = this.attempted.length * 2 >= eventsPerBatch;
    const isUrgent = laned.isAwaited || laned.delivery.isOrdered || outcome.kind !== 'accepted';
    if (isLast || isEnough || isUrgent) this.now.raise();
    this.loop ??= this.recordAll();
    return this.attempted.length > eventsPerBatch ? new Promise((free) => this.waitingForSlot.push(free)) : undefined;
  }

  /**
   * Records one batch after another. Outcomes that arrive while a batch is written form the next batch.
   *
   * A refused batch is retried while the dispatcher runs, because its requests were sent. Each retry has fewer records. So in the end,
   * a record that cannot be written is tried alone. Such a record is dropped only if its own values cause the error. A server may also
   * refuse all writes. If records were dropped in that case, all their requests would be sent again.
   */
  private async recordAll(): Promise<void> {
    const { eventsPerBatch } = this.parts.options;
    let size = eventsPerBatch;
    while (this.attempted.length) {
      if (this.attempted.length * 2 < eventsPerBatch) await this.now.wait(RECORD_TOGETHER_MS);
      // Outcomes of the same turn of the event loop go into the same batch.
      await new Promise((resolve) => setImmediate(resolve));
      const some = this.attempted.slice(0, size);
      const isPart = some.length < this.attempted.length;
      try {
        await this.record(some);
        size = Math.min(eventsPerBatch, 2 * size);
        // If only a part was written, the trouble continues, because the refused record is still unrecorded.
        if (size === eventsPerBatch || !isPart) this.parts.troubles.succeeded('recording');
        this.parts.written();
        this.forget(some);
      } catch (error) {
        size = await this.failed(some, error);
      }
    }
    this.parts.written();
    this.loop = null;
    this.parts.idle();
  }

  /**
   * Handles a batch that could not be recorded.
   * @returns the size of the next try
   */
  private async failed(some: readonly Attempted[], error: unknown): Promise<number> {
    const { keepsRunning, refused, troubles, logger } = this.parts;
    const isOfValues = isFaultOfData(error);
    if (!isOfValues) for (const one of some) this.uncertain.add(one);
    const smaller = Math.ceil(some.length / 2);
    if (isOfValues && (some.length > 1 || this.removeTexts())) return smaller;
    if (!isOfValues && keepsRunning()) {
      refused();
      troubles.failed(
        'recording',
        'Attempts cannot be recorded; nothing is sent until the database accepts records again',
        error,
      );
      // This record may still be the cause, so the other records must not wait behind it.
      if (some.length === 1) this.attempted.push(...this.attempted.splice(0, 1));
      await pause(REST_MS);
      return smaller;
    }
    // In `runOnce()`, and after the dispatcher has stopped, all records are tried only once.
    const lost = isOfValues ? some : [...this.attempted];
    logger.error(
      `${lost.length === 1 ? `The attempt of delivery ${lost[0]?.laned.delivery.id}` : `${lost.length} attempts`} could not be recorded and will be repeated: ${messageOf(error)}`,
    );
    this.forget(lost);
    return smaller;
  }

  /**
   * Removes the texts of the first attempt, which come from the receiver: perhaps the database refuses them. Without a record the event
   * would be sent again and again.
   * @returns whether there were any
   */
  private removeTexts(): boolean {
    const [first] = this.attempted;
    if (!first || !hasTexts(first.record)) return false;
    const record = { ...first.record, response: null, errorDetail: null, details: null };
    this.parts.logger.warn(
      `The database refused the attempt of delivery ${record.delivery.id}. It is recorded without the response, the headers and the error text.`,
    );
    this.attempted[0] = { ...first, record };
    return true;
  }

  /** Removes attempts from the list, because they are recorded or dropped. */
  private forget(some: readonly Attempted[]): void {
    this.attempted.splice(0, some.length);
    for (const one of some) {
      this.uncertain.delete(one);
      this.parts.inFlight.delete(one.laned.delivery);
      one.laned.settled?.();
    }
    if (this.attempted.length <= this.parts.options.eventsPerBatch)
      for (const free of this.waitingForSlot.splice(0)) free();
  }

  private async record(batch: readonly Attempted[]): Promise<void> {
    const { database, clock, options, leases, expect, stopped, notices } = this.parts;
    const { diagnostics, attemptLog, operational, expectEvents } = this.parts;
    const records = batch.map(({ record }): AttemptRecord =>
      this.failing.has(record.delivery.listener.id) ? { ...record, wasFailing: true } : record,
    );
    const mayBeStored = records.filter((_, index) => this.uncertain.has(batch[index] as Attempted));
    const circuit: JudgingPolicy = { ...options.circuit, sendingPause: this.parts.lastPause() };
    let hasEvents = false;
    const script = function* () {
      const now = clock.now();
      const result = yield* recordAttempts(database, records, { now, circuit, mayBeStored });
      hasEvents = yield* operational.ofAttempts(batch, result, now);
      return result;
    };
    // A single statement needs no transaction. This saves two round trips.
    const isSingle = !mayBeStored.length && isOneStatement(database, records);
    const { moved, paused, disabled, opened } = await leases.run(async () => {
      const result = await diagnostics.step('record', () =>
        isSingle ? database.single(script, 'work') : database.transaction(script, 'work'),
      );
      settleLeases(records.map(({ delivery }) => delivery));
      return result;
    });
    if (hasEvents) expectEvents();
    this.parts.stats.add(batch, moved);
    this.report(batch, { moved, disabled });
    const recovered = new Set<string>();
    for (const [index, attempted] of batch.entries()) {
      const { delivery, next, wasFailing } = records[index] as AttemptRecord;
      const listenerId = delivery.listener.id;
      if (!moved.has(delivery)) continue;
      if (next.state === 'due') expect(next.at, listenerId);
      if (delivery.isOrdered || wasFailing) expect(0, listenerId);
      if (next.state !== 'succeeded') this.failing.add(listenerId);
      else if (wasFailing) recovered.add(listenerId);
      if (next.state === 'succeeded') this.failing.delete(listenerId);
      this.emitOutcome(attempted);
    }
    for (const listenerId of recovered) notices.recovered(noticed(batch, listenerId));
    for (const listenerId of paused) stopped(listenerId);
    for (const { listenerId, failuresInARow, pausedUntil } of opened) {
      notices.circuitOpened(noticed(batch, listenerId), { failuresInARow, pausedUntil: new Date(pausedUntil) });
    }
    for (const { listenerId, reason } of disabled) {
      this.failing.delete(listenerId);
      stopped(listenerId);
      // The line of the attempt names the listener and the reason.
      notices.disabled(noticed(batch, listenerId), reason, { by: 'attempts', isLogged: attemptLog.has('rejected') });
    }
  }

  private report(batch: readonly Attempted[], { moved, disabled }: Pick<RecordResult, 'moved' | 'disabled'>): void {
    const { attemptLog, diagnostics } = this.parts;
    const recordedOf = (attempted: Attempted) => recordedAttempt(attempted, moved.has(attempted.record.delivery));
    if (diagnostics.listens('attempts')) diagnostics.publish('attempts', { attempts: batch.map(recordedOf) });
    const reasons = new Map(
      disabled.map(({ listenerId, reason }) => [batch.findLast((one) => isFailureOf(one, listenerId)), reason]),
    );
    for (const attempted of batch) {
      if (attemptLog.has(attempted.outcome.kind)) attemptLog.write(recordedOf(attempted), reasons.get(attempted));
    }
  }

  private emitOutcome({ laned: { delivery }, outcome, record }: Attempted): void {
    const names = {
      succeeded: LIFECYCLE_EVENTS.succeeded,
      due: LIFECYCLE_EVENTS.failed,
      exhausted: LIFECYCLE_EVENTS.exhausted,
    } as const;
    const lifecycleEvent = {
      deliveryId: delivery.id,
      eventId: delivery.event.id,
      listenerId: delivery.listener.id,
      url: delivery.listener.url,
      type: delivery.type,
      owner: delivery.owner,
      attempt: numberOf(record),
      outcome: outcome.kind,
      status: outcome.status,
      errorCode: outcome.errorCode,
      durationMs: outcome.durationMs,
      nextAttemptAt: record.next.state === 'due' ? new Date(record.next.at) : null,
    };
    const cause = storedCause(delivery.event.context);
    if (record.next.state === 'exhausted') this.parts.emit(LIFECYCLE_EVENTS.failed, lifecycleEvent, cause);
    this.parts.emit(names[record.next.state], lifecycleEvent, cause);
    const isLogged = this.parts.attemptLog.has(outcome.kind);
    if (record.next.state === 'exhausted' && !isLogged) this.parts.notices.exhausted(lifecycleEvent);
  }
}

function hasTexts({ response, errorDetail, details = null }: AttemptRecord): boolean {
  return response !== null || errorDetail !== null || details !== null;
}

function isFailureOf({ record, outcome }: Attempted, listenerId: string): boolean {
  return record.delivery.listener.id === listenerId && outcome.kind !== 'accepted';
}

/** The state of the listener at the time of the request. */
function noticed(batch: readonly Attempted[], listenerId: string): NoticedListener {
  const { delivery } = (batch.find(({ laned }) => laned.delivery.listener.id === listenerId) as Attempted).laned;
  return { id: listenerId, url: delivery.listener.url, owner: delivery.owner };
}
