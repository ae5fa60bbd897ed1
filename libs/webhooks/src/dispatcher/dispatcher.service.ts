import { setTimeout as sleep } from 'node:timers/promises';
import type { LoggerService } from '@nestjs/common';
import type { Conversion, ImageConverter } from '../capture/triggers/image-converter.js';
import type { WebhookClock } from '../clock.js';
import type { RetrySchedule } from '../health/retry-schedule.js';
import { oneLine, messageOf } from '../foreign-text.js';
import type { ResolvedWebhooksOptions } from '../options/resolve-options.js';
import { MAX_DETAIL_LENGTH, showsTiming, type Outcome, type OutcomeKind } from '../sending/outcome.js';
import type { WebhookTransport } from '../sending/transport.js';
import {
  claimDeliveries,
  readOutlook,
  reclaimExpired,
  type ClaimedDelivery,
  type ClaimedHandshake,
  type Outlook,
} from '../store/queue/claim-deliveries.js';
import type { Database } from '../store/database/database.js';
import type { DatabaseTime } from '../store/database/database-time.js';
import { pauseListeners } from '../store/listeners/listener-state.js';
import type { BodyOf } from '../store/queue/new-deliveries.js';
import { releaseDeliveries } from '../store/queue/record-attempts.js';
import type { AttemptRecord } from '../store/queue/attempt-record.js';
import { AuthorizedTransport } from './authorized-transport.js';
import { BodyReads } from './body-reads.js';
import type { LifecycleEvent } from './lifecycle-events.js';
import { Handshakes } from './handshakes.js';
import { Lanes, type LanedDelivery, type Leased } from './lanes.js';
import { nextState } from '../health/next-state.js';
import type { Notices } from './notices.js';
import { OwnerTurns } from './owner-turns.js';
import { Pace } from './pace.js';
import { Recorder } from './recorder.js';
import { Router } from './router.js';
import { signDelivery, type Signers } from './sign-delivery.js';
import { Signal } from './signal.js';
import { Troubles, type Work } from './troubles.js';
import type { Upkeep, UpkeepResult } from './upkeep.js';
import { isCausedByOptions, WAIT_MS, WaitingListeners } from './waiting-listeners.js';
import type { WakeUps } from './wake-ups.js';
import type { Cause } from '../cause.js';

/** Dependencies of the dispatcher. @internal */
export interface DispatcherParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly time: DatabaseTime;
  readonly options: ResolvedWebhooksOptions['dispatcher'];
  readonly transport: WebhookTransport;
  readonly retrySchedule: RetrySchedule;
  readonly signers: Signers;
  readonly bodyOf: BodyOf;
  readonly upkeep: Upkeep;
  readonly images: ImageConverter;
  readonly logger: LoggerService;
  readonly emit: (name: string, lifecycleEvent: LifecycleEvent, cause?: Cause) => void;
  readonly notices: Notices;
  /** `null` where processes cannot notify each other. */
  readonly wakeUps: WakeUps | null;
}

/** What one round did. */
export interface RoundResult {
  /** Events taken from the outbox. */
  readonly events: number;
  /** Requests sent, including handshakes. */
  readonly attempts: number;
}

/** Pause of the loop after an error of the database. */
const REST_AFTER_ERROR_MS = 1_000;
/** Number of expired leases that one transaction reclaims. */
const RECLAIM_BATCH = 500;
/**
 * Pause before the next look for images while another process converts some: it may have looked before the newest
 * were written.
 */
const CONVERTED_ELSEWHERE_MS = 25;
/** How much longer than the attempt a lease must last, because recording takes time, too. */
const LEASE_MARGIN_MS = 1_000;

/**
 * Takes events from the outbox, creates a delivery for each listener that wants the event, and sends the deliveries
 * that are due. Each delivery is signed, is leased so that no other process sends it, and is recorded.
 *
 * Deliveries are made at least once. If a process dies before it has recorded an attempt, the attempt is made again
 * under the same `webhook-id`. A failing endpoint makes no method reject; only the database does.
 *
 * The loop fills the {@link Lanes}, which send independently, and looks for more when the lanes run low. It looks in
 * the outbox first, past the last known event, and leases deliveries when it creates them. Then it looks in the queue
 * of listeners for retries and other pending deliveries. Outcomes are recorded in batches. With nothing to do, the
 * loop sleeps until a commit of this process, a notification of another process, the next retry or the poll.
 */
