import { Logger } from '@nestjs/common';
import { oneLine } from './foreign-text.js';

/** Nest's logger. It writes each message in one line, because messages contain text of receivers, databases and handlers. @internal */
export class WebhooksLogger extends Logger {
  override log(message: string): void {
    super.log(oneLine(message));
  }

  override warn(message: string): void {
    super.warn(oneLine(message));
  }

  override error(message: string, stack?: string): void {
    if (stack === undefined) super.error(oneLine(message));
    else super.error(oneLine(message), stack);
  }
}

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
