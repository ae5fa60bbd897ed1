/** How much of the time may be spent on looking from the start. */
const SWEEP_SHARE = 0.1;

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
  private lookedAt = 0;
  private isSweep = false;

  /** Begins a look. @returns the sequence after which to look */
  look(): number {
    this.lookedAt = performance.now();
    this.isSweep = this.lookedAt >= this.sweepAt;
    return this.isSweep ? 0 : this.afterSeq;
  }

  /** Ends it. @param lastSeq of the last event looked at, if any */
  found(lastSeq: number | null): void {
    const now = performance.now();
    if (this.isSweep) this.sweepAt = now + (now - this.lookedAt) / SWEEP_SHARE;
    if (lastSeq !== null) this.afterSeq = Math.max(this.afterSeq, lastSeq);
  }

  /** How long until a look that found nothing is worth repeating from the start, in ms; `null` when it was a sweep itself. */
  get untilSweepMs(): number | null {
    return this.isSweep ? null : Math.max(0, this.sweepAt - performance.now());
  }
}
