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

/** What the router works with, and whom it tells. */
export interface RouterParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly options: ResolvedWebhooksOptions['dispatcher'];
  readonly bodyOf: BodyOf;
  readonly logger: LoggerService;
  readonly emit: (name: string, lifecycleEvent: LifecycleEvent) => void;
  readonly lanes: Lanes;
  /** A batch that was routed beside: its deliveries are to be sent. */
  readonly routed: (batch: Leased) => void;
  /** Deliveries may be due at this time. */
  readonly expect: (at: number) => void;
  /** It is worth looking again. */
  readonly wake: () => void;
}

/** A batch of events to take. */
export interface BatchOfEvents {
  readonly limit: number;
  /** These alone, whatever room there is. */
  readonly only?: readonly string[];
  readonly afterSeq?: number;
  readonly claimed?: (claimed: Claimed) => void;
}

/** Batches of events that are routed at once: while the rows of one are being written, the next is claimed and judged. */
const ROUTED_AT_ONCE = 2;
/** A batch that takes longer, for very many listeners perhaps, is not waited for: the next one is routed beside it. */
const BATCH_PATIENCE_MS = 15;
/** Types of events that are remembered as likely to come again. */
const LIKELY_TYPES = 200;

/**
 * The first half of the dispatcher: takes events from the outbox and makes a delivery for each listener that wants one.
 *
 * Batches go beside the dispatcher's loop; of a backlog two at once. A very wide event goes page by page, when the loop says so.
 */
export class Router implements FreshTraffic {
  private readonly cursor = new OutboxCursor();
  /** Types of the events that were routed lately. */
  private likelyTypes: ReadonlySet<string> = new Set();
  /** Batches that are being routed, by how many events they may be. */
  private readonly routing = new Map<Promise<void>, number>();
  /** The last of them has taken its events: the next one would find others. */
  private hasClaimed = true;
  /** It has taken as many as it could. */
  isBacklog = false;
  routedAt = -Infinity;
  private failure: { error: unknown } | null = null;
  /** There may be pending events. */
  private hasEvents = true;
  /** There may be events that are fanned out page by page. */
  hasWide = true;
  private pagedAt = 0;
  /** When the last batch began, on the monotonic clock. */
  private batchAt = 0;

  constructor(private readonly parts: RouterParts) {}

  /** There may be pending events, or with `wide` events that are fanned out page by page. */
  expectEvents(kind: 'pending' | 'wide' = 'pending'): void {
    if (kind === 'wide') this.hasWide = true;
    else this.hasEvents = true;
  }

  get isRouting(): boolean {
    return this.routing.size > 0;
  }

  /** @throws why the last batch beside could not be routed */
  assertSound(): void {
    if (this.failure) throw this.failure.error;
  }

  /** After a failure, when {@link settled}: as if nothing had been looked at. */
  reset(): void {
    this.failure = null;
    this.hasEvents = true;
  }

  /** Settles when no batch is being routed. */
  async settled(): Promise<void> {
    while (this.routing.size) await Promise.all(this.routing.keys());
  }

  /** Whether {@link routeBeside} is worth it now. */
  get mayRoute(): boolean {
    const { lanes } = this.parts;
    const isLooking = this.routing.size > 0;
    if (this.routing.size >= this.atOnce || !this.hasClaimed || this.failure) return false;
    // Few at a time go together better: what commits meanwhile makes up the next batch, and each batch has its own commit.
    if (isLooking && !this.isBacklog && this.patienceMs > 0) return false;
    // A sweep is made alone: what the others are at would be found again.
    if (isLooking && this.cursor.isSweepOverdue) return false;
    // A look that was no sweep may have missed what committed late: without one more the loop would wait for it, 1 ms at a time.
    return (
      (this.hasEvents || (!isLooking && this.cursor.untilSweepMs === 0)) && lanes.isThirsty('fresh', this.beingRouted)
    );
  }

  /** A connection each for them, one for claims and polls, and one for records. */
  private get atOnce(): number {
    const { database, options } = this.parts;
    return database.dialect === 'sqlite' ? 1 : Math.max(1, Math.min(ROUTED_AT_ONCE, options.poolSize - 2));
  }

  /** For how long the batch that is being routed is still waited for, in ms. */
  private get patienceMs(): number {
    return this.batchAt + BATCH_PATIENCE_MS - performance.now();
  }

  /**
   * Whether a page of a wide event may be made: when the one before is being sent, so that what is due to others waits behind a page, and
   * not behind a hundred thousand deliveries. Where there is always something due, one page is made each poll interval.
   *
   * @param isClear nothing is due now, and there is room
   */
  mayPage(isClear: boolean): boolean {
    return this.hasWide && (isClear || performance.now() - this.pagedAt >= this.parts.options.pollIntervalMs);
  }

  /** How long until there is something to look for, unless somebody says so before, in ms. */
  get waits(): number[] {
    const { lanes, options } = this.parts;
    const { untilSweepMs } = this.cursor;
    const mayGoBeside = this.hasEvents && this.isRouting && this.hasClaimed && this.routing.size < this.atOnce;
    return [
      ...(mayGoBeside && this.patienceMs > 0 ? [this.patienceMs] : []),
      ...(untilSweepMs !== null && lanes.isThirsty('fresh') ? [untilSweepMs] : []),
      ...(this.hasWide ? [this.pagedAt + options.pollIntervalMs - performance.now()] : []),
    ];
  }

  /** Routes the next batch of events, and wakes the loop twice: when it has claimed them, and at its end. */
  routeBeside(): void {
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
      // A script that runs again after a deadlock claims again.
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
          if (batch.leftAfterSeq !== null) this.cursor.left(batch.leftAfterSeq);
          // Some were left for later: behind an earlier event of their row, or to another process.
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

  /** Routes a batch of events. @throws what the database does */
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

  /** The next page of a wide event, in its turn. @throws what the database does */
  async page(listeners: number): Promise<void> {
    this.pagedAt = performance.now();
    // A batch that is routed beside may find another one meanwhile.
    this.hasWide = false;
    try {
      if (await this.routeWide(listeners)) this.hasWide = true;
    } catch (error) {
      this.hasWide = true;
      throw error;
    }
  }

  /** One page of an event with very many listeners, if there is such an event. @returns whether there may be more to do */
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
      logger.error(`Event ${id} cannot be read and was set aside as damaged: ${messageOf(error)}`);
      emit(LIFECYCLE_EVENTS.eventDamaged, { eventId: id, type, reason: messageOf(error) });
    }
    for (const { listenerId, eventId, error } of unrendered) {
      logger.error(`The payload format of listener ${listenerId} threw on event ${eventId}: ${messageOf(error)}`);
    }
  }
}
