import type { LoggerService } from '@nestjs/common';
import type { WebhookClock } from '../clock.js';
import type { ResolvedWebhooksOptions } from '../options/resolve-options.js';
import type { Database } from '../store/database/database.js';
import { type Claimed, fanOut, type FanOutResult } from '../store/queue/fan-out.js';
import type { BodyOf } from '../store/queue/new-deliveries.js';
import { UNLIMITED_ROOM } from '../store/queue/room.js';
import { fanOutWide } from '../store/queue/wide-fan-out.js';
import { LIFECYCLE_EVENTS, type LifecycleEvent } from './lifecycle-events.js';
import type { Lanes, Leased } from './lanes.js';
import { OutboxCursor } from './outbox-cursor.js';
import type { FreshTraffic } from './pace.js';
import { messageOf } from '../foreign-text.js';

/** Dependencies and callbacks of the router. */
export interface RouterParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly options: ResolvedWebhooksOptions['dispatcher'];
  readonly bodyOf: BodyOf;
  readonly logger: LoggerService;
  readonly emit: (name: string, lifecycleEvent: LifecycleEvent) => void;
  readonly lanes: Lanes;
  /** Called with a batch that was routed in the background: its deliveries can be sent. */
  readonly routed: (batch: Leased) => void;
  /** Deliveries may be due at this time. */
  readonly expect: (at: number) => void;
  /** The loop should look again. */
  readonly wake: () => void;
}

/** Which events to route. */
export interface BatchOfEvents {
  readonly limit: number;
  /** Only these events, without a limit on leased deliveries. */
  readonly only?: readonly string[];
  readonly afterSeq?: number;
  readonly claimed?: (claimed: Claimed) => void;
}

/**
 * Batches that are routed at the same time: while the rows of one batch are written, the next batch is claimed and
 * matched.
 */
const MAX_BATCHES = 2;
/**
 * A batch that takes longer, for example for very many listeners, is not waited for: the next batch is routed at the
 * same time.
 */
const BATCH_WAIT_MS = 15;
/** Number of event types that are remembered as likely to come again. */
const LIKELY_TYPES = 200;

/**
 * Routes events: takes events from the outbox and creates a delivery for each listener that wants the event.
 *
 * Batches are routed in the background of the dispatcher's loop, two at a time if there is a backlog. A wide event
 * (more than 1,000 listeners) is routed page by page, when the loop asks for a page.
 */
export class Router implements FreshTraffic {
  private readonly cursor = new OutboxCursor();
  /** Types of the events that were routed lately. */
  private likelyTypes: ReadonlySet<string> = new Set();
  /** Batches that are being routed, each with its maximum number of events. */
  private readonly routing = new Map<Promise<void>, number>();
  /** The last batch has claimed its events, so the next batch would find other events. */
  private hasClaimed = true;
  /** The last batch was full. */
  isBacklog = false;
  routedAt = -Infinity;
  private failure: { error: unknown } | null = null;
  /** There may be pending events. */
  private hasEvents = true;
  /** There may be wide events. */
  hasWide = true;
  private pagedAt = 0;
  /** When the last batch began, on the monotonic clock. */
  private batchAt = 0;

  constructor(private readonly parts: RouterParts) {}

  /** There may be pending events, or wide events. */
  expectEvents(kind: 'pending' | 'wide' = 'pending'): void {
    if (kind === 'wide') this.hasWide = true;
    else this.hasEvents = true;
  }

  get isRouting(): boolean {
    return this.routing.size > 0;
  }

  /** @throws the error of the last batch in the background, if it failed */
  throwFailure(): void {
    if (this.failure) throw this.failure.error;
  }

  /** Forgets a failure, when {@link settled}, and looks for events again. */
  reset(): void {
    this.failure = null;
    this.hasEvents = true;
  }

  /** Settles when no batch is being routed. */
  async settled(): Promise<void> {
    while (this.routing.size) await Promise.all(this.routing.keys());
  }

  /** Whether {@link routeInBackground} should be called now. */
  get mayRoute(): boolean {
    const { lanes } = this.parts;
    const isLooking = this.routing.size > 0;
    if (this.routing.size >= this.maxBatches || !this.hasClaimed || this.failure) return false;
    // A larger batch is better than two small ones, because each batch has a commit. Events that are committed
    // meanwhile make up the next batch.
    if (isLooking && !this.isBacklog && this.batchWaitMs > 0) return false;
    // Only a batch that runs alone can sweep: a sweep would find the events of the other batches again.
    if (isLooking && this.cursor.isSweepOverdue) return false;
    // A look that was no sweep may have missed an event that was committed late. Without another look the loop would
    // wait for the sweep in steps of 1 ms.
    return (this.hasEvents || (!isLooking && this.cursor.untilSweepMs === 0)) && lanes.isLow('fresh', this.beingRouted);
  }

  /** Each batch needs a connection; claims and polls need one, and records need one. */
  private get maxBatches(): number {
    const { database, options } = this.parts;
    return database.dialect === 'sqlite' ? 1 : Math.max(1, Math.min(MAX_BATCHES, options.poolSize - 2));
  }

  /** Time in ms until the loop stops waiting for the batch that is being routed. */
  private get batchWaitMs(): number {
    return this.batchAt + BATCH_WAIT_MS - performance.now();
  }

