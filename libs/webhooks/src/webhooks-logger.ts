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
