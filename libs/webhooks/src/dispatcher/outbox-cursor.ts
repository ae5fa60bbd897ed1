/** Maximum share of the time that sweeps take. */
const SWEEP_SHARE = 0.1;
/** Maximum pause between sweeps, however long one sweep took, for example because it waited for a lock. */
const SWEEP_WITHIN_MS = 5_000;
/** A sweep that is later than this is overdue. */
const SWEEP_LATE_MS = 250;

/**
 * Decides from which sequence to look for pending events.
 *
 * A look from the start passes every event that was routed lately and is not vacuumed yet. With one old snapshot open
 * on a PostgreSQL server these are all events, and a drain becomes quadratic. A look only past the last event would
 * miss an event that is committed late under a lower sequence. So most looks begin past the last event, and some from
 * the start. A look from the start is called a sweep. Sweeps take at most {@link SWEEP_SHARE} of the time; where
 * sweeps are cheap, every look is one.
 */
export class OutboxCursor {
  private afterSeq = 0;
  private sweepAt = 0;
  private isSweep = false;

  /**
   * Begins a look.
   *
   * @param isAlone no other batch is being routed; a sweep would find the events of that batch again
   */
  look(isAlone = true): Look {
    const at = performance.now();
    this.isSweep = isAlone && at >= this.sweepAt;
    return { afterSeq: this.isSweep ? 0 : this.afterSeq, isSweep: this.isSweep, at };
  }

  /**
   * Ends a look.
   * @param lastSeq sequence of the last event that the look found, if any
   */
  found(look: Look, lastSeq: number | null): void {
    const now = performance.now();
    if (look.isSweep) this.sweepAt = now + Math.min((now - look.at) / SWEEP_SHARE, SWEEP_WITHIN_MS);
    if (lastSeq !== null) this.afterSeq = Math.max(this.afterSeq, lastSeq);
  }

  /** Events after this sequence were found but not taken, so the next look must find them again. */
  notTaken(afterSeq: number): void {
    this.afterSeq = Math.min(this.afterSeq, afterSeq);
  }

  /** Whether the sweep is so late that the next look must be a sweep. */
  get isSweepOverdue(): boolean {
    return performance.now() > this.sweepAt + SWEEP_LATE_MS;
  }

  /** Time in ms until a look that found nothing should be followed by a sweep; `null` when it was a sweep itself. */
  get untilSweepMs(): number | null {
    return this.isSweep ? null : Math.max(0, this.sweepAt - performance.now());
  }
}

/** One look into the outbox. */
export interface Look {
  /** The look finds events after this sequence. */
  readonly afterSeq: number;
  readonly isSweep: boolean;
  /** When the look began, on the monotonic clock. */
  readonly at: number;
}
