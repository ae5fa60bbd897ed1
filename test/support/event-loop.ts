import { monitorEventLoopDelay } from 'node:perf_hooks';

/** No request may hold the event loop for longer, in ms. */
export const LONGEST_MS = 50;
/** A machine that is busy holds a loop, too. What a request does by itself, it does each time: the best of these counts. */
const TIMES = 3;

/** How long the loop was held at most by some work, less an idle run of the same length; the best of several runs, in ms. */
export async function leastHeldMs(work: () => Promise<unknown>): Promise<number> {
  let least = Infinity;
  for (let n = 0; n < TIMES; n++) {
    const startedAt = performance.now();
    const busy = await heldMs(work);
    const tookMs = performance.now() - startedAt;
    const idle = await heldMs(() => new Promise((resolve) => setTimeout(resolve, tookMs)));
    least = Math.min(least, busy - idle);
  }
  return least;
}

async function heldMs(work: () => Promise<unknown>): Promise<number> {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  // The first turn only starts the monitor.
  await new Promise((resolve) => setTimeout(resolve, 5));
  await work();
  // What began in the last round is seen in the next one.
  await new Promise((resolve) => setTimeout(resolve, 5));
  delay.disable();
  return delay.max / 1e6;
}
