import { SECOND, MINUTE, HOUR } from '../time.js';

/**
 * Decides when a failed attempt is retried. The retry schedule is a replaceable part.
 *
 * @example
 * class ThreeTimes extends RetrySchedule {
 *   delayMs(failures: number) { return failures < 3 ? 1_000 : null; }
 * }
 */
export abstract class RetrySchedule {
  /**
   * @param failures number of failed attempts since the schedule began; 1 after the first failed attempt
   * @returns milliseconds until the next attempt; `null` if there is no next attempt. Then the delivery is exhausted
   */
  abstract delayMs(failures: number): number | null;
}

/**
 * The delays before attempts 2 to 10. Attempt 1 has no delay (Standard Webhooks specification, "Deliverability and
 * reliability").
 */
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

/**
 * Each delay becomes longer by a random part, at most a fifth. Otherwise a receiver that recovers would get all
 * retries at the same moment.
 */
const JITTER = 0.2;

/** The schedule of Standard Webhooks: ten attempts over about three days. Each delay is 0 to 20 % longer than the schedule says. */
export class StandardRetrySchedule extends RetrySchedule {
  constructor(private readonly random: () => number = Math.random) {
    super();
  }

  delayMs(failures: number): number | null {
    const delay = DELAYS_MS[failures - 1];
    return delay === undefined ? null : Math.round(delay * (1 + JITTER * this.random()));
  }
}
