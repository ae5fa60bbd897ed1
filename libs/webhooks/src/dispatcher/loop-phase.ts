import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Phases of the dispatcher's loop, and the phases that may follow each phase. Every change of the phase follows
 * this table. `docs/states.md` draws the table.
 */
export const LOOP_TRANSITIONS = {
  stopped: ['looking'],
  looking: ['sleeping', 'polling', 'resting', 'stopping'],
  sleeping: ['looking', 'polling', 'stopping'],
  polling: ['looking', 'resting', 'stopping'],
  resting: ['looking', 'stopping'],
  stopping: ['stopped'],
} as const satisfies Readonly<Record<string, readonly string[]>>;

export type Phase = keyof typeof LOOP_TRANSITIONS;

/** Pause after an error of the database. */
export const REST_AFTER_ERROR_MS = 1_000;

/** The phase of the loop, and its meaning for the parts of the dispatcher. */
export class LoopPhase {
  private phase: Phase = 'stopped';
  private stopped = new AbortController();

  /** Whether the loop runs: from {@link start} until {@link end}. */
  get isRunning(): boolean {
    return this.phase !== 'stopped';
  }

  /** Whether the loop stops or has stopped: from {@link stop} until the next {@link start} or {@link allowRounds}. */
  get isStopping(): boolean {
    return this.stopped.signal.aborted;
  }

  /** Whether to retry a write that the database refused. Without the loop, and while the loop stops, a write is tried only once. */
  get keepsRunning(): boolean {
    return this.isRunning && !this.isStopping;
  }

  /** @returns the signal of this run of the loop. {@link stop} aborts this signal */
  start(): AbortSignal {
    this.stopped = new AbortController();
    this.enter('looking');
    return this.stopped.signal;
  }

  /** Stops the loop. Pauses end immediately, and the loop completes its current step. */
  stop(): void {
    this.stopped.abort();
    if (this.isRunning) this.enter('stopping');
  }

  end(): void {
    if (this.isRunning) this.enter('stopped');
  }

  /** Lets rounds without the loop take and send deliveries after the loop has stopped. Does nothing while the loop runs or stops. */
  allowRounds(): void {
    if (!this.isRunning && this.isStopping) this.stopped = new AbortController();
  }

  /** The loop calls this method before each step. A stopped run may complete its step, but no longer changes the phase. */
  moveTo(next: Phase, run: AbortSignal): void {
    if (!run.aborted && this.phase !== next) this.enter(next);
  }

  private enter(next: Phase): void {
    const allowed: readonly Phase[] = LOOP_TRANSITIONS[this.phase];
    if (!allowed.includes(next)) throw new Error(`The loop cannot move from '${this.phase}' to '${next}'.`);
    this.phase = next;
  }

  /** Sleeps, at most until {@link stop}. */
  async pause(ms: number): Promise<void> {
    await sleep(Math.max(0, ms), undefined, { signal: this.stopped.signal }).catch(() => undefined);
  }

  /** Pauses after an error of the database. */
  rest(): Promise<void> {
    return this.pause(REST_AFTER_ERROR_MS);
  }
}
