import type { HealthSign } from '../../health/circuit.js';
import { nextState } from '../../health/next-state.js';
import type { LanedDelivery } from '../../dispatcher/lanes.js';
import type { SimulatedOutcome } from './receiver.js';
import type { ProcessContext } from './process-context.js';
import type { SimulatedDelivery, SimulatedListener } from './store.js';

/** An attempt that ended and is not recorded. */
interface Attempted {
  readonly laned: LanedDelivery<SimulatedDelivery>;
  readonly outcome: SimulatedOutcome;
  readonly startedAt: number;
  readonly wasFailing: boolean;
}

interface RecorderParts {
  readonly process: ProcessContext;
  readonly eventsPerBatch: number;
  /** Called when a delivery may be due at this time. */
  readonly expect: (at: number) => void;
  /** Called when nothing more may be sent to a listener for now. */
  readonly stopped: (listener: SimulatedListener) => void;
  /** Called after each batch. */
  readonly recorded: () => void;
}

/** How long an outcome waits for others, as in the recorder of the library. */
const RECORD_TOGETHER_MS = 20;

/** Records outcomes in batches, one batch after the other. */
export class SimulatedRecorder {
  private readonly attempted: Attempted[] = [];
  private readonly waitingForSlot: (() => void)[] = [];
  private isWriting = false;
  /** Whether an outcome is there that waits for no others. */
  private isUrgent = false;
  /** Number of the next batch. The timer of an earlier batch does nothing. */
  private round = 0;
  private waitingRound = -1;

  constructor(private readonly parts: RecorderParts) {}

  /** @param free frees the slot of the attempt; called later while too many outcomes wait */
  add(attempted: Attempted, { isLast, free }: { isLast: boolean; free: () => void }): void {
    const { eventsPerBatch } = this.parts;
    this.attempted.push(attempted);
    if (this.attempted.length > eventsPerBatch) this.waitingForSlot.push(free);
    else free();
    if (isLast || attempted.outcome.kind !== 'accepted') this.isUrgent = true;
    this.writeOrWait();
  }

  private writeOrWait(): void {
    if (this.isWriting || this.attempted.length === 0) return;
    const { round } = this;
    if (this.isUrgent || this.attempted.length * 2 >= this.parts.eventsPerBatch) this.write();
    else if (this.waitingRound !== round) {
      this.waitingRound = round;
      this.parts.process.time.after(RECORD_TOGETHER_MS, () => {
        if (round === this.round) this.write();
      });
    }
  }

  private write(): void {
    const { process, eventsPerBatch } = this.parts;
    this.isWriting = true;
    this.isUrgent = false;
    this.round++;
    const batch = this.attempted.slice(0, eventsPerBatch);
    const stored = batch.filter(({ laned }) => laned.delivery.isStored).length;
    process.measured.batches.record++;
    process.database.run({ kind: 'record', direct: batch.length - stored, stored }, () => this.written(batch));
  }

  private written(batch: readonly Attempted[]): void {
    this.attempted.splice(0, batch.length);
    this.isWriting = false;
    this.apply(batch);
    if (this.attempted.length <= this.parts.eventsPerBatch) for (const free of this.waitingForSlot.splice(0)) free();
    this.writeOrWait();
    this.parts.recorded();
  }

  private apply(batch: readonly Attempted[]): void {
    const touched = new Map<SimulatedListener, HealthSign[]>();
    for (const attempted of batch) {
      this.move(attempted);
      if (!attempted.wasFailing && attempted.outcome.kind === 'accepted') continue;
      const { listener } = attempted.laned.delivery;
      const signs = touched.get(listener) ?? [];
      signs.push(signOf(attempted));
      touched.set(listener, signs);
    }
    for (const [listener, signs] of touched) {
      if (this.parts.process.store.judge(listener, signs)) this.parts.stopped(listener);
      else this.parts.expect(0);
    }
  }

  /** Changes the state of the delivery. */
  private move({ laned: { delivery }, outcome }: Attempted): void {
    const { process, expect } = this.parts;
    const { measured, store, time, retrySchedule, maxAgeMs } = process;
    const next = nextState(outcome, delivery.retries, retrySchedule, time.now, delivery.eventAt + maxAgeMs);
    if (next.state === 'due') {
      measured.failed++;
      delivery.retries++;
      store.addDue(delivery, next.at);
      expect(next.at);
      return;
    }
    measured[next.state]++;
    if (next.state === 'succeeded') measured.lastSuccessAt = time.now;
  }
}

function signOf({ outcome, startedAt }: Attempted): HealthSign {
  const { kind, status, retryAfterMs } = outcome;
  return { accepted: kind === 'accepted', status, retryAfterMs, at: startedAt };
}
