/**
 * A reading of the database's clock. The database took the reading at some moment between `askedAt` and `answeredAt`.
 */
export interface ClockReading {
  /** The time that the database returned, in milliseconds since 1970, UTC. */
  readonly databaseMs: number;
  /** `performance.now()` before the query. */
  readonly askedAt: number;
  /** `performance.now()` after the answer. */
  readonly answeredAt: number;
}

/** The clock of an instance. All code that compares times uses this clock, so a test can move it. */
export abstract class WebhookClock {
  /** @returns milliseconds since 1970, UTC, as a whole number */
  abstract now(): number;

  /**
   * Receives the time of the database when the instance starts, and then at least once a minute. A clock that a test moves does not
   * need this method.
   */
  read?(reading: ClockReading): void;
}

/**
 * A clock that is ahead of its database by more than this time is set back. Normal drift is a few milliseconds. Receivers refuse times
 * that are five minutes off.
 */
export const SET_BACK_FROM_MS = 5_000;

/**
 * The time of the database, which all processes share. Between readings the monotonic clock of this process advances it. The clock of a
 * host may be wrong, or may be changed while the process runs. The time of the database does not depend on that clock. So the process
 * claims no lease too early, and signs no time that receivers refuse.
 *
 * The database reads its clock at an unknown moment between query and answer. So a reading gives a range of offsets. The reading with the
 * shortest round trip so far sets the offset to the middle of its range. A reading with a longer round trip changes the offset only if the
 * offset is outside the range of that reading. The offset then moves to the nearest end of the range. So one slow answer changes nothing,
 * but the clock still follows a drift.
 *
 * After a small correction, `now()` does not return an earlier time. It returns the same time until the database has caught up. A clock
 * that is ahead by more than {@link SET_BACK_FROM_MS} is set back immediately. Otherwise the process would sign times that receivers
 * refuse, and no retry would become due.
 */
export class SystemWebhookClock extends WebhookClock {
  /** The time of the database minus `performance.now()`. */
  private offset: number | null = null;
  private shortestMs = Infinity;
  private last = 0;

  /** Returns the time of this machine before the first reading. */
  now(): number {
    if (this.offset === null) return Date.now();
    this.last = Math.max(this.last, Math.floor(performance.now() + this.offset));
    return this.last;
  }

  override read({ databaseMs, askedAt, answeredAt }: ClockReading): void {
    const least = databaseMs - answeredAt;
    const most = databaseMs - askedAt;
    if (this.offset === null || most - least <= this.shortestMs) {
      this.shortestMs = most - least;
      this.offset = (least + most) / 2;
    } else {
      this.offset = Math.min(most, Math.max(least, this.offset));
    }
    if (this.last - (answeredAt + this.offset) > SET_BACK_FROM_MS) this.last = 0;
  }
}

/** The monotonic clock of this process, in ms. */
export function monotonicMs(): number {
  return performance.now();
}
