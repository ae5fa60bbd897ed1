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

/** What the dispatcher works with. @internal */
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
  /** `null` where processes do not hear of each other. */
  readonly wakeUps: WakeUps | null;
}

/** What one round did. */
export interface RoundResult {
  /** Events taken from the outbox. */
  readonly events: number;
  /** Requests made, those of handshakes among them. */
  readonly attempts: number;
}

/** How long the loop rests after an error of the database, before it tries again. */
const REST_AFTER_ERROR_MS = 1_000;
/** Expired leases are taken back in batches of this size. */
const RECLAIM_BATCH = 500;
/** How soon images are looked for again while another process converts some: it may have looked before these were there. */
const CONVERTED_ELSEWHERE_MS = 25;
/** How much longer than the attempt itself a lease must last: its record takes a moment, too. */
const LEASE_MARGIN_MS = 1_000;

/**
 * Takes events from the outbox, makes a delivery for each listener that wants one, and sends what is due: signed, leased
 * so that no other process sends it too, and recorded.
 *
 * At least once: an attempt whose record was lost with its process is made again, under the same `webhook-id`. An
 * endpoint that fails is a value; only the database makes methods reject.
 *
 * The loop fills the {@link Lanes}, which send by themselves, and looks for more when these run low: first past the end of
 * the outbox, leasing deliveries as they are made, then in the queue of listeners, for retries and whatever had to wait.
 * Outcomes are recorded in batches of whatever has come together while the last batch was written. With nothing to do it
 * sleeps until a commit of this process, another process' word, the next retry or the poll.
 */
