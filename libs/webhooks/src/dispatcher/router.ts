import type { LoggerService } from '@nestjs/common';
import type { WebhookClock } from '../clock.js';
import type { Diagnostics } from '../diagnostics/diagnostics.js';
import type { ResolvedWebhooksOptions } from '../options/resolve-options.js';
import type { Database } from '../store/database/database.js';
import { type Claimed, fanOut, type FanOutResult } from '../store/queue/fan-out.js';
import { isDue } from '../store/queue/new-deliveries.js';
import { renderFailureOf, type BodyOf } from '../store/queue/rendered-body.js';
import { UNLIMITED_ROOM } from '../store/queue/room.js';
import { fanOutWide } from '../store/queue/wide-fan-out.js';
import { LIFECYCLE_EVENTS, type LifecycleEvent } from './lifecycle-events.js';
import type { Lanes, Leased } from './lanes.js';
import type { ExpectedWork } from './expected-work.js';
import type { OperationalEvents } from './operational-events.js';
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
  /** Called with a batch that was routed in the background. The deliveries of this batch can now be sent. */
  readonly routed: (batch: Leased) => void;
  readonly expected: ExpectedWork;
  readonly diagnostics: Diagnostics;
  readonly operational: OperationalEvents;
}

/** The events to route. */
export interface BatchOfEvents {
  readonly limit: number;
  /** Routes only these events. There is no limit on leased deliveries. */
  readonly only?: readonly string[];
  readonly afterSeq?: number;
  readonly claimed?: (claimed: Claimed) => void;
}

/**
 * Maximum number of batches that are routed at the same time. While the rows of one batch are written, the next
 * batch is claimed and matched.
 */
const MAX_BATCHES = 2;
/** Number of recent event types that are remembered. The next events are likely to have one of these types. */
const LIKELY_TYPES = 200;

/**
 * Routes events: takes events from the outbox and creates a delivery for each listener that matches the event.
 *
 * Batches are routed in the background of the dispatcher's loop, two at a time if there is a backlog. A wide event
 * (more than 1,000 listeners) is routed page by page, when the loop asks for a page.
 */
export class Router {
  /** Types of recently routed events. */
  private likelyTypes: ReadonlySet<string> = new Set();

  constructor(private readonly parts: RouterParts) {}

  /**
   * Routes the next batch of events in the background. Wakes the loop when the batch has claimed its events, and
   * again when the batch has ended.
   */
  routeInBackground(): void {
    const { options, lanes, routed, expected } = this.parts;
    // While sending is paused, the deliveries wait in the database. So their number is not limited by the room in memory.
    const room = lanes.isSuspended ? Infinity : lanes.room('fresh').total - expected.beingRouted;
    const limit = Math.max(1, Math.min(options.eventsPerBatch, room));
    const look = expected.cursor.look(!expected.isRouting);
    expected.beginBatch();
    let found = 0;
    let isReported = false;
    const claimed = ({ lastSeq, count }: Claimed) => {
      found = count;
      // If the database repeats this script after a deadlock, the script claims again.
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
          // Some events were not taken. Either an earlier event of their row is still pending, or another process took them.
          if (batch.events < found) expected.expectEvents();
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
    const { database, clock, options, bodyOf, lanes, diagnostics } = this.parts;
    const room = lanes.room('fresh');
    const leasedAt = performance.now();
    const script = () =>
      fanOut(database, {
        ...what,
        likelyTypes: this.likelyTypes,
        now: clock.now(),
        leaseMs: options.leaseMs,
        room: what.only && !lanes.isSuspended ? UNLIMITED_ROOM : room,
        circuit: options.circuit,
        bodyOf,
      });
    const result = await diagnostics.step('route', () => database.transaction(script, 'work'));
    this.publishRouted(result, result.events);
    await this.emitDamaged(result);
    const types = new Set([...this.likelyTypes, ...result.types]);
    this.likelyTypes = types.size > LIKELY_TYPES ? result.types : types;
    if (result.hasWide) this.parts.expected.expectWide();
    this.expectDue(result);
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

  /** Routes one page of a wide event, if there is a wide event. @returns whether there may be another page */
  async routeWide(listeners: number): Promise<boolean> {
    const { database, clock, bodyOf, diagnostics } = this.parts;
    const script = () => fanOutWide(database, { now: clock.now(), bodyOf, limit: listeners });
    const result = await diagnostics.step('route', () => database.transaction(script, 'work'));
    this.publishRouted(result, 0);
    await this.emitDamaged(result);
    this.expectDue(result);
    return result.hasMore;
  }

  /** Expects the deliveries that wait for a claim. */
  private expectDue({ made, hasDue }: Pick<FanOutResult, 'made' | 'hasDue'>): void {
    if (!hasDue) return;
    const listeners = new Set(made.filter(isDue).map(({ listener }) => listener.id));
    this.parts.expected.expectReady(0, [...listeners]);
  }

  private publishRouted({ made }: Pick<FanOutResult, 'made'>, events: number): void {
    const { diagnostics } = this.parts;
    if ((!events && !made.length) || !diagnostics.listens('routed')) return;
    const deliveries = new Map<string, number>();
    for (const { event } of made) deliveries.set(event.type, (deliveries.get(event.type) ?? 0) + 1);
    diagnostics.publish('routed', { events, deliveries });
  }

  /**
   * Stores events about damaged events in a separate transaction, because the last statements of the fan-out are sent
   * together with its COMMIT.
   */
  private async storeDamaged(damaged: FanOutResult['damaged']): Promise<void> {
    const { clock, database, expected, logger, operational } = this.parts;
    if (!damaged.length) return;
    const events = damaged.map(({ id, type, error }) => ({ id, type, reason: messageOf(error) }));
    try {
      await database.transaction(() => operational.damaged(events, clock.now()), 'work');
      expected.expectEvents();
    } catch (error) {
      logger.error(`The events about damaged events could not be stored: ${messageOf(error)}`);
    }
  }

  private async emitDamaged({ damaged, unrendered }: Pick<FanOutResult, 'damaged' | 'unrendered'>): Promise<void> {
    const { logger, emit, diagnostics } = this.parts;
    for (const { id, type, error } of damaged) {
      logger.error(`Event ${id} cannot be read and is marked as damaged: ${messageOf(error)}`);
      emit(LIFECYCLE_EVENTS.eventDamaged, { eventId: id, type, reason: messageOf(error) });
      if (diagnostics.listens('damaged'))
        diagnostics.publish('damaged', { kind: 'event', id, reason: messageOf(error) });
    }
    await this.storeDamaged(damaged);
    for (const { listenerId, eventId, error } of unrendered) {
      const reason = renderFailureOf(error);
      const part = reason === 'FORMAT_FAILED' ? 'payload format' : 'payload version';
      logger.error(`The ${part} of listener ${listenerId} threw on event ${eventId}: ${messageOf(error)}`);
      if (diagnostics.listens('discarded')) diagnostics.publish('discarded', { listenerId, count: 1, reason });
    }
  }
}

/**
 * Returns how many batches may run at the same time. Each batch needs a connection. Claims and polls need one more
 * connection, and records need another connection.
 */
export function maxBatches({ dialect }: Database, poolSize: number): number {
  return dialect === 'sqlite' ? 1 : Math.max(1, Math.min(MAX_BATCHES, poolSize - 2));
}
