import type { NextState } from '../../health/next-state.js';

/** One attempt that was made, and the next state of its delivery. */
export interface AttemptRecord {
  readonly deliverySeq: string;
  readonly leaseToken: string;
  readonly listenerId: string;
  /** Whether the listener was failing before: then a success changes its health. */
  readonly wasFailing: boolean;
  /** Whether later deliveries of the same row wait for this one. */
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
  /** Sequences of the deliveries whose state changed. */
  readonly moved: ReadonlySet<string>;
  /** Listeners that are paused: nothing may be sent to them for a while. */
  readonly paused: ReadonlySet<string>;
  readonly disabled: readonly { listenerId: string; reason: string }[];
  /** Listeners whose circuit opened with these attempts. */
  readonly opened: readonly { listenerId: string; failuresInARow: number; pausedUntil: number }[];
}
