import type { LoggerService } from '@nestjs/common';
import type { ConfigurationError } from '../errors.js';
import { UnreadableSecretError } from '../secrets/sealing.js';
import { MissingOriginError } from './sign-delivery.js';

/** How long a listener is left alone, before one looks whether it can be served. */
export const WAIT_MS = 60_000;

/** Whether an option of the application is to blame, and not the listener: what is for it waits, and no attempt is counted. */
export function isCausedByOptions(error: unknown): error is UnreadableSecretError | MissingOriginError {
  return optionToBlame(error) !== null;
}

function optionToBlame(error: unknown): string | null {
  if (error instanceof UnreadableSecretError) {
    return error.code === 'SECRET_NOT_SEALED' ? 'secrets.requireSealed' : 'secrets.keys';
  }
  return error instanceof MissingOriginError ? 'handshake.origin' : null;
}

/** Listeners that wait for an option of the application: a log that says once what is missing, and once that nobody waits any more. */
export class WaitingListeners {
  private readonly waiting = new Map<string, { readonly option: string | null; readonly at: number }>();

  constructor(private readonly logger: LoggerService) {}

  waits(listenerId: string, error: ConfigurationError, now: number): void {
    // Those that are gone since, or have nothing more to send, are no longer news that was told.
    for (const [other, { at }] of this.waiting) if (now - at > 3 * WAIT_MS) this.waiting.delete(other);
    const option = optionToBlame(error);
    if (![...this.waiting.values()].some((other) => other.option === option)) {
      this.logger.error(
        `${error.code}: ${error.message} What is for this listener, and for others of which this is true, waits; nothing is lost. One process without it is enough to pause a listener for all, a minute at a time: give every process the same ${option}.`,
      );
    }
    this.waiting.set(listenerId, { option, at: now });
  }

  goesOn(listenerId: string): void {
    if (this.waiting.delete(listenerId) && !this.waiting.size) {
      this.logger.log('No listener has to wait for an option of this application any more.');
    }
  }
}
