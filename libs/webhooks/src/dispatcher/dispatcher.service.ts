import { assembleDispatcher, type DispatcherParts } from './assemble-dispatcher.js';
import type { RoundResult } from './rounds.js';
import type { UpkeepResult } from './upkeep.js';

export type { DispatcherParts, RoundResult };

/**
 * Takes events from the outbox, creates a delivery for each listener that wants the event, and sends the deliveries
 * that are due. Each delivery is signed, is leased so that no other process sends it, and is recorded.
 *
 * Deliveries are made at least once. If a process dies before it has recorded an attempt, the attempt is made again
 * under the same `webhook-id`. A failing endpoint makes no method reject; only the database does.
 *
 * The loop fills the lanes, which send independently, and looks for more when the lanes run low. It looks in
 * the outbox first, past the last known event, and leases deliveries when it creates them. Then it looks in the queue
 * of listeners for retries and other pending deliveries. Outcomes are recorded in batches. With nothing to do, the
 * loop sleeps until a commit of this process, a notification of another process, the next retry or the poll.
 */
export class DispatcherService {
  private readonly working: ReturnType<typeof assembleDispatcher>;

  /** @internal */
  constructor(private readonly parts: DispatcherParts) {
    this.working = assembleDispatcher(parts);
  }

  /**
   * Starts the loop; does nothing if it runs already. The module calls this unless `dispatcher.autoStart` is `false`.
   */
  start(): void {
    this.working.loop.start();
  }

  /**
   * Stops the loop. Nothing more is claimed, queued deliveries are released for other processes, and requests in
   * flight are completed and recorded. Settles after `dispatcher.timeoutMs` plus about a second at the latest,
   * whatever receivers and the database do. An attempt that is not recorded by then is sent again when its lease
   * expires.
   */
  stop(): Promise<void> {
    return this.working.loop.stop();
  }

  /** Whether the loop runs. */
  get isRunning(): boolean {
    return this.working.phase.isRunning;
  }

  /** Whether this process sends a due delivery without delay: its loop runs, and it has a free slot. */
  get hasRoom(): boolean {
    return this.working.phase.keepsRunning && this.working.lanes.sending < this.parts.options.concurrency;
  }

  /** There may be work: the loop looks now instead of at the next poll. */
  wake(): void {
    this.working.loop.wake();
  }

  /** Triggers may have written images; otherwise as {@link wake}. @internal */
  wakeForImages(): void {
    this.working.expected.expectImages();
    this.working.expected.signal.raise();
  }

  /**
   * Does one round without the loop: takes one batch of events, sends one batch of due deliveries, and waits for the
   * outcomes.
   */
  async runOnce(): Promise<RoundResult> {
    const { events, attempts } = await this.working.rounds.round();
    return { events, attempts };
  }

  /**
   * Runs rounds until no event is pending, nothing is due, and this process sends nothing. Retries that are due later
   * stay pending. For scripts and tests.
   *
   * @returns the sum of all rounds
   */
  drain(): Promise<RoundResult> {
    return this.working.rounds.drain();
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
    await this.working.rounds.deliverNow(eventIds);
    this.wake();
  }
}
