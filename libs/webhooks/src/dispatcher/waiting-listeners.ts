import type { LoggerService } from '@nestjs/common';
import type { ConfigurationError } from '../errors.js';
import { UnreadableSecretError } from '../secrets/sealing.js';
import { MissingOptionError } from './sign-delivery.js';

/** Length of the pause of a listener for which an option is missing. After the pause, the listener is tried again. */
export const WAIT_MS = 60_000;

/**
 * Whether an option of the application causes the error. Then the listener is not at fault. The deliveries of the
 * listener stay pending, and no attempt is counted.
 */
export function isCausedByOptions(error: unknown): error is UnreadableSecretError | MissingOptionError {
  return missingOption(error) !== null;
}

function missingOption(error: unknown): string | null {
  if (error instanceof UnreadableSecretError) {
    return error.code === 'SECRET_NOT_SEALED' ? 'secrets.requireSealed' : 'secrets.keys';
  }
  return error instanceof MissingOptionError ? error.option : null;
}

/** Logs once which option is missing for listeners, and logs once when no listener lacks an option any more. */
export class WaitingListeners {
  private readonly waiting = new Map<string, { readonly option: string | null; readonly at: number }>();

  constructor(private readonly logger: LoggerService) {}

  add(listenerId: string, error: ConfigurationError, now: number): void {
    // Forget listeners that were deleted meanwhile, or that have no more deliveries to send.
    for (const [other, { at }] of this.waiting) if (now - at > 3 * WAIT_MS) this.waiting.delete(other);
    const option = missingOption(error);
    if (![...this.waiting.values()].some((other) => other.option === option)) {
      this.logger.error(
        `${error.code}: ${error.message} Deliveries to this listener, and to every other listener with this problem, stay pending. No delivery is lost. A single process without the option pauses a listener in all processes, for one minute each time. Give every process the same ${option}.`,
      );
    }
    this.waiting.set(listenerId, { option, at: now });
  }

  delete(listenerId: string): void {
    if (this.waiting.delete(listenerId) && !this.waiting.size) {
      this.logger.log('No listener waits for a missing option of this application any more.');
    }
  }
}
