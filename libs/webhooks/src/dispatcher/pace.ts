import { monotonicMs } from '../clock.js';
import { LISTENERS_PER_CLAIM } from '../store/queue/claim-deliveries.js';
import { LISTENERS_PER_PAGE } from '../store/queue/wide-fan-out.js';

/** Events count as arriving for this time after the last fresh event was fanned out. */
const TRAFFIC_MS = 1_000;
/**
 * The length of the pause after a page or a claim, as a multiple of its duration. So pages and claims take a third
 * of the time. If they took all the time, a fresh event would wait for a CPU core.
 */
const REST_FACTOR = 2;
/** Pages and claims wait at most this long for consecutive fan-outs. */
const MAX_FAN_OUT_WAIT_MS = 50;

/** The amount of non-urgent work that one transaction takes. */
export interface Portion {
  /** Number of listeners in one page of a wide event. */
  readonly page: number;
  /** Number of listeners that one claim reads. */
  readonly claim: number;
}

const WHOLE: Portion = { page: LISTENERS_PER_PAGE, claim: LISTENERS_PER_CLAIM };
const SMALL: Portion = { page: 50, claim: 8 };

/** The state of the fan-out of fresh events, and of the pauses between pages and claims. */
export interface PaceState {
  /** Whether a batch is being fanned out. */
  readonly isRouting: boolean;
  /**
   * Whether there are more pending events than one batch takes. Such events wait for each other, so a pause would only delay all
   * these events.
   */
  readonly isBacklog: boolean;
  /** When a fresh event was last fanned out, on the monotonic clock. */
  readonly routedAt: number;
  /** No page and no claim begins before this time, on the monotonic clock. */
  restUntil: number;
}

/**
 * Ensures that very many listeners do not delay fresh events. This class limits pages of wide events (more than
 * 1,000 listeners) and claims from a long queue of listeners. While fresh events arrive and there is no backlog,
 * these pages and claims are small. They begin only while no fan-out runs, with pauses between them.
 */
export class Pace {
  /** @param clock the monotonic clock */
  constructor(
    private readonly state: PaceState,
    private readonly clock: () => number = monotonicMs,
  ) {}

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
    return this.state.restUntil + fanOutWait - this.clock();
  }

  /**
   * @param began when a page or a claim began, on the monotonic clock
   * @param isMany whether more work of the same kind is pending
   */
  ended(began: number, isMany: boolean): void {
    const now = this.clock();
    this.state.restUntil = isMany ? now + (now - began) * REST_FACTOR : -Infinity;
  }

  private get hasFreshTraffic(): boolean {
    const { isBacklog, routedAt } = this.state;
    return !isBacklog && this.clock() - routedAt < TRAFFIC_MS;
  }
}
