import { afterAttempts, type CircuitPolicy } from '../health/circuit.js';
import type { ListenerState } from '../health/listener-state.js';
import { nextState } from '../health/next-state.js';
import type { RetrySchedule } from '../health/retry-schedule.js';
import { SECOND } from '../time.js';
import { SmallestFirst } from './simulation/virtual-time.js';

/** What an outage means for one listener. Times are in ms since the begin of the outage. */
export interface ListenerOutage {
  /** Attempts that failed. */
  readonly failed: number;
  /** When its circuit closed: the first attempt that succeeded. */
  readonly releasedAt: number;
  /** When the last retry comes of a delivery that was tried during the outage. */
  readonly lastRetryAt: number;
}

interface Tried {
  readonly at: number;
  readonly failures: number;
}

/** How one listener behaves during the outage. */
interface OutageOptions {
  readonly perSecond: number;
  /** When its first event comes. */
  readonly firstAt: number;
  readonly outageMs: number;
  readonly circuit: CircuitPolicy;
  readonly retrySchedule: RetrySchedule;
}

/**
 * Goes from attempt to attempt of one listener: while its circuit is closed, each delivery is tried when it comes; while it is open, only
 * probes are. Deliveries that were never tried are only counted. So it takes some hundred steps, however many deliveries wait.
 */
export function listenerOutage(options: OutageOptions): ListenerOutage {
  return new OneListener(options).run();
}

class OneListener {
  private state: ListenerState = {
    ...{ seq: '0', listenerId: '0', readyAt: null, rateTaken: null, handshakeAt: null, handshakeFrom: null },
    ...{ failuresInARow: 0, failingSince: null, failuresCountFrom: null, pausedUntil: null, handshakeTries: 0 },
  };
  private readonly tried = new SmallestFirst<Tried>((a, b) => a.at < b.at);
  private readonly everyMs: number;
  /** When the oldest delivery came that was never tried. */
  private untriedAt: number;
  private failed = 0;
  private lastRetryAt = 0;

  constructor(private readonly options: OutageOptions) {
    this.everyMs = SECOND / options.perSecond;
    this.untriedAt = options.firstAt;
  }

  run(): ListenerOutage {
    for (;;) {
      const { at, failures } = this.next();
      if (at >= this.options.outageMs) return this.released(at);
      this.fail(at, failures);
    }
  }

  /** Takes the delivery of the next attempt: the one that is due first. */
  private next(): Tried {
    const { first } = this.tried;
    const isRetry = first !== undefined && first.at <= this.untriedAt;
    const { at, failures } = isRetry ? (this.tried.take() as Tried) : { at: this.untriedAt, failures: 0 };
    if (!isRetry) this.untriedAt += this.everyMs;
    return { at: Math.max(at, this.state.pausedUntil ?? 0), failures };
  }

  private fail(at: number, failuresBefore: number): void {
    const { circuit, retrySchedule } = this.options;
    this.failed++;
    const sign = { accepted: false, status: 500, retryAfterMs: null, at };
    this.state = afterAttempts(this.state, [sign], at, circuit).state;
    const outcome = { kind: 'rejected', status: 500, retryAfterMs: null } as const;
    const next = nextState(outcome, failuresBefore, retrySchedule, at, Infinity);
    if (next.state === 'due') this.tried.add({ at: next.at, failures: failuresBefore + 1 });
  }

  private released(at: number): ListenerOutage {
    this.lastRetryAt = at;
    for (let retry = this.tried.take(); retry; retry = this.tried.take()) {
      this.lastRetryAt = Math.max(this.lastRetryAt, retry.at);
    }
    return { failed: this.failed, releasedAt: at, lastRetryAt: this.lastRetryAt };
  }
}
