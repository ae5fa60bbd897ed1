import type { LoggerService } from '@nestjs/common';
import { textOf } from '../foreign-text.js';

/** What the dispatcher does that may go wrong for all listeners at once: with its tables, and with sockets. */
export type Work = 'claiming' | 'converting' | 'polling' | 'recording' | 'returning' | 'sending';

/**
 * A log that says once what happened, and once that it is over.
 *
 * An outage meets all kinds of work, each at another moment, and again at every try: the first is told. It is over when
 * each that failed has succeeded again: that the tables can be read says nothing of whether attempts can be recorded.
 */
export class Troubles {
  private readonly failing = new Set<Work>();

  constructor(private readonly logger: LoggerService) {}

  failed(work: Work, what: string, error: unknown): void {
    if (!this.failing.size) this.logger.error(`${what}: ${messageOf(error)}`);
    this.failing.add(work);
  }

  succeeded(work: Work): void {
    if (this.failing.delete(work) && !this.failing.size) this.logger.log('The dispatcher works again.');
  }
}

/** An error in one line. Several at once, as of a host with several addresses, have no message of their own. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && !error.message) return error.errors.map(messageOf).join('; ');
  return error instanceof Error ? error.message : textOf(error);
}
