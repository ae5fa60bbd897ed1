import { SECOND, MINUTE, HOUR } from '../time.js';

/**
 * When a failed attempt is tried again: a replaceable part.
 *
 * @example
 * class ThreeTimes extends RetrySchedule {
 *   delayMs(failures: number) { return failures < 3 ? 1_000 : null; }
 * }
 */
export abstract class RetrySchedule {
  /**
   * @param failures attempts that failed since the schedule began: 1 after the first
   * @returns milliseconds until the next attempt, or `null` when there is none: the delivery is exhausted
   */
  abstract delayMs(failures: number): number | null;
}

/** Waits before attempts 2 to 10; the first is made at once (Standard Webhooks specification, "Deliverability and reliability"). */
const DELAYS_MS: readonly number[] = [
  5 * SECOND,
  5 * MINUTE,
  30 * MINUTE,
  2 * HOUR,
  5 * HOUR,
  10 * HOUR,
  14 * HOUR,
  20 * HOUR,
  24 * HOUR,
];

/** Receivers that came back are not met by everybody at once: up to a fifth is added. */
const JITTER = 0.2;

/** The schedule of Standard Webhooks: ten attempts over some three days, each wait 0 to 20 % longer. */
export class StandardRetrySchedule extends RetrySchedule {
  constructor(private readonly random: () => number = Math.random) {
    super();
  }

  delayMs(failures: number): number | null {
    const delay = DELAYS_MS[failures - 1];
    return delay === undefined ? null : Math.round(delay * (1 + JITTER * this.random()));
  }
}
