import type { Outage } from '../../health/outage.js';
import type { NextState } from '../../health/next-state.js';
import type { ClaimedDelivery } from './claimed-delivery.js';

/** One attempt that was made, and the next state of its delivery. */
export interface AttemptRecord {
  readonly delivery: ClaimedDelivery;
  /** Whether the listener was failing before this attempt. If so, a success changes its health. */
  readonly wasFailing: boolean;
  readonly outcome: string;
  readonly status: number | null;
  readonly errorCode: string | null;
  readonly errorDetail: string | null;
  readonly durationMs: number;
  readonly response: string | null;
  readonly retryAfterMs: number | null;
  readonly startedAt: number;
  /**
   * URL, headers and phases as JSON, in the form of `stored-details.ts`. An attempt with details has a row in `attempts`, even if it is the
   * first attempt. Default: none.
   */
  readonly details?: string | null;
  readonly next: NextState;
}

/** The number of an attempt of its delivery, from 1. Attempt 1 is stored in the delivery's row, unless it has details. */
export function numberOf({ delivery }: AttemptRecord): number {
  return delivery.attempts + 1;
}

export interface RecordResult {
  /** The deliveries whose state changed. A delivery under an expired lease is another object than the same delivery under the next lease. */
  readonly moved: ReadonlySet<ClaimedDelivery>;
  /** Listeners that are paused. For a while, nothing may be sent to these listeners. */
  readonly paused: ReadonlySet<string>;
  readonly disabled: readonly { listenerId: string; reason: string }[];
  /** What changed for the listeners of these attempts. */
  readonly outages: readonly Outage[];
  /** Listeners whose circuit opened with these attempts. */
  readonly opened: readonly { listenerId: string; failuresInARow: number; pausedUntil: number }[];
}