export class DispatcherService {
  private readonly signal = new Signal();
  /** A request has ended. */
  private readonly ended = new Signal();
  private readonly lanes: Lanes;
  private readonly recorder: Recorder;
  private readonly router: Router;
  private readonly returned: LanedDelivery[] = [];
  private loop: Promise<void> | null = null;
  private returning: Promise<void> | null = null;
  private isStopping = false;
  private stopped = new AbortController();
  /** When images are worth looking for, on the monotonic clock; `null`: not before the next poll. */
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
  /** Attempts that have not ended: those with a slot, and those whose body is still being read. */
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
      expired: (laned) => this.giveBack([laned]),
      hungry: () => {
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
      // Also while it stops, as long as that may take: what is not recorded is sent again.
      keepsRunning: () => this.loop !== null,
      refused: () => this.lanes.hold(),
      written: () => this.lanes.resume(),
      expect: (at) => this.expect(at),
      stopped: (listenerId) => this.giveBack(this.lanes.evict(listenerId)),
      idle: () => this.signal.raise(),
    });
  }

  /** Starts the loop; does nothing when it runs. The module calls it unless `dispatcher.autoStart` is `false`. */
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
   * Ends the loop: nothing more is claimed, what waits in memory is given back at once, and what is being sent is waited for
   * and recorded. Settles after `dispatcher.timeoutMs` and a moment at the latest, whatever receivers and the database do;
   * what was not recorded by then is sent again when its lease is over.
   */
  async stop(): Promise<void> {
    this.isStopping = true;
    this.stopped.abort();
    this.signal.raise();
    this.giveBack(this.lanes.evict());
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<'late'>((resolve) => {
      timer = setTimeout(resolve, this.parts.options.timeoutMs + LEASE_MARGIN_MS, 'late');
    });
    const upkeepEnded = this.parts.upkeep.stop();
    const ended = (async () => {
      await this.parts.wakeUps?.unlisten();
      await this.loop;
      await upkeepEnded;
      this.giveBack(this.lanes.evict());
      await this.idle();
    })();
    if ((await Promise.race([ended, limit])) === 'late') {
      this.parts.logger.error(
        'The dispatcher could not finish in time; what it was sending is sent again after its lease.',
      );
    }
    clearTimeout(timer);
    this.loop = null;
  }

  /** Whether the loop runs. */
  get isRunning(): boolean {
    return this.loop !== null;
  }

  /** Whether what is due is sent by this process at once: it runs and has a slot free. */
  get hasRoom(): boolean {
    return this.isRunning && !this.isStopping && this.lanes.sending < this.parts.options.concurrency;
  }

  /** There may be work: the loop looks now instead of at its next poll. */
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

  /** One round by hand: takes one batch of events, sends one batch of what is due, and waits for the outcomes. */
  async runOnce(): Promise<RoundResult> {
    const { events, attempts } = await this.round();
    return { events, attempts };
  }

  /**
   * Rounds until no event is pending, nothing is due now and nothing is being sent by this process. Retries that are due
   * later are left to wait. For scripts and tests.
   *
   * @returns what all rounds did
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

  /** @returns also whether it looked at all there is: a round may find only listeners that have nothing, or make one page */
  private async round(): Promise<RoundResult & { isExhaustive: boolean }> {
    await this.convertAll();
    const routed = await this.router.route({ limit: this.parts.options.eventsPerBatch });
    const hasWide = await this.router.routeWide(this.pace.portion.page);
    await this.reclaim();
    const claimed = await this.claim();
    await Promise.all([this.takeAndWait(routed), this.takeAndWait(claimed)]);
    await this.returning;
    await this.handshakes.settled();
    return {
      events: routed.events,
      attempts: routed.leased.length + claimed.leased.length + claimed.handshakes.length,
      isExhaustive: claimed.isExhaustive && !hasWide,
    };
  }

  /**
   * Does by hand what a running dispatcher does beside sending, as far as it is due: discards what waited for longer than
   * `maxAgeMs`, and deletes what `retention` keeps no longer. For scripts that drain instead of running, and for tests.
   *
   * @returns what this process did; nothing when another one is at it
   */
  runChores(): Promise<UpkeepResult> {
    return this.parts.upkeep.runDue();
  }

  /**
   * Fans out these events and makes the first attempt of their deliveries: the inline mode. Settles after `timeoutMs` at
   * the latest, and never rejects; what is left goes on as queued. @internal
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
      this.parts.logger.error(`An inline delivery goes on as queued: ${messageOf(error)}`);
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
        this.router.assertSound();
        if (!(await this.fill())) await this.signal.wait(this.sleepMs());
        work = 'polling';
        // Also when there is no end of work: what a dead process held is somebody's, too.
        if (this.untilPollMs <= 0) await this.poll();
      } catch (error) {
        this.troubles.failed(work, 'The dispatcher cannot work with its tables, and tries again every second', error);
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
    const isClear = (this.readyAt === null || this.readyAt > this.parts.clock.now()) && this.lanes.isThirsty('backlog');
    return this.pace.mayBegin && this.router.mayPage(isClear);
  }

  private get mayClaim(): boolean {
    const isDue = this.readyAt !== null && this.readyAt <= this.parts.clock.now();
    return isDue && this.pace.mayBegin && this.lanes.isThirsty('backlog');
  }

  /** Looks for work while the lanes are thirsty. @returns whether it is worth looking again at once */
  private async fill(): Promise<boolean> {
    let isBusy = await this.convertSome();
    if (this.router.mayRoute) this.router.routeBeside();
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

  /** One batch of images, if any are expected. @returns whether there may be more */
  private async convertSome(): Promise<boolean> {
    if (this.imagesAt === null || this.imagesAt > performance.now()) return false;
    this.imagesAt = null;
    let made: Conversion;
    try {
      made = await this.parts.images.convert();
    } catch (error) {
      // What triggers wrote down waits; what is in the outbox already need not wait with it.
      this.troubles.failed(
        'converting',
        'What triggers wrote down cannot be read, which is tried again every second',
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

  /** All that there are, also what another process is at. */
  private async convertAll(): Promise<void> {
    for (;;) {
      const made = await this.parts.images.convert();
      if (made === 'nothing') return;
      if (made === 'elsewhere') await sleep(CONVERTED_ELSEWHERE_MS);
    }
  }

  /** How long nothing is to be done, unless the signal is raised: as it is when something that is being sent ends. */
  private sleepMs(): number {
    const waits = this.router.waits;
    if (this.imagesAt !== null) waits.push(this.imagesAt - performance.now());
    if (this.readyAt !== null && this.lanes.isThirsty('backlog'))
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
    // What this process cannot record yet was sent: it may be its own lease that has run out.
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
    // By hand there are no turns: a round takes what has waited longest.
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

  /** Puts leased deliveries into their lanes. @param settled called for each, when it is recorded or given back */
  private take({ source, leased, leasedAt }: Leased, settled?: () => void): void {
    const { leaseMs, timeoutMs } = this.parts.options;
    const margin = Math.min(LEASE_MARGIN_MS, (leaseMs - timeoutMs) / 2);
    const withinMs = leaseMs - timeoutMs - margin;
    const laned = leased.map((delivery): LanedDelivery => {
      const startBefore = leasedAt + Math.min(withinMs, delivery.startWithinMs ?? Infinity);
      return { delivery, source, startBefore, settled };
    });
    if (this.isStopping) this.giveBack(laned);
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
   * The status is here, and the body is not: its slot is for the next one. Not while records wait for the database: then slots are
   * what holds the senders back.
   */
  private readBody(owner: string | null, free: () => void): (() => void) | null {
    const end = this.recorder.isBehind ? null : this.bodies.begin(owner);
    if (end) free();
    return end;
  }

  /** Settles when the request has ended; its record follows. Never rejects. */
  private async send(laned: LanedDelivery, free: () => void): Promise<void> {
    const { clock } = this.parts;
    const { delivery } = laned;
    const startedAt = clock.now();
    const began = performance.now();
    let outcome: Outcome;
    try {
      const signed = signDelivery(delivery, startedAt, this.parts.signers);
      const onStatus = () => this.readBody(delivery.owner, free);
      outcome = recordable(await this.authorized.send({ ...signed, onStatus }, delivery.listener));
    } catch (error) {
      if (isCausedByOptions(error)) {
        this.waiting.waits(delivery.listener.id, error, startedAt);
        await this.pause(laned);
        return;
      }
      outcome = notSent(error);
    }
    this.waiting.goesOn(delivery.listener.id);
    if (delivery.owner !== null && !showsTiming(outcome)) await this.hideTiming(began);
    if (outcome.errorCode === 'OUT_OF_SOCKETS' && this.keepsRunning) {
      // Nobody's fault but this machine's: no attempt. Its slot rests, so fewer are asked for at once.
      this.troubles.failed(
        'sending',
        'No connection can be opened, which is tried again every second',
        outcome.errorDetail,
      );
      await this.rest();
      this.giveBack([laned]);
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
   * The application lacks an option, which is not the listener's fault: no attempt. What is for it waits, and is tried again in a
   * minute, so that an option that comes back is enough.
   */
  private async pause(laned: LanedDelivery): Promise<void> {
    const { database, clock } = this.parts;
    const { id } = laned.delivery.listener;
    const until = clock.now() + WAIT_MS;
    try {
      await database.transaction(() => pauseListeners(database, [id], until), 'work');
      this.expect(until);
    } catch (failure) {
      this.troubles.failed('returning', `Listener ${id} could not be paused`, failure);
      await this.rest();
    }
    this.giveBack([laned, ...this.lanes.evict(id)]);
    this.ended.raise();
  }

  /** A schedule that throws, or says nothing that is a time, neither stops the lane nor spoils the record. */
  private nextOf(outcome: Outcome, delivery: ClaimedDelivery, startedAt: number): AttemptRecord['next'] {
    const { clock, options, retrySchedule, logger } = this.parts;
    // Customers read these times, and what is blocked must not show them how long anything took.
    const now = showsTiming(outcome) ? clock.now() : startedAt;
    // What is sent later than that was made due by hand, and has its whole schedule.
    const tooOldAt = delivery.event.createdAt + options.maxAgeMs;
    try {
      const next = nextState(outcome, delivery.retries, retrySchedule, now, startedAt > tooOldAt ? Infinity : tooOldAt);
      if (Number.isSafeInteger(next.at)) return next;
      throw new TypeError(`it gave ${next.at - now} ms`);
    } catch (error) {
      logger.error(`The retry schedule failed, and ${delivery.id} is tried again in a minute: ${messageOf(error)}`);
      return { state: 'due', at: now + 60_000 };
    }
  }

  /** Back to the database, unsent: at once, and in one statement for all that come together. */
  private giveBack(laned: readonly LanedDelivery[]): void {
    if (!laned.length) return;
    this.returned.push(...laned);
    this.returning ??= this.returnAll();
  }

  private async returnAll(): Promise<void> {
    const { database, clock } = this.parts;
    await Promise.resolve();
    while (this.returned.length) {
      const batch = this.returned.splice(0);
      const leases = batch.map(({ delivery }) => delivery);
      try {
        await database.transaction(() => releaseDeliveries(database, leases, clock.now()), 'work');
        this.troubles.succeeded('returning');
      } catch (error) {
        this.troubles.failed(
          'returning',
          `${batch.length} deliveries could not be given back: they are sent when their lease is over, at the latest`,
          error,
        );
        if (this.keepsRunning) {
          this.returned.unshift(...batch);
          await this.rest();
          continue;
        }
      }
      for (const { settled } of batch) settled?.();
    }
    this.returning = null;
    this.expect(0);
  }

  /** Nothing is being sent, recorded or given back. */
  private get isIdle(): boolean {
    return (
      !this.underWay && this.lanes.isEmpty && !this.recorder.recording && !this.returning && this.handshakes.isIdle
    );
  }

  private async idle(): Promise<void> {
    while (!this.isIdle) {
      await this.recorder.recording;
      await this.returning;
      await this.handshakes.settled();
      if (this.underWay || !this.lanes.isEmpty) await this.ended.wait(this.parts.options.pollIntervalMs);
    }
  }

  /** Whether it is worth trying again what the database refused: by hand, and while it stops, it is tried once. */
  private get keepsRunning(): boolean {
    return this.loop !== null && !this.isStopping;
  }

  /**
   * An attempt that was blocked is recorded when its time limit is over: its owner sees states and counts change, and how long it took
   * tells of the inner network. @param began on the monotonic clock
   */
  private async hideTiming(began: number): Promise<void> {
    if (!this.keepsRunning) return;
    const left = began + this.parts.options.timeoutMs - performance.now();
    await sleep(Math.max(0, left), undefined, { signal: this.stopped.signal }).catch(() => undefined);
  }

  /** After an error of the database; {@link stop} ends it. */
  private async rest(): Promise<void> {
    await sleep(REST_AFTER_ERROR_MS, undefined, { signal: this.stopped.signal }).catch(() => undefined);
  }
}

const KINDS: ReadonlySet<unknown> = new Set<OutcomeKind>(['accepted', 'rejected', 'unreachable', 'blocked']);

/** What a replaced transport gave, as the tables take it. @throws when it is no outcome */
function recordable(outcome: Outcome): Outcome {
  const { kind, status, durationMs, retryAfterMs } = outcome;
  const isWhole = [status, retryAfterMs].every((value) => value === null || Number.isSafeInteger(value));
  if (!KINDS.has(kind) || !isWhole || !Number.isFinite(durationMs)) {
    throw new TypeError(
      `the transport gave no outcome but ${JSON.stringify({ kind, status, durationMs, retryAfterMs })}`,
    );
  }
  const errorDetail = outcome.errorDetail === null ? null : oneLine(outcome.errorDetail);
  return { ...outcome, errorDetail, durationMs: Math.round(durationMs) };
}

/** A scheme or a replaced transport threw: nothing went out, and it is tried again like any failure. */
function notSent(error: unknown): Outcome {
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
