import { setImmediate as nextTurn } from 'node:timers/promises';

/** How long one piece of work may block the event loop. */
const TURN_MS = 5;

/**
 * Gives concurrent checks turns of the event loop, one turn in each iteration. Otherwise the checks would together block the event loop for
 * a long time.
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
  /** The first piece of work also waits for a turn. */
  private beganAt = -Infinity;

  constructor(private readonly next: () => Promise<unknown>) {}

  /**
   * Call it before each piece of work. If this turn has lasted long enough, it waits until other work has used the event loop.
   */
  async pass(): Promise<void> {
    if (performance.now() - this.beganAt < TURN_MS) return;
    await this.next();
    this.beganAt = performance.now();
  }
}
