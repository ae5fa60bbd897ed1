import type { LoggerService } from '@nestjs/common';
import type { Diagnostics } from '../diagnostics/diagnostics.js';
import { messageOf } from '../foreign-text.js';
import { TroubleLog } from '../webhooks-logger.js';

/** Kinds of work of the dispatcher that may fail for all listeners together, because of the tables or because of sockets. */
export type Work = 'claiming' | 'converting' | 'polling' | 'recording' | 'releasing' | 'sending';

/**
 * Logs once when work fails, and once when all work succeeds again.
 *
 * In an outage, each kind of work fails at a different moment, and fails again at each try. Only the first failure is logged. The
 * outage is over when each failed kind of work has succeeded again. One kind of work is not enough: even if the tables can be read,
 * attempts may still not be recorded.
 */
export class Troubles {
  private readonly failing = new Set<Work>();
  private readonly log = new TroubleLog();

  constructor(
    private readonly logger: LoggerService,
    private readonly diagnostics: Diagnostics,
  ) {}

  failed(work: Work, what: string, error: unknown): void {
    this.failing.add(work);
    if (this.diagnostics.listens('trouble')) this.diagnostics.publish('trouble', { work });
    if (this.log.failed()) this.logger.error(`${what}: ${messageOf(error)}`);
  }

  succeeded(work: Work): void {
    if (!this.failing.delete(work) || this.failing.size) return;
    if (this.log.recovered()) this.logger.log('The dispatcher works again.');
  }
}