export class DispatcherService {
  private readonly signal = new Signal();
  /** Raised when an attempt has ended. */
  private readonly ended = new Signal();
  private readonly lanes: Lanes;
  private readonly recorder: Recorder;
  private readonly router: Router;
  private readonly toRelease: LanedDelivery[] = [];
  private loop: Promise<void> | null = null;
  private releasing: Promise<void> | null = null;
  private isStopping = false;
  private stopped = new AbortController();
  /** When to look for images, on the monotonic clock; `null`: not before the next poll. */
  private imagesAt: number | null = 0;
  /** When a listener may be ready, as far as this process knows; `null`: not before the next poll. */
  private readyAt: number | null = 0;
  private polledAt = 0;
  private readonly troubles: Troubles;
  private readonly authorized: AuthorizedTransport;
  private readonly handshakes: Handshakes;
  private readonly waiting: WaitingListeners;
  private readonly pace: Pace;
  private readonly bodies: BodyReads;
  private readonly ownerTurns = new OwnerTurns();
  /** Attempts that have not ended: attempts that have a slot, and attempts whose response body is still being read. */
  private underWay = 0;

  /** @internal */
  constructor(private readonly parts: DispatcherParts) {
    this.troubles = new Troubles(parts.logger);
    this.waiting = new WaitingListeners(parts.logger);
    this.authorized = new AuthorizedTransport({ ...parts, sealing: parts.signers.sealing });
    this.handshakes = new Handshakes({
      ...parts,
      transport: this.authorized,
      waiting: this.waiting,
      hideTiming: (began) => this.hideTiming(began),
      expect: (at) => {
        this.expect(at);
        this.signal.raise();
      },
    });
    const { concurrency, concurrencyPerListener, concurrencyPerOwner, eventsPerBatch } = parts.options;
    this.bodies = new BodyReads({ concurrency, concurrencyPerOwner });
    this.lanes = new Lanes({
      concurrency,
      concurrencyPerListener,
      concurrencyPerOwner,
      waiting: { fresh: 3 * eventsPerBatch, backlog: eventsPerBatch },
      send: (laned, free) => this.attempt(laned, free),
      expired: (laned) => this.release([laned]),
      hasRoomAgain: () => {
        this.expect(0);
        this.signal.raise();
      },
    });
    this.router = new Router({
      ...parts,
      lanes: this.lanes,
      routed: (batch) => {
        this.troubles.succeeded('claiming');
        this.take(batch);
      },
      expect: (at) => this.expect(at),
      wake: () => this.signal.raise(),
    });
    this.pace = new Pace(this.router);
    this.recorder = new Recorder({
      ...parts,
      troubles: this.troubles,
      // Also while it stops, for as long as `stop()` allows: an attempt that is not recorded is sent again.
      keepsRunning: () => this.loop !== null,
      refused: () => this.lanes.pause(),
      written: () => this.lanes.resume(),
      expect: (at) => this.expect(at),
      stopped: (listenerId) => this.release(this.lanes.evict(listenerId)),
      idle: () => this.signal.raise(),
    });
  }

  /**
   * Starts the loop; does nothing if it runs already. The module calls this unless `dispatcher.autoStart` is `false`.
   */
  start(): void {
    if (this.loop) return;
    this.isStopping = false;
    this.stopped = new AbortController();
    this.loop = this.run();
    this.parts.wakeUps?.listen(() => {
      this.wakeForImages();
      this.wake();
    });
    this.parts.upkeep.start();
  }

