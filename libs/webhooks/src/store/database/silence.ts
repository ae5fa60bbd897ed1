/** A timer that fires so much late shows that this process slept: it was stopped, or its event loop was busy. */
const SLEPT_MS = 500;

/** Waits for a word of somebody who may be gone. */
export interface Silence {
  /** There was one: the wait begins anew. */
  readonly heard: () => void;
  /** No more is expected. */
  readonly stop: () => void;
}

/**
 * Calls `end` when nothing is heard for `limitMs`. What was said while this process slept is not read yet when its timers run, so the wait
 * begins anew then.
 */
export function endAfterSilence(limitMs: number, end: () => void): Silence {
  let endsAt = performance.now() + limitMs;
  const heard = () => {
    endsAt = performance.now() + limitMs;
    timer.refresh();
  };
  const timer = setTimeout(() => {
    if (performance.now() - endsAt > SLEPT_MS) heard();
    else end();
  }, limitMs);
  return { heard, stop: () => clearTimeout(timer) };
}
