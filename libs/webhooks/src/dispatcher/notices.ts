import type { LoggerService } from '@nestjs/common';
import {
  LIFECYCLE_EVENTS,
  type CircuitOpenedLifecycleEvent,
  type DeliveryLifecycleEvent,
  type LifecycleEvent,
} from './lifecycle-events.js';

/** Which listener something has happened to. */
export interface NoticedListener {
  readonly id: string;
  readonly url: string;
  readonly owner: string | null;
}

/** No listener has its exhausted deliveries named more often: after an outage there may be thousands. */
const AT_MOST_EVERY_MS = 60_000;
/** Listeners that are remembered for that. */
const REMEMBERED = 10_000;

/** Sees to it that somebody notices: a warning in the log, and an event, each with the listener's URL and owner. */
export class Notices {
  /** When a listener's exhausted delivery was named last, on the monotonic clock, and how many were exhausted since. */
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
      `The circuit of listener ${nameOf(listener)} is open: ${opened.failuresInARow} attempts in a row failed. Nothing is sent to it until ${opened.pausedUntil.toISOString()}, then one delivery at a time.`,
    );
    const { id: listenerId, url, owner } = listener;
    emit(LIFECYCLE_EVENTS.circuitOpened, { listenerId, url, owner, ...opened });
  }

  /** The event is emitted by whoever records the attempt. */
  exhausted({ deliveryId, listenerId, url, owner, attempt, status, errorCode }: DeliveryLifecycleEvent): void {
    const now = performance.now();
    const before = this.named.get(listenerId);
    if (before && now - before.at < AT_MOST_EVERY_MS) {
      before.others++;
      return;
    }
    if (this.named.size >= REMEMBERED) this.named.clear();
    this.named.set(listenerId, { at: now, others: 0 });
    const others = before?.others ? ` So are ${before.others} others of this listener.` : '';
    this.parts.logger.warn(
      `Delivery ${deliveryId} to ${nameOf({ id: listenerId, url, owner })} is exhausted after ${attempt} ${attempt === 1 ? 'attempt' : 'attempts'}: ${status ?? errorCode ?? 'no answer'}.${others}`,
    );
  }
}

/** Without the query, in which some receivers expect a token. JSON keeps an owner on its line. */
function nameOf({ id, url, owner }: NoticedListener): string {
  const { origin, pathname } = new URL(url);
  return `${id} (${origin}${pathname}, ${owner === null ? 'no owner' : `owner ${JSON.stringify(owner)}`})`;
}
