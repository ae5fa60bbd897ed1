/** A number of writes per second, for a number of seconds. */
export interface Rate {
  readonly perSecond: number;
  readonly seconds: number;
}

/**
 * Writes at a fixed rate that does not wait for earlier writes.
 *
 * @param write one write; `n` counts from 0
 * @returns the results in order, when the last write has ended
 * @throws the first error of a write, at once: no other write starts. Without this, the process would end because no
 * code waits for a write before all of them have started
 */
export async function atRate<T>({ perSecond, seconds }: Rate, write: (n: number) => Promise<T>): Promise<T[]> {
  const count = Math.round(perSecond * seconds);
  const writes: Promise<T>[] = [];
  const start = performance.now();
  await new Promise<void>((resolve, reject) => {
    const timer = setInterval(() => {
      const due = Math.min(count, Math.ceil(((performance.now() - start) / 1000) * perSecond));
      while (writes.length < due) writes.push(startOne(writes.length));
      if (writes.length === count) end(resolve);
    }, 1);
    const end = (settle: () => void) => {
      clearInterval(timer);
      settle();
    };
    const startOne = (n: number) => {
      const one = write(n);
      one.catch((error: unknown) => end(() => reject(error)));
      return one;
    };
  });
  return Promise.all(writes);
}