  /**
   * Stops the loop. Nothing more is claimed, queued deliveries are released for other processes, and requests in
   * flight are completed and recorded. Settles after `dispatcher.timeoutMs` plus about a second at the latest,
   * whatever receivers and the database do. An attempt that is not recorded by then is sent again when its lease
   * expires.
   */
  async stop(): Promise<void> {
    this.isStopping = true;
    this.stopped.abort();
    this.signal.raise();
    this.release(this.lanes.evict());
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<'late'>((resolve) => {
      timer = setTimeout(resolve, this.parts.options.timeoutMs + LEASE_MARGIN_MS, 'late');
    });
    const upkeepEnded = this.parts.upkeep.stop();
    const ended = (async () => {
      await this.parts.wakeUps?.unlisten();
      await this.loop;
      await upkeepEnded;
      this.release(this.lanes.evict());
      await this.idle();
    })();
    if ((await Promise.race([ended, limit])) === 'late') {
      this.parts.logger.error(
        'The dispatcher did not stop in time. Deliveries in flight are sent again when their leases expire.',
      );
    }
    clearTimeout(timer);
    this.loop = null;
  }

  /** Whether the loop runs. */
  get isRunning(): boolean {
    return this.loop !== null;
  }

  /** Whether this process sends a due delivery without delay: its loop runs, and it has a free slot. */
  get hasRoom(): boolean {
    return this.isRunning && !this.isStopping && this.lanes.sending < this.parts.options.concurrency;
  }

  /** There may be work: the loop looks now instead of at the next poll. */
  wake(): void {
    this.router.expectEvents();
    this.readyAt = 0;
    this.signal.raise();
  }

  /** Triggers may have written images; otherwise as {@link wake}. @internal */
  wakeForImages(): void {
    this.imagesAt = 0;
    this.signal.raise();
  }

  /**
   * Does one round without the loop: takes one batch of events, sends one batch of due deliveries, and waits for the
   * outcomes.
   */
  async runOnce(): Promise<RoundResult> {
    const { events, attempts } = await this.round();
    return { events, attempts };
  }

  /**
   * Runs rounds until no event is pending, nothing is due, and this process sends nothing. Retries that are due later
   * stay pending. For scripts and tests.
   *
   * @returns the sum of all rounds
   */
  async drain(): Promise<RoundResult> {
    let events = 0;
    let attempts = 0;
    for (;;) {
      const round = await this.round();
      events += round.events;
      attempts += round.attempts;
      if (!this.isIdle) await this.idle();
      else if (!round.events && !round.attempts && round.isExhaustive) return { events, attempts };
    }
  }

  /**
   * @returns also whether the round looked at everything; it may have looked only at listeners with nothing due, or
   * have made one page of a wide event
   */
  private async round(): Promise<RoundResult & { isExhaustive: boolean }> {
    await this.convertAll();
    const routed = await this.router.route({ limit: this.parts.options.eventsPerBatch });
    const hasWide = await this.router.routeWide(this.pace.portion.page);
    await this.reclaim();
    const claimed = await this.claim();
    await Promise.all([this.takeAndWait(routed), this.takeAndWait(claimed)]);
    await this.releasing;
    await this.handshakes.settled();
    return {
      events: routed.events,
      attempts: routed.leased.length + claimed.leased.length + claimed.handshakes.length,
      isExhaustive: claimed.isExhaustive && !hasWide,
    };
  }

  /**
   * Runs the chores that are due, which a running dispatcher does beside sending: discards deliveries that were
   * pending for longer than `maxAgeMs`, and deletes rows older than `retention`. For scripts that call `drain()`, and
   * for tests.
   *
   * @returns what this process did; nothing if another process runs the chores
   */
  runChores(): Promise<UpkeepResult> {
    return this.parts.upkeep.runDue();
  }

