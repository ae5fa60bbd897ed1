import type { LoggerService } from '@nestjs/common';
import type { DisabledBy, ListenerMessage } from '../diagnostics/channels.js';
import type { Diagnostics } from '../diagnostics/diagnostics.js';
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
 * Minimum time between two notices about exhausted deliveries of one listener. After an outage, thousands of deliveries
 * may be exhausted.
 */
const AT_MOST_EVERY_MS = 60_000;
/** Maximum number of listeners that are remembered for this limit. */
const REMEMBERED = 10_000;

/** Logs a warning and emits a lifecycle event, each with the URL and the owner of the listener. */
export class Notices {
  /**
   * For each listener: the time at which its last exhausted delivery was logged, on the monotonic clock. Also the number of deliveries
   * that were exhausted since that time.
   */
  private readonly named = new Map<string, { at: number; others: number }>();

  constructor(
    private readonly parts: {
      readonly logger: LoggerService;
      readonly emit: (name: string, lifecycleEvent: LifecycleEvent) => void;
      readonly diagnostics: Diagnostics;
    },
  ) {}

  /** @param how `isLogged`: whether another log line already contains this notice */
  disabled(
    listener: NoticedListener,
    reason: string,
    { by, isLogged = false }: { by: DisabledBy; isLogged?: boolean },
  ): void {
    const { logger, emit } = this.parts;
    if (!isLogged)
      logger.warn(
        `Listener ${nameOf(listener)} is disabled: ${JSON.stringify(reason)}. Deliveries to this listener are held.`,
      );
    const { id: listenerId, url, owner } = listener;
    emit(LIFECYCLE_EVENTS.listenerDisabled, { listenerId, url, owner, reason });
    this.publish(listener, { change: 'disabled', reason, by });
  }

  circuitOpened(
    listener: NoticedListener,
    opened: Pick<CircuitOpenedLifecycleEvent, 'failuresInARow' | 'pausedUntil'>,
  ): void {
    const { logger, emit } = this.parts;
    logger.warn(
      `The circuit of listener ${nameOf(listener)} is open: ${opened.failuresInARow} consecutive attempts failed. Nothing is sent to this listener until ${opened.pausedUntil.toISOString()}, then one delivery at a time.`,
    );
    const { id: listenerId, url, owner } = listener;
    emit(LIFECYCLE_EVENTS.circuitOpened, { listenerId, url, owner, ...opened });
    this.publish(listener, { change: 'circuit_opened', reason: null, by: null });
  }

  /** Emits that a listener works again. A recovery is good news, so it is not logged. The log has the failures. */
  recovered(listener: NoticedListener): void {
    this.publish(listener, { change: 'recovered', reason: null, by: null });
  }

  private publish(
    { id: listenerId, url, owner }: NoticedListener,
    what: Pick<ListenerMessage, 'change' | 'reason' | 'by'>,
  ): void {
    const { diagnostics } = this.parts;
    if (diagnostics.listens('listener')) diagnostics.publish('listener', { listenerId, url, owner, ...what });
  }

  /** Logs an exhausted delivery. The recorder emits the lifecycle event. */
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

/**
 * Returns the name of a listener for the log. The query of the URL is left out, because it may contain a token. JSON escapes line
 * breaks in the owner.
 */
function nameOf({ id, url, owner }: NoticedListener): string {
  const { origin, pathname } = new URL(url);
  return `${id} (${origin}${pathname}, ${owner === null ? 'no owner' : `owner ${JSON.stringify(owner)}`})`;
}
