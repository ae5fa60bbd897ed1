import { assembleDispatcher, type DispatcherParts } from './assemble-dispatcher.js';
import type { SendingState } from '../store/system/sending.js';
import type { RoundResult } from './rounds.js';
import type { UpkeepResult } from './upkeep.js';

export type { DispatcherParts, RoundResult };

/** The current activity of the dispatcher of this process. */
export interface DispatcherActivity {
  /** Whether the loop runs, and is not stopping. */
  readonly isRunning: boolean;
  /** When the loop began its last turn, by `performance.now()`. */
  readonly turnedAt: number;
  /** Number of requests in flight. */
  readonly slotsUsed: number;
  readonly slotsLimit: number;
  /** Whether the database refuses to record attempts. While it refuses, nothing is sent. */
  readonly isRefused: boolean;
  /** Whether an operator has paused sending, as far as this process knows. */
  readonly isPaused: boolean;
}

/**
 * Takes events from the outbox, creates a delivery for each listener that matches the event, and sends the deliveries that are due. Each
 * delivery is leased, so no other process sends it. The dispatcher signs the delivery, sends it, and records the attempt.
 *
 * Deliveries are made at least once. If a process dies before it has recorded an attempt, the attempt is made again
 * under the same `webhook-id`. Methods reject only after errors of the database, never because a receiver fails.
 *
 * The loop fills the lanes, and the lanes send independently. When the lanes hold few deliveries, the loop searches for more. First it
 * reads the outbox after the last known event. It leases each delivery when it creates the delivery. Then it reads the queue of listeners
 * to find retries and other pending deliveries. Outcomes are recorded in batches. If there is nothing to do, the loop sleeps until a
 * commit of this process, a notification of another process, the next retry or the next poll.
 */
export class DispatcherService {
  private readonly working: ReturnType<typeof assembleDispatcher>;

  /** @internal */
  constructor(private readonly parts: DispatcherParts) {
    this.working = assembleDispatcher(parts);
  }

  /**
   * Starts the loop. Does nothing if the loop already runs. The module calls this method unless
   * `dispatcher.autoStart` is `false`.
   */
  start(): void {
    this.working.loop.start();
  }

  /**
   * Stops the loop. The dispatcher claims nothing more. It releases queued deliveries for other processes. It completes and records
   * requests in flight. The promise settles at the latest after `dispatcher.timeoutMs` plus about a second, even if receivers or the
   * database do not answer. If an attempt is not recorded by that time, its request is sent again when its lease expires.
   */
  async stop(): Promise<void> {
    await this.working.loop.stop();
  }

  /** Whether the loop runs. */
  get isRunning(): boolean {
    return this.working.phase.isRunning;
  }

  /** Whether this process can send a due delivery without delay. Then the loop runs, and there is a free slot. */
  get hasRoom(): boolean {
    return this.working.phase.keepsRunning && this.working.lanes.sending < this.parts.options.concurrency;
  }

  /** The current activity, for telemetry and health checks. @internal */
  get activity(): DispatcherActivity {
    const { loop, lanes, phase, recorder, sendingSwitch } = this.working;
    return {
      isRunning: phase.keepsRunning,
      turnedAt: loop.turnedAt,
      slotsUsed: lanes.sending,
      slotsLimit: this.parts.options.concurrency,
      isRefused: recorder.isRefused,
      isPaused: sendingSwitch.isPaused,
    };
  }

  /** Call this method when there may be work. The loop then searches for work immediately and not only at the next poll. */
  wake(): void {
    this.working.loop.wake();
  }

  /** Call this method when a commit may have made deliveries due that no event makes. @internal */
  wakeForDeliveries(): void {
    this.working.engine?.search();
    this.wake();
  }

  /** Ends the connections of the engine. @internal */
  async closeEngine(): Promise<void> {
    await this.working.engine?.close();
  }

  /** Like {@link wake}, but for images that triggers may have written. @internal */
  wakeForImages(): void {
    this.working.expected.expectImages();
    this.working.expected.signal.raise();
  }

  /** Writes the statistics that are still in memory. @internal */
  writeStats(): Promise<void> {
    return this.working.stats.write();
  }

  /** Looks for chores that are due. @internal */
  wakeChores(): void {
    this.parts.upkeep.wake();
  }

  /** Obeys a state of the switch that this process has written. @internal */
  seeSending(state: SendingState): void {
    this.working.sendingSwitch.see(state);
  }

  /**
   * Does one round without the loop. A round takes one batch of events, sends one batch of due deliveries, and waits
   * for the outcomes.
   */
  async runOnce(): Promise<RoundResult> {
    this.working.phase.allowRounds();
    const { events, attempts } = await this.working.rounds.round();
    return { events, attempts };
  }

  /**
   * Runs rounds until no event is pending, nothing is due, and this process sends nothing. Retries that are due later
   * stay pending. While sending is paused, nothing is sent. Use this method in scripts and tests. It works before {@link start} and after
   * {@link stop}. While the loop is stopping, it returns without sending.
   *
   * @returns the sum of all rounds
   */
  drain(): Promise<RoundResult> {
    return this.working.rounds.drain();
  }

  /**
   * Runs the chores that are due: discards deliveries that were pending for longer than `maxAgeMs`, and deletes rows older than
   * `retention`. A running dispatcher runs the chores by itself. Use this method in scripts that call `drain()`, and in tests.
   *
   * With an archive, the method also makes the files that are due, and waits until they are stored. A running dispatcher does that in the background.
   *
   * @returns the work that this process did; all numbers are 0 if another process runs the chores
   * @throws the error of `WebhookArchive.store()`; errors of the database
   */
  runChores(): Promise<UpkeepResult> {
    return this.parts.upkeep.runDue();
  }

  /**
   * Fans out these events, and makes the first attempts of their deliveries, for the inline mode. The promise settles after `timeoutMs`
   * at the latest, and never rejects. Deliveries that are unfinished at that time continue as queued deliveries. @internal
   */
  async deliverNow(eventIds: readonly string[]): Promise<void> {
    await this.working.rounds.deliverNow(eventIds);
    this.wake();
  }
}
