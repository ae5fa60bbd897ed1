import type { LoggerService } from '@nestjs/common';
import type { WebhookClock } from '../clock.js';
import { messageOf, oneLine } from '../foreign-text.js';
import { nextState } from '../health/next-state.js';
import type { RetrySchedule } from '../health/retry-schedule.js';
import type { ResolvedWebhooksOptions } from '../options/resolve-options.js';
import { MAX_DETAIL_LENGTH, showsTiming, type Outcome, type OutcomeKind } from '../sending/outcome.js';
import type { Database } from '../store/database/database.js';
import { pauseListeners } from '../store/listeners/listener-state.js';
import type { AttemptRecord } from '../store/queue/attempt-record.js';
import type { ClaimedDelivery } from '../store/queue/claim-deliveries.js';
import type { AuthorizedTransport } from './authorized-transport.js';
import { BodyReads } from './body-reads.js';
import type { ExpectedWork } from './expected-work.js';
import type { LanedDelivery, Lanes } from './lanes.js';
import type { LoopPhase } from './loop-phase.js';
import type { Recorder } from './recorder.js';
import type { Releases } from './releases.js';
import { signDelivery, type Signers } from './sign-delivery.js';
import { Signal } from './signal.js';
import type { Troubles } from './troubles.js';
import { isCausedByOptions, WAIT_MS, type WaitingListeners } from './waiting-listeners.js';

export interface SenderParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly options: ResolvedWebhooksOptions['dispatcher'];
  readonly retrySchedule: RetrySchedule;
  readonly signers: Signers;
  readonly logger: LoggerService;
  readonly authorized: AuthorizedTransport;
  readonly waiting: WaitingListeners;
  readonly lanes: Lanes;
  readonly recorder: Recorder;
  readonly releases: Releases;
  readonly troubles: Troubles;
  readonly phase: LoopPhase;
  readonly expected: ExpectedWork;
}

/** Makes attempts: signs a delivery, sends it, decides its next state, and passes the outcome to the recorder. */
export class Sender {
  /** Raised when an attempt has ended. */
  readonly ended = new Signal();
  private readonly bodies: BodyReads;
  private inFlight = 0;

  constructor(private readonly parts: SenderParts) {
    this.bodies = new BodyReads(parts.options);
  }

  /** Attempts that have not ended: attempts that have a slot, and attempts whose response body is still being read. */
  get underWay(): number {
    return this.inFlight;
  }

  /** Makes an attempt, and settles when it has ended. @param free frees its slot earlier. Never rejects. */
  async attempt(laned: LanedDelivery, free: () => void): Promise<void> {
    this.inFlight++;
    try {
      await this.send(laned, free);
    } finally {
      this.inFlight--;
      this.ended.raise();
    }
  }

  /**
   * The status has arrived, the body has not: frees the slot for the next attempt. While the recorder is behind, the
   * body is not read, so that the slots limit the senders.
   */
  private beginBody(owner: string | null, free: () => void): (() => void) | null {
    const end = this.parts.recorder.isBehind ? null : this.bodies.begin(owner);
    if (end) free();
    return end;
  }

  /** Settles when the attempt has ended; it is recorded later. Never rejects. */
  private async send(laned: LanedDelivery, free: () => void): Promise<void> {
    const { clock, signers, authorized, waiting, recorder, releases, phase, troubles, expected } = this.parts;
    const { delivery } = laned;
    const startedAt = clock.now();
    const began = performance.now();
    let outcome: Outcome;
    try {
      const signed = signDelivery(delivery, startedAt, signers);
      const onStatus = () => this.beginBody(delivery.owner, free);
      outcome = checkedOutcome(await authorized.send({ ...signed, onStatus }, delivery.listener));
    } catch (error) {
      if (isCausedByOptions(error)) {
        waiting.add(delivery.listener.id, error, startedAt);
        await this.pause(laned);
        return;
      }
      outcome = failedOutcome(error);
    }
    waiting.delete(delivery.listener.id);
    if (delivery.owner !== null && !showsTiming(outcome)) await this.hideTiming(began);
    if (outcome.errorCode === 'OUT_OF_SOCKETS' && phase.keepsRunning) {
      // This machine is at fault, so this counts as no attempt. Its slot pauses, which lowers the number of
      // concurrent requests.
      troubles.failed('sending', 'No connection can be opened; this is retried every second', outcome.errorDetail);
      await phase.rest();
      releases.add([laned]);
      this.ended.raise();
      return;
    }
    if (outcome.status !== null) troubles.succeeded('sending');
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
    const room = recorder.add({ laned, outcome, record }, { isLast: this.underWay === 1 });
    this.ended.raise();
    if (expected.mayRoute || expected.mayPage || expected.mayClaim) expected.signal.raise();
    await room;
  }

  /**
   * The application lacks an option. The listener is not at fault, so this counts as no attempt. Its deliveries stay
   * pending and are tried again in a minute, so that it suffices to set the option again.
   */
  private async pause(laned: LanedDelivery): Promise<void> {
    const { database, clock, lanes, troubles, phase, releases, expected } = this.parts;
    const { id } = laned.delivery.listener;
    const until = clock.now() + WAIT_MS;
    try {
      await database.transaction(() => pauseListeners(database, [id], until), 'work');
      expected.expectReady(until);
    } catch (failure) {
      troubles.failed('releasing', `Listener ${id} could not be paused`, failure);
      await phase.rest();
    }
    releases.add([laned, ...lanes.evict(id)]);
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

  /**
   * Delays the record of a blocked attempt until its time limit is over. The owner of the listener sees when states
   * and counts change, and the duration would reveal details of the internal network.
   * @param began on the monotonic clock
   */
  async hideTiming(began: number): Promise<void> {
    const { phase, options } = this.parts;
    if (phase.keepsRunning) await phase.pause(began + options.timeoutMs - performance.now());
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
