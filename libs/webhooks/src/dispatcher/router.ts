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
import type { ExpectedWork } from './expected-work.js';
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
  readonly expected: ExpectedWork;
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
/** Number of event types that are remembered as likely to come again. */
const LIKELY_TYPES = 200;

/**
 * Routes events: takes events from the outbox and creates a delivery for each listener that wants the event.
 *
 * Batches are routed in the background of the dispatcher's loop, two at a time if there is a backlog. A wide event
 * (more than 1,000 listeners) is routed page by page, when the loop asks for a page.
 */
export class Router {
  /** Types of the events that were routed lately. */
  private likelyTypes: ReadonlySet<string> = new Set();

  constructor(private readonly parts: RouterParts) {}

  /**
   * Routes the next batch of events in the background. Wakes the loop when the batch has claimed its events, and when
   * it has ended.
   */
  routeInBackground(): void {
    const { options, lanes, routed, expected } = this.parts;
    const limit = Math.max(1, Math.min(options.eventsPerBatch, lanes.room('fresh').total - expected.beingRouted));
    const look = expected.cursor.look(!expected.isRouting);
    expected.beginBatch();
    let found = 0;
    let isReported = false;
    const claimed = ({ lastSeq, count }: Claimed) => {
      found = count;
      // A script that the database repeats after a deadlock claims again.
      if (isReported) return;
      isReported = true;
      expected.cursor.found(look, lastSeq);
      expected.batchClaimed(count >= limit);
      expected.signal.raise();
    };
    const routing = this.route({ limit, afterSeq: look.afterSeq, claimed })
      .then(
        (batch) => {
          if (batch.events) expected.routedAt = performance.now();
          if (batch.leftAfterSeq !== null) expected.cursor.notTaken(batch.leftAfterSeq);
          // Some events were not taken: they come after an earlier event of their row that is still pending, or
          // another process took them.
          if (batch.events < found) expected.expectEvents();
          if (batch.hasDue) expected.expectReady(0);
          routed(batch);
        },
        (error: unknown) => {
          expected.failure ??= { error };
        },
      )
      .finally(() => {
        expected.endBatch(routing, isReported);
        expected.signal.raise();
      });
    expected.addBatch(routing, limit);
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
    if (result.hasWide) this.parts.expected.expectWide();
    return { ...result, source: 'fresh', leasedAt };
  }

  /** Routes the next page of a wide event. @throws errors of the database */
  async page(listeners: number): Promise<void> {
    const { expected } = this.parts;
    expected.beginPage();
    try {
      if (await this.routeWide(listeners)) expected.expectWide();
    } catch (error) {
      expected.expectWide();
      throw error;
    }
  }

  /** Routes one page of a wide event, if there is one. @returns whether there may be another page */
  async routeWide(listeners: number): Promise<boolean> {
    const { database, clock, bodyOf, expected } = this.parts;
    const result = await database.transaction(
      () => fanOutWide(database, { now: clock.now(), bodyOf, limit: listeners }),
      'work',
    );
    this.emitDamaged(result);
    if (result.hasDue) expected.expectReady(0);
    return result.hasMore;
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

/** Each batch needs a connection; claims and polls need one, and records need one. */
export function maxBatches({ dialect }: Database, poolSize: number): number {
  return dialect === 'sqlite' ? 1 : Math.max(1, Math.min(MAX_BATCHES, poolSize - 2));
}
