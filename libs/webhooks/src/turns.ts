import { setImmediate as nextTurn } from 'node:timers/promises';

/** How long one piece of work may block the event loop. */
const TURN_MS = 5;

/**
 * Limits how long concurrent checks block the event loop: in each iteration of the loop, only one check has a turn. Without turns, the
 * checks together would block the event loop for a long time.
 */
export class Turns {
  private last: Promise<unknown> = Promise.resolve();

  /** Starts the turns of one request. */
  begin(): Turn {
    return new Turn(() => (this.last = this.last.then(() => nextTurn())));
  }
}

/** The turns of one request. */
export class Turn {
  /** Even the first piece of work waits for a turn. */
  private beganAt = -Infinity;

  constructor(private readonly next: () => Promise<unknown>) {}

  /**
   * Call `pass()` before each piece of work. If this turn has lasted long enough, `pass()` waits until other work has used the
   * event loop.
   */
  async pass(): Promise<void> {
    if (performance.now() - this.beganAt < TURN_MS) return;
    await this.next();
    this.beganAt = performance.now();
  }
}
