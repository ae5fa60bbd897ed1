import { monotonicMs, type WebhookClock } from '../clock.js';
import type { Engine } from '../engine.js';
import type { Lanes } from './lanes.js';
import { OutboxCursor } from './outbox-cursor.js';
import { Pace, type PaceState } from './pace.js';
import { Signal } from './signal.js';

export interface ExpectedWorkOptions {
  readonly clock: Pick<WebhookClock, 'now'>;
  readonly lanes: Pick<Lanes, 'isLow' | 'isSuspended'>;
  readonly pollIntervalMs: number;
  /** Maximum number of batches of events that are routed at the same time. */
  readonly maxBatches: number;
  /** Decides which listeners are claimed. `null`: the dispatcher searches the database. */
  readonly engine: Engine | null;
  /** The monotonic clock. Simulations have their own. @defaultValue `monotonicMs` */
  readonly now?: () => number;
}

/**
 * If a batch takes longer than this time, for example because of very many listeners, the dispatcher does not wait for the batch. It
 * routes the next batch at the same time.
 */
const BATCH_WAIT_MS = 15;

/**
 * The work that the dispatcher's loop expects, and the time at which it expects the work. This object decides what the loop does next,
 * and how long the loop may sleep. Commits, notifications, polls and finished work change this object. Such a change raises {@link
 * signal} if the loop should search for work now.
 *
 * Times that end with `At` are on the monotonic clock, except `readyAt`, which is compared with rows of the database.
 */
export class ExpectedWork implements PaceState {
  /** Raised when the loop should search for work. */
  readonly signal = new Signal();
  /** The position from which to search for pending events. */
  readonly cursor: OutboxCursor;
  readonly pace: Pace;
  private readonly now: () => number;
  routedAt = -Infinity;
  restUntil = -Infinity;
  /** Whether the last batch was full. */
  isBacklog = false;
  /** The error of a batch in the background. No other batch begins before the loop has handled it. */
  failure: { readonly error: unknown } | null = null;
  /** When to search for images. `null`: not before the next poll. */
  private imagesAt: number | null = 0;
  /** When a listener may be ready, as far as this process knows. `null`: not before the next poll. */
  private readyAt: number | null = 0;
  private polledAt = 0;
  private pagedAt = 0;
  private batchAt = 0;
  /** Whether there may be pending events. */
  private hasEvents = true;
  /** Whether there may be wide events. */
  private mayHaveWide = true;
  /** Whether the last batch has claimed its events. Then the next batch would find other events. */
  private hasClaimed = true;
  /** Batches that are being routed, each with its maximum number of events. */
  private readonly batches = new Map<Promise<void>, number>();

  constructor(private readonly options: ExpectedWorkOptions) {
    this.now = options.now ?? monotonicMs;
    this.cursor = new OutboxCursor(this.now);
    this.pace = new Pace(this, this.now);
  }

  get hasWide(): boolean {
    return this.mayHaveWide;
  }

  get isRouting(): boolean {
    return this.batches.size > 0;
  }

  /** Maximum number of events of all batches that are being routed. */
  get beingRouted(): number {
    return [...this.batches.values()].reduce((sum, limit) => sum + limit, 0);
  }

  expectEvents(): void {
    this.hasEvents = true;
  }

  /** Call this method when events with these sequences are back in the outbox. */
  expectReturned(seqs: readonly string[]): void {
    if (!seqs.length) return;
    this.hasEvents = true;
    this.cursor.notTaken(Math.min(...seqs.map(Number)) - 1);
  }

  expectWide(): void {
    this.mayHaveWide = true;
  }

  expectImages(inMs = 0): void {
    this.imagesAt = inMs ? this.now() + inMs : 0;
  }

  /**
   * Call this method when a listener may be ready at this time. 0 means now.
   *
   * @param listenerIds the listeners, if a commit of this process has made them ready
   */
  expectReady(at: number, listenerIds: readonly string[] = []): void {
    this.readyAt = Math.min(this.readyAt ?? Infinity, at);
    if (listenerIds.length) this.options.engine?.changed(listenerIds);
  }

  /** Expects every kind of work again, after an error. */
  expectAll(): void {
    this.failure = null;
    this.hasEvents = true;
    this.imagesAt = 0;
    this.readyAt = 0;
  }

  get mayConvert(): boolean {
    return this.imagesAt !== null && this.imagesAt <= this.now();
  }

  /** Whether to route a batch of events in the background now. */
  get mayRoute(): boolean {
    const { lanes, maxBatches } = this.options;
    const { isRouting } = this;
    if (this.batches.size >= maxBatches || !this.hasClaimed || this.failure) return false;
    // A larger batch is better than two small batches, because each batch needs a commit. Events that are committed
    // meanwhile form the next batch.
    if (isRouting && !this.isBacklog && this.batchWaitMs > 0) return false;
    // Only a batch that runs alone can sweep: a sweep would find the events of the other batches again.
    if (isRouting && this.cursor.isSweepOverdue) return false;
    // A search that was not a sweep may have missed an event that was committed late. So search again when a sweep is due. Otherwise the
    // loop would wait for the sweep in steps of 1 ms.
    return (this.hasEvents || (!isRouting && this.cursor.untilSweepMs === 0)) && lanes.isLow('fresh', this.beingRouted);
  }

