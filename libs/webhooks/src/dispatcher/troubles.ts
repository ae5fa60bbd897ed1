import type { LoggerService } from '@nestjs/common';
import { messageOf } from '../foreign-text.js';
import { TroubleLog } from '../webhooks-logger.js';

/** Work of the dispatcher that may fail for all listeners together, because of its tables or of sockets. */
export type Work = 'claiming' | 'converting' | 'polling' | 'recording' | 'releasing' | 'sending';

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
