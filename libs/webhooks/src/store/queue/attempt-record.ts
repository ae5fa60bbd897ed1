import type { NextState } from '../../health/next-state.js';

/** One attempt that was made, and what it makes of its delivery. */
export interface AttemptRecord {
  readonly deliverySeq: string;
  readonly leaseToken: string;
  readonly listenerId: string;
  /** The listener was failing before: a success is to be noted. */
  readonly wasFailing: boolean;
  /** Later deliveries of the same row wait for this one. */
  readonly isOrdered: boolean;
  readonly number: number;
  readonly outcome: string;
  readonly status: number | null;
  readonly errorCode: string | null;
  readonly errorDetail: string | null;
  readonly durationMs: number;
  readonly response: string | null;
  readonly retryAfterMs: number | null;
  readonly startedAt: number;
  readonly next: NextState;
}

export interface RecordResult {
  /** Sequences of the deliveries that moved. */
  readonly moved: ReadonlySet<string>;
  /** Listeners that may not be sent to for a while. */
  readonly paused: ReadonlySet<string>;
  readonly disabled: readonly { listenerId: string; reason: string }[];
  /** Listeners whose circuit has opened now. */
  readonly opened: readonly { listenerId: string; failuresInARow: number; pausedUntil: number }[];
}
