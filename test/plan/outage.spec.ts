import { describe, expect, it } from 'vitest';
import { RetrySchedule } from 'nestjs-entity-webhooks';
import { resolveOptions } from '../../libs/webhooks/src/options/resolve-options.js';
import { engineCosts } from '../../libs/webhooks/src/plan/engine-costs.js';
import { outageOf } from '../../libs/webhooks/src/plan/outage.js';
import { simulate } from '../../libs/webhooks/src/plan/simulation/simulate.js';
import { randomNumbers } from '../../libs/webhooks/src/plan/simulation/virtual-time.js';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const LISTENERS = 40;
const OUT = 20;
const ANSWER_MS = 2 * SECOND;

/** Short retries, so that catch-up is decided by circuits and slots. */
class Short extends RetrySchedule {
  delayMs(failures: number): number {
    return Math.min(MINUTE, 5 * SECOND * 2 ** failures);
  }
}

/** The same outage, event by event and in time steps. */
function both(outageMs: number, perSecond: number) {
  const { dispatcher: options } = resolveOptions({});
  const retrySchedule = new Short();
  const random = randomNumbers(3);
  const good = { answerMs: ANSWER_MS, status: 204 };
  const forMs = outageMs + 30 * MINUTE;
  const discrete = simulate({
    ...{ processes: 1, machine: { databaseCores: 2, isShared: false }, costs: engineCosts(), options, retrySchedule },
    arrivals: { backlog: 0, perSecond, forMs },
    receivers: Array.from({ length: LISTENERS }, (_, n) => ({
      behavior: good,
      outage: n < OUT ? { from: 0, until: outageMs, behavior: { answerMs: 5, status: 500 } } : undefined,
    })),
    route: () => [Math.floor(random() * LISTENERS)],
    ...{ noticeMs: 20, untilMs: forMs, sampleMs: SECOND },
  });
  const steps = outageOf({
    ...{ listeners: OUT, perSecond: (perSecond * OUT) / LISTENERS, outageMs, options, retrySchedule },
    // 64 slots, and the other listeners use theirs.
    sparePerSecond: (options.concurrency * SECOND) / ANSWER_MS - (perSecond * (LISTENERS - OUT)) / LISTENERS,
    perListenerPerSecond: (options.concurrencyPerListener * SECOND) / ANSWER_MS,
  });
  const { backlog } = discrete;
  const end = outageMs / SECOND;
  // In the middle of the steady part, a number of deliveries are in flight.
  const usual = Math.max(...backlog.slice(-10 * 60));
  const caughtUp = backlog.findIndex((waiting, second) => second > end && waiting <= usual);
  return { steps, real: { backlog: backlog[end] ?? 0, failed: discrete.failed, catchUpMs: (caughtUp - end) * SECOND } };
}

describe('an outage in time steps', () => {
  it.each([
    [10 * MINUTE, 20],
    [20 * MINUTE, 10],
  ])(
    'of %i ms with %i events a second agrees with the simulation event by event within 20 %',
    (outageMs, perSecond) => {
      const { steps, real } = both(outageMs, perSecond);
      expect(steps.backlog / real.backlog).toBeGreaterThan(0.8);
      expect(steps.backlog / real.backlog).toBeLessThan(1.2);
      expect(steps.failedAttempts / real.failed).toBeGreaterThan(0.8);
      expect(steps.failedAttempts / real.failed).toBeLessThan(1.2);
      expect((steps.catchUpMs ?? 0) / real.catchUpMs).toBeGreaterThan(0.8);
      expect((steps.catchUpMs ?? 0) / real.catchUpMs).toBeLessThan(1.2);
    },
  );

  it('never ends if there is no room beside new deliveries', () => {
    const { dispatcher: options } = resolveOptions({});
    const question = {
      listeners: 10,
      perSecond: 100,
      outageMs: 60 * MINUTE,
      sparePerSecond: 50,
      perListenerPerSecond: 160,
    };
    expect(outageOf({ ...question, options }).catchUpMs).toBeNull();
  });
});
