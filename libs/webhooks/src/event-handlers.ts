import type { LoggerService } from '@nestjs/common';
import type { EventEmitter2 } from '@nestjs/event-emitter';
import { runCausedBy, runOutside, type Cause } from './cause.js';
import { eventName } from './dispatcher/lifecycle-events.js';
import { messageOf } from './foreign-text.js';
import type { EventRow } from './store/outbox/event-rows.js';

/** Calls the `@OnEvent()` handlers of the application. @internal */
export class EventHandlers {
  constructor(
    private readonly emitter: EventEmitter2,
    private readonly logger: LoggerService,
  ) {}

  /** Emits committed events. */
  emitEvents(rows: readonly EventRow[]): void {
    // Handlers run after the promise of the write has settled.
    setImmediate(() => {
      for (const { source } of rows) {
        const { event, depth } = source;
        this.emit(eventName(event.type), event, { context: event.context, depth });
      }
    });
  }

  /** Emits on EventEmitter2. If a handler throws, the error is logged, and the dispatcher and other handlers continue. */
  emit(name: string, value: unknown, cause?: Cause): void {
    const { emitter } = this;
    // Return early: `emit()` runs for every delivery, and most applications have no handler.
    if (!emitter.hasListeners(name) && !emitter.listenersAny().length) return;
    const emitToHandlers = () => {
      emitter.emitAsync(name, value).catch((error: unknown) => this.handlerFailed(name, error));
    };
    try {
      // Handlers do not run in the async context of the write, but their writes still get this event as their cause.
      if (cause) runCausedBy(cause, emitToHandlers);
      else runOutside(emitToHandlers);
    } catch (error) {
      this.handlerFailed(name, error);
    }
  }

  private handlerFailed(name: string, error: unknown): void {
    this.logger.error(`A handler of ${name} threw: ${messageOf(error)}`);
  }
}
