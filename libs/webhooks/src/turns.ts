import { setImmediate as nextTurn } from 'node:timers/promises';

/** How long one piece of work may hold the event loop. */
const TURN_MS = 5;

/** Hands out turns of the event loop, one in each of its rounds: requests that are checked at the same time do not add up. */
export class Turns {
  private last: Promise<unknown> = Promise.resolve();

  /** Of one request. */
  begin(): Turn {
    return new Turn(() => (this.last = this.last.then(() => nextTurn())));
  }
}

/** The turn of one request. */
export class Turn {
  /** The first piece waits for a turn, too. */
  private beganAt = -Infinity;

  constructor(private readonly next: () => Promise<unknown>) {}

  /** Before each piece of work: lets others have the event loop when this turn has taken long enough. */
  async pass(): Promise<void> {
    if (performance.now() - this.beganAt < TURN_MS) return;
    await this.next();
    this.beganAt = performance.now();
  }
}
