import { setImmediate as nextTurn } from 'node:timers/promises';

/** How long one piece of work may block the event loop. */
const TURN_MS = 5;

/**
 * Gives out turns of the event loop, one in each iteration, so that concurrent checks do not add up to one long block.
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
   * Call it before each piece of work. When this turn has lasted long enough, it lets other work use the event loop.
   */
  async pass(): Promise<void> {
    if (performance.now() - this.beganAt < TURN_MS) return;
    await this.next();
    this.beganAt = performance.now();
  }
}
