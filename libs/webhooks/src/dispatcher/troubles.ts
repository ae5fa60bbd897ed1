import type { LoggerService } from '@nestjs/common';
import { messageOf } from '../foreign-text.js';

/** Work of the dispatcher that may fail for all listeners together, because of its tables or of sockets. */
export type Work = 'claiming' | 'converting' | 'polling' | 'recording' | 'releasing' | 'sending';

/** Minimum time between two log lines about one trouble. A trouble that comes and goes would fill the log. */
const AT_MOST_EVERY_MS = 60_000;

/** Limits the log of one trouble: one line when it begins and one when it is over, at most one such pair a minute. */
export class TroubleLog {
  private loggedAt = -Infinity;
  private isLogged = false;

  /** The work failed. @returns whether to log it now */
  failed(): boolean {
    if (this.isLogged || performance.now() - this.loggedAt < AT_MOST_EVERY_MS) return false;
    this.loggedAt = performance.now();
    this.isLogged = true;
    return true;
  }

  /** The work succeeded. @returns whether to log it, because the failure was logged */
  recovered(): boolean {
    const { isLogged } = this;
    this.isLogged = false;
    return isLogged;
  }
}

/**
 * Logs once that work fails, and once that all work succeeds again.
 *
 * An outage affects each kind of work at a different moment, and again at each try. Only the first failure is logged.
 * The outage is over when each kind of work that failed has succeeded: that the tables can be read does not prove
 * that attempts can be recorded.
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
    if (this.log.recovered()) this.logger.log('The dispatcher works again.');
  }
}
