import { LISTENERS_PER_CLAIM } from '../store/queue/claim-deliveries.js';
import { LISTENERS_PER_PAGE } from '../store/queue/wide-fan-out.js';

/** For so long after a fresh event was routed more of them are expected. */
const TRAFFIC_MS = 1_000;
/** What may wait has a third of the time: on a machine that is busy with it, whatever begins meanwhile waits for a core. */
const REST_FACTOR = 2;
/** Fan-outs that follow each other without a break are waited for no longer. */
const PATIENCE_MS = 50;

/** How much one transaction takes of what may wait. */
export interface Portion {
  /** Listeners of one page of a wide event. */
  readonly page: number;
  /** Listeners that one claim looks at. */
  readonly claim: number;
}

const WHOLE: Portion = { page: LISTENERS_PER_PAGE, claim: LISTENERS_PER_CLAIM };
const SMALL: Portion = { page: 50, claim: 8 };

/** What the fan-out of fresh events is at. */
export interface FreshTraffic {
  /** A batch is being fanned out. */
  readonly isRouting: boolean;
  /** There are more than one batch takes: they wait for each other, and a pause would only make all of it longer. */
  readonly isBacklog: boolean;
  /** When one was last fanned out, on the monotonic clock. */
  readonly routedAt: number;
}

/**
 * Keeps the deliveries of very many listeners out of the way of fresh events: as long as those come, and are no backlog themselves, pages of
 * wide events and claims from a long queue of listeners are small, begin while nothing is being fanned out, and rest in between.
 */
export class Pace {
  private restUntil = -Infinity;

  constructor(private readonly fresh: FreshTraffic) {}

  /** How much may be taken at once now. */
  get portion(): Portion {
    return this.isPolite ? SMALL : WHOLE;
  }

  /** Whether the next page or claim may begin. */
  get mayBegin(): boolean {
    return this.waitMs <= 0;
  }

  /** How long until it may, unless a fan-out ends before, in ms; not more than 0 when it may. */
  get waitMs(): number {
    if (!this.isPolite) return 0;
    const patience = this.fresh.isRouting ? PATIENCE_MS : 0;
    return this.restUntil + patience - performance.now();
  }

  /** @param began when a page or a claim began, on the monotonic clock @param isMany whether more of the kind wait */
  ended(began: number, isMany: boolean): void {
    const now = performance.now();
    this.restUntil = isMany ? now + (now - began) * REST_FACTOR : -Infinity;
  }

  private get isPolite(): boolean {
    const { isBacklog, routedAt } = this.fresh;
    return !isBacklog && performance.now() - routedAt < TRAFFIC_MS;
  }
}
