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

/** One attempt that was made and waits to be recorded. */
export interface Attempted {
  readonly laned: LanedDelivery;
  readonly outcome: Outcome;
  readonly record: AttemptRecord;
}

/** What the recorder works with, and whom it tells. */
export interface RecorderParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly options: ResolvedWebhooksOptions['dispatcher'];
  readonly logger: LoggerService;
  readonly emit: (name: string, lifecycleEvent: LifecycleEvent, cause?: Cause) => void;
  readonly notices: Notices;
  readonly troubles: Troubles;
  /** Whether it is worth trying again what the database refused. */
  readonly keepsRunning: () => boolean;
  /** The database refuses writes: nothing may be sent that could not be recorded. */
  readonly refused: () => void;
  /** It takes them again. */
  readonly written: () => void;
  /** A delivery may be due at this time. */
  readonly expect: (at: number) => void;
  /** Nothing more is sent to this listener for now. */
  readonly stopped: (listenerId: string) => void;
  /** Everything is recorded. */
  readonly idle: () => void;
}

/**
 * How long an outcome waits for others to be recorded with it. Without it there is a commit for each handful that ended while the last
 * one was written, and the database spends more on them than on the rows.
 */
const RECORD_TOGETHER_MS = 20;
/** After a refusal of the database. */
const REST_MS = 1_000;

/**
 * Writes down what came of attempts, in batches: of whatever has come together while the last one was written, or within
 * {@link RECORD_TOGETHER_MS}. What is not recorded would be repeated if this process died now, so it is never more than a batch, beside
 * what has a slot.
 */
export class Recorder {
  /** In the order in which they ended; those that are being recorded stand in front. */
  private readonly attempted: Attempted[] = [];
  /** Attempts that keep their slot until others are recorded. */
  private readonly held: (() => void)[] = [];
  /** Somebody waits for what is to be recorded, or there is enough of it. */
  private readonly now = new Signal();
  /** Listeners of which this process has recorded a failure, and no success since: their next success is news. */
  private readonly failing = new Set<string>();
  /** A try to record these failed, and may have been committed all the same. */
  private readonly uncertain = new Set<Attempted>();
  private loop: Promise<void> | null = null;

  constructor(private readonly parts: RecorderParts) {}

  /** More attempts wait to be recorded than one batch takes. */
  get isBehind(): boolean {
    return this.attempted.length > this.parts.options.eventsPerBatch;
  }

  /** Settles when nothing waits to be recorded; `null` when nothing does. */
  get recording(): Promise<void> | null {
    return this.loop;
  }

  /** The database has refused what is to be recorded. */
  get isRefused(): boolean {
    return this.uncertain.size > 0;
  }

  /**
   * Takes an attempt over.
   *
   * @param isLast nothing else is being sent, so there is nothing to wait for
   * @returns a promise when its slot is to be kept for a while
   */
  add(attempted: Attempted, { isLast }: { isLast: boolean }): Promise<void> | undefined {
    const { eventsPerBatch } = this.parts.options;
    const { laned, outcome } = attempted;
    this.attempted.push(attempted);
    const isEnough = this.attempted.length * 2 >= eventsPerBatch;
    const isAwaited = laned.settled !== undefined || laned.delivery.isOrdered || outcome.kind !== 'accepted';
    if (isLast || isEnough || isAwaited) this.now.raise();
    this.loop ??= this.recordAll();
    return this.attempted.length > eventsPerBatch ? new Promise((free) => this.held.push(free)) : undefined;
  }

  /**
   * One batch after the other: what comes while one is written makes up the next.
   *
   * What the database refuses is tried again for as long as the dispatcher runs, as these requests were made; smaller each time, so that
   * a record that cannot be written ends up alone. It is given up only when its own values are at fault: a server that refuses writes
   * would have everything sent again.
   */
  private async recordAll(): Promise<void> {
    const { eventsPerBatch } = this.parts.options;
    let size = eventsPerBatch;
    while (this.attempted.length) {
      if (this.attempted.length * 2 < eventsPerBatch) await this.now.wait(RECORD_TOGETHER_MS);
      // What ends in the same turn of the event loop goes into the same batch.
      await new Promise((resolve) => setImmediate(resolve));
      const some = this.attempted.slice(0, size);
      const isPart = some.length < this.attempted.length;
      try {
        await this.record(some);
        size = Math.min(eventsPerBatch, 2 * size);
        // A part that could be written does not end it: what could not is still there.
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

  /** After a batch that could not be recorded. @returns how many to try next */
  private async failed(some: readonly Attempted[], error: unknown): Promise<number> {
    const { keepsRunning, refused, troubles, logger } = this.parts;
    const isOfValues = isFaultOfData(error);
    if (!isOfValues) for (const one of some) this.uncertain.add(one);
    const smaller = Math.ceil(some.length / 2);
    if (isOfValues && some.length > 1) return smaller;
    if (!isOfValues && keepsRunning()) {
      refused();
      troubles.failed('recording', 'Attempts cannot be recorded, so nothing is sent until they can be', error);
      // If something about this one is at fault after all, the others do not wait behind it.
      if (some.length === 1) this.attempted.push(...this.attempted.splice(0, 1));
      await pause(REST_MS);
      return smaller;
    }
    // By hand, and when the dispatcher has stopped, the database is asked once for all of them.
    const lost = isOfValues ? some : [...this.attempted];
    logger.error(
      `${lost.length === 1 ? `The attempt of delivery ${lost[0]?.laned.delivery.id}` : `${lost.length} attempts`} could not be recorded, and will be repeated: ${messageOf(error)}`,
    );
    this.forget(lost);
    return smaller;
  }

  /** These are recorded, or given up. */
  private forget(some: readonly Attempted[]): void {
    this.attempted.splice(0, some.length);
    for (const one of some) {
      this.uncertain.delete(one);
      one.laned.settled?.();
    }
    if (this.attempted.length <= this.parts.options.eventsPerBatch) for (const free of this.held.splice(0)) free();
  }

  private async record(batch: readonly Attempted[]): Promise<void> {
    const { database, clock, options, expect, stopped, notices } = this.parts;
    const records = batch.map(({ record }): AttemptRecord =>
      this.failing.has(record.listenerId) ? { ...record, wasFailing: true } : record,
    );
    const mayBeStored = records.filter((_, index) => this.uncertain.has(batch[index] as Attempted));
    const script = () => recordAttempts(database, records, { now: clock.now(), circuit: options.circuit, mayBeStored });
    // One statement needs no transaction around it: two round trips less.
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

/** The listener of one of these, as it was when that was sent. */
function noticed(batch: readonly Attempted[], listenerId: string): NoticedListener {
  const { delivery } = (batch.find(({ record }) => record.listenerId === listenerId) as Attempted).laned;
  return { id: listenerId, url: delivery.listener.url, owner: delivery.owner };
}
