import type { LoggerService } from '@nestjs/common';
import type { WebhookClock } from '../clock.js';
import type { Diagnostics } from '../diagnostics/diagnostics.js';
import { messageOf, oneLine } from '../foreign-text.js';
import { nextState } from '../health/next-state.js';
import type { RetrySchedule } from '../health/retry-schedule.js';
import type { ResolvedWebhooksOptions } from '../options/resolve-options.js';
import { MAX_DETAIL_LENGTH, showsTiming, type Outcome, type OutcomeKind } from '../sending/outcome.js';
import type { SignedRequest } from '../sending/transport.js';
import type { Database } from '../store/database/database.js';
import { pauseListeners } from '../store/listeners/listener-state.js';
import type { AttemptRecord } from '../store/queue/attempt-record.js';
import type { ClaimedDelivery } from '../store/queue/claimed-delivery.js';
import type { AttemptDetails } from './attempt-details.js';
import type { AuthorizedTransport } from './authorized-transport.js';
import { BodyReads } from './body-reads.js';
import type { ExpectedWork } from './expected-work.js';
import type { LanedDelivery, Lanes } from './lanes.js';
import type { LoopPhase } from './loop-phase.js';
import type { Recorder } from './recorder.js';
import type { Releases } from './releases.js';
import type { SendingSwitch } from './sending-switch.js';
import { openSigningKeys, signDelivery, type Signers } from './sign-delivery.js';
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
  readonly diagnostics: Diagnostics;
  readonly sendingSwitch: SendingSwitch;
  readonly details: AttemptDetails;
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

  /**
   * Number of attempts that have not ended. These are attempts that have a slot, and attempts whose response body is
   * still being read.
   */
  get underWay(): number {
    return this.inFlight;
  }

  /**
   * Makes an attempt. The promise settles when the attempt has ended, and never rejects. @param free frees the slot of
   * the attempt earlier
   */
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
   * Called when the status has arrived but the body has not arrived. Frees the slot for the next attempt. While the recorder is behind, the
   * body is not read, and the slot is not freed early. So the slots limit the number of unrecorded attempts.
   */
  private beginBody(owner: string | null, free: () => void): (() => void) | null {
    const end = this.parts.recorder.isBehind ? null : this.bodies.begin(owner);
    if (end) free();
    return end;
  }

  /** Sends a delivery. The promise settles when the attempt has ended, and never rejects. The attempt is recorded later. */
  private async send(laned: LanedDelivery, free: () => void): Promise<void> {
    const { clock, signers, authorized, waiting, recorder, releases, phase, troubles, expected, diagnostics } =
      this.parts;
    const { delivery } = laned;
    const startedAt = clock.now();
    const began = performance.now();
    let outcome: Outcome;
    let signed: SignedRequest | null = null;
    let signMs: number | null = null;
    try {
      signed = signDelivery(delivery, startedAt, signers);
      if (diagnostics.listens('attempts')) signMs = performance.now() - began;
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
      // This machine is at fault, so the failure counts as no attempt. The slot pauses. So there are fewer concurrent
      // requests.
      troubles.failed(
        'sending',
        'No connection can be opened; the dispatcher retries every second',
        outcome.errorDetail,
      );
      await phase.rest();
      releases.add([laned]);
      this.ended.raise();
      return;
    }
    if (outcome.status !== null) troubles.succeeded('sending');
    const record: AttemptRecord = {
      delivery,
      wasFailing: delivery.listener.isFailing,
      outcome: outcome.kind,
      status: outcome.status,
      errorCode: outcome.errorCode,
      errorDetail: outcome.errorDetail,
      durationMs: outcome.durationMs,
      response: outcome.response,
      retryAfterMs: outcome.retryAfterMs,
      startedAt,
      details: this.detailsOf(outcome, laned, { signed, startedAt }),
      next: this.nextOf(outcome, delivery, startedAt),
    };
    const room = recorder.add({ laned, outcome, record, signMs }, { isLast: this.underWay === 1 });
    this.ended.raise();
    if (expected.mayRoute || expected.mayPage || expected.mayClaim) expected.signal.raise();
    await room;
  }

  /**
   * Pauses a listener for which the application lacks an option. The listener is not at fault, so the failure counts as no attempt. The
   * deliveries of the listener stay pending, and are tried again each minute. When the option is set again, they are sent.
   */
  private async pause(laned: LanedDelivery): Promise<void> {
    const { database, clock, lanes, troubles, phase, releases, expected } = this.parts;
    const { id } = laned.delivery.listener;
    const until = clock.now() + WAIT_MS;
    try {
      await database.transaction(() => pauseListeners(database, [id], until), 'work');
      expected.expectReady(until, [id]);
    } catch (failure) {
      troubles.failed('releasing', `Listener ${id} could not be paused`, failure);
      await phase.rest();
    }
    releases.add([laned, ...lanes.evict(id)]);
    this.ended.raise();
  }

  private detailsOf(
    outcome: Outcome,
    { delivery: { listener } }: LanedDelivery,
    { signed, startedAt }: { signed: SignedRequest | null; startedAt: number },
  ): string | null {
    const { details, signers } = this.parts;
    return details.of(outcome, listener.url, signed, () => openSigningKeys(listener, startedAt, signers));
  }

  /**
   * Decides the next state of a delivery. A schedule that throws, or that returns an invalid time, must not stop the
   * lane or damage the record.
   */
  private nextOf(outcome: Outcome, delivery: ClaimedDelivery, startedAt: number): AttemptRecord['next'] {
    const { clock, options, retrySchedule, logger, sendingSwitch } = this.parts;
    // Customers read these times, and the times must not reveal how long a blocked attempt took.
    const now = showsTiming(outcome) ? clock.now() : startedAt;
    // A delivery that is sent later than this time was resent by hand. Such a delivery gets its whole retry schedule.
    const tooOldAt = delivery.event.createdAt + options.maxAgeMs + sendingSwitch.pausedMs;
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
   * and counts change. Without a delay, these times would reveal details of the internal network.
   * @param began on the monotonic clock
   */
  async hideTiming(began: number): Promise<void> {
    const { phase, options } = this.parts;
    if (phase.keepsRunning) await phase.pause(began + options.timeoutMs - performance.now());
  }
}

const KINDS: ReadonlySet<unknown> = new Set<OutcomeKind>(['accepted', 'rejected', 'unreachable', 'blocked']);

/**
 * Checks and cleans the outcome of a replaced transport. Then the tables can store the outcome.
 * @throws TypeError when the outcome is invalid
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

/**
 * The outcome of an attempt in which a signature scheme or a replaced transport threw an error. The attempt is
 * retried like any other failed attempt.
 */
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
