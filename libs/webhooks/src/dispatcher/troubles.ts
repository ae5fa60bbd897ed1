import type { LoggerService } from '@nestjs/common';
import { messageOf } from '../foreign-text.js';

/** What the dispatcher does that may go wrong for all listeners at once: with its tables, and with sockets. */
export type Work = 'claiming' | 'converting' | 'polling' | 'recording' | 'returning' | 'sending';

/** How often one trouble is logged. What flaps would fill the log. */
const AT_MOST_EVERY_MS = 60_000;

/** One trouble in a log: that it began, and that it is over, a pair of lines a minute at most. */
export class TroubleLog {
  private loggedAt = -Infinity;
  private isLogged = false;

  /** It is there. @returns whether it is to be logged now */
  failed(): boolean {
    if (this.isLogged || performance.now() - this.loggedAt < AT_MOST_EVERY_MS) return false;
    this.loggedAt = performance.now();
    this.isLogged = true;
    return true;
  }

  /** It is over. @returns whether that is to be logged: its beginning was */
  mended(): boolean {
    const { isLogged } = this;
    this.isLogged = false;
    return isLogged;
  }
}

/**
 * A log that says once what happened, and once that it is over.
 *
 * An outage meets all kinds of work, each at another moment, and again at every try: the first is told. It is over when
 * each that failed has succeeded again: that the tables can be read says nothing of whether attempts can be recorded.
 */
export class Troubles {
  private readonly failing = new Set<Work>();
  private readonly log = new TroubleLog();

  constructor(private readonly logger: LoggerService) {}

  failed(work: Work, what: string, error: unknown): void {
    this.failing.add(work);
    if (this.log.failed()) this.logger.error(`${what}: ${messageOf(error)}`);
  }

  succeeded(work: Work): void {
    if (!this.failing.delete(work) || this.failing.size) return;
    if (this.log.mended()) this.logger.log('The dispatcher works again.');
  }
}