  /**
   * Fans out these events and makes the first attempt of their deliveries, for the inline mode. Settles after
   * `timeoutMs` at the latest, and never rejects. Deliveries that are unfinished by then continue as queued
   * deliveries. @internal
   */
  async deliverNow(eventIds: readonly string[]): Promise<void> {
    const { timeoutMs } = this.parts.options;
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
    });
    const firstAttempts = async () => {
      await this.takeAndWait(await this.router.route({ limit: eventIds.length, only: eventIds }));
    };
    try {
      await Promise.race([limit, firstAttempts()]);
    } catch (error) {
      this.parts.logger.error(`An inline delivery failed and continues as a queued delivery: ${messageOf(error)}`);
    } finally {
      clearTimeout(timer);
      this.wake();
    }
  }

  private async run(): Promise<void> {
    this.wakeForImages();
    this.wake();
    let work: Work = 'claiming';
    while (!this.isStopping) {
      try {
        work = 'claiming';
        this.router.throwFailure();
        if (!(await this.fill())) await this.signal.wait(this.sleepMs());
        work = 'polling';
        // Poll even under constant load, so that the leases of a dead process are reclaimed.
        if (this.untilPollMs <= 0) await this.poll();
      } catch (error) {
        this.troubles.failed(work, 'The dispatcher cannot use its tables, and retries every second', error);
        await this.router.settled();
        this.router.reset();
        this.imagesAt = 0;
        this.readyAt = 0;
        await this.rest();
      }
    }
    await this.router.settled();
  }

  private get mayPage(): boolean {
    const isClear = (this.readyAt === null || this.readyAt > this.parts.clock.now()) && this.lanes.isLow('backlog');
    return this.pace.mayBegin && this.router.mayPage(isClear);
  }

  private get mayClaim(): boolean {
    const isDue = this.readyAt !== null && this.readyAt <= this.parts.clock.now();
    return isDue && this.pace.mayBegin && this.lanes.isLow('backlog');
  }

  /**
   * Looks for work while the lanes run low.
   * @returns whether to look again without sleeping
   */
  private async fill(): Promise<boolean> {
    let isBusy = await this.convertSome();
    if (this.router.mayRoute) this.router.routeInBackground();
    if (this.mayPage) {
      const began = performance.now();
      await this.router.page(this.pace.portion.page);
      this.pace.ended(began, true);
      isBusy ||= this.mayPage;
    }
    if (this.mayClaim) {
      const began = performance.now();
      this.readyAt = null;
      const claimed = await this.claim();
      this.pace.ended(began, !claimed.isExhaustive || this.router.hasWide);
      this.take(claimed);
      if (!claimed.isExhaustive || claimed.leased.length) this.expect(0);
      isBusy ||= claimed.leased.length > 0 && this.mayClaim;
    }
    if (!this.router.isRouting) this.troubles.succeeded('claiming');
    return isBusy || this.router.mayRoute;
  }

  /**
   * Converts one batch of images, if any are expected.
   * @returns whether there may be more
   */
  private async convertSome(): Promise<boolean> {
    if (this.imagesAt === null || this.imagesAt > performance.now()) return false;
    this.imagesAt = null;
    let made: Conversion;
    try {
      made = await this.parts.images.convert();
    } catch (error) {
      // The images stay pending. Events that are already in the outbox need not wait for them.
      this.troubles.failed(
        'converting',
        'Rows captured by triggers cannot be turned into events; this is retried every second',
        error,
      );
      this.imagesAt = performance.now() + REST_AFTER_ERROR_MS;
      return false;
    }
    this.troubles.succeeded('converting');
    if (made === 'elsewhere') this.imagesAt = performance.now() + CONVERTED_ELSEWHERE_MS;
    if (made !== 'some') return false;
    this.imagesAt = 0;
    this.router.expectEvents();
    return true;
  }

  /** Converts all images, and waits for another process that converts some. */
  private async convertAll(): Promise<void> {
    for (;;) {
      const made = await this.parts.images.convert();
      if (made === 'nothing') return;
      if (made === 'elsewhere') await sleep(CONVERTED_ELSEWHERE_MS);
    }
  }

  /** How long there is nothing to do, unless the signal is raised. It is raised when a request ends, for example. */
  private sleepMs(): number {
    const waits = this.router.waits;
    if (this.imagesAt !== null) waits.push(this.imagesAt - performance.now());
    if (this.readyAt !== null && this.lanes.isLow('backlog'))
      waits.push(Math.max(this.readyAt - this.parts.clock.now(), this.pace.waitMs));
    if (!this.pace.mayBegin) waits.push(this.pace.waitMs);
    return Math.min(this.untilPollMs, ...waits.map((ms) => Math.max(1, ms)));
  }

  private get untilPollMs(): number {
    return this.polledAt + this.parts.options.pollIntervalMs - performance.now();
  }

  private async poll(): Promise<void> {
    const { database, clock, time } = this.parts;
    this.polledAt = performance.now();
    const outlook: Outlook = await time.from(() =>
      database.single(() => readOutlook(database, this.parts.images.tablePaths), 'work'),
    );
    const isExpired = outlook.leaseUntil !== null && outlook.leaseUntil <= clock.now();
    // While records are refused, an expired lease may be a lease of this process, whose request was sent.
    if (isExpired && !this.recorder.isRefused) await this.reclaim();
    if (outlook.hasImages) this.imagesAt = 0;
    if (outlook.hasEvents) this.router.expectEvents();
    if (outlook.hasWide) this.router.expectEvents('wide');
    if (outlook.readyAt !== null) this.expect(outlook.readyAt);
    this.troubles.succeeded('polling');
  }

  private expect(at: number): void {
    this.readyAt = Math.min(this.readyAt ?? Infinity, at);
  }

  private async reclaim(): Promise<void> {
    const { database, clock } = this.parts;
    while (await database.transaction(() => reclaimExpired(database, clock.now(), RECLAIM_BATCH), 'work'))
      this.expect(0);
  }

  private async claim(): Promise<Leased & { handshakes: readonly ClaimedHandshake[]; isExhaustive: boolean }> {
    const { database, clock, options } = this.parts;
    const { leaseMs, circuit } = options;
    const room = this.lanes.room('backlog');
    const leasedAt = performance.now();
    if (room.total < 1) return { source: 'backlog', leased: [], leasedAt, handshakes: [], isExhaustive: false };
    // Without the loop there are no turns: a round takes the listeners that have waited longest.
    const except = this.keepsRunning ? this.ownerTurns.except : [];
    const { deliveries, handshakes, isExhaustive } = await database.transaction(
      () =>
        claimDeliveries(database, {
          now: clock.now(),
          leaseMs,
          room: { ...room, fullOwners: [...new Set([...room.fullOwners, ...except])] },
          listeners: this.pace.portion.claim,
          circuit,
          handshakes: this.handshakes.room,
        }),
      'work',
    );
    this.handshakes.begin(handshakes);
    const owners = deliveries.map(({ owner }) => owner);
    const hadAll = this.keepsRunning ? this.ownerTurns.claimed(owners, isExhaustive) : isExhaustive;
    return { source: 'backlog', leased: deliveries, leasedAt, handshakes, isExhaustive: hadAll };
  }

  /**
   * Adds leased deliveries to the lanes.
   * @param settled called for each delivery, when it is recorded or released
   */
  private take({ source, leased, leasedAt }: Leased, settled?: () => void): void {
    const { leaseMs, timeoutMs } = this.parts.options;
    const margin = Math.min(LEASE_MARGIN_MS, (leaseMs - timeoutMs) / 2);
    const withinMs = leaseMs - timeoutMs - margin;
    const laned = leased.map((delivery): LanedDelivery => {
      const startBefore = leasedAt + Math.min(withinMs, delivery.startWithinMs ?? Infinity);
      return { delivery, source, startBefore, settled };
    });
    if (this.isStopping) this.release(laned);
    else this.lanes.add(laned);
  }

  private async takeAndWait(leased: Leased): Promise<void> {
    let left = leased.leased.length;
    if (!left) return;
    await new Promise<void>((resolve) => {
      this.take(leased, () => {
        if (--left === 0) resolve();
      });
    });
  }

  private async attempt(laned: LanedDelivery, free: () => void): Promise<void> {
    this.underWay++;
    try {
      await this.send(laned, free);
    } finally {
      this.underWay--;
      this.ended.raise();
    }
  }

  /**
   * The status has arrived, the body has not: frees the slot for the next attempt. While the recorder is behind, the
   * body is not read, so that the slots limit the senders.
   */
  private beginBody(owner: string | null, free: () => void): (() => void) | null {
    const end = this.recorder.isBehind ? null : this.bodies.begin(owner);
    if (end) free();
    return end;
  }

  /** Settles when the attempt has ended; it is recorded later. Never rejects. */
  private async send(laned: LanedDelivery, free: () => void): Promise<void> {
    const { clock } = this.parts;
    const { delivery } = laned;
    const startedAt = clock.now();
    const began = performance.now();
    let outcome: Outcome;
    try {
      const signed = signDelivery(delivery, startedAt, this.parts.signers);
      const onStatus = () => this.beginBody(delivery.owner, free);
      outcome = checkedOutcome(await this.authorized.send({ ...signed, onStatus }, delivery.listener));
    } catch (error) {
      if (isCausedByOptions(error)) {
        this.waiting.add(delivery.listener.id, error, startedAt);
        await this.pause(laned);
        return;
      }
      outcome = failedOutcome(error);
    }
    this.waiting.delete(delivery.listener.id);
    if (delivery.owner !== null && !showsTiming(outcome)) await this.hideTiming(began);
    if (outcome.errorCode === 'OUT_OF_SOCKETS' && this.keepsRunning) {
      // This machine is at fault, so this counts as no attempt. Its slot pauses, which lowers the number of
      // concurrent requests.
      this.troubles.failed('sending', 'No connection can be opened; this is retried every second', outcome.errorDetail);
      await this.rest();
      this.release([laned]);
      this.ended.raise();
      return;
    }
    if (outcome.status !== null) this.troubles.succeeded('sending');
    const record: AttemptRecord = {
      deliverySeq: delivery.seq,
      leaseToken: delivery.leaseToken,
      listenerId: delivery.listener.id,
      wasFailing: delivery.listener.isFailing,
      isOrdered: delivery.isOrdered,
      number: delivery.attempts + 1,
      outcome: outcome.kind,
      status: outcome.status,
      errorCode: outcome.errorCode,
      errorDetail: outcome.errorDetail,
      durationMs: outcome.durationMs,
      response: outcome.response,
      retryAfterMs: outcome.retryAfterMs,
      startedAt,
      next: this.nextOf(outcome, delivery, startedAt),
    };
    const room = this.recorder.add({ laned, outcome, record }, { isLast: this.underWay === 1 });
    this.ended.raise();
    if (this.router.mayRoute || this.mayPage || this.mayClaim) this.signal.raise();
    await room;
  }

  /**
   * The application lacks an option. The listener is not at fault, so this counts as no attempt. Its deliveries stay
   * pending and are tried again in a minute, so that it suffices to set the option again.
   */
  private async pause(laned: LanedDelivery): Promise<void> {
    const { database, clock } = this.parts;
    const { id } = laned.delivery.listener;
    const until = clock.now() + WAIT_MS;
    try {
      await database.transaction(() => pauseListeners(database, [id], until), 'work');
      this.expect(until);
    } catch (failure) {
      this.troubles.failed('releasing', `Listener ${id} could not be paused`, failure);
      await this.rest();
    }
    this.release([laned, ...this.lanes.evict(id)]);
    this.ended.raise();
  }

  /** A schedule that throws or returns no valid time must not stop the lane or damage the record. */
  private nextOf(outcome: Outcome, delivery: ClaimedDelivery, startedAt: number): AttemptRecord['next'] {
    const { clock, options, retrySchedule, logger } = this.parts;
    // Customers read these times, and a blocked attempt must not show how long it took.
    const now = showsTiming(outcome) ? clock.now() : startedAt;
    // A delivery that is sent later than this was resent by hand, and gets its whole schedule.
    const tooOldAt = delivery.event.createdAt + options.maxAgeMs;
    try {
      const next = nextState(outcome, delivery.retries, retrySchedule, now, startedAt > tooOldAt ? Infinity : tooOldAt);
      if (Number.isSafeInteger(next.at)) return next;
      throw new TypeError(`it returned ${next.at - now} ms`);
    } catch (error) {
      logger.error(`The retry schedule failed; delivery ${delivery.id} is retried in a minute: ${messageOf(error)}`);
      return { state: 'due', at: now + 60_000 };
    }
  }

  /** Releases deliveries, unsent, to the database: without delay, and with one statement for all that come together. */
  private release(laned: readonly LanedDelivery[]): void {
    if (!laned.length) return;
    this.toRelease.push(...laned);
    this.releasing ??= this.releaseAll();
  }

  private async releaseAll(): Promise<void> {
    const { database, clock } = this.parts;
    await Promise.resolve();
    while (this.toRelease.length) {
      const batch = this.toRelease.splice(0);
      const leases = batch.map(({ delivery }) => delivery);
      try {
        await database.transaction(() => releaseDeliveries(database, leases, clock.now()), 'work');
        this.troubles.succeeded('releasing');
      } catch (error) {
        this.troubles.failed(
          'releasing',
          `${batch.length} deliveries could not be released; they are sent when their leases expire, at the latest`,
          error,
        );
        if (this.keepsRunning) {
          this.toRelease.unshift(...batch);
          await this.rest();
          continue;
        }
      }
      for (const { settled } of batch) settled?.();
    }
    this.releasing = null;
    this.expect(0);
  }

  /** Nothing is being sent, recorded or released. */
  private get isIdle(): boolean {
    return (
      !this.underWay && this.lanes.isEmpty && !this.recorder.recording && !this.releasing && this.handshakes.isIdle
    );
  }

  private async idle(): Promise<void> {
    while (!this.isIdle) {
      await this.recorder.recording;
      await this.releasing;
      await this.handshakes.settled();
      if (this.underWay || !this.lanes.isEmpty) await this.ended.wait(this.parts.options.pollIntervalMs);
    }
  }

  /**
   * Whether to retry a write that the database refused. Without the loop, and while the loop stops, it is tried once.
   */
  private get keepsRunning(): boolean {
    return this.loop !== null && !this.isStopping;
  }

  /**
   * Delays the record of a blocked attempt until its time limit is over. The owner of the listener sees when states
   * and counts change, and the duration would reveal facts about the internal network.
   * @param began on the monotonic clock
   */
  private async hideTiming(began: number): Promise<void> {
    if (!this.keepsRunning) return;
    const left = began + this.parts.options.timeoutMs - performance.now();
    await sleep(Math.max(0, left), undefined, { signal: this.stopped.signal }).catch(() => undefined);
  }

  /** Pause after an error of the database; {@link stop} ends it. */
  private async rest(): Promise<void> {
    await sleep(REST_AFTER_ERROR_MS, undefined, { signal: this.stopped.signal }).catch(() => undefined);
  }
}

