import { LISTENERS_PER_CLAIM } from '../store/queue/claim-deliveries.js';
import { LISTENERS_PER_PAGE } from '../store/queue/wide-fan-out.js';

/** Traffic counts as fresh for this long after the last fresh event was fanned out. */
const TRAFFIC_MS = 1_000;
/**
 * Pages and claims get a third of the time. On a machine that is busy with them, a new fresh event would wait for a
 * CPU core.
 */
const REST_FACTOR = 2;
/** Pages and claims wait at most this long for consecutive fan-outs. */
const MAX_FAN_OUT_WAIT_MS = 50;

/** How much one transaction takes of the work that is not urgent. */
export interface Portion {
  /** Number of listeners in one page of a wide event. */
  readonly page: number;
  /** Number of listeners that one claim looks at. */
  readonly claim: number;
}

const WHOLE: Portion = { page: LISTENERS_PER_PAGE, claim: LISTENERS_PER_CLAIM };
const SMALL: Portion = { page: 50, claim: 8 };

/** The state of the fan-out of fresh events, and of the pauses beside it. */
export interface PaceState {
  /** A batch is being fanned out. */
  readonly isRouting: boolean;
  /**
   * There are more pending events than one batch takes. These wait for each other, so a pause would only delay all of
   * them.
   */
  readonly isBacklog: boolean;
  /** When a fresh event was last fanned out, on the monotonic clock. */
  readonly routedAt: number;
  /** No page and no claim begins before this time, on the monotonic clock. */
  restUntil: number;
}

/**
 * Keeps very many listeners from delaying fresh events. While fresh events arrive and form no backlog, pages of wide
 * events (more than 1,000 listeners) and claims from a long queue of listeners are small. They begin only while no
 * fan-out runs, and pause in between.
 */
export class Pace {
  constructor(private readonly state: PaceState) {}

  /** How much one page or claim may take now. */
  get portion(): Portion {
    return this.hasFreshTraffic ? SMALL : WHOLE;
  }

  /** Whether the next page or claim may begin. */
  get mayBegin(): boolean {
    return this.waitMs <= 0;
  }

  /**
   * Time in ms until the next page or claim may begin, unless a fan-out ends earlier; 0 or less when it may begin
   * now.
   */
  get waitMs(): number {
    if (!this.hasFreshTraffic) return 0;
    const fanOutWait = this.state.isRouting ? MAX_FAN_OUT_WAIT_MS : 0;
    return this.state.restUntil + fanOutWait - performance.now();
  }

  /**
   * @param began when a page or a claim began, on the monotonic clock
   * @param isMany whether more work of the same kind is pending
   */
  ended(began: number, isMany: boolean): void {
    const now = performance.now();
    this.state.restUntil = isMany ? now + (now - began) * REST_FACTOR : -Infinity;
  }

  private get hasFreshTraffic(): boolean {
    const { isBacklog, routedAt } = this.state;
    return !isBacklog && performance.now() - routedAt < TRAFFIC_MS;
  }
}
