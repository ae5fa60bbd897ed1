import { Clock } from '../clock.js';

/** A clock that stands still until a test moves it. */
export class FakeClock extends Clock {
  #now: number;

  /** @param now milliseconds since 1970; the time of the call when left out */
  constructor(now: number | Date = Date.now()) {
    super();
    this.#now = Number(now);
  }

  now(): number {
    return this.#now;
  }

  /** Moves forward, or back with a negative number, by `ms` milliseconds. */
  advance(ms: number): void {
    this.set(this.#now + ms);
  }

  /** Moves to a time, in milliseconds since 1970. */
  set(now: number | Date): void {
    const ms = Number(now);
    if (!Number.isFinite(ms)) throw new RangeError(`FakeClock cannot stand at ${ms}.`);
    this.#now = ms;
  }
}
