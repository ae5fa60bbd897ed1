import { setTimeout as pause } from 'node:timers/promises';
import type { LoggerService } from '@nestjs/common';
import type { WebhookClock } from '../clock.js';
import { SET_BACK_FROM_MS } from '../clock.js';
import type { Database } from '../store/database/database.js';
import {
  readLastWritten,
  SET_BACK_START,
  setBackLeases,
  setBackListeners,
  type SetBackPosition,
} from '../store/queue/set-back.js';
import { messageOf } from '../foreign-text.js';
import { TroubleLog } from '../webhooks-logger.js';

/** Dependencies of {@link SetBack}. @internal */
export interface SetBackParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly leaseMs: number;
  readonly logger: LoggerService;
  /** Called when deliveries may be due earlier than before. */
  readonly done: () => void;
}

const TRIED_EVERY_MS = 1_000;

/**
 * Moves times back that were written while the clock was ahead. Otherwise the rows with these times would wait until
 * real time has caught up.
 */
export class SetBack {
  private aheadMs = 0;
  private running: Promise<void> | null = null;
  private readonly stopped = new AbortController();
  private readonly trouble = new TroubleLog();

  constructor(private readonly parts: SetBackParts) {}

  /** Call this method when the clock was set back. @param aheadMs how far the clock was ahead, in ms */
  begin(aheadMs: number): void {
    this.parts.logger.warn(
      `The database's clock was ${Math.round(aheadMs / 1_000)} s ahead and was set back. Leases, retries and pauses that were written in the meantime are moved back, too.`,
    );
    this.aheadMs = Math.max(this.aheadMs, aheadMs);
    this.running ??= this.run();
  }

  /**
   * Searches for times in the future. The dispatcher calls this method at its start, because all processes may have
   * been restarted after the clock was ahead. The promise never rejects.
   */
  async look(): Promise<void> {
    const { database, clock } = this.parts;
    // A clock without readings of the database's time is the clock of a test. Such a clock is never set back.
    if (!clock.read) return;
    const last = await database.single(() => readLastWritten(database), 'work').catch(() => 0);
    const aheadMs = last - clock.now();
    if (aheadMs > SET_BACK_FROM_MS) this.begin(aheadMs);
  }

  async stop(): Promise<void> {
    this.stopped.abort();
    await this.running;
  }

  private async run(): Promise<void> {
    const { signal } = this.stopped;
    while (this.aheadMs > 0 && !signal.aborted) {
      const { aheadMs } = this;
      try {
        await this.bringBack(aheadMs);
        if (this.trouble.recovered()) this.parts.logger.log('Times written while the clock was ahead were moved back.');
        // The clock may have been set back again meanwhile.
        if (this.aheadMs === aheadMs) this.aheadMs = 0;
        this.parts.done();
      } catch (error) {
        if (this.trouble.failed()) {
          this.parts.logger.error(
            `Times written while the clock was ahead could not be moved back; the dispatcher retries every second: ${messageOf(error)}`,
          );
        }
        await pause(TRIED_EVERY_MS, undefined, { signal, ref: false }).catch(() => undefined);
      }
    }
    this.running = null;
  }

  private async bringBack(aheadMs: number): Promise<void> {
    const { database, clock, leaseMs } = this.parts;
    const time = () => ({ now: clock.now(), aheadMs });
    await database.transaction(() => setBackLeases(database, leaseMs, time()));
    let position: SetBackPosition | null = SET_BACK_START;
    while (position && !this.stopped.signal.aborted) {
      const after: SetBackPosition = position;
      position = await database.transaction(() => setBackListeners(database, after, time()));
    }
  }
}
