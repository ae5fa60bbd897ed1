import { monotonicMs } from '../clock.js';

/** Maximum share of the time that sweeps take. */
const SWEEP_SHARE = 0.1;
/** Maximum pause between sweeps, even if one sweep took a long time, for example because the sweep waited for a lock. */
const SWEEP_WITHIN_MS = 5_000;
/** A sweep that is later than this time is overdue. */
const SWEEP_LATE_MS = 250;

/**
 * Decides at which sequence a search for pending events begins. Such a search is called a look.
 *
 * A look from the start also reads every event that was routed recently and that is not yet vacuumed. While an old snapshot is open on a
 * PostgreSQL server, no event is vacuumed. Then the time of a drain becomes quadratic. A look that begins after the last known event would
 * miss an event that is committed late with a lower sequence. So most looks begin after the last known event, and some looks begin at the
 * start. A look from the start is called a sweep. Sweeps take at most {@link SWEEP_SHARE} of the time. If sweeps are cheap, every look is
 * a sweep.
 */
export class OutboxCursor {
  private afterSeq = 0;
  private sweepAt = 0;
  private isSweep = false;

  /** @param clock the monotonic clock */
  constructor(private readonly clock: () => number = monotonicMs) {}

  /**
   * Begins a look.
   *
   * @param isAlone whether no other batch is being routed. If another batch is being routed, a sweep would find the
   * events of that batch again
   */
  look(isAlone = true): Look {
    const at = this.clock();
    this.isSweep = isAlone && at >= this.sweepAt;
    return { afterSeq: this.isSweep ? 0 : this.afterSeq, isSweep: this.isSweep, at };
  }

  /**
   * Ends a look.
   * @param lastSeq sequence of the last event that the look found, if any
   */
  found(look: Look, lastSeq: number | null): void {
    const now = this.clock();
    if (look.isSweep) this.sweepAt = now + Math.min((now - look.at) / SWEEP_SHARE, SWEEP_WITHIN_MS);
    if (lastSeq !== null) this.afterSeq = Math.max(this.afterSeq, lastSeq);
  }

  /** Call this method when events after this sequence were found but not taken. The next look must find these events again. */
  notTaken(afterSeq: number): void {
    this.afterSeq = Math.min(this.afterSeq, afterSeq);
  }

  /** Whether the sweep is so late that the next look must be a sweep. */
  get isSweepOverdue(): boolean {
    return this.clock() > this.sweepAt + SWEEP_LATE_MS;
  }

  /** Time in ms until the next sweep after a look that found nothing. `null` if that look was a sweep. */
  get untilSweepMs(): number | null {
    return this.isSweep ? null : Math.max(0, this.sweepAt - this.clock());
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
