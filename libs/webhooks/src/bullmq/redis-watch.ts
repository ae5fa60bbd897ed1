import { setTimeout as pause } from 'node:timers/promises';
import { messageOf } from '../foreign-text.js';
import { SECOND } from '../time.js';

/** How often Redis is asked. The answer also says whether Redis has lost its data. */
const ASK_EVERY_MS = SECOND;

export interface RedisWatchParts {
  /** Asks Redis. @returns whether Redis has lost its data. Rejects if Redis does not answer */
  readonly ask: () => Promise<boolean>;
  /** After this time without an answer, Redis counts as away. */
  readonly awayAfterMs: number;
  /** Called when Redis has begun to count as away, with the last error. */
  readonly away: (error: string) => void;
  /** Called when Redis answers again, after it counted as away. */
  readonly back: () => void;
  /** Called when jobs may be lost: Redis has lost its data, or has not answered. */
  readonly lost: () => Promise<unknown>;
}

/** Asks Redis once in a second whether it works, and whether it still has its data. */
export class RedisWatch {
  /** Whether Redis gave no answer for so long that the database must be searched. */
  isAway = false;
  /** Whether Redis has not answered the last question. */
  isSilent = false;
  private answeredAt = performance.now();
  private running: { readonly stop: AbortController; readonly ended: Promise<void> } | null = null;

  constructor(private readonly parts: RedisWatchParts) {}

  start(): void {
    if (this.running) return;
    this.answeredAt = performance.now();
    const stop = new AbortController();
    this.running = { stop, ended: this.run(stop.signal) };
  }

  async stop(): Promise<void> {
    this.running?.stop.abort();
    await this.running?.ended;
    this.running = null;
  }

  private async run(signal: AbortSignal): Promise<void> {
    let areJobsLost = false;
    while (!signal.aborted) {
      try {
        areJobsLost = (await this.parts.ask()) || areJobsLost || this.isSilent;
        this.answered();
        if (areJobsLost) await this.parts.lost();
        areJobsLost = false;
      } catch (error) {
        // The jobs that could not be added are added after the next answer.
        this.failed(error);
      }
      await pause(ASK_EVERY_MS, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  private answered(): void {
    this.answeredAt = performance.now();
    this.isSilent = false;
    if (!this.isAway) return;
    this.isAway = false;
    this.parts.back();
  }

  private failed(error: unknown): void {
    this.isSilent = true;
    if (this.isAway || performance.now() - this.answeredAt < this.parts.awayAfterMs) return;
    this.isAway = true;
    this.parts.away(messageOf(error));
  }
}