  /**
   * Whether to route a page of a wide event. It is routed when the page before is being sent, so that other due
   * deliveries wait behind one page and not behind 100,000 deliveries. If deliveries are always due, one page is
   * routed in each poll interval.
   *
   * @param isClear nothing is due now, and there is room
   */
  mayPage(isClear: boolean): boolean {
    return this.hasWide && (isClear || performance.now() - this.pagedAt >= this.parts.options.pollIntervalMs);
  }

  /** Times in ms after which there is something to look for, unless a signal comes first. */
  get waits(): number[] {
    const { lanes, options } = this.parts;
    const { untilSweepMs } = this.cursor;
    const mayRouteAnother = this.hasEvents && this.isRouting && this.hasClaimed && this.routing.size < this.maxBatches;
    return [
      ...(mayRouteAnother && this.batchWaitMs > 0 ? [this.batchWaitMs] : []),
      ...(untilSweepMs !== null && lanes.isLow('fresh') ? [untilSweepMs] : []),
      ...(this.hasWide ? [this.pagedAt + options.pollIntervalMs - performance.now()] : []),
    ];
  }

  /**
   * Routes the next batch of events in the background. Wakes the loop when the batch has claimed its events, and when
   * it has ended.
   */
  routeInBackground(): void {
    const { options, lanes, routed, expect, wake } = this.parts;
    const limit = Math.max(1, Math.min(options.eventsPerBatch, lanes.room('fresh').total - this.beingRouted));
    const look = this.cursor.look(this.routing.size === 0);
    this.batchAt = performance.now();
    this.hasEvents = false;
    this.hasClaimed = false;
    let found = 0;
    let isReported = false;
    const claimed = ({ lastSeq, count }: Claimed) => {
      found = count;
      // A script that the database repeats after a deadlock claims again.
      if (isReported) return;
      isReported = true;
      this.cursor.found(look, lastSeq);
      this.hasClaimed = true;
      this.isBacklog = count >= limit;
      if (this.isBacklog) this.hasEvents = true;
      wake();
    };
    const routing = this.route({ limit, afterSeq: look.afterSeq, claimed })
      .then(
        (batch) => {
          if (batch.events) this.routedAt = performance.now();
          if (batch.leftAfterSeq !== null) this.cursor.notTaken(batch.leftAfterSeq);
          // Some events were not taken: they come after an earlier event of their row that is still pending, or
          // another process took them.
          if (batch.events < found) this.hasEvents = true;
          if (batch.hasDue) expect(0);
          routed(batch);
        },
        (error: unknown) => {
          this.failure ??= { error };
        },
      )
      .finally(() => {
        this.routing.delete(routing);
        if (!isReported) this.hasClaimed = true;
        wake();
      });
    this.routing.set(routing, limit);
  }

  /** Routes a batch of events. @throws errors of the database */
  async route(what: BatchOfEvents): Promise<FanOutResult & Leased> {
    const { database, clock, options, bodyOf, lanes } = this.parts;
    const room = lanes.room('fresh');
    const leasedAt = performance.now();
    const result = await database.transaction(
      () =>
        fanOut(database, {
          ...what,
          likelyTypes: this.likelyTypes,
          now: clock.now(),
          leaseMs: options.leaseMs,
          room: what.only ? UNLIMITED_ROOM : room,
          circuit: options.circuit,
          bodyOf,
        }),
      'work',
    );
    this.emitDamaged(result);
    const types = new Set([...this.likelyTypes, ...result.types]);
    this.likelyTypes = types.size > LIKELY_TYPES ? result.types : types;
    if (result.hasWide) this.hasWide = true;
    return { ...result, source: 'fresh', leasedAt };
  }

  /** Routes the next page of a wide event. @throws errors of the database */
  async page(listeners: number): Promise<void> {
    this.pagedAt = performance.now();
    // A batch in the background may find another wide event meanwhile.
    this.hasWide = false;
    try {
      if (await this.routeWide(listeners)) this.hasWide = true;
    } catch (error) {
      this.hasWide = true;
      throw error;
    }
  }

  /** Routes one page of a wide event, if there is one. @returns whether there may be another page */
  async routeWide(listeners: number): Promise<boolean> {
    const { database, clock, bodyOf, expect } = this.parts;
    const result = await database.transaction(
      () => fanOutWide(database, { now: clock.now(), bodyOf, limit: listeners }),
      'work',
    );
    this.emitDamaged(result);
    if (result.hasDue) expect(0);
    return result.hasMore;
  }

  private get beingRouted(): number {
    return [...this.routing.values()].reduce((sum, limit) => sum + limit, 0);
  }

  private emitDamaged({ damaged, unrendered }: Pick<FanOutResult, 'damaged' | 'unrendered'>): void {
    const { logger, emit } = this.parts;
    for (const { id, type, error } of damaged) {
      logger.error(`Event ${id} cannot be read and is marked as damaged: ${messageOf(error)}`);
      emit(LIFECYCLE_EVENTS.eventDamaged, { eventId: id, type, reason: messageOf(error) });
    }
    for (const { listenerId, eventId, error } of unrendered) {
      logger.error(`The payload format of listener ${listenerId} threw on event ${eventId}: ${messageOf(error)}`);
    }
  }
}
