import { WebhookClock } from '../clock.js';

/** A clock whose time changes only when a test moves it. */
export class FakeClock extends WebhookClock {
  #now: number;

  /** @param now milliseconds since 1970 @defaultValue the current time */
  constructor(now: number | Date = Date.now()) {
    super();
    this.#now = Number(now);
  }

  now(): number {
    return this.#now;
  }

  /** Moves the clock forward by `ms` milliseconds. A negative number moves the clock back. */
  advance(ms: number): void {
    this.set(this.#now + ms);
  }

  /** Moves the clock to a time, in milliseconds since 1970. */
  set(now: number | Date): void {
    const ms = Number(now);
    if (!Number.isFinite(ms))
      throw new RangeError(`Invalid time ${ms} for FakeClock. Allowed: a valid Date, or milliseconds since 1970.`);
    this.#now = ms;
  }
}
