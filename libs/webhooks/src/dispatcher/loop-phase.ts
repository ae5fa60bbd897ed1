import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Phases of the dispatcher's loop, and the phases that may follow each. The loop moves only along this table, and
 * `docs/states.md` draws it.
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

/** The phase of the loop, and what follows from it for the parts of the dispatcher. */
export class LoopPhase {
  private phase: Phase = 'stopped';
  private stopped = new AbortController();

  /** From {@link start} until {@link end}. */
  get isRunning(): boolean {
    return this.phase !== 'stopped';
  }

  /** From {@link stop} until the next {@link start}. */
  get isStopping(): boolean {
    return this.stopped.signal.aborted;
  }

  /** Whether to retry a write that the database refused. Without the loop, and while the loop stops, it is tried once. */
  get keepsRunning(): boolean {
    return this.isRunning && !this.isStopping;
  }

  /** @returns the signal of this run of the loop, which {@link stop} aborts */
  start(): AbortSignal {
    this.stopped = new AbortController();
    this.enter('looking');
    return this.stopped.signal;
  }

  /** Ends pauses. The loop completes its current step. */
  stop(): void {
    this.stopped.abort();
    if (this.isRunning) this.enter('stopping');
  }

  end(): void {
    if (this.isRunning) this.enter('stopped');
  }

  /** Called by the loop before each step. A run that was stopped may complete its step, but moves the phase no more. */
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
