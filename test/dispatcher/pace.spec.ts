import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Pace, type PaceState } from '../../libs/webhooks/src/dispatcher/pace.js';

// `npm run bench -- --only wide-fanout` measures the effect on other listeners.

type Traffic = { -readonly [K in keyof PaceState]: PaceState[K] };
let traffic: Traffic;
let pace: Pace;
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] });
  traffic = { isRouting: false, isBacklog: false, routedAt: performance.now(), restUntil: -Infinity };
  pace = new Pace(traffic);
});
afterEach(() => void vi.useRealTimers());

/** A page or a claim that takes `ms`. */
function work(ms: number, isMany = true): void {
  const began = performance.now();
  vi.advanceTimersByTime(ms);
  pace.ended(began, isMany);
}

it('takes small portions beside fresh events, and pauses twice as long as each took', () => {
  expect(pace.portion).toEqual({ page: 50, claim: 8 });
  expect(pace.mayBegin).toBe(true);
  work(10);
  expect([pace.mayBegin, pace.waitMs]).toEqual([false, 20]);
  vi.advanceTimersByTime(20);
  expect(pace.mayBegin).toBe(true);
});

it('waits for a running fan-out, but only for a limited time for consecutive ones', () => {
  work(10);
  traffic.isRouting = true;
  vi.advanceTimersByTime(69);
  expect([pace.mayBegin, pace.waitMs]).toEqual([false, 1]);
  traffic.isRouting = false;
  expect(pace.mayBegin).toBe(true);
  traffic.isRouting = true;
  vi.advanceTimersByTime(1);
  expect(pace.mayBegin).toBe(true);
});

it('does not pause when fewer listeners were ready than one claim takes', () => {
  work(10, false);
  expect(pace.mayBegin).toBe(true);
});

it.each([
  ['no fresh event came for a second', () => void vi.advanceTimersByTime(1_000)],
  ['fresh events are a backlog themselves', () => void (traffic.isBacklog = true)],
])('takes all it can without a rest where %s', (_, happens) => {
  work(600);
  happens();
  expect(pace.portion).toEqual({ page: 1_000, claim: 64 });
  expect(pace.mayBegin).toBe(true);
});
