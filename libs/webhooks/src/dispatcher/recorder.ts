import { setTimeout as pause } from 'node:timers/promises';
import type { LoggerService } from '@nestjs/common';
import type { WebhookClock } from '../clock.js';
import type { ResolvedWebhooksOptions } from '../options/resolve-options.js';
import type { Outcome } from '../sending/outcome.js';
import type { Database } from '../store/database/database.js';
import { isFaultOfData } from '../store/database/database-errors.js';
import { isOneStatement, recordAttempts } from '../store/queue/record-attempts.js';
import type { AttemptRecord } from '../store/queue/attempt-record.js';
import { LIFECYCLE_EVENTS, type LifecycleEvent } from './lifecycle-events.js';
import type { LanedDelivery } from './lanes.js';
import type { NoticedListener, Notices } from './notices.js';
import { Signal } from './signal.js';
import { type Troubles } from './troubles.js';
import { storedCause } from '../events/event-context.js';
import type { Cause } from '../cause.js';
import { messageOf } from '../foreign-text.js';

/** An attempt that has ended and is not recorded yet. */
export interface Attempted {
  readonly laned: LanedDelivery;
  readonly outcome: Outcome;
  readonly record: AttemptRecord;
}

/** Dependencies and callbacks of the recorder. */
export interface RecorderParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly options: ResolvedWebhooksOptions['dispatcher'];
  readonly logger: LoggerService;
  readonly emit: (name: string, lifecycleEvent: LifecycleEvent, cause?: Cause) => void;
  readonly notices: Notices;
  readonly troubles: Troubles;
  /** Whether to retry a write that the database refused. */
  readonly keepsRunning: () => boolean;
  /** The database refuses writes, so no request may be sent whose outcome could not be recorded. */
  readonly refused: () => void;
  /** The database accepts writes again. */
  readonly written: () => void;
  /** A delivery may be due at this time. */
  readonly expect: (at: number) => void;
  /** The listener is paused or disabled, so nothing more is sent to it for now. */
  readonly stopped: (listenerId: string) => void;
  /** Everything is recorded. */
  readonly idle: () => void;
}

/**
 * How long an outcome waits for others, so that they are recorded together. Without this pause there is a commit for
 * each handful of outcomes, and the database spends more time on commits than on rows.
 */
const RECORD_TOGETHER_MS = 20;
/** Pause after the database refused a write. */
const REST_MS = 1_000;

/**
 * Records the outcomes of attempts in batches. A batch has the outcomes that came while the last batch was written,
 * or within {@link RECORD_TOGETHER_MS}. An attempt that is not recorded is repeated if this process dies, so at most
 * one batch is unrecorded, beside the attempts that have a slot.
 */
export class Recorder {
  /** In the order in which they ended. Attempts that are being recorded are at the front. */
  private readonly attempted: Attempted[] = [];
  /** Frees the slots of attempts that keep them until other attempts are recorded. */
  private readonly waitingForSlot: (() => void)[] = [];
  /** Raised when a caller waits for a record, or when there are enough records for a batch. */
  private readonly now = new Signal();
  /**
   * Listeners whose last recorded attempt in this process failed. Their next success changes the state of the
   * listener.
   */
  private readonly failing = new Set<string>();
  /** A try to record these attempts failed, but may have been committed. */
  private readonly uncertain = new Set<Attempted>();
  private loop: Promise<void> | null = null;

  constructor(private readonly parts: RecorderParts) {}

  /** More attempts are unrecorded than fit into one batch. */
  get isBehind(): boolean {
    return this.attempted.length > this.parts.options.eventsPerBatch;
  }

  /** Settles when everything is recorded; `null` when nothing is unrecorded. */
  get recording(): Promise<void> | null {
    return this.loop;
  }

  /** The database has refused the current records. */
  get isRefused(): boolean {
    return this.uncertain.size > 0;
  }

  /**
   * Adds an attempt.
   *
   * @param isLast no other request is in flight, so there is no reason to wait
   * @returns a promise if the attempt keeps its slot for now; it settles when the slot is free
   */
  add(attempted: Attempted, { isLast }: { isLast: boolean }): Promise<void> | undefined {
    const { eventsPerBatch } = this.parts.options;
    const { laned, outcome } = attempted;
    this.attempted.push(attempted);
    const isEnough = this.attempted.length * 2 >= eventsPerBatch;
    const isUrgent = laned.settled !== undefined || laned.delivery.isOrdered || outcome.kind !== 'accepted';
    if (isLast || isEnough || isUrgent) this.now.raise();
    this.loop ??= this.recordAll();
    return this.attempted.length > eventsPerBatch ? new Promise((free) => this.waitingForSlot.push(free)) : undefined;
  }

