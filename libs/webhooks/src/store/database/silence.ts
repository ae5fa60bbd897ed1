import { DatabaseTimeoutError } from './database-errors.js';

/** If a timer fires late by this number of milliseconds, the process was suspended or its event loop was blocked. */
const SLEPT_MS = 500;

/** A timeout that restarts with each answer. */
export interface Silence {
  /** Must be called when an answer came. Restarts the wait. */
  readonly restart: () => void;
  /** Must be called when no more answers are expected. Ends the wait. */
  readonly stop: () => void;
}

/**
 * Calls `end` if there is no answer for `limitMs`. When a suspended process continues, its timers run before the process reads the answers
 * that have arrived in the meantime. So a late timer only restarts the wait.
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

/**
 * Waits for work whose statements have no limits of their own.
 *
 * @param what completes the sentence "The database did not …"
 * @param late gets a result that arrives after the limit
 * @throws DatabaseTimeoutError if the work takes longer
 */
export async function within<T>(
  limitMs: number,
  what: string,
  work: Promise<T>,
  late: (result: T) => unknown,
): Promise<T> {
  let expire: (error: Error) => void = () => undefined;
  const silent = new Promise<never>((_, reject) => (expire = reject));
  const { stop } = endAfterSilence(limitMs, () => {
    work.then(late).catch(() => undefined);
    expire(new DatabaseTimeoutError(what, limitMs));
  });
  try {
    return await Promise.race([work, silent]);
  } finally {
    stop();
  }
}
