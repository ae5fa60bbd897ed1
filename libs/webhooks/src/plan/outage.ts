import { StandardRetrySchedule, type RetrySchedule } from '../health/retry-schedule.js';
import type { ResolvedWebhooksOptions } from '../options/resolve-options.js';
import { DAY, SECOND } from '../time.js';
import { listenerOutage, type ListenerOutage } from './listener-outage.js';
import { randomNumbers } from './simulation/virtual-time.js';

/** An outage of some receivers, in numbers of all processes together. */
export interface OutageQuestion {
  /** Listeners whose receivers are out. */
  readonly listeners: number;
  /** Deliveries a second to these listeners together. */
  readonly perSecond: number;
  readonly outageMs: number;
  /** Stored deliveries that all processes can send in a second, beside the deliveries of the other listeners. */
  readonly sparePerSecond: number;
  /** Requests that one receiver gets in a second at most: slots of a listener, divided by the time to answer. */
  readonly perListenerPerSecond: number;
  readonly options: ResolvedWebhooksOptions['dispatcher'];
  /** @defaultValue the schedule of the library */
  readonly retrySchedule?: RetrySchedule;
}

/** What an outage means. Times are in ms. */
export interface OutageAnswer {
  /** Deliveries that wait at the end of the outage. */
  readonly backlog: number;
  readonly failedAttempts: number;
  /** From the end of the outage until nothing waits any more but retries with a later time; `null`: longer than 30 days. */
  readonly catchUpMs: number | null;
  /** From the end of the outage until the last of these retries. */
  readonly lastRetryMs: number;
}

const SAMPLE = 200;
const SEED = 2;
/** `maxAgeMs`: a delivery that is older is discarded. */
const LONGEST_MS = 30 * DAY;

/**
 * The outage in time steps: the health of some listeners is simulated attempt by attempt, and stands for all of them. The waiting deliveries
 * are amounts, not objects. So six hours with millions of deliveries take milliseconds. `test/plan` compares it with the simulation event by
 * event.
 */
export function outageOf(question: OutageQuestion): OutageAnswer {
  const { listeners, perSecond, outageMs } = question;
  if (listeners < 1 || perSecond <= 0 || outageMs <= 0) {
    return { backlog: 0, failedAttempts: 0, catchUpMs: 0, lastRetryMs: 0 };
  }
  const sample = sampleOf(question);
  const each = listeners / sample.length;
  return {
    backlog: Math.round((perSecond * outageMs) / SECOND),
    failedAttempts: Math.round(each * sample.reduce((sum, { failed }) => sum + failed, 0)),
    catchUpMs: catchUp(question, sample),
    lastRetryMs: Math.max(0, Math.max(...sample.map(({ lastRetryAt }) => lastRetryAt)) - outageMs),
  };
}

function sampleOf({ listeners, perSecond, outageMs, options, retrySchedule }: OutageQuestion): ListenerOutage[] {
  const random = randomNumbers(SEED);
  const schedule = retrySchedule ?? new StandardRetrySchedule(random);
  const ofOne = perSecond / listeners;
  return Array.from({ length: Math.min(SAMPLE, Math.ceil(listeners)) }, () =>
    listenerOutage({
      ...{ perSecond: ofOne, firstAt: (random() * SECOND) / ofOne, outageMs, circuit: options.circuit },
      retrySchedule: schedule,
    }),
  );
}

/** Steps of a second at first, and longer ones later: a step is a hundredth of the time that has passed. */
function catchUp(question: OutageQuestion, sample: readonly ListenerOutage[]): number | null {
  const { listeners, perSecond, outageMs, sparePerSecond, perListenerPerSecond } = question;
  const ofOne = perSecond / listeners;
  const each = listeners / sample.length;
  const waiting = new Map<ListenerOutage, number>();
  const lastReleased = Math.max(...sample.map(({ releasedAt }) => releasedAt));
  for (let now = outageMs, step = SECOND; now < outageMs + LONGEST_MS; now += step) {
    for (const one of sample) {
      if (one.releasedAt <= now && !waiting.has(one)) waiting.set(one, (ofOne * one.releasedAt) / SECOND);
    }
    serve(waiting, { spare: (sparePerSecond * step) / SECOND / each, most: (perListenerPerSecond * step) / SECOND });
    const rest = [...waiting.values()].reduce((sum, amount) => sum + amount, 0);
    if (now >= lastReleased && rest < 1) return now - outageMs;
    // Their new deliveries wait behind the old ones.
    for (const [one, amount] of waiting) if (amount > 0) waiting.set(one, amount + (ofOne * step) / SECOND);
    step = Math.max(SECOND, (now - outageMs) / 100);
  }
  return null;
}

/** Divides what can be sent among the listeners, as the claims do. */
function serve(waiting: Map<ListenerOutage, number>, { spare, most }: { spare: number; most: number }): void {
  let left = spare;
  let asking = [...waiting].filter(([, amount]) => amount > 0).length;
  // Listeners with few deliveries leave their part to the others.
  for (const [one, amount] of [...waiting].toSorted(([, a], [, b]) => a - b)) {
    if (amount <= 0) continue;
    const taken = Math.min(amount, most, left / asking--);
    left -= taken;
    waiting.set(one, amount - taken);
  }
}
