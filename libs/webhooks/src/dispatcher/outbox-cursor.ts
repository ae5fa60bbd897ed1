/** How much of the time may be spent on looking from the start. */
const SWEEP_SHARE = 0.1;
/** However long one took, perhaps because it had to wait for a lock, the next is not put off for longer. */
const SWEEP_WITHIN_MS = 5_000;
/** How much later than it may be a sweep is waited for. */
const SWEEP_LATE_MS = 250;

/**
 * Where to look for pending events.
 *
 * Looking from the start each time passes every event that was routed lately and is not vacuumed yet: with one old snapshot
 * open on a PostgreSQL server these are all of them, and a drain becomes quadratic. Looking only past the last one taken
 * would miss what commits late under a lower sequence. So both: mostly past the last one, and from the start, which is called
 * a sweep here, as often as {@link SWEEP_SHARE} of the time allows. Where sweeps are cheap, that is all the time.
 */
export class OutboxCursor {
  private afterSeq = 0;
  private sweepAt = 0;
  private isSweep = false;

  /**
   * Begins a look.
   *
   * @param isAlone no other look's events are still being routed; a sweep would find them again
   */
  look(isAlone = true): Look {
    const at = performance.now();
    this.isSweep = isAlone && at >= this.sweepAt;
    return { afterSeq: this.isSweep ? 0 : this.afterSeq, isSweep: this.isSweep, at };
  }

  /** Ends it. @param lastSeq of the last event that it found, if any */
  found(look: Look, lastSeq: number | null): void {
    const now = performance.now();
    if (look.isSweep) this.sweepAt = now + Math.min((now - look.at) / SWEEP_SHARE, SWEEP_WITHIN_MS);
    if (lastSeq !== null) this.afterSeq = Math.max(this.afterSeq, lastSeq);
  }

  /** What was found after this sequence was left where it is, and has to be found again. */
  left(afterSeq: number): void {
    this.afterSeq = Math.min(this.afterSeq, afterSeq);
  }

  /** So many looks have not been alone that the next one has to be. */
  get isSweepOverdue(): boolean {
    return performance.now() > this.sweepAt + SWEEP_LATE_MS;
  }

  /** How long until a look that found nothing is worth repeating from the start, in ms; `null` when it was a sweep itself. */
  get untilSweepMs(): number | null {
    return this.isSweep ? null : Math.max(0, this.sweepAt - performance.now());
  }
}

/** One look into the outbox. */
export interface Look {
  /** The sequence after which to look. */
  readonly afterSeq: number;
  readonly isSweep: boolean;
  /** When it began, on the monotonic clock. */
  readonly at: number;
}
