import type { LoggerService } from '@nestjs/common';
import {
  LIFECYCLE_EVENTS,
  type CircuitOpenedLifecycleEvent,
  type DeliveryLifecycleEvent,
  type LifecycleEvent,
} from './lifecycle-events.js';

/** The listener that a notice is about. */
export interface NoticedListener {
  readonly id: string;
  readonly url: string;
  readonly owner: string | null;
}

/**
 * Minimum time between two notices about exhausted deliveries of one listener: after an outage there may be
 * thousands.
 */
const AT_MOST_EVERY_MS = 60_000;
/** Maximum number of listeners that are remembered for this limit. */
const REMEMBERED = 10_000;

/** Logs a warning and emits a lifecycle event, each with the URL and the owner of the listener. */
export class Notices {
  /**
   * When the last exhausted delivery of a listener was logged, on the monotonic clock, and how many were exhausted
   * since.
   */
  private readonly named = new Map<string, { at: number; others: number }>();

  constructor(
    private readonly parts: {
      readonly logger: LoggerService;
      readonly emit: (name: string, lifecycleEvent: LifecycleEvent) => void;
    },
  ) {}

  disabled(listener: NoticedListener, reason: string): void {
    const { logger, emit } = this.parts;
    logger.warn(`Listener ${nameOf(listener)} is disabled: ${JSON.stringify(reason)}. Deliveries to it are held.`);
    const { id: listenerId, url, owner } = listener;
    emit(LIFECYCLE_EVENTS.listenerDisabled, { listenerId, url, owner, reason });
  }

  circuitOpened(
    listener: NoticedListener,
    opened: Pick<CircuitOpenedLifecycleEvent, 'failuresInARow' | 'pausedUntil'>,
  ): void {
    const { logger, emit } = this.parts;
    logger.warn(
      `The circuit of listener ${nameOf(listener)} is open: ${opened.failuresInARow} consecutive attempts failed. Nothing is sent to it until ${opened.pausedUntil.toISOString()}, then one delivery at a time.`,
    );
    const { id: listenerId, url, owner } = listener;
    emit(LIFECYCLE_EVENTS.circuitOpened, { listenerId, url, owner, ...opened });
  }

  /** Only logs. The recorder emits the lifecycle event. */
  exhausted({ deliveryId, listenerId, url, owner, attempt, status, errorCode }: DeliveryLifecycleEvent): void {
    const now = performance.now();
    const before = this.named.get(listenerId);
    if (before && now - before.at < AT_MOST_EVERY_MS) {
      before.others++;
      return;
    }
    if (this.named.size >= REMEMBERED) this.named.clear();
    this.named.set(listenerId, { at: now, others: 0 });
    const others = before?.others ? `${before.others} more deliveries of this listener are exhausted.` : '';
    this.parts.logger.warn(
      `Delivery ${deliveryId} to ${nameOf({ id: listenerId, url, owner })} is exhausted after ${attempt} ${attempt === 1 ? 'attempt' : 'attempts'}: ${status ?? errorCode ?? 'no answer'}.${others}`,
    );
  }
}

/** Names a listener in the log. Leaves out the query of its URL, which may contain a token. JSON escapes line breaks in the owner. */
function nameOf({ id, url, owner }: NoticedListener): string {
  const { origin, pathname } = new URL(url);
  return `${id} (${origin}${pathname}, ${owner === null ? 'no owner' : `owner ${JSON.stringify(owner)}`})`;
}