  /**
   * Whether to route a page of a wide event. A page is routed only when the previous page is being sent. So other due deliveries wait
   * for one page and not for 100,000 deliveries. If deliveries are always due, one page is routed in each poll interval.
   */
  get mayPage(): boolean {
    const { lanes, pollIntervalMs } = this.options;
    const isIdle = !this.isReady && lanes.isLow('backlog');
    const isClear = lanes.isSuspended || isIdle;
    return this.pace.mayBegin && this.mayHaveWide && (isClear || this.now() - this.pagedAt >= pollIntervalMs);
  }

  get mayClaim(): boolean {
    return this.isReady && this.pace.mayBegin && this.options.lanes.isLow('backlog');
  }

  /** Whether some listener may be ready. */
  private get isReady(): boolean {
    const { clock, engine } = this.options;
    if (engine?.isAvailable) return engine.hasWaiting;
    return this.readyAt !== null && this.readyAt <= clock.now();
  }

  /** Time in ms until a listener may be ready. `null`: not before the next poll, or until the engine raises {@link signal}. */
  private get untilReadyMs(): number | null {
    const { clock, engine } = this.options;
    if (engine?.isAvailable) return engine.hasWaiting ? 0 : null;
    return this.readyAt === null ? null : this.readyAt - clock.now();
  }

  get mayPoll(): boolean {
    return this.untilPollMs <= 0;
  }

  /** Makes the loop poll in its next turn. */
  expectPoll(): void {
    this.polledAt = -Infinity;
  }

  /** Call this method when the loop begins to search for images. Images that are written later must be expected again. */
  beginConversion(): void {
    this.imagesAt = null;
  }

  beginPoll(): void {
    this.polledAt = this.now();
  }

  /**
   * Call this method when the loop begins to route a page of a wide event. A batch in the background may find
   * another wide event meanwhile.
   */
  beginPage(): void {
    this.pagedAt = this.now();
    this.mayHaveWide = false;
  }

  beginClaim(): void {
    this.readyAt = null;
  }

  beginBatch(): void {
    this.batchAt = this.now();
    this.hasEvents = false;
    this.hasClaimed = false;
  }

  addBatch(batch: Promise<void>, limit: number): void {
    this.batches.set(batch, limit);
  }

  /** Call this method when the current batch has claimed its events. */
  batchClaimed(isFull: boolean): void {
    this.hasClaimed = true;
    this.isBacklog = isFull;
    if (isFull) this.hasEvents = true;
  }

  /** @param hasClaimed whether {@link batchClaimed} was called for the batch */
  endBatch(batch: Promise<void>, hasClaimed: boolean): void {
    this.batches.delete(batch);
    if (!hasClaimed) this.hasClaimed = true;
  }

  /** Settles when no batch is being routed. */
  async routed(): Promise<void> {
    while (this.batches.size) await Promise.all(this.batches.keys());
  }

  /**
   * How long the loop may sleep. A raised {@link signal} ends the sleep earlier, for example when a request ends.
   */
  get sleepMs(): number {
    const { lanes, maxBatches, pollIntervalMs } = this.options;
    const { untilReadyMs } = this;
    const { untilSweepMs } = this.cursor;
    const mayRouteAnother = this.hasEvents && this.isRouting && this.hasClaimed && this.batches.size < maxBatches;
    const waits: number[] = [];
    if (mayRouteAnother && this.batchWaitMs > 0) waits.push(this.batchWaitMs);
    if (untilSweepMs !== null && lanes.isLow('fresh')) waits.push(untilSweepMs);
    // The pause after the last page may have ended since the search.
    if (this.mayHaveWide) waits.push(this.mayPage ? 0 : this.pagedAt + pollIntervalMs - this.now());
    if (this.imagesAt !== null) waits.push(this.imagesAt - this.now());
    if (untilReadyMs !== null && lanes.isLow('backlog')) waits.push(Math.max(untilReadyMs, this.pace.waitMs));
    if (!this.pace.mayBegin) waits.push(this.pace.waitMs);
    return Math.min(this.untilPollMs, ...waits.map((ms) => Math.max(1, ms)));
  }

  /** Time in ms until the loop stops waiting for the batch that is being routed. */
  private get batchWaitMs(): number {
    return this.batchAt + BATCH_WAIT_MS - this.now();
  }

  private get untilPollMs(): number {
    return this.polledAt + this.options.pollIntervalMs - this.now();
  }
}
