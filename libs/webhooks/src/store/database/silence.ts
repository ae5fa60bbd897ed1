/** If a timer fires this late, the process was suspended or its event loop was blocked. */
const SLEPT_MS = 500;

/** A timeout that restarts with each answer. */
export interface Silence {
  /** An answer came: the wait restarts. */
  readonly restart: () => void;
  /** No more answers are expected: the wait ends. */
  readonly stop: () => void;
}

/**
 * Calls `end` if there is no answer for `limitMs`. After this process was suspended, its timers run before it reads answers that came
 * meanwhile. So a late timer restarts the wait.
 */
export function endAfterSilence(limitMs: number, end: () => void): Silence {
  let endsAt = performance.now() + limitMs;
  const restart = () => {
    endsAt = performance.now() + limitMs;
    timer.refresh();
  };
  const timer = setTimeout(() => {
    if (performance.now() - endsAt > SLEPT_MS) restart();
    else end();
  }, limitMs);
  return { restart, stop: () => clearTimeout(timer) };
}