  /**
   * Records one batch after the other. Outcomes that come while a batch is written make up the next batch.
   *
   * A refused batch is retried as long as the dispatcher runs, because its requests were sent. Each retry is smaller,
   * so that a record that cannot be written ends up alone. A record is dropped only if its own values are at fault:
   * if a server refuses all writes, dropping the records would send everything again.
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
        // A part that was written does not end the trouble: the refused record is still there.
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
   * After a batch that could not be recorded.
   * @returns the size of the next try
   */
  private async failed(some: readonly Attempted[], error: unknown): Promise<number> {
    const { keepsRunning, refused, troubles, logger } = this.parts;
    const isOfValues = isFaultOfData(error);
    if (!isOfValues) for (const one of some) this.uncertain.add(one);
    const smaller = Math.ceil(some.length / 2);
    if (isOfValues && some.length > 1) return smaller;
    if (!isOfValues && keepsRunning()) {
      refused();
      troubles.failed(
        'recording',
        'Attempts cannot be recorded; nothing is sent until the database accepts them',
        error,
      );
      // If this record is at fault after all, the others must not wait behind it.
      if (some.length === 1) this.attempted.push(...this.attempted.splice(0, 1));
      await pause(REST_MS);
      return smaller;
    }
    // With `runOnce()`, and when the dispatcher has stopped, all records are tried only once.
    const lost = isOfValues ? some : [...this.attempted];
    logger.error(
      `${lost.length === 1 ? `The attempt of delivery ${lost[0]?.laned.delivery.id}` : `${lost.length} attempts`} could not be recorded and will be repeated: ${messageOf(error)}`,
    );
    this.forget(lost);
    return smaller;
  }

  /** Removes attempts that are recorded or dropped. */
  private forget(some: readonly Attempted[]): void {
    this.attempted.splice(0, some.length);
    for (const one of some) {
      this.uncertain.delete(one);
      one.laned.settled?.();
    }
    if (this.attempted.length <= this.parts.options.eventsPerBatch)
      for (const free of this.waitingForSlot.splice(0)) free();
  }

  private async record(batch: readonly Attempted[]): Promise<void> {
    const { database, clock, options, expect, stopped, notices } = this.parts;
    const records = batch.map(({ record }): AttemptRecord =>
      this.failing.has(record.listenerId) ? { ...record, wasFailing: true } : record,
    );
    const mayBeStored = records.filter((_, index) => this.uncertain.has(batch[index] as Attempted));
    const script = () => recordAttempts(database, records, { now: clock.now(), circuit: options.circuit, mayBeStored });
    // One statement needs no transaction, which saves two round trips.
    const { moved, paused, disabled, opened } = await (!mayBeStored.length && isOneStatement(database, records)
      ? database.single(script, 'work')
      : database.transaction(script, 'work'));
    for (const [index, attempted] of batch.entries()) {
      const { deliverySeq, listenerId, next, isOrdered, wasFailing } = records[index] as AttemptRecord;
      if (!moved.has(deliverySeq)) continue;
      if (next.state === 'due') expect(next.at);
      if (isOrdered || wasFailing) expect(0);
      if (next.state === 'succeeded') this.failing.delete(listenerId);
      else this.failing.add(listenerId);
      this.emitOutcome(attempted);
    }
    for (const listenerId of paused) stopped(listenerId);
    for (const { listenerId, failuresInARow, pausedUntil } of opened) {
      notices.circuitOpened(noticed(batch, listenerId), { failuresInARow, pausedUntil: new Date(pausedUntil) });
    }
    for (const { listenerId, reason } of disabled) {
      this.failing.delete(listenerId);
      stopped(listenerId);
      notices.disabled(noticed(batch, listenerId), reason);
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
      attempt: record.number,
      outcome: outcome.kind,
      status: outcome.status,
      errorCode: outcome.errorCode,
      durationMs: outcome.durationMs,
      nextAttemptAt: record.next.state === 'due' ? new Date(record.next.at) : null,
    };
    const cause = storedCause(delivery.event.context);
    if (record.next.state === 'exhausted') this.parts.emit(LIFECYCLE_EVENTS.failed, lifecycleEvent, cause);
    this.parts.emit(names[record.next.state], lifecycleEvent, cause);
    if (record.next.state === 'exhausted') this.parts.notices.exhausted(lifecycleEvent);
  }
}

/** The listener as it was when the request was sent. */
function noticed(batch: readonly Attempted[], listenerId: string): NoticedListener {
  const { delivery } = (batch.find(({ record }) => record.listenerId === listenerId) as Attempted).laned;
  return { id: listenerId, url: delivery.listener.url, owner: delivery.owner };
}
