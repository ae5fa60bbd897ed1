/** The database's time, as it was read at some moment between two others. */
export interface ClockReading {
  /** What the database said, in milliseconds since 1970, UTC. */
  readonly databaseMs: number;
  /** When it was asked, by `performance.now()`. */
  readonly askedAt: number;
  /** When it had answered, by `performance.now()`. */
  readonly answeredAt: number;
}

/** Gives the time. One for everything that compares times, so that a test can move it. */
export abstract class WebhookClock {
  /** Milliseconds since 1970, UTC. A whole number. */
  abstract now(): number;

  /**
   * Called when the instance starts, and at least once a minute: what the database's own clock says. A clock that is set
   * by hand does without.
   */
  read?(reading: ClockReading): void;
}

/** A clock that is ahead of its database by more is set back. Receivers refuse times that are five minutes off; drifts are milliseconds. */
export const SET_BACK_FROM_MS = 5_000;

/**
 * The database's time, which all processes share, carried on by the monotonic clock of this one: a host whose own clock is
 * wrong, or is set while the process runs, takes over no lease too early and signs no time that receivers refuse.
 *
 * A reading says that the database's clock was somewhere between "read as the question left" and "read as the answer came".
 * The best one so far, which has the shortest round trip, is believed to lie in the middle. One with a longer round trip
 * moves the clock only as far as into what it allows, so a slow answer changes nothing, and a drift is followed.
 *
 * It never goes back by little: set back by a reading, it stands still until the database's has caught up. If it is ahead by more than
 * {@link SET_BACK_FROM_MS}, it is set back at once: it would sign times that receivers refuse, and no retry would be due.
 */
export class SystemWebhookClock extends WebhookClock {
  /** The database's time less `performance.now()`. */
  private offset: number | null = null;
  private shortestMs = Infinity;
  private last = 0;

  /** Before the first reading, the machine's clock. */
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