const KINDS: ReadonlySet<unknown> = new Set<OutcomeKind>(['accepted', 'rejected', 'unreachable', 'blocked']);

/**
 * Checks and cleans the outcome of a replaced transport, so that the tables can store it.
 * @throws TypeError when it is no valid outcome
 */
function checkedOutcome(outcome: Outcome): Outcome {
  const { kind, status, durationMs, retryAfterMs } = outcome;
  const isWhole = [status, retryAfterMs].every((value) => value === null || Number.isSafeInteger(value));
  if (!KINDS.has(kind) || !isWhole || !Number.isFinite(durationMs)) {
    throw new TypeError(
      `the transport returned an invalid outcome: ${JSON.stringify({ kind, status, durationMs, retryAfterMs })}`,
    );
  }
  const errorDetail = outcome.errorDetail === null ? null : oneLine(outcome.errorDetail);
  return { ...outcome, errorDetail, durationMs: Math.round(durationMs) };
}

/** A signature scheme or a replaced transport threw: nothing was sent, and it is retried like any other failure. */
function failedOutcome(error: unknown): Outcome {
  return {
    kind: 'unreachable',
    status: null,
    errorCode: 'TRANSPORT_FAILED',
    errorDetail: oneLine(messageOf(error)).slice(0, MAX_DETAIL_LENGTH),
    durationMs: 0,
    response: null,
    retryAfterMs: null,
  };
}
