import { Logger } from '@nestjs/common';
import { oneLine } from './foreign-text.js';

/**
 * Nest's logger, but this one writes each text on one line. A text may contain words of receivers, databases and handlers, and these words
 * may contain line breaks. Objects are passed on unchanged: a logger escapes the texts in objects. @internal
 */
export class WebhooksLogger extends Logger {
  override log(message: string): void {
    super.log(oneLine(message));
  }

  override warn(message: string | object): void {
    super.warn(escaped(message));
  }

  override error(message: string | object, stack?: string): void {
    if (stack === undefined) super.error(escaped(message));
    else super.error(escaped(message), stack);
  }
}

function escaped(message: string | object): string | object {
  return typeof message === 'string' ? oneLine(message) : message;
}

/**
 * Minimum time between two log lines about one trouble. Without a minimum time, a trouble that comes and goes would
 * fill the log.
 */
const AT_MOST_EVERY_MS = 60_000;

/**
 * Limits the log lines about one trouble. The log gets one line when the trouble begins and one line when the trouble is over. The log
 * gets at most one such pair a minute.
 */
export class TroubleLog {
  private loggedAt = -Infinity;
  private isLogged = false;

  /** Call this method when the work failed. @returns whether to log the failure now */
  failed(): boolean {
    if (this.isLogged || performance.now() - this.loggedAt < AT_MOST_EVERY_MS) return false;
    this.loggedAt = performance.now();
    this.isLogged = true;
    return true;
  }

  /** Call this method when the work succeeded. @returns whether to log the success: only if the failure was logged */
  recovered(): boolean {
    const { isLogged } = this;
    this.isLogged = false;
    return isLogged;
  }
}
