import type { LoggerService } from '@nestjs/common';
import type { WebhookClock } from '../clock.js';
import type { Database } from '../store/database/database.js';
import { pausedTime, readSending, SENDING_ON, type SendingState } from '../store/system/sending.js';
import type { SendingPause } from '../health/circuit.js';
import type { ExpectedWork } from './expected-work.js';
import type { Lanes } from './lanes.js';
import type { LoopPhase } from './loop-phase.js';
import type { Releases } from './releases.js';

export interface SendingSwitchParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly logger: LoggerService;
  readonly lanes: Lanes;
  readonly phase: LoopPhase;
  readonly releases: Releases;
  readonly expected: ExpectedWork;
  readonly maxAgeMs: number;
  readonly pollIntervalMs: number;
}

/**
 * Obeys the switch that pauses all sending. The database has the switch, so that it counts for every process. While sending is paused, this
 * process sends nothing and leases nothing. It continues to route events, and it completes and records requests in flight.
 *
 * A running loop reads the switch with each poll, and immediately after a notification. Without the loop, each round reads it.
 */
export class SendingSwitch {
  private state: SendingState = SENDING_ON;
  private lookedAt = -Infinity;

  constructor(private readonly parts: SendingSwitchParts) {}

  /** Whether sending is paused, as far as this process knows. */
  get isPaused(): boolean {
    return this.state.paused;
  }

  /** The time by which deliveries may be older than the maximum age, because sending was paused. */
  get pausedMs(): number {
    const { clock, maxAgeMs } = this.parts;
    return pausedTime(this.state, clock.now(), maxAgeMs);
  }

  /** The pauses of sending, as one; `undefined` if sending was never paused. */
  get lastPause(): SendingPause | undefined {
    const { paused, since, pausedMs } = this.state;
    if (since === null) return undefined;
    const now = this.parts.clock.now();
    return paused
      ? { endedAt: now, lengthMs: pausedMs + Math.max(0, now - since) }
      : { endedAt: since, lengthMs: pausedMs };
  }

  /** Reads the switch. @throws errors of the database */
  async look(): Promise<void> {
    const { database } = this.parts;
    const began = performance.now();
    this.see(await database.single(() => readSending(database), 'work'), began);
  }

  /** Reads the switch, unless the loop reads it, or it was read within the last poll interval. @throws errors of the database */
  async lookIfOld(): Promise<void> {
    const { phase, pollIntervalMs } = this.parts;
    if (phase.isRunning || performance.now() - this.lookedAt < pollIntervalMs) return;
    await this.look();
  }

  /**
   * Obeys a state that was read or written.
   * @param readAt when the read began. A read that began before the last change in this process may have the state before it
   */
  see(state: SendingState, readAt = performance.now()): void {
    if (readAt < this.lookedAt) return;
    const wasPaused = this.isPaused;
    this.state = state;
    this.lookedAt = performance.now();
    if (state.paused && !wasPaused) this.pause();
    if (!state.paused && wasPaused) this.resume();
  }

  private pause(): void {
    const { lanes, releases, logger } = this.parts;
    lanes.suspend();
    releases.add(lanes.evict());
    const { actor, reason } = this.state;
    const by = actor === null ? '' : ` by ${JSON.stringify(actor)}`;
    const why = reason === null ? '' : `, because ${JSON.stringify(reason)}`;
    logger.warn(`Sending is paused${by}${why}. Events are stored and routed, and nothing is sent until it is resumed.`);
  }

  private resume(): void {
    const { lanes, expected, logger } = this.parts;
    lanes.unsuspend();
    const { actor } = this.state;
    logger.log(`Sending is resumed${actor === null ? '' : ` by ${JSON.stringify(actor)}`}.`);
    expected.expectReady(0);
    expected.signal.raise();
  }
}
