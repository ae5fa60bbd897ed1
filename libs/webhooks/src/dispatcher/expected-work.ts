import type { WebhookClock } from '../clock.js';
import type { Lanes } from './lanes.js';
import { OutboxCursor } from './outbox-cursor.js';
import { Pace, type PaceState } from './pace.js';
import { Signal } from './signal.js';

export interface ExpectedWorkOptions {
  readonly clock: WebhookClock;
  readonly lanes: Pick<Lanes, 'isLow'>;
  readonly pollIntervalMs: number;
  /** Batches of events that may be routed at the same time. */
  readonly maxBatches: number;
}

/** A batch that takes longer, for example for very many listeners, is not waited for: the next batch is routed at the same time. */
const BATCH_WAIT_MS = 15;

/**
 * The work that the dispatcher's loop expects, and when. This object decides what the loop does next, and how long it
 * may sleep. Commits, notifications, polls and finished work change it, and raise {@link signal} if the loop should look
 * again now.
 *
 * Times that end with `At` are on the monotonic clock, except `readyAt`, which is compared with rows of the database.
 */
export class ExpectedWork implements PaceState {
  /** Raised when the loop should search for work. */
  readonly signal = new Signal();
  /** Where to look for pending events. */
  readonly cursor = new OutboxCursor();
  readonly pace: Pace;
  routedAt = -Infinity;
  restUntil = -Infinity;
  /** The last batch was full. */
  isBacklog = false;
  /** The error of a batch in the background. No other batch begins before the loop has handled it. */
  failure: { readonly error: unknown } | null = null;
  /** When to look for images; `null`: not before the next poll. */
  private imagesAt: number | null = 0;
  /** When a listener may be ready, as far as this process knows; `null`: not before the next poll. */
  private readyAt: number | null = 0;
  private polledAt = 0;
  private pagedAt = 0;
  private batchAt = 0;
  /** There may be pending events. */
  private hasEvents = true;
  /** There may be wide events. */
  private mayHaveWide = true;
  /** The last batch has claimed its events, so the next batch would find other events. */
  private hasClaimed = true;
  /** Batches that are being routed, each with its maximum number of events. */
  private readonly batches = new Map<Promise<void>, number>();

  constructor(private readonly options: ExpectedWorkOptions) {
    this.pace = new Pace(this);
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

  expectWide(): void {
    this.mayHaveWide = true;
  }

  expectImages(inMs = 0): void {
    this.imagesAt = inMs ? performance.now() + inMs : 0;
  }

  /** A listener may be ready at this time; 0: now. */
  expectReady(at: number): void {
    this.readyAt = Math.min(this.readyAt ?? Infinity, at);
  }

  /** After an error: looks for everything again. */
  expectAll(): void {
    this.failure = null;
    this.hasEvents = true;
    this.imagesAt = 0;
    this.readyAt = 0;
  }

  get mayConvert(): boolean {
    return this.imagesAt !== null && this.imagesAt <= performance.now();
  }

  /** Whether to route a batch of events in the background now. */
  get mayRoute(): boolean {
    const { lanes, maxBatches } = this.options;
    const { isRouting } = this;
    if (this.batches.size >= maxBatches || !this.hasClaimed || this.failure) return false;
    // A larger batch is better than two small ones, because each batch has a commit. Events that are committed
    // meanwhile make up the next batch.
    if (isRouting && !this.isBacklog && this.batchWaitMs > 0) return false;
    // Only a batch that runs alone can sweep: a sweep would find the events of the other batches again.
    if (isRouting && this.cursor.isSweepOverdue) return false;
    // A look that was no sweep may have missed an event that was committed late. Without another look the loop would
    // wait for the sweep in steps of 1 ms.
    return (this.hasEvents || (!isRouting && this.cursor.untilSweepMs === 0)) && lanes.isLow('fresh', this.beingRouted);
  }

  /**
   * Whether to route a page of a wide event. It is routed when the page before is being sent, so that other due
   * deliveries wait behind one page and not behind 100,000 deliveries. If deliveries are always due, one page is routed
   * in each poll interval.
   */
  get mayPage(): boolean {
    const { clock, lanes, pollIntervalMs } = this.options;
    const isClear = (this.readyAt === null || this.readyAt > clock.now()) && lanes.isLow('backlog');
    return this.pace.mayBegin && this.mayHaveWide && (isClear || performance.now() - this.pagedAt >= pollIntervalMs);
  }

  get mayClaim(): boolean {
    const { clock, lanes } = this.options;
    return this.readyAt !== null && this.readyAt <= clock.now() && this.pace.mayBegin && lanes.isLow('backlog');
  }

  get mayPoll(): boolean {
    return this.untilPollMs <= 0;
  }

  /** The loop looks for images. Images that are written from here on are expected again. */
  beginConversion(): void {
    this.imagesAt = null;
  }

  beginPoll(): void {
    this.polledAt = performance.now();
  }

  /** The loop routes a page of a wide event. A batch in the background may find another wide event meanwhile. */
  beginPage(): void {
    this.pagedAt = performance.now();
    this.mayHaveWide = false;
  }

  beginClaim(): void {
    this.readyAt = null;
  }

  beginBatch(): void {
    this.batchAt = performance.now();
    this.hasEvents = false;
    this.hasClaimed = false;
  }

  addBatch(batch: Promise<void>, limit: number): void {
    this.batches.set(batch, limit);
  }

  /** The current batch has claimed its events. */
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
   * How long there is nothing to do, unless {@link signal} is raised. It is raised when a request ends, for example.
   */
  get sleepMs(): number {
    const { clock, lanes, maxBatches, pollIntervalMs } = this.options;
    const { untilSweepMs } = this.cursor;
    const mayRouteAnother = this.hasEvents && this.isRouting && this.hasClaimed && this.batches.size < maxBatches;
    const waits: number[] = [];
    if (mayRouteAnother && this.batchWaitMs > 0) waits.push(this.batchWaitMs);
    if (untilSweepMs !== null && lanes.isLow('fresh')) waits.push(untilSweepMs);
    if (this.mayHaveWide) waits.push(this.pagedAt + pollIntervalMs - performance.now());
    if (this.imagesAt !== null) waits.push(this.imagesAt - performance.now());
    if (this.readyAt !== null && lanes.isLow('backlog'))
      waits.push(Math.max(this.readyAt - clock.now(), this.pace.waitMs));
    if (!this.pace.mayBegin) waits.push(this.pace.waitMs);
    return Math.min(this.untilPollMs, ...waits.map((ms) => Math.max(1, ms)));
  }

  /** Time in ms until the loop stops waiting for the batch that is being routed. */
  private get batchWaitMs(): number {
    return this.batchAt + BATCH_WAIT_MS - performance.now();
  }

  private get untilPollMs(): number {
    return this.polledAt + this.options.pollIntervalMs - performance.now();
  }
}
